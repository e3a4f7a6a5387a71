"""`recsys data`: check a folder, make a sample shop, fetch a public set."""

from __future__ import annotations

import json
from pathlib import Path

import click

from recsys.cli.options import config_options
from recsys.config import load_config


@click.group(name="data")
def command() -> None:
    """Check a dataset, make a sample shop, fetch a public set."""


@command.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@config_options()
def check(folder: Path, as_json: bool, config: Path | None, settings: tuple[str, ...]) -> None:
    """Load FOLDER and report every repair; exit 2 with one line when it must be refused."""
    from rich.console import Console

    from recsys.data.interactions import load_dataset

    report = load_dataset(folder, load_config(config, settings).data).report
    if as_json:
        click.echo(json.dumps(report.to_json(), ensure_ascii=False, indent=1))
    else:
        Console().print(report.render())
        click.echo(f"next: recsys run --data {folder} --out RUNS")


@command.command()
@click.option(
    "--size", type=click.Choice(["tiny", "small", "medium", "large"]), default="small", show_default=True
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write to."
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same bytes."
)
@click.option(
    "--two-shops", is_flag=True, help="Also as two shops with the same people: OUT/whole, OUT/one, OUT/other."
)
def sample(size: str, out: Path, seed: int, two_shops: bool) -> None:
    """Write a made-up shop: items, interactions and relations."""
    from recsys.data.sample import write_sample

    if two_shops:
        from recsys.data.sample_two import write_two_shops

        whole, halves = write_two_shops(out, size, seed)
        click.echo(f"{out / 'whole'}: {whole.events:,} events, {whole.users:,} users, {whole.items:,} items")
        for half, events in halves.items():
            click.echo(f"{out / half}: {events:,} events")
        return
    shop = write_sample(out, size, seed)
    click.echo(f"{out}: {shop.events:,} events, {shop.users:,} users, {shop.items:,} items")


@command.command()
@click.argument(
    "name", type=click.Choice(["online-retail", "movielens-small", "movielens-1m", "movielens-32m"])
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write to."
)
@click.option("--from", "archive", type=click.Path(path_type=Path), help="An archive downloaded by hand.")
def fetch(name: str, out: Path, archive: Path | None) -> None:
    """Download a public set from its publisher and bring it into the contract's form."""
    from recsys.data.adapters import PUBLIC_SETS
    from recsys.data.adapters import fetch as fetch_set

    converted = fetch_set(name, out, archive)
    click.echo(f"{out}: {len(converted.interactions):,} events, {len(converted.items):,} items")
    for reason, rows in converted.left_out.items():
        click.echo(f"  left out: {rows:,} {reason}")
    click.echo(f"  licence: {PUBLIC_SETS[name].licence}")
