"""`recsys transfer` and `recsys social`: what another shop's data, or friends, are worth here."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recsys.cli.options import (
    PATH,
    config_options,
    data_option,
    out_option,
    seeds_option,
    task_option,
    wide_console,
)
from recsys.config import load_config

if TYPE_CHECKING:
    from recsys.evaluate.evaluate import Task
    from recsys.transfer.order import Done


def _shared(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that both commands have."""
    for option in (
        config_options(),
        task_option(),
        seeds_option("Trainings of each system.", 3),
        out_option("Folder of this measurement alone."),
    ):
        command = option(command)
    return command


@click.command("transfer", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--from", "source", type=PATH, required=True, help="Dataset to train on.")
@click.option("--to", "target", type=PATH, required=True, help="Dataset to recommend in.")
@click.option(
    "--same-users",
    is_flag=True,
    help="One user id in both is one person: measure what their events there are worth here.",
)
@_shared
def transfer(
    source: Path,
    target: Path,
    same_users: bool,
    out: Path,
    seeds: int,
    task: Task,
    config: Path | None,
    settings: tuple[str, ...],
) -> None:
    """Train on one dataset and recommend in another, by text alone and through users that both have.

    The newest slice of the second one judges, beside its own training, its text without any training, and
    its popularity. OUT/transfer.md has the tables.
    """
    effective = load_config(config, settings)
    from recsys.transfer.order import Order
    from recsys.transfer.run import run_transfer  # torch takes seconds to import

    done = run_transfer(source, target, out, effective, Order(seeds, task, same_users))
    asked = ["--from", str(source), "--to", str(target), *(["--same-users"] if same_users else [])]
    _show(out, "transfer", done, _asked("transfer", asked, seeds, task, settings))


@click.command("social", context_settings={"help_option_names": ["-h", "--help"]})
@data_option("Dataset with relations.")
@_shared
def social(
    data: Path, out: Path, seeds: int, task: Task, config: Path | None, settings: tuple[str, ...]
) -> None:
    """Recommend with and without what friends did, strangers in their place as placebo.

    The newest slice of the data judges. OUT/social.md has the tables.
    """
    effective = load_config(config, settings)
    from recsys.transfer.order import Order
    from recsys.transfer.social import run_social

    done = run_social(data, out, effective, Order(seeds, task))
    _show(out, "social", done, _asked("social", ["--data", str(data)], seeds, task, settings))


def _asked(name: str, data: list[str], seeds: int, task: str, settings: tuple[str, ...]) -> str:
    more = [part for setting in settings for part in ("--set", setting)]
    return shlex.join(["recsys", name, *data, "--seeds", str(seeds), "--task", task, *more])


def _show(out: Path, name: str, done: Done, command: str) -> None:
    from recsys.evaluate.tables import OnTerminal
    from recsys.transfer.words import findings_grid, sentences, systems_grid, write_files

    write_files(out, name, done, command)
    console = wide_console()
    for grid in (systems_grid(done), findings_grid(done)):
        console.print(OnTerminal(grid))
    for line in (*(f"{fact}: {value}" for fact, value in done.facts.items()), *sentences(done), *done.notes):
        click.echo(line)
    click.echo(f"report: {out / f'{name}.md'}   ({name}.json beside it)")
