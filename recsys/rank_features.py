"""What the ranker sees of a candidate: one function for training and for serving, so that they cannot differ.

Everything is known at the request's moment: popularity and item age come from the events before the fit's
cut, the user's side from features read as of the moment, the sources' side from retrieval itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.retrieve import TEXT_DECAY, TEXT_HISTORY, Batch, Proposals
from recsys.types import Floats, Rows

DAY = 86_400.0
SOURCES = ("two_tower", "covisit_recent", "covisit_all", "repeats", "trending", "fresh")
"""Every source the ranker has a place for; one that is switched off leaves zeros."""
RANK_FEATURES = (
    "match", "text_match", "text_last", "text_max",
    *(f"score_{name}" for name in SOURCES if name.startswith("covisit")),
    *(f"rank_{name}" for name in SOURCES),
    "popularity", "popularity_30d", "popularity_7d", "trend", "age", "cold",
    "owned", "owned_count", "owned_gap", "owned_due",
    "category_share", "brand_share", "price_gap", "num_events", "recency",
)  # fmt: skip
"""Columns of the feature matrix, in order; the run's manifest repeats them."""

FACTS = np.dtype(
    [
        ("count", "f4"), ("count_30d", "f4"), ("count_7d", "f4"), ("first_seen", "f8"),
        ("available_from", "f8"), ("log_price", "f4"), ("category", "i4"), ("brand", "i4"), ("in_stock", "?"),
    ]
)  # fmt: skip
"""One record per item: positive events before the cut (all, 30 days, 7 days), Unix seconds (NaN: never), the
logarithm of the price (NaN: unknown), codes of category and brand (-1: none)."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """The merged candidates of a batch, grouped by user."""

    users: NDArray[np.int64]
    """(c,) position in the batch, ascending."""
    rows: Rows
    """(c,)"""
    source_ranks: Floats
    """(c, len(SOURCES)) 1 is best, 0 where the source did not propose it."""


def candidate_features(
    batch: Batch,
    candidates: Candidates,
    proposals: dict[str, Proposals],
    facts: NDArray[np.void],
    item_vectors: Floats,
    text_vectors: Floats,
) -> Floats:
    """The feature matrix, (c, len(RANK_FEATURES)), finite everywhere."""
    users, rows = candidates.users, candidates.rows
    columns: dict[str, NDArray[np.floating]] = {}
    columns["match"] = np.einsum("cd,cd->c", batch.user_vectors[users], item_vectors[rows])
    columns.update(_text_columns(batch, candidates, text_vectors))
    for name in SOURCES:
        dense = proposals[name].dense if name in proposals else None
        if name.startswith("covisit"):
            columns[f"score_{name}"] = np.zeros(len(rows)) if dense is None else np.sqrt(dense[users, rows])
        ranks = candidates.source_ranks[:, SOURCES.index(name)]
        columns[f"rank_{name}"] = np.where(ranks > 0, 10.0 / (10.0 + ranks), 0.0)
    columns.update(_item_columns(batch, users, facts[rows]))
    columns.update(_owned_columns(batch, candidates))
    columns.update(_affinity_columns(batch, candidates, facts))
    matrix = np.stack([columns[name] for name in RANK_FEATURES], axis=1).astype(np.float32)
    return np.nan_to_num(matrix, copy=False)


def _text_columns(batch: Batch, candidates: Candidates, text: Floats) -> dict[str, NDArray[np.floating]]:
    match, last, most = (np.zeros(len(candidates.rows), np.float32) for _ in range(3))
    for i, span in _spans(candidates.users, len(batch)):
        recent = batch.histories[i].rows[::-1][:TEXT_HISTORY]
        if not len(recent):
            continue
        cosines = text[candidates.rows[span]] @ text[recent].T  # (candidates of i, history)
        weights = TEXT_DECAY ** np.arange(len(recent), dtype=np.float32)
        profile = weights @ text[recent]
        match[span] = cosines @ weights / max(float(np.linalg.norm(profile)), 1e-6)
        last[span], most[span] = cosines[:, 0], cosines.max(axis=1)
    return {"text_match": match, "text_last": last, "text_max": most}


def _item_columns(
    batch: Batch, users: NDArray[np.int64], facts: NDArray[np.void]
) -> dict[str, NDArray[np.floating]]:
    age = np.maximum(batch.moments[users] - facts["first_seen"], 0) / DAY
    month, week = np.log1p(facts["count_30d"]), np.log1p(facts["count_7d"])
    return {
        "popularity": np.log1p(facts["count"]),
        "popularity_30d": month,
        "popularity_7d": week,
        "trend": np.log1p(facts["count_7d"] * 30.0 / 7.0) - month,
        "age": np.log1p(np.where(np.isnan(age), 0, age)),
        "cold": (facts["count"] == 0).astype(np.float32),
    }


def _owned_columns(batch: Batch, candidates: Candidates) -> dict[str, NDArray[np.floating]]:
    counts = np.zeros(len(candidates.rows), np.float32)
    gaps, due = np.zeros_like(counts), np.zeros_like(counts)
    for i, span in _spans(candidates.users, len(batch)):
        owned = batch.owned[i]
        if not len(owned.rows):
            continue
        order = np.argsort(owned.rows)
        place = np.minimum(np.searchsorted(owned.rows[order], candidates.rows[span]), len(order) - 1)
        source = order[place]
        mine = owned.rows[source] == candidates.rows[span]
        gap = np.maximum(batch.moments[i] - owned.last_timestamps[source], 0) / DAY
        count = owned.counts[source]
        counts[span] = np.where(mine, count, 0)
        gaps[span] = np.where(mine, np.log1p(gap), 0)
        # Bought often and not for a while: more than one mean interval since the last time.
        due[span] = np.where(mine, np.log1p(gap * count / 30.0), 0)
    return {
        "owned": (counts > 0).astype(np.float32),
        "owned_count": np.log1p(counts),
        "owned_gap": gaps,
        "owned_due": due,
    }


def _affinity_columns(
    batch: Batch, candidates: Candidates, facts: NDArray[np.void]
) -> dict[str, NDArray[np.floating]]:
    rows, users = candidates.rows, candidates.users
    category, brand, price = (np.zeros(len(rows), np.float32) for _ in range(3))
    recency = np.zeros(len(batch), np.float32)
    for i, span in _spans(users, len(batch)):
        history = batch.histories[i]
        if not len(history.rows):
            continue
        mine, theirs = facts[history.rows], facts[rows[span]]
        category[span] = _share(mine["category"], theirs["category"])
        brand[span] = _share(mine["brand"], theirs["brand"])
        known = mine["log_price"][~np.isnan(mine["log_price"])]
        if len(known):
            price[span] = np.nan_to_num(np.abs(theirs["log_price"] - known.mean()))
        recency[i] = np.log1p(max(float(batch.moments[i] - history.timestamps[-1]), 0) / DAY)
    return {
        "category_share": category,
        "brand_share": brand,
        "price_gap": price,
        "num_events": np.log1p(batch.num_events[users]),
        "recency": recency[users],
    }


def _share(mine: NDArray[np.int32], theirs: NDArray[np.int32]) -> NDArray[np.float64]:
    """The share of the history that has the candidate's code; 0 where the candidate has none."""
    values, counts = np.unique(mine, return_counts=True)
    place = np.minimum(np.searchsorted(values, theirs), len(values) - 1)
    shares: NDArray[np.float64] = np.where(
        (values[place] == theirs) & (theirs >= 0), counts[place] / len(mine), 0.0
    )
    return shares


