"""`recsys augment ops`: the ops and their settings."""

from __future__ import annotations

import json
from typing import Any

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Machine-readable: name, kind, meaning, settings.")
def ops(as_json: bool) -> None:
    """List the ops and their settings."""
    from recsys.augment.op import setting_table, summary
    from recsys.augment.registry import COMPOSITES, OPS

    table: list[dict[str, Any]] = [
        {"name": name, "kind": op.kind or "any", "meaning": summary(op), "settings": setting_table(op)}
        for name, op in {**OPS, **COMPOSITES}.items()
    ]
    if as_json:
        click.echo(json.dumps(table, indent=1, ensure_ascii=False))
        return
    for row in table:
        click.echo(f"{row['name']} ({row['kind']}): {row['meaning']}")
        for setting in row["settings"]:
            click.echo(f"    {setting['name']} = {setting['default']!r}: {setting['meaning']}")
