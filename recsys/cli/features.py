"""`recsys features`: apply, materialize, show."""

from __future__ import annotations

import dataclasses
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from recsys.config import load_config
from recsys.errors import InputError
from recsys.snapshot import is_stale
from recsys.types import UserFeatures

FOLDER = click.option(
    "--features",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/features"),
    show_default=True,
    help="The feature store's folder (RUNS/features).",
)


@click.group()
def command() -> None:
    """Apply, materialise or show the feature store."""


@command.command()
@FOLDER
@click.option("--data", type=click.Path(path_type=Path), help="Write the offline rows of this dataset first.")
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="A TOML file of settings.")
@click.option("--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE", help="One more setting.")
def apply(folder: Path, data: Path | None, config_file: Path | None, settings: tuple[str, ...]) -> None:
    """Register entities, views and services; with --data also write their rows."""
    from recsys.data.features import FeatureStoreRoom

    config = load_config(config_file, settings)
    room = FeatureStoreRoom(folder)
    if data is not None:
        from recsys.data.interactions import load_dataset

        for view, number in room.write(load_dataset(data, config.data), config.features).items():
            click.echo(f"{view}: {number:,} rows")
    room.apply()
    click.echo(f"registered in {folder}")


@command.command()
@FOLDER
@click.option("--as-of", help="Only what was known before this time (Unix seconds or ISO 8601, UTC).")
@click.option("--items", is_flag=True, help="Item views too; serving does not read them from the store.")
def materialize(folder: Path, as_of: str | None, items: bool) -> None:
    """Copy the newest offline rows to the online store."""
    from recsys.data.features import FeatureStoreRoom

    FeatureStoreRoom(folder).materialize(None if as_of is None else _seconds(as_of), items=items)
    click.echo(f"materialised {'all views' if items else 'the user views'} in {folder}")


@command.command()
@click.argument("user")
@FOLDER
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="A TOML file of settings.")
def show(user: str, folder: Path, as_json: bool, config_file: Path | None) -> None:
    """Print what the online store knows of USER."""
    from recsys.data.features import FeatureStoreRoom

    features = FeatureStoreRoom(folder).online([user])[0]
    if features is None:
        raise InputError(
            f"the online store has never seen user {user!r}",
            file=str(folder),
            hint="Fill it with 'recsys features materialize'",
        )
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(features), ensure_ascii=False, indent=1))
        return
    ttl = load_config(config_file).features.ttl_days
    click.echo("\n".join(_lines(features, stale=is_stale(features, int(time.time()), ttl))))


def _lines(features: UserFeatures, stale: bool) -> list[str]:
    newest = "unknown" if features.as_of is None else _iso(features.as_of)
    lines = [
        f"user      {features.user_id}",
        f"newest    {newest}{' (stale)' if stale else ''}",
        f"events    {features.num_events:,}, of which {len(features.history)} kept",
        f"items     {len(features.owned.item_ids):,} distinct",
    ]
    lines += [f"{name:<9} {value:g}" for name, value in features.numbers.items() if name != "last_timestamp"]
    history = features.history
    recent = list(zip(history.timestamps, history.event_types, history.item_ids, strict=True))[-10:]
    lines += ["last events, newest first:"]
    lines += [f"  {_iso(stamp)}  {event:<12} {item}" for stamp, event, item in reversed(recent)]
    return lines


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _seconds(text: str) -> int:
    if text.lstrip("-").isdigit():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(
            "not a time", column="--as-of", example=text, hint="Write 2011-12-01T00:00:00 or Unix seconds"
        ) from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
