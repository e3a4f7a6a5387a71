"""`recsys compare`: an offline A/B of augmentation on one shop's own data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recsys.cli.options import (
    config_options,
    data_option,
    out_option,
    quiet,
    seeds_option,
    shares_option,
    task_option,
    wide_console,
    workers_option,
)
from recsys.errors import InputError

if TYPE_CHECKING:
    from recsys.compare.run import Compared
    from recsys.compare.trainings import DepthOf
    from recsys.evaluate.evaluate import Task


@click.command("compare", context_settings={"help_option_names": ["-h", "--help"]})
@data_option()
@out_option("Folder of this comparison alone.")
@seeds_option("Trainings of every arm.", 5)
@click.option(
    "--arms",
    multiple=True,
    metavar="NAME|FILE ...",
    help="Two or more presets, policy files, settings files (what they share with --config), or placebos. "
    "[default: the configured policy against off]",
)
@click.argument("more", nargs=-1, metavar="")
@shares_option()
@click.option(
    "--lists",
    is_flag=True,
    help="Judge whole lists, of every source and a ranker per training, and not the towers alone: slow.",
)
@click.option(
    "--finetune",
    is_flag=True,
    help="Train the text encoder in every training, as [finetune] and [pretrain] say, on the texts of its "
    "arm: minutes each without a GPU.",
)
@click.option(
    "--search",
    is_flag=True,
    help="Also teach queries in every training, as [queries] says, on titles as its arm words them: a minute "
    "or two each without a GPU.",
)
@click.option(
    "--placebos/--no-placebos",
    default=True,
    show_default=True,
    help="Let placebo arms take part: what they gain as well is no gain of augmentation.",
)
@task_option()
@workers_option()
@config_options("TOML file of settings that all arms share.")
def command(
    data: Path,
    out: Path,
    seeds: int,
    arms: tuple[str, ...],
    more: tuple[str, ...],
    shares: tuple[float, ...],
    lists: bool,
    finetune: bool,
    search: bool,
    placebos: bool,
    task: Task,
    workers: int,
    config: Path | None,
    settings: tuple[str, ...],
) -> None:
    """Train arms that differ in augmentation alone, and say per segment whether it helps.

    Every arm takes the same optimiser steps with the same seeds, and the newest slice of the data judges.
    Killed and started again, it goes on. OUT/compare.html is the report.
    """
    if lists and shares:
        raise InputError("--share is for the towers alone", hint="Leave out --lists or --share")
    asked = {"--lists": lists, "--finetune": finetune, "--search": search}
    depths = [option for option, wanted in asked.items() if wanted]
    if len(depths) > 1:
        raise InputError(f"{' and '.join(depths)} exclude each other", hint="Give one of them")
    if more and not arms:
        raise InputError(f"unexpected argument '{more[0]}'", hint="Arms go behind --arms")
    from recsys.compare.contenders import enter
    from recsys.compare.run import Order, run_compare
    from recsys.compare.words import write_files
    from recsys.track import tracked

    quiet("recsys.train", "recsys.arms", "recsys.tuning")
    entered = enter([*arms, *more], config, settings, placebos=placebos)
    if finetune and not (entered.config.finetune.enabled or entered.config.pretrain.enabled):
        raise InputError(
            "--finetune, but finetune.enabled and pretrain.enabled are false",
            hint="Leave out --finetune, or switch one of the two on",
        )
    if search and not entered.config.queries.enabled:
        raise InputError(
            "--search, but queries.enabled is false", hint="Leave out --search, or switch queries.enabled on"
        )
    order = Order(seeds, tuple(sorted(set(shares))), task)
    with tracked(entered.config.track, out, "recsys compare", data.resolve().name) as tracker:
        done = run_compare(data, out, entered, order, _depth(depths), say, workers=workers)
        write_files(out, done, data, config)
        tracker.parameters(entered.config.model_dump(mode="json"))
        for name, losses in done.losses.items():
            for seed, curve in enumerate(losses):
                tracker.curve(f"{name}.seed {seed}.loss", curve)
        tracker.curve("off.validation ndcg@10", done.curve)
        tracker.artifacts(sorted(out.glob("compare.*")))
    show(done, out, data, config)


def _depth(options: Sequence[str]) -> DepthOf:
    """How far trainings go: as the option says, or no further than the towers."""
    from recsys.compare.lists import WholeLists
    from recsys.compare.taught import TowersAndReader
    from recsys.compare.trainings import TowersAlone
    from recsys.compare.tuned import TunedTowers

    deeper: dict[str, DepthOf] = {
        "--lists": WholeLists,
        "--finetune": TunedTowers,
        "--search": TowersAndReader,
    }
    return deeper[options[0]] if options else TowersAlone


def show(done: Compared, out: Path, data: Path, config: Path | None, name: str = "compare") -> None:
    """Print the verdicts, their reasons, and what to do next."""
    from recsys.compare.words import closing, tables
    from recsys.evaluate.tables import OnTerminal

    console = wide_console()
    for grid, why in tables(done):
        console.print(OnTerminal(grid))
        for line in why:
            click.echo(f"  {line}")
        click.echo()
    for line in closing(done, out, data, config, name):
        click.echo(line)


def say(line: str) -> None:
    """A line for the user that is no result."""
    click.echo(line, err=True)
