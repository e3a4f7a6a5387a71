"""Correlated items by co-visitation, for ops that substitute and insert; fitted on training rows only."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import sparse

from recsys.augment.example import Item
from recsys.contexts import Contexts

_NEWEST = 30
"""Events of a user that are paired with each other: pairs grow with the square."""
_BLOCK = 4096
"""Items whose neighbours are ranked at one time."""


def covisitation_neighbours(
    contexts: Contexts, num_items: int, top: int = 10, min_users: int = 2
) -> dict[Item, tuple[Item, ...]]:
    """Each item's nearest others by cosine over users, nearest first; items without any are absent.

    Each user counts once, by the newest context's history and targets, the less the more items they are
    (inverse user frequency, as in CoSeRec: Liu et al., arXiv:2108.06479).

    Args:
        contexts: Fit rows; augmented and held-out ones are refused.
        num_items: Size of the catalogue.
        top: Neighbours kept per item.
        min_users: Users who must have had both items.

    Raises:
        LeakageError: the contexts are held out or augmented.
    """
    contexts.require_fit()
    contexts.require_original()
    seen = _user_items(contexts, num_items)
    sizes = np.asarray(seen.sum(axis=1), np.float64).reshape(-1)
    weighted = sparse.diags_array(1.0 / np.log2(1.0 + np.maximum(sizes, 1.0))) @ seen
    counts, scores = (seen.T @ seen).tocsr(), (seen.T @ weighted).tocsr()
    norms = np.sqrt(np.maximum(scores.diagonal(), 1e-12))
    nearest: dict[Item, tuple[Item, ...]] = {}
    for start in range(0, num_items, _BLOCK):
        block, together = scores[start : start + _BLOCK].tocoo(), counts[start : start + _BLOCK]
        enough = np.asarray(together[block.row, block.col]).reshape(-1) >= min_users
        left, right = block.row[enough] + start, block.col[enough]
        cosine = block.data[enough] / (norms[left] * norms[right])
        other = left != right
        left, right, cosine = left[other], right[other], cosine[other]
        order = np.lexsort((right, -cosine, left))  # ties by row, so that a refit gives the same lists
        left, right = left[order], right[order]
        items, starts = np.unique(left, return_index=True)
        for item, rows in zip(items.tolist(), np.split(right, starts[1:]), strict=False):
            nearest[item] = tuple(rows[:top].tolist())
    return nearest


def adjacency(neighbours: Mapping[Item, tuple[Item, ...]], num_items: int) -> sparse.csr_array:
    """(items, items) with 1 where the second is among the first's neighbours."""
    rows = [int(item) for item, near in neighbours.items() for _ in near]
    columns = [int(other) for near in neighbours.values() for other in near]
    return sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(num_items, num_items))


def _user_items(contexts: Contexts, num_items: int) -> sparse.csr_array:
    """(users, items) of zeros and ones: each user's newest context."""
    order = np.lexsort((contexts.moments, contexts.user_ids))
    users = contexts.user_ids[order]
    newest = contexts.take(order[np.append(users[1:] != users[:-1], True)] if len(order) else order)
    rows, columns = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for user, history in enumerate(newest.histories()):
        items = np.union1d(history.rows[-_NEWEST:], newest.targets(user))
        rows.append(np.full(len(items), user))
        columns.append(items)
    row, column = np.concatenate(rows), np.concatenate(columns)
    ones: sparse.csr_array[np.float32, tuple[int, int]] = sparse.coo_array(
        (np.ones(len(row), np.float32), (row, column)), shape=(len(newest), num_items)
    ).tocsr()
    return ones
