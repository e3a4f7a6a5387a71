"""One fit: everything the recommender needs, built from the events before one cut, in one folder.

The pipeline fits three times (select, report, final) and each time ends with the same kind of folder, so
that what is measured is loaded and asked exactly as what is served.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.artifacts import load_array, replacing, write_array, write_atomically
from recsys.config import Config, RetrieveConfig
from recsys.contexts import Vocabulary
from recsys.data.behaviour import write_snapshot
from recsys.data.interactions import Dataset
from recsys.data.item_dates import came_out
from recsys.data.log import positives
from recsys.data.split import events_before, held_out_targets
from recsys.ease import fit_ease
from recsys.index import build_index, load_index, write_index
from recsys.item_facts import ItemColumns, item_facts
from recsys.item_weights import Events, fit_covisitation, fit_following
from recsys.loading import (
    FACTS_FILE,
    ITEMS,
    USERS,
    build_sources,
    load_newcomers,
    load_shelf,
    load_weights,
    write_newcomers,
    write_weights,
)
from recsys.model.fitted import TowersFit
from recsys.newcomers import fit_newcomers
from recsys.randomness import generator
from recsys.recommend import Recommender
from recsys.scorer import OnnxScorer, OnnxUserTower
from recsys.snapshot import SnapshotSource
from recsys.types import Floats, Query, Rows

INDEX = "index.faiss"
_OF_TOWERS = (
    ITEMS, INDEX, "user_tower.onnx", "text_vectors.npy", "item_vectors.npy", "history_vectors.npy",
)  # fmt: skip
"""Files of a fit that no event but those that the towers learned from can change."""
_LATER = "later"
"""Names the cut, once everything of a fit at a later cut is written."""


@dataclass(frozen=True)
class Shop:
    """What all fits share: the checked data and its rows."""

    dataset: Dataset
    config: Config

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The catalogue's rows."""
        return Vocabulary(self.dataset.items["item_id"].tolist())

    @cached_property
    def end(self) -> int:
        """Unix seconds just after the newest event."""
        return int(self.dataset.interactions["timestamp"].max()) + 1

    @cached_property
    def came_out(self) -> NDArray[np.float64]:
        """(num_items,) Unix seconds of the day each item came out, NaN where unknown."""
        return came_out(self.dataset.items)

    def events(self, cut: int) -> pd.DataFrame:
        """Positive events before a cut."""
        return positives(events_before(self.dataset.interactions, cut))

    def item_counts(self, cut: int) -> NDArray[np.int64]:
        """(num_items,) positive events before a cut."""
        rows = self.vocabulary.rows(self.events(cut)["item_id"].tolist())
        return np.bincount(rows, minlength=len(self.vocabulary)).astype(np.int64)

    def answers(self, start: int, end: int) -> dict[str, Rows]:
        """What each user known before `start` took in [start, end), as distinct rows."""
        pairs = held_out_targets(self.dataset.interactions, start, end)
        pairs = pairs.assign(row=self.vocabulary.rows(pairs["item_id"].tolist()))
        return {str(user): group.to_numpy(np.int64) for user, group in pairs.groupby("user_id")["row"]}


def write_fit(folder: Path, shop: Shop, cut: int, towers: TowersFit) -> dict[str, Any]:
    """Write every file of a fit but the exported towers (`recsys.export`) and the ranker.

    Returns what the manifest says of it: `index`, and `ease` and `new_items` where they are switched on.
    """
    with replacing(folder / ITEMS) as temporary:
        shop.dataset.items.to_parquet(temporary, index=False)
    index, said = build_index(
        towers.item_vectors(), shop.config.index, shop.config.run.seed, shop.config.run.threads
    )
    write_index(index, folder / INDEX)
    return {**_write_known(folder, shop, cut, np.asarray(towers.text_vectors, np.float32)), "index": said}


