"""`recsys ablate`: what each op, source, feature group and option of training is worth on one shop's data."""

from __future__ import annotations

from pathlib import Path

import click

from recsys.cli.compare import say, show
from recsys.cli.options import (
    config_options,
    data_option,
    out_option,
    quiet,
    seeds_option,
    shares_option,
    task_option,
    workers_option,
)
from recsys.errors import InputError

CHOICES = ("ops", "sources", "features", "training", "encoder", "queries", "all")


@click.command("ablate", context_settings={"help_option_names": ["-h", "--help"]})
@data_option()
@out_option("Folder of these ablations.")
@click.option(
    "--what",
    type=click.Choice(CHOICES),
    required=True,
    help="ops: each alone against off. sources, features: each left out of whole lists. training: each "
    "option of the towers the other way. encoder: each option of pretraining and fine-tuning likewise, the "
    "encoder trained in every training. queries: each option of teaching the encoder that reads queries.",
)
@seeds_option("Trainings of every arm.", 5)
@shares_option()
@task_option()
@workers_option()
@config_options("TOML file of settings: the default.")
def command(
    data: Path,
    out: Path,
    what: str,
    seeds: int,
    shares: tuple[float, ...],
    task: str,
    workers: int,
    config: Path | None,
    settings: tuple[str, ...],
) -> None:
    """Leave out, add or flip one thing at a time, and say per segment what that does.

    Paired with the default by user and seed, with the statistics of `recsys compare`. What changes nothing
    with the first seed is not trained with the others. Killed and started again, it goes on.
    """
    from recsys.compare.ablations import DEPTHS, WHAT, ablation
    from recsys.compare.lists import WholeLists
    from recsys.compare.run import Order, run_compare
    from recsys.compare.words import write_files
    from recsys.config import load_config
    from recsys.evaluate.evaluate import TASKS

    asked = [one for one in WHAT if what in (one, "all")]
    if shares and (whole := [one for one in asked if DEPTHS[one] is WholeLists]):
        raise InputError(
            f"--share is for the towers alone, and {whole[0]} are judged by whole lists",
            hint="Leave out --share, or ask for one that needs the towers alone: ops, say",
        )
    quiet("recsys.train", "recsys.arms", "recsys.tuning")
    effective = load_config(config, settings)
    judged = next(one for one in TASKS if one == task)
    for one in asked:
        done = run_compare(
            data,
            out,
            ablation(one, effective),
            Order(seeds, tuple(sorted(set(shares))), judged, drop_idle=True),
            DEPTHS[one],
            say,
            equal_steps=one == "ops",
            workers=workers,
        )
        name = f"ablate-{one}"
        write_files(out, done, data, config, name)
        show(done, out, data, config, name)
        if DEPTHS[one] is WholeLists:
            click.echo("read:    what hurts when it is left out earns its place; what helps does not")
