"""`recsys augment ops`: the ops and their settings."""

from __future__ import annotations

import json
from typing import Any

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Machine-readable: name, kind, meaning, settings.")
@click.option("--markdown", is_flag=True, help="The page docs/ops.md, with an example of each op.")
def ops(as_json: bool, markdown: bool) -> None:
    """List the ops and their settings."""
    if as_json and markdown:
        raise click.UsageError("--json and --markdown are two forms of the same list: give one")
    if markdown:
        from recsys.augment.ops_page import ops_page

        click.echo(ops_page(), nl=False)
        return
    from recsys.augment.op import setting_table, summary
    from recsys.augment.registry import COMPOSITES, OPS
    from recsys.augment.representation import REPRESENTATION_OPS

    kinds: dict[str, str] = {name: op.kind or "any" for name, op in {**OPS, **COMPOSITES}.items()}
    kinds |= {name: op.kind for name, op in REPRESENTATION_OPS.items()}
    table: list[dict[str, Any]] = [
        {"name": name, "kind": kinds[name], "meaning": summary(op), "settings": setting_table(op)}
        for name, op in {**OPS, **COMPOSITES, **REPRESENTATION_OPS}.items()
    ]
    if as_json:
        click.echo(json.dumps(table, indent=1, ensure_ascii=False))
        return
    for row in table:
        click.echo(f"{row['name']} ({row['kind']}): {row['meaning']}")
        for setting in row["settings"]:
            click.echo(f"    {setting['name']} = {setting['default']!r}: {setting['meaning']}")
