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
    task_option,
    workers_option,
)

CHOICES = ("ops", "sources", "features", "training", "encoder", "all")


@click.command("ablate", context_settings={"help_option_names": ["-h", "--help"]})
@data_option()
@out_option("Folder of these ablations.")
@click.option(
    "--what",
    type=click.Choice(CHOICES),
    required=True,
    help="ops: each alone against off. sources, features: each left out of whole lists. training: each "
    "option of the towers the other way. encoder: each option of pretraining and fine-tuning likewise, the "
    "encoder trained in every training.",
)
@seeds_option("Trainings of every arm.", 5)
@task_option()
@workers_option()
@config_options("TOML file of settings: the default.")
def command(
    data: Path,
    out: Path,
    what: str,
    seeds: int,
    task: str,
    workers: int,
    config: Path | None,
    settings: tuple[str, ...],
) -> None:
    """Leave out, add or flip one thing at a time, and say per segment what that does.

    Paired with the default by user and seed, with the statistics of `recsys compare`. What changes no list
    with the first seed is not trained with the others. Killed and started again, it goes on.
    """
    from recsys.compare.ablations import DEPTHS, WHAT, ablation
    from recsys.compare.lists import WholeLists
    from recsys.compare.run import Order, run_compare
    from recsys.compare.words import write_files
    from recsys.config import load_config
    from recsys.evaluate.evaluate import TASKS

    quiet("recsys.train", "recsys.arms", "recsys.tuning")
    effective = load_config(config, settings)
    judged = next(one for one in TASKS if one == task)
    for one in WHAT:
        if what not in (one, "all"):
            continue
        done = run_compare(
            data,
            out,
            ablation(one, effective),
            Order(seeds, task=judged, drop_idle=True),
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
