"""`recsys search`: find items of a run by text."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from recsys.errors import InputError


@click.command("search")
@click.option(
    "--run", "run_path", type=click.Path(path_type=Path), required=True, help="A run, RUNS/live, or RUNS."
)
@click.argument("words")
@click.option("--k", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many items.")
@click.option("--user", help="Order what is found as this user would like it.")
@click.option(
    "--rules",
    "rules_file",
    type=click.Path(path_type=Path),
    help="TOML file of [rules]; filters and blocks hold.",
)
@click.option(
    "--rule", "settings", multiple=True, metavar="KEY=VALUE", help="One more of them; can be repeated."
)
@click.option("--threads", type=click.IntRange(1), default=None, help="Threads; default: all cores.")
@click.option("--json", "json_wanted", is_flag=True, help="Print JSON instead of a table.")
def command(
    run_path: Path,
    words: str,
    k: int,
    user: str | None,
    rules_file: Path | None,
    settings: tuple[str, ...],
    threads: int | None,
    json_wanted: bool,
) -> None:
    """Find items by WORDS, misspelled or not: by the meaning of their texts and by the letters in common."""
    from recsys.loading import load_run
    from recsys.rule_settings import load_rules
    from recsys.text_search import SearchQuery
    from recsys.types import Query

    if not words.strip():
        raise InputError("there is nothing to search for", hint="Give some words")
    rules = load_rules(rules_file, settings)
    loaded = load_run(run_path, threads)
    features = None if user is None else loaded.snapshot().fetch([user])[0]
    if user is not None and features is None:
        raise InputError("the run does not know this user", example=user)
    search = loaded.text_search(threads)
    today = max(loaded.moment, int(time.time()))
    query = Query(k, loaded.moment, user, features, available_at=today, rules=rules)
    found = search.search([SearchQuery(words, query)])[0].items
    places = [
        {
            "rank": place.rank,
            "item_id": place.item_id,
            "score": round(place.score, 5),
            "title": loaded.recommender.item(place.item_id)["title"],
            "sources": list(place.sources),
        }
        for place in found.items
    ]
    if json_wanted:
        click.echo(json.dumps({"query": words, "items": places}, ensure_ascii=False))
        return
    table = Table(box=box.SIMPLE)
    for name in ("rank", "item_id", "score", "title", "sources"):
        table.add_column(name, justify="right" if name in ("rank", "score") else "left", overflow="fold")
    for row in places:
        cells = (row["rank"], row["item_id"], f"{row['score']:.3f}", row["title"], ", ".join(row["sources"]))
        table.add_row(*(Text(str(cell or "")) for cell in cells))
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)
