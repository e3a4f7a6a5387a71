"""`recsys augment search`: which augmentation a dataset gains from, if any."""

from __future__ import annotations

from pathlib import Path

import click

from recsys.cli.options import budget_options, config_options, data_option, out_option, quiet, require_optuna


@click.command()
@data_option()
@out_option("Folder of this search alone.")
@budget_options("Cheap trials at most.")
@click.option(
    "--policy", "policies", multiple=True, help="One more starting point beside the presets: a TOML file."
)
@config_options()
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
    require_optuna()
    from recsys.search.run import run_search
    from recsys.search.search import Order
    from recsys.search.verdict import summary

    quiet("recsys.train")
    order = Order(minutes, trials, seed)
    order = Order(minutes, trials, seed, (*order.policies, *policies))
    result = run_search(data, out, order, effective, fresh=not resume)
    for line in summary(out, result, data):
        click.echo(line)
