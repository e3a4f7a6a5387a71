"""The best k of many scores per user, in blocks that fit in memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.evaluate.answers import ItemSets, members
from recsys.types import Floats, Rows


def blocks(costs: NDArray[np.int64], budget: int) -> Iterator[slice]:
    """Consecutive slices whose costs sum to at most `budget` (or that hold one expensive entry)."""
    ends = np.cumsum(costs)
    start = 0
    while start < len(costs):
        spent = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, spent + budget, side="right")))
        yield slice(start, stop)
        start = stop


def top_dense(scores: Floats, k: int, exclude: ItemSets | None = None) -> Rows:
    """(users, k) best rows of (users, num_items) scores, which are overwritten where excluded.

    Excluded items and scores of minus infinity never appear; what is missing is -1. Equal scores: lower row
    first among those that made the cut.
    """
    if exclude is not None:
        scores[exclude.users, exclude.rows] = -np.inf
    num_users, num_items = scores.shape
    depth = min(k, num_items)
    best = np.argpartition(-scores, depth - 1, axis=1)[:, :depth] if depth < num_items else None
    best = np.tile(np.arange(num_items), (num_users, 1)) if best is None else np.sort(best, axis=1)
    picked = np.take_along_axis(scores, best, axis=1)
    order = np.argsort(-picked, axis=1, kind="stable")
    rows = np.take_along_axis(best, order, axis=1)
    rows[np.isneginf(np.take_along_axis(picked, order, axis=1))] = -1
    return np.pad(rows, ((0, 0), (0, k - depth)), constant_values=-1).astype(np.int64)


def top_sparse(scores: sp.csr_array, k: int, exclude: ItemSets | None = None) -> Rows:
    """(users, k) best rows among the stored scores of (users, num_items); what is missing is -1."""
    num_users, num_items = scores.shape
    owners = np.repeat(np.arange(num_users), np.diff(scores.indptr))
    columns, values = scores.indices.astype(np.int64), scores.data
    if exclude is not None:
        keep = ~members(owners * num_items + columns, exclude.keys(num_items))
        owners, columns, values = owners[keep], columns[keep], values[keep]
    near = _near_top(values, np.bincount(owners, minlength=num_users), k)
    owners, columns, values = owners[near], columns[near], values[near]
    order = np.lexsort((columns, -values, owners))
    starts = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=num_users))])
    places = np.arange(len(owners)) - starts[owners]  # owners are in order already
    kept = places < k
    rows = np.full((num_users, k), -1, np.int64)
    rows[owners[kept], places[kept]] = columns[order][kept]
    return rows


def keep_largest(matrix: sp.csr_array, k: int) -> sp.csr_array:
    """Only the k largest entries of each row."""
    sizes = np.diff(matrix.indptr)
    near = _near_top(matrix.data, sizes, k)
    owners = np.repeat(np.arange(matrix.shape[0]), sizes)[near]
    columns, values = matrix.indices[near], matrix.data[near]
    starts = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=matrix.shape[0]))])
    order = np.lexsort((columns, -values, owners))
    kept = order[np.arange(len(owners)) - starts[owners] < k]
    offsets = np.concatenate([[0], np.cumsum(np.minimum(sizes, k))])
    return sp.csr_array((values[kept], columns[kept], offsets), shape=matrix.shape)


def _near_top(values: NDArray[np.floating], sizes: NDArray[np.integer], k: int) -> NDArray[np.bool_]:
    """Entries no smaller than the k-th of their row: partitioning first leaves little to sort.

    Rows of very different lengths would need too much padding; then every entry is kept.
    """
    width = int(sizes.max(initial=0))
    if width <= k or len(sizes) * width > 4 * len(values):
        return np.ones(len(values), np.bool_)
    owners = np.repeat(np.arange(len(sizes)), sizes)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    padded = np.full((len(sizes), width), -np.inf, values.dtype)
    padded[owners, np.arange(len(values)) - starts[owners]] = values
    limits = np.partition(padded, width - k, axis=1)[:, width - k]
    return np.asarray(values >= limits[owners])
