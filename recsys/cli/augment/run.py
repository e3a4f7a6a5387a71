"""`recsys augment run`: expand a dataset's texts and histories into a folder."""

from __future__ import annotations

from pathlib import Path

import click

from recsys.errors import InputError


@click.command()
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
