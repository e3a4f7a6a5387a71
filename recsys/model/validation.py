"""The figures that stop training early and judge fine-tuning: full catalogue, original rows, novel items."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.contexts import Contexts
from recsys.model.batching import target_pairs
from recsys.randomness import generator
from recsys.types import Floats, Rows

CHUNK = 512


def validation_positions(contexts: Contexts, limit: int, seed: int) -> NDArray[np.int64]:
    """Rows that can be judged: with a history and a target outside it; a keyed draw of `limit` of them."""
    everyone = np.flatnonzero(np.diff(contexts.history_offsets) > 0)
    pairs = target_pairs(contexts, everyone)
    novel = ~_in_history(contexts, everyone, pairs.users, pairs.items)
    usable = everyone[np.unique(pairs.users[novel])]
    if len(usable) > limit:
        usable = np.sort(generator(seed, "validation").choice(usable, limit, replace=False))
    return usable


def ranking_figures(
    users: Floats,
    items: Floats,
    contexts: Contexts,
    positions: NDArray[np.int64],
    wanted: NDArray[np.bool_] | None = None,
    *,
    among: NDArray[np.bool_] | None = None,
) -> dict[str, float]:
    """Means of `ranking_values` over the contexts that have a target.

    Takes what `ranking_values` takes, and returns `ndcg@10`, `recall@20` and `contexts`, how many counted;
    zeros where none did.
    """
    return mean_figures(*ranking_values(users, items, contexts, positions, wanted, among=among))


def mean_figures(values: NDArray[np.float64], judged: NDArray[np.bool_]) -> dict[str, float]:
    """The means of what `ranking_values` returns, as `ranking_figures` names them."""
    ndcg, recall = values[judged].mean(axis=0) if judged.any() else (0.0, 0.0)
    return {"ndcg@10": float(ndcg), "recall@20": float(recall), "contexts": int(judged.sum())}


def ranking_values(
    users: Floats,
    items: Floats,
    contexts: Contexts,
    positions: NDArray[np.int64],
    wanted: NDArray[np.bool_] | None = None,
    *,
    among: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Per context ndcg@10 and recall@20, the whole catalogue ranked, the history left out.

    Args:
        users: (len(positions), dim) user vectors.
        items: (n, dim) item vectors.
        contexts: Original held-out rows.
        positions: Which rows.
        wanted: (n,) restricts the targets (warm or cold items); contexts left without one do not count.
        among: (n,) restricts what is ranked; the whole catalogue when None.

    Returns:
        (len(positions), 2) values, zero where there is no target, and (len(positions),) whether there is.
    """
    contexts.require_original()
    pairs = target_pairs(contexts, positions)
    count = ~_in_history(contexts, positions, pairs.users, pairs.items)
    if wanted is not None:
        count &= wanted[pairs.items]
    keys = pairs.users[count] * len(items) + pairs.items[count]
    sizes = np.bincount(pairs.users[count], minlength=len(positions))
    top = _top_rows(users, items, contexts, positions, k=min(20, len(items)), among=among)
    hits = np.isin(np.arange(len(positions))[:, None] * len(items) + top, keys)
    gains = 1 / np.log2(np.arange(2, 12))
    best = np.concatenate([[0.0], np.cumsum(gains)])[np.minimum(sizes, 10)]
    ndcg = (hits[:, :10] @ gains[: hits[:, :10].shape[1]]) / np.maximum(best, 1.0)
    recall = hits.sum(axis=1) / np.maximum(sizes, 1)
    return np.stack([ndcg, recall], axis=1), sizes > 0


def _top_rows(
    users: Floats,
    items: Floats,
    contexts: Contexts,
    positions: NDArray[np.int64],
    k: int,
    among: NDArray[np.bool_] | None,
) -> Rows:
    top = np.empty((len(positions), k), np.int64)
    for start in range(0, len(positions), CHUNK):
        chunk = positions[start : start + CHUNK]
        scores = users[start : start + CHUNK] @ items.T
        owners, rows = _histories(contexts, chunk)
        scores[owners, rows] = -np.inf
        if among is not None:
            scores[:, ~among] = -np.inf
        part = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, part, axis=1), axis=1, kind="stable")
        top[start : start + CHUNK] = np.take_along_axis(part, order, axis=1)
    return top


def _histories(
    contexts: Contexts, positions: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    starts, ends = contexts.history_offsets[positions], contexts.history_offsets[positions + 1]
    sizes = ends - starts
    owners = np.repeat(np.arange(len(positions)), sizes)
    places = np.arange(len(owners)) - np.repeat(np.cumsum(sizes) - sizes, sizes) + np.repeat(starts, sizes)
    return owners, contexts.history_rows[places]


def _in_history(
    contexts: Contexts, positions: NDArray[np.int64], users: NDArray[np.int64], items: Rows
) -> NDArray[np.bool_]:
    owners, rows = _histories(contexts, positions)
    width = 1 + max(int(rows.max(initial=0)), int(items.max(initial=0)))
    return np.isin(users * width + items, owners * width + rows)
