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
@click.option(
    "--answers",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of what models said to ops that ask one, kept between runs.  [default: OUT/answers.sqlite]",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where models of ops run.",
)
def run(
    data: Path,
    policy: str,
    out: Path,
    seed: int,
    max_expansion: float,
    history_length: int,
    answers: Path | None,
    device: str,
) -> None:
    """Expand a dataset's item texts and users' histories, with provenance."""
    from recsys.augment.expand import expand_contexts, expand_texts
    from recsys.augment.policy import load_policy
    from recsys.augment.store import friends_of, user_contexts, write_expansion
    from recsys.config import DataConfig
    from recsys.contexts import Vocabulary
    from recsys.data.catalogue import item_texts
    from recsys.data.interactions import load_dataset
    from recsys.generate.oracle import oracle_for

    chosen = load_policy(policy)
    if out.exists() and not out.is_dir():
        raise InputError("is a file, not a folder to write into", file=str(out))
    dataset = load_dataset(data, DataConfig())
    items = dataset.items
    vocabulary = Vocabulary(items["item_id"].tolist())
    rows = user_contexts(dataset.interactions, vocabulary, history_length)
    plain = item_texts(items)
    with oracle_for(chosen, answers or out / "answers.sqlite", device) as oracle:
        texts = expand_texts(
            items, plain, chosen, seed, max_expansion=max_expansion, contexts=rows, oracle=oracle
        )
        spent = {} if oracle is None else oracle.spent()
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
    if spent:
        click.echo("models: " + ", ".join(f"{name} {count:,}" for name, count in spent.items()))
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
