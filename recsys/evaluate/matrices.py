"""Histories as sparse matrices, and lists from dense scores: what several baselines share."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.evaluate.answers import Histories, ItemSets
from recsys.evaluate.topk import blocks, top_dense
from recsys.types import Rows

DENSE_CELLS = 8_000_000
"""Scores held at once."""


def binary_matrix(sets: ItemSets, num_items: int) -> sp.csr_array:
    """(users, num_items) with a one per pair."""
    ones = np.ones(len(sets.rows), np.float32)
    return sp.csr_array((ones, sets.rows, sets.offsets), shape=(len(sets), num_items))


def recent_matrix(users: Histories, num_items: int, last: int, decay: float) -> sp.csr_array:
    """(users, num_items) with the sum of `decay` to the power of the lag over the `last` newest events."""
    lags = users.lags
    recent = lags < last
    weights = (decay ** lags[recent]).astype(np.float32)
    pairs = (users.users[recent], users.rows[recent])
    return sp.csr_array(sp.coo_array((weights, pairs), shape=(len(users), num_items)))


class Scores(Protocol):
    """Scores of some users."""

    def __call__(self, part: slice) -> NDArray[np.float32]:
        """(users of the slice, num_items), overwritten by whoever ranks them."""
        ...


def rank_dense(
    scores: Scores, known: NDArray[np.bool_], num_items: int, k: int, exclude: ItemSets | None
) -> Rows:
    """Top k of dense scores; users nobody knows get an empty list, not the ties of a zero vector."""
    lists = np.full((len(known), k), -1, np.int64)
    for part in blocks(np.full(len(known), num_items), DENSE_CELLS):
        drop = None if exclude is None else exclude.take(np.arange(part.start, part.stop))
        lists[part] = top_dense(np.asarray(scores(part)), k, drop)
    lists[~known] = -1
    return lists
