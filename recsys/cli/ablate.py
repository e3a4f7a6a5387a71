"""`recsys ablate`: what each op, source, feature group and training option is worth on one shop's data."""

from __future__ import annotations

from pathlib import Path

import click

from recsys.cli.compare import quiet, say, show

CHOICES = ("ops", "sources", "features", "training", "all")


@click.command("ablate", context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--data", type=click.Path(path_type=Path), required=True, help="Folder with interactions and items."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of these ablations.")
@click.option(
    "--what",
    type=click.Choice(CHOICES),
    required=True,
    help="ops: each alone against off. sources, features: each left out of whole lists. training: each "
    "option of the towers the other way.",
)
@click.option(
    "--seeds", type=click.IntRange(min=1), default=5, show_default=True, help="Trainings of every arm."
)
@click.option(
    "--task",
    type=click.Choice(["novel", "all"]),
    default="novel",
    show_default=True,
    help="novel takes out what the user already had.",
)
@click.option("--config", type=click.Path(path_type=Path), help="TOML file of settings: the default.")
@click.option(
    "--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE", help="One more setting; repeatable."
)
def command(
    data: Path,
    out: Path,
    what: str,
    seeds: int,
    task: str,
    config: Path | None,
    settings: tuple[str, ...],
) -> None:
    """Leave out, add or flip one thing at a time, and say per segment what that does.

    Paired with the default by user and seed, with the statistics of `recsys compare`. What changes no list
    with the first seed is not trained with the others. Killed and started again, it goes on.
    """
    from recsys.compare.ablations import DEEP, WHAT, ablation
    from recsys.compare.lists import WholeLists
    from recsys.compare.run import Order, run_compare
    from recsys.compare.trainings import TowersAlone
    from recsys.compare.words import write_files
    from recsys.config import load_config
    from recsys.evaluate.evaluate import TASKS

    quiet()
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
            WholeLists if one in DEEP else TowersAlone,
            say,
            equal_steps=one == "ops",
        )
        name = f"ablate-{one}"
        write_files(out, done, data, config, name)
        show(done, out, data, config, name)
        if one in DEEP:
            click.echo("read:    what hurts when it is left out earns its place; what helps does not")
