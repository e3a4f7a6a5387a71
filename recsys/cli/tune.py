"""`recsys tune`: which settings a dataset gains from, if other than those given."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal, cast

import click

from recsys.config import load_config
from recsys.errors import DependencyError


@click.command("tune")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of the dataset.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of this search alone.")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    required=True,
    help="Wall clock in all; a search that was killed goes on with the rest of it.",
)
@click.option("--trials", type=click.IntRange(min=1), help="Of each stage at most. [default: as many as fit]")
@click.option(
    "--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Of the confirmation at most."
)
@click.option(
    "--task", type=click.Choice(["novel", "all"]), default="novel", show_default=True,
    help="Whether what the user had counts.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Keys every draw.")
@click.option(
    "--resume/--fresh", default=True, show_default=True, help="Go on with the search in OUT, or begin anew."
)
@click.option("--config", type=click.Path(path_type=Path), help="TOML file of the settings to begin with.")
@click.option("--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE", help="One more setting.")
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
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise DependencyError("tuning needs optuna: install the extra 'train'") from error
    from recsys.track import tracked
    from recsys.tune.run import run_tune
    from recsys.tune.tune import Order
    from recsys.tune.verdict import summary, track_search

    if not logging.getLogger().isEnabledFor(logging.DEBUG):
        logging.getLogger("recsys.train").setLevel(logging.WARNING)  # a line per epoch of every trial
    order = Order(minutes, trials, seed, seeds, cast(Literal["novel", "all"], task))
    with tracked(effective.track, out, "recsys tune", data.resolve().name) as tracker:
        result = run_tune(data, out, order, effective, fresh=not resume)
        track_search(tracker, out, result, effective)
    for line in summary(out, result):
        click.echo(line)
