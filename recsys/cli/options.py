"""Options that several commands have, and what those commands print to: said once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from recsys.errors import DependencyError

PATH = click.Path(path_type=Path)
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
_WIDTH = 200
"""Columns where nobody's terminal says how many."""


def data_option(text: str = "Folder with interactions and items.") -> Decorator:
    """`--data`, which has to be given."""
    return click.option("--data", type=PATH, required=True, help=text)


def out_option(text: str) -> Decorator:
    """`--out`, which has to be given."""
    return click.option("--out", type=PATH, required=True, help=text)


def config_options(text: str = "TOML file of settings.") -> Decorator:
    """`--config` and `--set`, for `load_config(config, settings)`."""

    def options(command: Callable[..., Any]) -> Callable[..., Any]:
        more = click.option(
            "--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE",
            help="One more setting; repeatable.",
        )  # fmt: skip
        return click.option("--config", type=PATH, help=text)(more(command))

    return options


def task_option(default: str = "novel") -> Decorator:
    """`--task`: what the user already had counts, or is taken out."""
    return click.option(
        "--task", type=click.Choice(["novel", "all"]), default=default, show_default=True,
        help="novel takes out what the user already had.",
    )  # fmt: skip


def seed_option(text: str = "Keys every draw.") -> Decorator:
    """`--seed`, 0 unless given."""
    return click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help=text)


def seeds_option(text: str, default: int) -> Decorator:
    """`--seeds`: how many."""
    return click.option("--seeds", type=click.IntRange(min=1), default=default, show_default=True, help=text)


def shares_option() -> Decorator:
    """`--share`, repeatable: parts of the users to train on, beside all of them."""
    return click.option(
        "--share", "shares", multiple=True,
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        help="Also compare with this part of the users to train on, say 0.1; repeatable.",
    )  # fmt: skip


def workers_option() -> Decorator:
    """`--workers`: how many processes train."""
    return click.option(
        "--workers", type=click.IntRange(min=1), default=1, show_default=True,
        help="Processes that train side by side, each with the dataset in its memory; they share the "
        "cores, and the GPU where there is one.",
    )  # fmt: skip


def budget_options(trials: str) -> Decorator:
    """`--minutes`, `--trials`, `--seed` and `--resume/--fresh`, of a search that goes on after a kill.

    Args:
        trials: What `--trials` counts.
    """

    def options(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in (
            click.option(
                "--resume/--fresh", default=True, show_default=True,
                help="Go on with the search in OUT, or begin anew.",
            ),
            seed_option(),
            click.option("--trials", type=click.IntRange(min=1), help=f"{trials} [default: as many as fit]"),
            click.option(
                "--minutes", type=click.FloatRange(min=0, min_open=True), required=True,
                help="Wall clock in all; a search that was killed goes on with the rest of it.",
            ),
        ):  # fmt: skip
            command = option(command)
        return command

    return options


def require_optuna() -> None:
    """Refuse to begin a search without its sampler.

    Raises:
        DependencyError: Optuna is not installed.
    """
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise DependencyError("the search needs optuna: install the extra 'train'") from error


def quiet(*rooms: str) -> None:
    """Leave out what rooms log of every training, unless everything is wanted."""
    if not logging.getLogger().isEnabledFor(logging.DEBUG):
        for room in rooms:
            logging.getLogger(room).setLevel(logging.WARNING)


def wide_console() -> Console:
    """Standard output for tables; a file or a pipe has no width to fit into."""
    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH)
