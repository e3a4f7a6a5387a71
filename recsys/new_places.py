"""How many places are kept for new items: sized on validation, beside what un-tuned text would find."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from recsys.config import RankConfig
from recsys.placement import FIRST, LAST, keep_places
from recsys.randomness import generator
from recsys.rank_features import SOURCES
from recsys.recommend import Recommender
from recsys.retrieve import new_item_profile, top_rows
from recsys.types import Floats, Query, Rows

MARGIN = 1.3
"""Recall of new items, over that of un-tuned text, that the places should reach on validation."""
MOST_COST = 0.1
"""Share of recall@20 over all items that the places may cost on validation."""
_USERS = 2000
_CHUNK = 256


def size_new_places(
    recommender: Recommender,
    queries: Sequence[Query],
    targets: Sequence[Rows],
    untuned: Floats,
    config: RankConfig,
    seed: int,
) -> dict[str, Any]:
    """The fewest places that give new items their due, and what they cost on validation.

    Their due is the larger of two: their share of what users took, and `MARGIN` times the recall@20 that
    whitened un-tuned text reaches for them over the whole catalogue. Where that would cost more than
    `MOST_COST` of the lists' recall, or no number of places reaches it, it is the fewest places within that
    cost that find as many new items as any.

    Args:
        recommender: Of the fit that validation follows, with its ranker.
        queries: Of validation users, without what they have seen.
        targets: What each took.
        untuned: (num_items, dim) whitened text vectors of the encoder as published.
        config: `new_items` is read; a number is taken as it is and measured all the same.
        seed: Draws the users where there are many.
    """
    counts = recommender.shelf.facts["count"]
    if not config.enabled or not (counts == 0).any() or config.new_items == 0:
        why = "the catalogue has no new items" if (counts > 0).all() else "switched off"
        return {"places": 0, "why": why}
    picked = np.sort(generator(seed, "new_places").permutation(len(queries))[:_USERS])
    found = [_novel(queries[i], targets[i], recommender) for i in picked]
    wanted = [rows for rows in found if len(rows)]
    asked = [queries[i] for i, rows in zip(picked, found, strict=True) if len(rows)]
    new = [rows[counts[rows] == 0] for rows in wanted]
    share = sum(map(len, new)) / max(sum(map(len, wanted)), 1)
    if not share:
        places = config.new_items or 0
        return {"places": places, "why": "no validation user took a new item"}
    table = _recalls(recommender, asked, wanted, new)
    text = _untuned_recall(recommender, asked, new, untuned)
    places = _paying(table, share, MARGIN * text) if config.new_items is None else config.new_items
    return {
        "places": places,
        "users": sum(len(rows) > 0 for rows in new),
        "share_taken": round(share, 4),
        "untuned_text": round(text, 4),
        "new_recall_20": [round(one[0], 4) for one in table],
        "recall_20": [round(one[1], 4) for one in table],
        "why": f"{places} of the second ten places; recall by places kept is listed from 0 on",
    }


def _paying(table: Sequence[tuple[float, float]], share: float, aim: float) -> int:
    """The number of places, from recall of new items and of all by places kept."""
    without = table[0][1]
    cheap = [n for n, (_, whole) in enumerate(table) if whole >= (1 - MOST_COST) * without]
    least = min(math.ceil(LAST * share), LAST - FIRST)
    enough = [n for n in cheap if n >= least and table[n][0] >= aim]
    return enough[0] if enough else max(cheap, key=lambda n: (table[n][0], -n))


def _novel(query: Query, rows: Rows, recommender: Recommender) -> Rows:
    features = query.features
    seen = recommender.vocabulary.rows(features.owned.item_ids) if features else rows[:0]
    return rows[~np.isin(rows, seen)]


def _recalls(
    recommender: Recommender, queries: Sequence[Query], wanted: Sequence[Rows], new: Sequence[Rows]
) -> list[tuple[float, float]]:
    """By places kept, from 0 to 10: mean recall@20 of new items and of all."""
    column, width = SOURCES.index("fresh"), LAST - FIRST + 1
    hits = np.zeros((2, len(queries), width))
    for start in range(0, len(queries), _CHUNK):
        chunk = queries[start : start + _CHUNK]
        ranked = recommender.rank(chunk, [recommender.excluded_rows(query) for query in chunk])
        bounds = np.searchsorted(ranked.candidates.users, np.arange(len(chunk) + 1))
        for i in range(len(chunk)):
            span = slice(bounds[i], bounds[i + 1])
            rows, scores = ranked.candidates.rows[span], ranked.scores[span]
            ranks = ranked.candidates.source_ranks[span, column]
            order = np.lexsort((rows, -scores))
            for places in range(width):
                head = rows[keep_places(order, scores, ranks, places)[0][:LAST]]
                for kind, some in enumerate((new[start + i], wanted[start + i])):
                    hits[kind, start + i, places] = np.isin(some, head).mean() if len(some) else np.nan
    return [(float(np.nanmean(hits[0, :, n])), float(np.nanmean(hits[1, :, n]))) for n in range(width)]


def _untuned_recall(
    recommender: Recommender, queries: Sequence[Query], new: Sequence[Rows], untuned: Floats
) -> float:
    """Mean recall@20 of new items where the whole catalogue is ranked by whitened un-tuned text."""
    facts, found = recommender.shelf.facts, []
    for query, rows in zip(queries, new, strict=True):
        if not len(rows) or query.features is None:
            continue
        history = recommender.vocabulary.encode(query.features.history).rows
        if not len(history):
            found.append(0.0)
            continue
        scores = untuned @ new_item_profile(history, untuned, facts).text[0]
        scores[recommender.excluded_rows(query)] = -np.inf
        found.append(float(np.isin(rows, top_rows(scores[None], LAST)[0][0]).mean()))
    return float(np.mean(found)) if found else 0.0
