"""`recsys demo`: a made-up shop from nothing to ranked recommendations, each step shown as its command."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import pyarrow.parquet as pq

from recsys.artifacts import LIVE
from recsys.loading import USERS, LoadedRun, load_run
from recsys.types import Query, RankedList, UserFeatures

STRANGER = "somebody-new"
_PLACES = 5


@dataclass(frozen=True, slots=True)
class Guest:
    """A user whose list is shown, and why."""

    title: str
    user_id: str
    features: UserFeatures | None


@click.command("demo")
@click.option("--folder", default="runs", show_default=True, type=click.Path(path_type=Path, file_okay=False))
@click.option("--size", default="small", show_default=True, type=click.Choice(["tiny", "small", "medium"]))
@click.option("--seed", default=7, show_default=True, type=click.IntRange(0))
@click.option("--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE", help="As for `recsys run`.")
def command(folder: Path, size: str, seed: int, settings: tuple[str, ...]) -> None:
    """Make a shop, train on it, and show what three of its users are recommended.

    Writes FOLDER/demo-shop (the two files) and FOLDER/demo (the runs); what stood there before is made anew.
    """
    started = time.perf_counter()
    shop, runs = folder / "demo-shop", folder / "demo"
    _step("data", "sample", "--size", size, "--out", str(shop), "--seed", str(seed))
    options = [part for setting in settings for part in ("--set", setting)]
    _step("run", "--data", str(shop), "--out", str(runs), *options)
    run = load_run(runs)
    guests = pick_guests(run)
    for guest, answer in zip(guests, _recommend(run, guests), strict=True):
        _show_list(run, guest, answer)
    _show_next(shop, runs, guests[0].user_id, time.perf_counter() - started)


def pick_guests(run: LoadedRun) -> list[Guest]:
    """One user with a rich history, one with two events (or the fewest), and one whom nobody knows."""
    table = pq.read_table(run.path / USERS, columns=["user_id", "num_events"]).to_pydict()
    counts = dict(zip(table["user_id"], table["num_events"], strict=True))
    rich = max(counts, key=lambda user: (counts[user], user))
    sparse = min(counts, key=lambda user: (abs(counts[user] - 2), user))
    known = run.snapshot().fetch([rich, sparse])
    return [
        Guest("A user with a rich history", rich, known[0]),
        Guest("A user with a short one", sparse, known[1]),
        Guest("A user nobody knows", STRANGER, None),
    ]


def _recommend(run: LoadedRun, guests: Sequence[Guest]) -> list[RankedList]:
    queries = [
        Query(k=_PLACES, moment=run.moment, user_id=guest.user_id, features=guest.features)
        for guest in guests
    ]
    return run.recommender.recommend(queries)


def _step(*arguments: str) -> None:
    """Run a command of this program, shown as a user would type it; its failure ends the demo."""
    from recsys.cli import cli

    click.secho(f"\n$ recsys {shlex.join(arguments)}", bold=True)
    cli.main(args=list(arguments), prog_name="recsys", standalone_mode=False)


def _show_list(run: LoadedRun, guest: Guest, answer: RankedList) -> None:
    click.secho(f"\n{guest.title}: {guest.user_id}", bold=True)
    if guest.features is not None:
        history = guest.features.history
        click.echo(f"  {guest.features.num_events:,} events, the newest:")
        newest = list(zip(history.item_ids, history.event_types, strict=True))[-3:]
        for item_id, event in reversed(newest):
            click.echo(f"     {event:<12} {_title(run, item_id)}")
    reason = f" (not personal: {answer.fallback})" if answer.fallback else ""
    click.echo(f"  recommended{reason}:")
    for place in answer.items:
        sources = ", ".join(place.sources)
        click.echo(f"  {place.rank:>2}  {place.score:8.3f}  {_title(run, place.item_id)}  [{sources}]")


def _title(run: LoadedRun, item_id: str) -> str:
    if item_id not in run.recommender.vocabulary:
        return f"{item_id} (no longer in the catalogue)"
    detail = run.recommender.item(item_id)
    title = str(detail["title"] or "(no title)")
    facts = [str(detail[name]) for name in ("category", "brand") if detail[name]]
    if detail["price"] is not None:
        facts.append(f"{detail['price']:.2f}")
    return f"{title} ({', '.join(facts)})" if facts else title


def _show_next(shop: Path, runs: Path, user: str, seconds: float) -> None:
    live, request = runs / LIVE, json.dumps({"user_id": user, "k": _PLACES})
    click.secho(f"\nDone in {seconds:.0f} s. Where things are", bold=True)
    click.echo(f"  {shop}   the two files: interactions and items")
    click.echo(f"  {live.resolve()}   the run; {live} points to it")
    click.echo(f"  {live / 'report.html'}   figures and plots, segment by segment")
    click.secho("What next", bold=True)
    click.echo(f"  .venv/bin/recsys serve --run {live} --port 8000        start the service, then ask it:")
    click.echo(
        "  curl -s localhost:8000/v1/recommendations -H 'Content-Type: application/json' "
        f"-d {shlex.quote(request)}"
    )
    click.echo(
        "  .venv/bin/recsys data check DIR                        see whether your own two files will do"
    )
    click.echo("  .venv/bin/recsys run --data DIR --out runs/mine        and train on them")
