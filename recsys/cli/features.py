"""`recsys features`: apply, materialize, show, augmented, erase."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import click

from recsys.cli.options import config_options
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
    """Apply, materialise, show or extend the feature store, or erase users from it."""


@command.command()
@FOLDER
@click.option("--data", type=click.Path(path_type=Path), help="Write the offline rows of this dataset first.")
@config_options()
def apply(folder: Path, data: Path | None, config: Path | None, settings: tuple[str, ...]) -> None:
    """Register entities, views and services; with --data also write their rows."""
    from recsys.data.features import FeatureStoreRoom

    effective = load_config(config, settings)
    room = FeatureStoreRoom(folder)
    if data is not None:
        from recsys.data.interactions import load_dataset

        for view, number in room.write(load_dataset(data, effective.data), effective.features).items():
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


@command.command()
@FOLDER
@click.option(
    "--from",
    "expansion",
    type=click.Path(path_type=Path),
    help="Store what 'recsys augment run' wrote.",
)
@click.option("--drop", metavar="POLICY_ID", help="Remove the rows of this policy.")
def augmented(folder: Path, expansion: Path | None, drop: str | None) -> None:
    """List the stored augmented rows by policy; store an expansion's, or drop a policy's."""
    from recsys.data.augmented_store import drop_policy, stored_batches
    from recsys.data.expansion import store_expansion
    from recsys.data.features import FeatureStoreRoom

    room = FeatureStoreRoom(folder)
    if drop is not None:
        click.echo(f"{drop}: {drop_policy(room.files, drop):,} batches removed")
    if expansion is not None:
        for view, number in store_expansion(room, expansion).items():
            click.echo(f"{view}: {number:,} rows stored")
        room.apply()
    for batch in stored_batches(room.files):
        made, rows = _iso(batch.created), f"{batch.num_rows:,} rows"
        click.echo(f"{batch.view:<20} {batch.policy_id}  seed {batch.seed}  made {made}  {rows}")


@command.command()
@click.argument("users", nargs=-1, metavar="[USER_ID]...")
@FOLDER
@click.option("--users", "listed", type=click.Path(path_type=Path), help="A file of user ids, one per line.")
@click.option(
    "--expansion",
    "expansions",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A folder of 'recsys augment run' to erase from too; may be repeated.",
)
@click.option("--runs", type=click.Path(path_type=Path), help="Runs to look through [beside the features].")
def erase(
    users: tuple[str, ...], folder: Path, listed: Path | None, expansions: tuple[Path, ...], runs: Path | None
) -> None:
    """Erase users: their features, offline and online, and augmented rows that hold anything of theirs.

    What was removed is counted by place, and runs that still hold one of the users are named. Without a user,
    an erasure that was stopped is finished.
    """
    from recsys.data.erasing import erase_from_expansion, holders
    from recsys.data.features import FeatureStoreRoom

    room = FeatureStoreRoom(folder)
    everyone = sorted({*users, *_ids_in(listed), *room.files.being_erased()})
    if not everyone:
        raise InputError("nobody to erase", hint="Give user ids, or a file of them with --users")
    for expansion in expansions:
        _say(expansion, erase_from_expansion(expansion, everyone))
    _say(folder, room.erase(everyone))
    found = holders(runs or folder.absolute().parent, everyone, besides=folder)
    for run, names in found.items():
        click.echo(f"run {run} still holds them: {', '.join(names)}")
    if found:
        click.echo("a model cannot forget: train a new run, then delete those")
    click.echo("take them out of the dataset too, or the next run brings them back")


def _say(place: Path, taken: Mapping[str, int]) -> None:
    shown = ", ".join(f"{name} {number:,}" for name, number in taken.items()) or "nothing there"
    click.echo(f"{place}: {shown}")


def _ids_in(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read ({error})", file=str(path)) from error
    return [line.strip() for line in lines if line.strip()]


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