def write_later(folder: Path, fit: Path, shop: Shop, cut: int) -> None:
    """Write a fit as it stands at a later cut: the same towers, and all else from the events before that cut.

    Found again where the folder shares the files of the same towers.
    """
    done = folder / _LATER
    if done.is_file() and (folder / INDEX).samefile(fit / INDEX) and done.read_text() == str(cut):
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in _OF_TOWERS:
        try:
            os.link(fit / name, folder / name)
        except OSError:  # a file system without hard links, or with too many of them
            shutil.copyfile(fit / name, folder / name)
    _write_known(folder, shop, cut, load_array(fit / "text_vectors.npy"))
    write_atomically(done, str(cut))


def _write_known(folder: Path, shop: Shop, cut: int, text_vectors: Floats) -> dict[str, Any]:
    """What is known of items and users before a cut, whatever the towers are."""
    items = shop.dataset.items
    events = _numbered(shop, cut)
    columns = ItemColumns(
        items["price"].to_numpy(np.float64),
        items["category"].tolist(),
        items["brand"].tolist(),
        items["in_stock"].to_numpy(np.bool_),
        items["available_from"].to_numpy(np.float64),
        shop.came_out,
    )
    write_array(folder / FACTS_FILE, item_facts(events, cut, columns))
    figures = _write_weights(folder, events, len(items), shop.config.retrieve)
    if shop.config.retrieve.fresh:
        draws = generator(shop.config.run.seed, "newcomers", cut)
        newcomers = fit_newcomers(events, cut, columns, text_vectors, draws)
        write_newcomers(folder, newcomers.weights, newcomers.prior)
        figures["new_items"] = newcomers.report
    write_snapshot(
        folder / USERS, events_before(shop.dataset.interactions, cut), items, cut, shop.config.features
    )
    return figures


def _numbered(shop: Shop, cut: int) -> Events:
    """The positive events before a cut, in numbers."""
    events = shop.events(cut)
    return Events(
        pd.factorize(events["user_id"])[0].astype(np.int64),
        shop.vocabulary.rows(events["item_id"].tolist()),
        events["timestamp"].to_numpy(np.int64),
        events["event_type"].map(shop.config.data.event_weights).fillna(1.0).to_numpy(np.float32),
    )


def _write_weights(folder: Path, events: Events, num_items: int, config: RetrieveConfig) -> dict[str, Any]:
    """Fit and write the item-to-item weights that are switched on; returns what the manifest says of them."""
    if config.covisitation:
        write_weights(folder, "covisitation", fit_covisitation(events, num_items))
    if config.following:
        days = config.following_half_life_days
        write_weights(folder, "following", fit_following(events, num_items, half_life_days=days))
    if not config.ease:
        return {}
    matrix, facts = fit_ease(
        events,
        num_items,
        penalty=config.ease_penalty,
        max_items=config.ease_max_items,
        neighbours=config.ease_neighbours,
    )
    write_weights(folder, "ease", matrix)
    return {"ease": facts}


def load_fit(folder: Path, config: Config, ranker: Path | None, new_places: int = 0) -> Recommender:
    """A recommender from a fit's folder and, unless None, a ranker's file; `new_places` are for new items."""
    threads = config.run.threads
    shelf = load_shelf(folder, config)
    index = load_index(folder / INDEX, threads)
    tower = OnnxUserTower(
        folder / "user_tower.onnx",
        load_array(folder / "history_vectors.npy"),
        config.model.history_length,
        threads,
    )
    sources = build_sources(
        config.retrieve,
        index,
        load_weights(folder, config.retrieve),
        shelf,
        load_newcomers(folder, config.retrieve),
    )
    scorer = OnnxScorer(ranker, threads) if ranker is not None and ranker.is_file() else None
    rules = config.rules.to_rules()
    length = config.features.history_length
    return Recommender(shelf, tower, index, sources, scorer, length, rules, None, new_places)


def held_out_queries(
    folder: Path, answers: Mapping[str, Rows], start: int, end: int, k: int, *, exclude_seen: bool = False
) -> tuple[list[Query], list[Rows]]:
    """A query as of `start` for every user with answers up to `end`, with those answers."""
    users = sorted(answers)
    features = SnapshotSource(folder / USERS).fetch(users)
    queries = [
        Query(k=k, moment=start, user_id=user, features=mine, exclude_seen=exclude_seen, available_at=end)
        for user, mine in zip(users, features, strict=True)
    ]
    return queries, [answers[user] for user in users]
