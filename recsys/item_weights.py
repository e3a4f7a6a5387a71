"""Item-to-item weights fitted on events before a cut: what goes together, and what follows.

Each is a sparse (num_items, num_items) matrix whose row i holds what item i speaks for. A user's score of
every item is then one product: the user's items, weighted, times the matrix (`retrieve.ItemToItemSource`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.types import Floats, Rows

DAY = 86_400.0
_BLOCK = 2048


@dataclass(frozen=True, slots=True)
class Events:
    """Positive events in time order: four arrays of one length."""

    users: NDArray[np.int64]
    """User numbers from 0."""
    rows: Rows
    """Item rows."""
    timestamps: NDArray[np.int64]
    """Unix seconds."""
    weights: Floats
    """Of the event types."""


def fit_covisitation(
    events: Events,
    num_items: int,
    *,
    neighbours: int = 100,
    shrink: float = 0.5,
    max_user_items: int = 300,
) -> sparse.csr_matrix:
    """What goes together: shrunk cosine of the users' item sets (Sarwar et al., WWW 2001).

    Args:
        events: Positive events.
        num_items: Size of the catalogue.
        neighbours: Kept per item.
        shrink: Added to the norms' product, so that pairs seen once do not look certain.
        max_user_items: The newest distinct items of a user that count; it bounds the quadratic cost.

    Returns:
        (num_items, num_items), not negative, zero diagonal.
    """
    newest = _newest_of_pairs(events, num_items)
    users, rows, weights = events.users[newest], events.rows[newest], events.weights[newest]
    order = np.argsort(users, kind="stable")
    users, rows, weights = users[order], rows[order], weights[order]
    size = np.bincount(users) if len(users) else np.zeros(0, np.int64)
    from_end = np.repeat(np.cumsum(size), size) - 1 - np.arange(len(users))
    keep = from_end < max_user_items
    users, rows, weights = users[keep], rows[keep], weights[keep]
    size = np.bincount(users) if len(users) else np.zeros(0, np.int64)
    # Users with many items say less about each pair of them.
    value = weights / np.log2(2.0 + size[users]) if len(users) else weights
    have = sparse.csr_matrix((value, (users, rows)), (len(size), num_items), dtype=np.float32)
    return _shrunk_cosine(have, have, neighbours, shrink)


def fit_following(
    events: Events,
    num_items: int,
    *,
    steps: int = 3,
    half_life_days: float = 30.0,
    neighbours: int = 100,
    shrink: float = 0.5,
    max_moment_items: int = 100,
) -> sparse.csr_matrix:
    """What follows what: items of a user's next few moments, weighing less the longer they took.

    A pair of moments of one user, at most `steps` apart, counts 2^(-gap / half-life) / step. What happened
    at one moment has no order and does not count. Weights are a shrunk cosine between what came before
    and what came after, so row i is directed: i first, then the other.

    Args:
        events: Positive events.
        num_items: Size of the catalogue.
        steps: How many of a user's next moments are looked at.
        half_life_days: The gap that halves a pair.
        neighbours: Kept per item.
        shrink: As in `fit_covisitation`.
        max_moment_items: The first distinct items of a moment that count; it bounds the quadratic cost.

    Returns:
        (num_items, num_items), not negative, zero diagonal.
    """
    order = np.lexsort((events.timestamps, events.users))
    users, times, rows = events.users[order], events.timestamps[order], events.rows[order]
    new = np.ones(len(users), np.bool_)
    new[1:] = (users[1:] != users[:-1]) | (times[1:] != times[:-1])
    moment = np.cumsum(new) - 1
    starts = np.flatnonzero(new)
    key, first = np.unique(moment * num_items + rows, return_index=True)
    moment, rows = key // num_items, key % num_items
    place = np.arange(len(key)) - np.searchsorted(moment, moment)
    keep = place < max_moment_items
    value = events.weights[order][first][keep]
    have = sparse.csr_matrix((value, (moment[keep], rows[keep])), (len(starts), num_items), dtype=np.float32)
    owners, at = users[starts], times[starts]
    before, after = [], []
    for step in range(1, steps + 1):
        earlier = (
            np.flatnonzero(owners[:-step] == owners[step:]) if len(owners) > step else np.empty(0, np.int64)
        )
        gap = (at[earlier + step] - at[earlier]) / DAY
        # Half of the weight on either side, so that both norms know it.
        half = sparse.diags_array(np.sqrt(0.5 ** (gap / half_life_days) / step).astype(np.float32))
        before.append(half @ have[earlier])
        after.append(half @ have[earlier + step])
    return _shrunk_cosine(
        sparse.csr_matrix(sparse.vstack(before)), sparse.csr_matrix(sparse.vstack(after)), neighbours, shrink
    )


def _newest_of_pairs(events: Events, num_items: int) -> Rows:
    """Positions of the newest event of each (user, item), in time order."""
    key = events.users * num_items + events.rows
    _, first = np.unique(key[::-1], return_index=True)
    return np.sort(len(key) - 1 - first)


def _shrunk_cosine(
    before: sparse.csr_matrix, after: sparse.csr_matrix, neighbours: int, shrink: float
) -> sparse.csr_matrix:
    """Row i, with a and b columns i and j of the two: the strongest a.b / (|a| |b| + shrink), j != i."""
    own, other = _norms(before), _norms(after)
    transposed = before.T.tocsr()
    num_items = before.shape[1]
    indptr, indices, data = [np.zeros(1, np.int64)], [], []
    for start in range(0, num_items, _BLOCK):
        block = (transposed[start : start + _BLOCK] @ after).tocsr()
        for i in range(block.shape[0]):
            span = slice(block.indptr[i], block.indptr[i + 1])
            others = block.indices[span]
            value = block.data[span] / (own[start + i] * other[others] + shrink)
            value[others == start + i] = 0
            if len(value) > neighbours:
                best = np.argpartition(value, len(value) - neighbours)[-neighbours:]
                others, value = others[best], value[best]
            positive = value > 0
            indices.append(others[positive])
            data.append(value[positive])
            indptr.append(indptr[-1] + positive.sum())
    return sparse.csr_matrix(
        (
            np.concatenate([np.zeros(0, np.float32), *data]).astype(np.float32),
            np.concatenate([np.zeros(0, np.int64), *indices]).astype(np.int64),
            np.concatenate([np.atleast_1d(part) for part in indptr]),
        ),
        (num_items, num_items),
    )


def _norms(matrix: sparse.csr_matrix) -> Floats:
    columns = matrix.tocsc()
    squares = np.asarray(columns.multiply(columns).sum(axis=0), np.float32)
    norms: Floats = np.sqrt(squares.ravel())
    return norms
