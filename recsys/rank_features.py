"""What the ranker sees of a candidate: one function for training and for serving, so that they cannot differ.

Everything is known at the request's moment: popularity and item age come from the events before the fit's
cut, the user's side from features read as of the moment, the sources' side from retrieval itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.item_weights import DAY
from recsys.retrieve import TEXT_DECAY, TEXT_HISTORY, WEIGHED, Batch, Proposals
from recsys.types import Floats, Rows

SOURCES = ("two_tower", *WEIGHED, "repeats", "trending", "category", "fresh")
"""Every source the ranker has a place for; one that is switched off leaves zeros."""
FEATURE_GROUPS: dict[str, tuple[str, ...]] = {
    "match": ("match",),
    "text": ("text_match", "text_last", "text_max"),
    "scores": tuple(f"score_{name}" for name in (*WEIGHED, "fresh")),
    "ranks": tuple(f"rank_{name}" for name in SOURCES),
    "popularity": ("popularity", "popularity_90d", "popularity_30d", "popularity_7d", "heat", "trend"),
    "age": ("age", "last_sold", "cold"),
    "repeats": ("owned", "owned_count", "owned_gap", "owned_due", "repeat_rate", "repeat_due"),
    "affinity": ("category_share", "category_last", "brand_share", "brand_last", "price_gap", "price_last"),
    "user": ("num_events", "recency"),
}
"""The ranker's features by what they are about: an ablation leaves out one group at a time."""
RANK_FEATURES = tuple(name for names in FEATURE_GROUPS.values() for name in names)
"""Columns of the feature matrix, in order; the run's manifest repeats them."""


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
        if name in WEIGHED:
            score = np.zeros(len(rows)) if dense is None else dense[users, rows]
            columns[f"score_{name}"] = np.sign(score) * np.sqrt(np.abs(score))
        elif name == "fresh":
            score = np.zeros(len(rows)) if dense is None else dense[users, rows]
            columns["score_fresh"] = np.where(np.isfinite(score), score, 0.0)
        ranks = candidates.source_ranks[:, SOURCES.index(name)]
        columns[f"rank_{name}"] = np.where(ranks > 0, 10.0 / (10.0 + ranks), 0.0)
    columns.update(_item_columns(batch, users, facts[rows]))
    columns.update(_owned_columns(batch, candidates, facts[rows]))
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
    month, week = np.log1p(facts["count_30d"]), np.log1p(facts["count_7d"])
    return {
        "popularity": np.log1p(facts["count"]),
        "popularity_90d": np.log1p(facts["count_90d"]),
        "popularity_30d": month,
        "popularity_7d": week,
        "heat": np.log1p(facts["heat"]),
        "trend": np.log1p(facts["count_7d"] * 30.0 / 7.0) - month,
        "age": _log_days(batch.moments[users] - facts["first_seen"]),
        "last_sold": _log_days(batch.moments[users] - facts["last_seen"]),
        "cold": (facts["count"] == 0).astype(np.float32),
        "repeat_rate": facts["repeat_rate"],
    }


def _log_days(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """log(1 + days); 0 where there are none."""
    days: NDArray[np.float64] = np.log1p(np.maximum(np.nan_to_num(seconds), 0) / DAY)
    return days


def _owned_columns(
    batch: Batch, candidates: Candidates, facts: NDArray[np.void]
) -> dict[str, NDArray[np.floating]]:
    counts = np.zeros(len(candidates.rows), np.float32)
    gaps, due, again = np.zeros_like(counts), np.zeros_like(counts), np.zeros_like(counts)
    usual = np.maximum(facts["repeat_days"], 1.0)
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
        again[span] = np.where(mine, np.log1p(gap / usual[span]), 0)
    return {
        "owned": (counts > 0).astype(np.float32),
        "owned_count": np.log1p(counts),
        "owned_gap": gaps,
        "owned_due": due,
        "repeat_due": again,
    }


def _affinity_columns(
    batch: Batch, candidates: Candidates, facts: NDArray[np.void]
) -> dict[str, NDArray[np.floating]]:
    rows, users = candidates.rows, candidates.users
    names = ("category_share", "category_last", "brand_share", "brand_last", "price_gap", "price_last")
    columns: dict[str, NDArray[np.floating]] = {name: np.zeros(len(rows), np.float32) for name in names}
    recency = np.zeros(len(batch), np.float32)
    for i, span in _spans(users, len(batch)):
        history = batch.histories[i]
        if not len(history.rows):
            continue
        mine, theirs = facts[history.rows], facts[rows[span]]
        for name in ("category", "brand"):
            columns[f"{name}_share"][span] = _share(mine[name], theirs[name])
            columns[f"{name}_last"][span] = (theirs[name] == mine[name][-1]) & (theirs[name] >= 0)
        known = mine["log_price"][~np.isnan(mine["log_price"])]
        if len(known):
            columns["price_gap"][span] = np.nan_to_num(np.abs(theirs["log_price"] - known.mean()))
            columns["price_last"][span] = np.nan_to_num(theirs["log_price"] - known[-1])
        recency[i] = np.log1p(max(float(batch.moments[i] - history.timestamps[-1]), 0) / DAY)
    return {**columns, "num_events": np.log1p(batch.num_events[users]), "recency": recency[users]}


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
