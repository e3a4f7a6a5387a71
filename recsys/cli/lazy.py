"""A group of commands that imports a command's module only when that command is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """Commands by name, so that `recsys --help` does not wait for torch.

    Args:
        package: Where the modules are.
        table: By name: the module in the package, the command's name in it, one sentence for the list.
    """

    def __init__(
        self, package: str = "", table: Mapping[str, tuple[str, str, str]] | None = None, **attributes: Any
    ) -> None:
        super().__init__(**attributes)
        self.package, self.table = package, dict(table or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, for `--help`."""
        return sorted(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command itself, its module imported now."""
        if cmd_name not in self.table:
            return None
        module, name, _ = self.table[cmd_name]
        command = getattr(importlib.import_module(f"{self.package}.{module}"), name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{self.package}.{module}.{name} is not a click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, row[2]) for name, row in sorted(self.table.items())])
