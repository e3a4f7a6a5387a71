"""`recsys augment run`: expand a dataset's texts and histories into a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recsys.errors import InputError

if TYPE_CHECKING:
    from recsys.augment.policy import Policy
    from recsys.types import Floats


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
    plain = item_texts(items)
    texts = expand_texts(items, plain, chosen, seed, max_expansion=max_expansion, contexts=rows)
    contexts = expand_contexts(
        rows,
        vocabulary,
        chosen,
        seed,
        max_expansion=max_expansion,
        friends=friends_of(dataset.relations),
        text_vectors=_text_vectors(chosen, plain),
    )
    write_expansion(out, chosen, items, vocabulary, texts, contexts)
    click.echo(repr(chosen))
    for kind, counts in (("history", contexts.counts), ("text", texts.counts)):
        shown = ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "nothing to do"
        click.echo(f"{kind}: {shown}")
    click.echo(f"written to {out}")


def _text_vectors(policy: Policy, texts: Sequence[str]) -> Floats | None:
    """Whitened vectors of the texts by the default encoder, where an op looks for similar ones."""
    if "text_neighbours" not in policy.history.needs:
        return None
    from recsys.config import EncoderConfig
    from recsys.model.encoder import TextEncoder
    from recsys.model.whitening import Whitening

    raw = TextEncoder.load(EncoderConfig()).encode(texts)
    return Whitening.fit(raw).apply(raw)
