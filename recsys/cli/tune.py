"""`recsys tune`: which settings a dataset gains from, if other than those given."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

import click

from recsys.cli.options import (
    budget_options,
    config_options,
    data_option,
    out_option,
    quiet,
    require_optuna,
    seeds_option,
    task_option,
)
from recsys.config import load_config


@click.command("tune")
@data_option()
@out_option("Folder of this search alone.")
@budget_options("Of each stage at most.")
@seeds_option("Of the confirmation at most.", 3)
@task_option()
@config_options("TOML file of the settings to begin with.")
def command(
    data: Path,
    out: Path,
    minutes: float,
    trials: int | None,
    seeds: int,
    task: str,
    seed: int,
    resume: bool,
    config: Path | None,
    settings: tuple[str, ...],
) -> None:
    """Tune towers, then retrieval and ranker, on validation; confirm on the newest slice, once.

    Says that the defaults are best where the interval of the difference includes zero. The settings to use
    are in OUT/best.toml, for `recsys run --config`.
    """
    effective = load_config(config, settings)
    require_optuna()
    from recsys.track import tracked
    from recsys.tune.run import run_tune
    from recsys.tune.tune import Order
    from recsys.tune.verdict import summary, track_search

    quiet("recsys.train")
    order = Order(minutes, trials, seed, seeds, cast(Literal["novel", "all"], task))
    with tracked(effective.track, out, "recsys tune", data.resolve().name) as tracker:
        result = run_tune(data, out, order, effective, fresh=not resume)
        track_search(tracker, out, result, effective)
    for line in summary(out, result, data):
        click.echo(line)
