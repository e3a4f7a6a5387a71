"""Item-to-item weights fitted on events before a cut: what goes together, what follows, and EASE.

Each is a sparse (num_items, num_items) matrix whose row i holds what item i speaks for. A user's score of
every item is then one product: the user's items, weighted, times the matrix (`retrieve.ItemToItemSource`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

from recsys.types import Floats, Rows

DAY = 86_400.0
_BLOCK = 2048
_SAMPLE = 500
"""Users whose lists say what keeping the strongest weights alone costs."""


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


def fit_ease(
    events: Events,
    num_items: int,
    *,
    penalty: float = 200.0,
    max_items: int = 12_000,
    neighbours: int = 200,
) -> tuple[sparse.csr_matrix, dict[str, Any]]:
    """EASE (Steck, WWW 2019): the linear item-to-item model in closed form, its strongest weights kept.

    With the users' item sets X (binary) and G = X'X + penalty I, P = G^-1, the weight of i for j is
    -P[i, j] / P[j, j]. Only items with events enter, the most sold ones where there are more than
    `max_items`: time grows with their cube (12,000 take about a minute on one core), memory with their
    square (12,000 take 0.6 GB twice).

    Args:
        events: Positive events.
        num_items: Size of the catalogue.
        penalty: The L2 penalty.
        max_items: Items that may enter at most; 0 switches it off.
        neighbours: Weights kept per item, the largest of either sign.

    Returns:
        (num_items, num_items), zero diagonal; and what was done: `items` that entered, `sold` items, and
        `overlap_20`, the share of users' 20 best items that survives the cut to `neighbours`.
    """
    counts = np.bincount(events.rows, minlength=num_items) if len(events.rows) else np.zeros(num_items)
    sold = int((counts > 0).sum())
    order = np.argsort(-counts, kind="stable")[: min(max_items, sold)]
    kept: Rows = np.sort(order).astype(np.int64)
    size = len(kept)
    if size < 2:
        nothing = np.zeros(0, np.float32), kept[:0], np.zeros(num_items + 1, np.int64)
        return sparse.csr_matrix(nothing, (num_items, num_items)), {"items": size, "sold": sold}
    have = _binary(events, kept, num_items)
    gram = np.asarray((have.T @ have).toarray(order="F"), np.float32)
    gram[np.diag_indices(size)] += penalty
    inverse = _inverse_in_place(gram)
    diagonal = inverse.diagonal().copy()
    indptr, indices, data = [np.zeros(1, np.int64)], [], []
    for block in _ease_blocks(inverse, diagonal):
        best = _strongest(block, neighbours)
        values = np.take_along_axis(block, best, 1)
        indptr.append(indptr[-1][-1] + best.shape[1] * np.arange(1, len(best) + 1))
        indices.append(best.ravel())
        data.append(values.ravel())
    local = sparse.csr_matrix(
        (np.concatenate(data), np.concatenate(indices), np.concatenate(indptr)),
        (size, size),
        dtype=np.float32,
    )
    facts = {"items": size, "sold": sold, "overlap_20": _overlap(have, inverse, diagonal, local)}
    return _widen(local, kept, num_items), facts


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


def _binary(events: Events, kept: Rows, num_items: int) -> sparse.csr_matrix:
    """Which user had which of the kept items, (users, len(kept))."""
    place = np.full(num_items, -1, np.int64)
    place[kept] = np.arange(len(kept))
    inside = place[events.rows] >= 0
    users = events.users[inside]
    pairs = np.unique(users * len(kept) + place[events.rows[inside]])
    ones = np.ones(len(pairs), np.float32)
    shape = (int(users.max()) + 1, len(kept))
    return sparse.csr_matrix((ones, (pairs // len(kept), pairs % len(kept))), shape)


def _inverse_in_place(gram: Floats) -> Floats:
    """The inverse of a symmetric positive definite matrix, by Cholesky, in its own memory."""
    factor, failed = linalg.lapack.spotrf(gram, lower=1, overwrite_a=1)
    inverse, broken = linalg.lapack.spotri(factor, lower=1, overwrite_c=1)
    assert not failed, "a Gram matrix plus a penalty is positive definite"
    assert not broken, "a Cholesky factor has an inverse"
    for start in range(0, len(inverse), _BLOCK):  # LAPACK fills one triangle
        end = min(start + _BLOCK, len(inverse))
        inverse[:start, start:end] = inverse[start:end, :start].T
        corner = inverse[start:end, start:end]
        inverse[start:end, start:end] = np.tril(corner) + np.tril(corner, -1).T
    rows: Floats = np.asarray(inverse.T, np.float32)  # symmetric, and so its rows lie together
    return rows


def _ease_blocks(inverse: Floats, diagonal: Floats) -> Iterator[Floats]:
    """The weights -P[i, j] / P[j, j] with a zero diagonal, some rows at a time."""
    for start in range(0, len(inverse), _BLOCK):
        block = -inverse[start : start + _BLOCK] / diagonal
        block[np.arange(len(block)), start + np.arange(len(block))] = 0
        yield np.asarray(block, np.float32)


def _strongest(block: Floats, num: int) -> NDArray[np.int64]:
    """Ascending columns of the `num` largest values of each row, of either sign."""
    if num >= block.shape[1]:
        return np.broadcast_to(np.arange(block.shape[1]), block.shape).astype(np.int64)
    return np.sort(np.argpartition(-np.abs(block), num, axis=1)[:, :num], axis=1)


def _overlap(
    have: sparse.csr_matrix, inverse: Floats, diagonal: Floats, local: sparse.csr_matrix, k: int = 20
) -> float:
    """How much of users' k best items, by all weights, the kept weights find too."""
    known = np.flatnonzero(np.diff(have.indptr) > 0)
    some = have[known[:: max(1, math.ceil(len(known) / _SAMPLE))]]
    whole = -(np.asarray(some @ inverse) - sparse.csr_matrix(some.multiply(diagonal)).toarray()) / diagonal
    cut = np.asarray(sparse.csr_matrix(some @ local).toarray())
    k = min(k, whole.shape[1])
    first, second = (np.argpartition(-scores, k - 1, axis=1)[:, :k] for scores in (whole, cut))
    shared = [len(np.intersect1d(a, b)) / k for a, b in zip(first, second, strict=True)]
    return round(float(np.mean(shared)), 4)


def _widen(local: sparse.csr_matrix, kept: Rows, num_items: int) -> sparse.csr_matrix:
    """The same weights in rows and columns of the whole catalogue."""
    sizes = np.zeros(num_items, np.int64)
    sizes[kept] = np.diff(local.indptr)
    indptr = np.concatenate([[0], np.cumsum(sizes)])
    return sparse.csr_matrix((local.data, kept[local.indices], indptr), (num_items, num_items))
