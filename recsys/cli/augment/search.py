"""`recsys augment search`: which augmentation a dataset gains from, if any."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from recsys.errors import DependencyError


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of the dataset.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of this search alone.")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    required=True,
    help="Wall clock in all; a search that was killed goes on with the rest of it.",
)
@click.option("--trials", type=click.IntRange(min=1), help="Cheap trials at most. [default: as many as fit]")
@click.option(
    "--resume/--fresh", default=True, show_default=True, help="Go on with the search in OUT, or begin anew."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Keys every draw.")
@click.option(
    "--policy", "policies", multiple=True, help="One more starting point beside the presets: a TOML file."
)
@click.option("--config", type=click.Path(path_type=Path), help="TOML file of settings.")
@click.option("--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE", help="One more setting.")
def search(
    data: Path,
    out: Path,
    minutes: float,
    trials: int | None,
    resume: bool,
    seed: int,
    policies: tuple[str, ...],
    config: Path | None,
    settings: tuple[str, ...],
) -> None:
    """Tune ops, strengths and fusion on the validation slice, and confirm the best on the newest slice.

    Says that off is best where the interval of the difference includes zero.
    """
    from recsys.config import load_config

    effective = load_config(config, settings)
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise DependencyError("the search needs optuna: install the extra 'train'") from error
    from recsys.search.run import run_search
    from recsys.search.search import Order
    from recsys.search.verdict import summary

    if not logging.getLogger().isEnabledFor(logging.DEBUG):
        logging.getLogger("recsys.train").setLevel(logging.WARNING)  # a line per epoch of every trial
    order = Order(minutes, trials, seed)
    order = Order(minutes, trials, seed, (*order.policies, *policies))
    result = run_search(data, out, order, effective, fresh=not resume)
    for line in summary(out, result):
        click.echo(line)
