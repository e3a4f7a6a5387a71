"""`recsys evaluate --search`: a run's search on queries made from its own titles, beside two baselines."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import pandas as pd

from recsys.artifacts import write_atomically
from recsys.augment.noise import mistyped
from recsys.cli.options import wide_console
from recsys.data.catalogue import item_texts
from recsys.evaluate.known_item import (
    DEPTH,
    Bm25,
    KnownItems,
    NearestText,
    SearchFigures,
    System,
    known_items,
    measure_search,
    search_grids,
)
from recsys.evaluate.tables import OnTerminal, to_markdown
from recsys.loading import ITEMS, LoadedRun, load_run
from recsys.text_search import SearchQuery
from recsys.types import Query, Rows

logger = logging.getLogger(__name__)


def evaluate_search(
    run: Path, count: int, seed: int, *, baselines: bool, json_wanted: bool, markdown_file: Path | None
) -> None:
    """Measure and print.

    Args:
        run: A run, RUNS/live, or RUNS.
        count: Items whose titles become queries.
        seed: Of the queries and of the bootstrap.
        baselines: Measure BM25 over words and the un-tuned encoder as well.
        json_wanted: Print JSON instead of tables.
        markdown_file: Also write the tables here.
    """
    loaded = load_run(run)
    items = pd.read_parquet(loaded.path / ITEMS)
    known = known_items(items["title"].fillna("").tolist(), count, mistyped, seed)
    measured = [measure_search("recsys", run_system(loaded), known, seed=seed)]
    if baselines:
        measured += _baselines(loaded, item_texts(items), known, seed)
    grids = search_grids(measured)
    if markdown_file is not None:
        write_atomically(markdown_file, "\n".join(to_markdown(grid) for grid in grids))
    if json_wanted:
        click.echo(json.dumps({"run": loaded.run_id, "search": [one.to_dict() for one in measured]}))
        return
    console = wide_console()
    for grid in grids:
        console.print(OnTerminal(grid))


def run_system(loaded: LoadedRun) -> System:
    """A run's search as the evaluation asks it: nobody in particular, nothing excluded."""
    search = loaded.text_search()

    def system(queries: Sequence[str]) -> Rows:
        nobody = Query(DEPTH, loaded.moment)
        lists = np.full((len(queries), DEPTH), -1, np.int64)
        for i, found in enumerate(search.search([SearchQuery(text, nobody) for text in queries])):
            rows = loaded.recommender.vocabulary.rows([place.item_id for place in found.items.items])
            lists[i, : len(rows)] = rows
        return lists

    return system


def _baselines(loaded: LoadedRun, texts: list[str], known: KnownItems, seed: int) -> list[SearchFigures]:
    measured = [measure_search("bm25_words", Bm25(texts), known, seed=seed)]
    try:
        from recsys.distributed import training_device
        from recsys.model.encoder import TextEncoder  # torch, where it is installed
    except ImportError as error:
        logger.warning("the un-tuned encoder is left out: %s; pip install 'recsys[train]'", error)
        return measured
    encoder = TextEncoder.load(loaded.config.encoder, training_device("cpu"), loaded.config.train.precision)
    vectors = encoder.encode(texts, progress="item texts")
    untuned = NearestText(encoder.encode, vectors)
    return [*measured, measure_search("text_untuned", untuned, known, seed=seed)]
