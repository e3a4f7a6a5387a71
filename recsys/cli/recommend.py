"""`recsys recommend`: ranked lists for a file of users."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.artifacts import replacing
from recsys.errors import InputError

if TYPE_CHECKING:
    from recsys.loading import Switch

MOST = 1000
"""Largest list per user."""


@click.command("recommend")
@click.option(
    "--run", "run_path", type=click.Path(path_type=Path), required=True, help="A run, RUNS/live, or RUNS."
)
@click.option(
    "--users", type=click.Path(path_type=Path), required=True, help="Parquet or CSV file with user_id."
)
@click.option("--k", type=click.IntRange(1, MOST), default=20, show_default=True, help="Places per user.")
@click.option(
    "--exclude-seen/--include-seen",
    default=False,
    show_default=True,
    help="Leave out what a user has had already.",
)
@click.option(
    "--at",
    type=click.DateTime(),
    default=None,
    help="The moment, UTC, that recency is counted from; default: where the run's data ends.",
)
@click.option(
    "--augment",
    type=click.Choice(["run", "on", "off"]),
    default="run",
    show_default=True,
    help="Views of short histories: as the run has decided, always, or never.",
)
@click.option(
    "--rules",
    "rules_file",
    type=click.Path(path_type=Path),
    help="TOML file with settings of [rules]: filters, blocks, pins, boosts, caps, diversity.",
)
@click.option(
    "--rule",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="One more of them, for example max_per_brand=2; can be repeated.",
)
@click.option("--explain", "explain_wanted", is_flag=True, help="Add a column that says why, as JSON.")
@click.option("--threads", type=click.IntRange(1), default=None, help="Threads; default: all cores.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Parquet file to write.")
def command(
    run_path: Path,
    users: Path,
    k: int,
    exclude_seen: bool,
    at: click.DateTime | None,
    augment: Switch,
    rules_file: Path | None,
    settings: tuple[str, ...],
    explain_wanted: bool,
    threads: int | None,
    out: Path,
) -> None:
    """Write user_id, item_id, rank (1 is best), score and fallback: k rows for every user asked for.

    A user the run does not know gets the popular list, and `fallback` says why. What the rules given here do
    not say is as the run's own [rules] have it.
    """
    from datetime import UTC, datetime

    from recsys.batch import recommend_users
    from recsys.loading import load_run
    from recsys.rule_settings import load_rules

    if not out.parent.is_dir():
        raise InputError("there is no such folder to write into", file=str(out.parent), hint="Make it first")
    rules = load_rules(rules_file, settings)
    started = time.perf_counter()
    loaded = load_run(run_path, threads, augment=augment)
    moment = loaded.moment
    if isinstance(at, datetime):
        moment = int(at.replace(tzinfo=UTC).timestamp())
    asked = read_users(users)
    table = recommend_users(
        loaded, asked, k, moment, exclude_seen=exclude_seen, rules=rules, explain=explain_wanted
    )
    if not table.num_rows:
        raise InputError("the rules leave no item that may be answered", hint="Look at filters and blocks")
    with replacing(out) as temporary:
        pq.write_table(table, temporary)
    firsts = table.filter(pc.equal(table["rank"], 1))
    fallbacks, without = len(firsts) - firsts["fallback"].null_count, len(asked) - len(firsts)
    click.echo(
        f"{out}: {table.num_rows:,} rows, {time.perf_counter() - started:.1f} s, "
        f"{fallbacks:,} users with a fallback list"
        + (f", {without:,} without a list: nothing is allowed for them" if without else "")
    )


def read_users(path: Path) -> list[str]:
    """The distinct users of a file, in its order.

    Raises:
        InputError: unreadable, without a user_id column, or empty.
    """
    try:
        if path.suffix == ".csv":
            from pyarrow import csv

            options = csv.ConvertOptions(column_types={"user_id": pa.string()})
            table = csv.read_csv(path, convert_options=options)
        else:
            table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"cannot be read ({str(error).splitlines()[0]})", file=str(path)) from error
    if "user_id" not in table.column_names:
        raise InputError(
            "the column is missing",
            file=str(path),
            column="user_id",
            hint=f"It has {', '.join(table.column_names)}",
        )
    column = table["user_id"]
    if column.null_count:
        raise InputError("empty ids", file=str(path), column="user_id", count=column.null_count)
    users = list(dict.fromkeys(column.cast(pa.string()).to_pylist()))
    if not users:
        raise InputError("no users in the file", file=str(path))
    return users
