"""`recsys augment run`: expand a dataset's texts and histories into a folder."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recsys.cli.options import data_option, out_option, seed_option
from recsys.errors import InputError

if TYPE_CHECKING:
    from recsys.augment.bulk import Encoder
    from recsys.types import Floats

EPOCH = "SOURCE_DATE_EPOCH"
"""Environment variable that fixes the time of making, as reproducible builds have it."""


@click.command()
@data_option()
@click.option("--policy", default="standard", show_default=True, help="A preset's name, or a TOML file.")
@out_option("Folder to write into.")
@seed_option()
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
    help="Where models run.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Processes; the files do not depend on it.  [default: one per core]",
)
@click.option(
    "--part-rows",
    type=click.IntRange(min=1),
    default=250_000,
    show_default=True,
    help="Events that are in memory at one time, of a log in Parquet; the files do not depend on it.",
)
@click.option(
    "--encoder/--no-encoder",
    default=True,
    show_default=True,
    help="Load the text encoder where the policy needs vectors; without it such gates and ops are skipped.",
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
    workers: int | None,
    part_rows: int,
    encoder: bool,
) -> None:
    """Expand a dataset's item texts and users' histories, with provenance.

    Killed and given again, the same command goes on where it stopped.
    """
    from recsys.artifacts import write_atomically
    from recsys.augment.bulk import Settings, expand_dataset
    from recsys.augment.policy import load_policy
    from recsys.cli.augment.source import drop_source, open_source
    from recsys.generate.oracle import oracle_for

    chosen = load_policy(policy)
    if out.exists() and not out.is_dir():
        raise InputError("is a file, not a folder to write into", file=str(out))
    source = open_source(data, history_length, out, part_rows)
    settings = Settings(
        seed=seed,
        max_expansion=max_expansion,
        workers=workers or len(os.sched_getaffinity(0)),
        created=_created(),
    )
    with oracle_for(chosen, answers or out / "answers.sqlite", device) as oracle:
        counts = expand_dataset(source, chosen, out, settings, _encoder(device) if encoder else None, oracle)
        spent = {} if oracle is None else oracle.spent()
    drop_source(out)
    click.echo(repr(chosen))
    for kind in ("history", "text"):
        shown = ", ".join(f"{name} {count:,}" for name, count in counts[kind].items()) or "nothing to do"
        click.echo(f"{kind}: {shown}")
    if spent:
        click.echo("models: " + ", ".join(f"{name} {count:,}" for name, count in spent.items()))
        timing = json.loads((out / "timing.json").read_text(encoding="utf-8"))
        write_atomically(out / "timing.json", json.dumps({**timing, "models": spent}, indent=1))
    click.echo(f"written to {out}")


def _encoder(device: str) -> Encoder:
    """The default text encoder, loaded when its first vector is asked for."""
    from recsys.augment.bulk import Encoder
    from recsys.config import EncoderConfig

    config = EncoderConfig()

    def load() -> Callable[[Sequence[str]], Floats]:
        from recsys.distributed import training_device
        from recsys.model.encoder import TextEncoder

        logging.getLogger(__name__).info("loading the text encoder %s", config.name)
        return TextEncoder.load(config, training_device(device)).encode

    def whiten(raw: Floats) -> Floats:
        from recsys.model.whitening import Whitening

        return Whitening.fit(raw).apply(raw)

    return Encoder(config.model_dump_json(exclude={"batch_tokens"}), load, whiten)


def _created() -> int | None:
    """The time of making, where the environment fixes it."""
    said = os.environ.get(EPOCH)
    if said is None:
        return None
    if not said.isdecimal():
        raise InputError("must be a whole number of seconds", column=EPOCH, example=said)
    return int(said)
