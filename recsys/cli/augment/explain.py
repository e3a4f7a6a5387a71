"""`recsys augment explain` and `replay`: one augmented row, where it came from, and made again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recsys.errors import RecsysError

if TYPE_CHECKING:
    from recsys.augment.example import Example


@click.command()
@click.argument("row_id")
@click.option("--from", "folder", type=click.Path(path_type=Path), required=True, help="Folder of a run.")
def explain(row_id: str, folder: Path) -> None:
    """Show an augmented row's parent, steps, scores and diff."""
    from recsys.augment.explain import explain as explain_row
    from recsys.augment.store import load_row

    stored, policy = load_row(folder, row_id)
    click.echo(str(explain_row(stored.provenance, stored.original, policy, stored.item_ids)))


@click.command()
@click.argument("row_id")
@click.option("--from", "folder", type=click.Path(path_type=Path), required=True, help="Folder of a run.")
def replay(row_id: str, folder: Path) -> None:
    """Make an augmented row again from its original and its plan, and compare."""
    from recsys.augment.explain import replay as replay_row
    from recsys.augment.store import load_row

    stored, policy = load_row(folder, row_id)
    again = _content(replay_row(stored.provenance, stored.original, policy), stored.item_ids)
    if again != _content(stored.row, stored.item_ids):
        raise RecsysError(f"{row_id}: the replay differs from the stored row; was the folder edited?")
    click.echo(again)


def _content(example: Example, item_ids: Sequence[str]) -> str:
    from recsys.augment.example import TextExample
    from recsys.augment.explain import item_name
    from recsys.contexts import EVENT_TYPES

    if isinstance(example, TextExample):
        return example.text
    names = [item_name(item, item_ids) for item in example.history]
    columns = (names, [EVENT_TYPES[int(code)] for code in example.event_types], example.timestamps)
    return json.dumps([list(event) for event in zip(*columns, strict=True)], ensure_ascii=False)
