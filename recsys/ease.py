"""EASE (Steck, WWW 2019): the linear item-to-item model in closed form, for retrieval and as a baseline.

With the users' item sets X (binary) and G = X'X + penalty I, P = G^-1, the weight of item i for item j is
-P[i, j] / P[j, j], and an item's own is zero. Time grows with the cube of the items, memory with their
square.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

from recsys.item_weights import Events
from recsys.types import Floats, Rows

logger = logging.getLogger(__name__)

_BLOCK = 2048
_SAMPLE = 500
"""Users whose lists say what keeping the strongest weights alone costs."""


def gram_inverse(have: sparse.csr_matrix | sparse.csr_array, penalty: float) -> Floats:
    """P, (num_items, num_items) float32, made in place in one dense matrix.

    Args:
        have: (users, num_items), a one where a user had an item.
        penalty: The L2 penalty, above zero.
    """
    # One call of LAPACK with nothing to report from inside: what may be minutes of silence is announced.
    logger.info("ease: weights among %s items", f"{have.shape[1]:,}")
    gram = np.asarray((have.T @ have).toarray(order="F"), np.float32)
    gram[np.diag_indices(len(gram))] += penalty
    return _inverse_in_place(gram)


def ease_weights(have: sparse.csr_matrix | sparse.csr_array, penalty: float) -> Floats:
    """All weights, (num_items, num_items) float32 with a zero diagonal, in the memory of `gram_inverse`."""
    weights = gram_inverse(have, penalty)
    weights /= -weights.diagonal().copy()
    weights[np.diag_indices(len(weights))] = 0
    return weights


def fit_ease(
    events: Events,
    num_items: int,
    *,
    penalty: float = 200.0,
    max_items: int = 12_000,
    neighbours: int = 200,
) -> tuple[sparse.csr_matrix, dict[str, Any]]:
    """The strongest weights of EASE, as retrieval reads them.

    Only items with events enter, the most sold ones where there are more than `max_items`: 12,000 take
    about a minute of one core, and 0.6 GB twice.

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
    inverse = gram_inverse(have, penalty)
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
