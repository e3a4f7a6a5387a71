"""`recsys augment`: list the ops, expand a dataset, explain an augmented row, make it again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recsys.errors import InputError, RecsysError

if TYPE_CHECKING:
    from recsys.augment.example import Example


@click.group()
def command() -> None:
    """Augmentation ops: list, run, explain, replay."""


@command.command()
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


@command.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of the dataset.")
@click.option("--policy", default="standard", show_default=True, help="A preset's name, or a TOML file.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write into.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Keys every draw.")
@click.option(
    "--max-expansion",
    type=click.FloatRange(0, 10),
    default=1.0,
    show_default=True,
    help="Augmented rows per original.",
)
@click.option(
    "--history-length", type=click.IntRange(min=1), default=50, show_default=True, help="Newest events kept."
)
def run(data: Path, policy: str, out: Path, seed: int, max_expansion: float, history_length: int) -> None:
    """Expand a dataset's item texts and users' histories, with provenance."""
    from recsys.augment.expand import expand_contexts, expand_texts
    from recsys.augment.policy import load_policy
    from recsys.augment.store import friends_of, user_contexts, write_expansion
    from recsys.config import DataConfig
    from recsys.contexts import Vocabulary
    from recsys.data.catalogue import item_texts
    from recsys.data.interactions import load_dataset

    chosen = load_policy(policy)
    if out.exists() and not out.is_dir():
        raise InputError("is a file, not a folder to write into", file=str(out))
    dataset = load_dataset(data, DataConfig())
    items = dataset.items
    vocabulary = Vocabulary(items["item_id"].tolist())
    rows = user_contexts(dataset.interactions, vocabulary, history_length)
    texts = expand_texts(items, item_texts(items), chosen, seed, max_expansion=max_expansion, contexts=rows)
    friends = friends_of(dataset.relations)
    contexts = expand_contexts(rows, vocabulary, chosen, seed, max_expansion=max_expansion, friends=friends)
    write_expansion(out, chosen, items, vocabulary, texts, contexts)
    click.echo(repr(chosen))
    for kind, counts in (("history", contexts.counts), ("text", texts.counts)):
        shown = ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "nothing to do"
        click.echo(f"{kind}: {shown}")
    click.echo(f"written to {out}")


@command.command()
@click.argument("row_id")
@click.option("--from", "folder", type=click.Path(path_type=Path), required=True, help="Folder of a run.")
def explain(row_id: str, folder: Path) -> None:
    """Show an augmented row's parent, steps, scores and diff."""
    from recsys.augment.explain import explain as explain_row
    from recsys.augment.store import load_row

    stored, policy = load_row(folder, row_id)
    click.echo(str(explain_row(stored.provenance, stored.original, policy, stored.item_ids)))


@command.command()
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
    from recsys.contexts import EVENT_TYPES

    if isinstance(example, TextExample):
        return example.text
    names = [item_ids[int(item)] for item in example.history]
    columns = (names, [EVENT_TYPES[int(code)] for code in example.event_types], example.timestamps)
    return json.dumps([list(event) for event in zip(*columns, strict=True)], ensure_ascii=False)