def _spans(users: NDArray[np.int64], size: int) -> Sequence[tuple[int, slice]]:
    bounds = np.searchsorted(users, np.arange(size + 1))
    return [(i, slice(bounds[i], bounds[i + 1])) for i in range(size) if bounds[i] < bounds[i + 1]]


def item_facts(
    rows: Rows,
    timestamps: NDArray[np.int64],
    moment: int,
    *,
    prices: NDArray[np.float64],
    categories: Sequence[str],
    brands: Sequence[str],
    in_stock: NDArray[np.bool_],
    available_from: NDArray[np.float64],
) -> NDArray[np.void]:
    """Facts of every item from positive events before `moment`.

    Args:
        rows: (n,) item row of each event.
        timestamps: (n,) Unix seconds, all before `moment`.
        moment: The cut, Unix seconds.
        prices: (num_items,) NaN or not positive where unknown.
        categories: One per item, empty where unknown.
        brands: Likewise.
        in_stock: (num_items,)
        available_from: (num_items,) Unix seconds, NaN where unknown.
    """
    if len(timestamps) and int(timestamps.max()) >= moment:
        raise ValueError("item facts may only know events before their moment")
    num_items = len(prices)
    facts = np.zeros(num_items, FACTS)
    facts["count"] = np.bincount(rows, minlength=num_items)
    for name, days in (("count_30d", 30), ("count_7d", 7)):
        facts[name] = np.bincount(rows[timestamps >= moment - days * DAY], minlength=num_items)
    first = np.full(num_items, np.inf)
    np.minimum.at(first, rows, timestamps)
    facts["first_seen"] = np.where(np.isfinite(first), first, np.nan)
    facts["available_from"] = available_from
    with np.errstate(invalid="ignore", divide="ignore"):
        facts["log_price"] = np.where(prices > 0, np.log(prices), np.nan)
    for name, values in (("category", categories), ("brand", brands)):
        names = {value: code for code, value in enumerate(sorted(set(values) - {""}))}
        facts[name] = [names.get(value, -1) for value in values]
    facts["in_stock"] = in_stock
    return facts
