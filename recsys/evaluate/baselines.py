"""What a user would set up in an afternoon: the systems that every result must stand beside.

All have one protocol: `fit` on everybody's events before the cut, then `rank` histories in batch. None sees
an answer, none is tuned to a dataset: the settings are those of the published defaults named at each class.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

import numpy as np
import scipy.sparse as sp

from recsys.evaluate.answers import Histories, ItemSets
from recsys.evaluate.matrices import DENSE_CELLS, binary_matrix
from recsys.evaluate.ranked import clean_lists
from recsys.evaluate.topk import blocks, keep_largest, top_sparse
from recsys.types import Rows

_SPARSE_CELLS = 6_000_000
DAY = 86_400


class Baseline(Protocol):
    """A system that ranks from events (and, some, from item vectors) alone."""

    @property
    def name(self) -> str:
        """What tables call it."""
        ...

    def fit(self, train: Histories, num_items: int) -> Self:
        """Learn from every user's positive events before the cut."""
        ...

    def rank(self, users: Histories, k: int, exclude: ItemSets | None = None) -> Rows:
        """(len(users), k) item rows, best first; -1 where it has nothing more to propose.

        Args:
            users: The history of each user to rank for; need not have been in `fit`.
            k: Places.
            exclude: Items that a user must not get, one set per user.
        """
        ...


class Popular:
    """The items with the most events, of all time or of the last days before the newest event."""

    def __init__(self, days: int | None = None) -> None:
        self.days = days
        self.name = "popular" if days is None else f"popular_{days}d"

    def fit(self, train: Histories, num_items: int) -> Self:
        """Count events per item."""
        rows = train.rows
        if self.days is not None and len(rows):
            rows = rows[train.timestamps > train.timestamps.max() - self.days * DAY]
        self._num_items = num_items
        self._order = np.argsort(-np.bincount(rows, minlength=num_items), kind="stable")
        return self

    def rank(self, users: Histories, k: int, exclude: ItemSets | None = None) -> Rows:
        """One list for all, less what each must not get."""
        return same_for_all(self._order, len(users), self._num_items, k, exclude)


def same_for_all(
    order: Rows, num_users: int, num_items: int, k: int, exclude: ItemSets | None = None
) -> Rows:
    """(num_users, k) the first items of one order, less what each user must not get."""
    longest = int(exclude.sizes.max(initial=0)) if exclude is not None else 0
    top = order[: k + longest]
    lists = np.full((num_users, k), -1, np.int64)
    for part in blocks(np.full(num_users, len(top)), DENSE_CELLS):
        size = part.stop - part.start
        drop = None if exclude is None else exclude.take(np.arange(part.start, part.stop))
        lists[part] = clean_lists(np.tile(top, (size, 1)), num_items, k, drop)
    return lists


class ItemKnn:
    """Item to item by BM25-weighted co-occurrence, the 50 nearest of each; lists hold only items it reaches.

    The weighting of implicit's `BM25Recommender` (K1 1.2, B .75): items are the documents, users the terms.
    Each item is its own neighbour, so that what the user has comes first unless it is excluded.
    """

    name = "item_knn"

    def __init__(self, neighbours: int = 50, k1: float = 1.2, b: float = 0.75) -> None:
        self.neighbours, self.k1, self.b = neighbours, k1, b
        self._train: Histories | None = None
        self.similarity = sp.csr_array((0, 0))
        """(num_items, num_items), the nearest of each row."""

    def fit(self, train: Histories, num_items: int) -> Self:
        """Similarities of all items that share a user, in blocks of rows that fit in memory."""
        if (
            self._train is train and self.similarity.shape[1] == num_items
        ):  # another baseline fills its lists up with this one
            return self
        weighted = self._bm25(train.distinct(num_items), num_items)
        by_item = sp.csr_array(weighted.T)
        lengths = np.diff(weighted.indptr)
        products = np.bincount(by_item.nonzero()[0], lengths[by_item.indices], minlength=num_items)
        parts = [
            keep_largest(sp.csr_array(by_item[part] @ weighted), self.neighbours)
            for part in blocks(products.astype(np.int64) + 1, 4 * _SPARSE_CELLS)
        ]
        self.similarity = sp.csr_array(sp.vstack(parts, format="csr"))
        self._train = train
        return self

    def rank(self, users: Histories, k: int, exclude: ItemSets | None = None) -> Rows:
        """Sum of the neighbours of the user's distinct items."""
        num_items = self.similarity.shape[1]
        own = binary_matrix(users.distinct(num_items), num_items)
        lists = np.full((len(users), k), -1, np.int64)
        for part in blocks(np.diff(own.indptr).astype(np.int64) * self.neighbours + 1, _SPARSE_CELLS):
            drop = None if exclude is None else exclude.take(np.arange(part.start, part.stop))
            lists[part] = top_sparse(sp.csr_array(own[part] @ self.similarity), k, drop)
        return lists

    def _bm25(self, sets: ItemSets, num_items: int) -> sp.csr_array:
        """(users, items) of binary counts, weighted."""
        users, items = sets.users, sets.rows
        inverse = np.log(num_items) - np.log1p(sets.sizes)
        lengths = np.bincount(items, minlength=num_items)
        norm = (1 - self.b) + self.b * lengths / max(lengths.mean(), 1e-12)
        values = (self.k1 + 1) / (self.k1 * norm[items] + 1) * inverse[users]
        return sp.csr_array((values, items, sets.offsets), shape=(len(sets), num_items))


class OwnRepeats:
    """The user's own items by count, then recency; filled up with another baseline's list."""

    name = "repeats"

    def __init__(self, fill: Baseline | None = None) -> None:
        self.fill = ItemKnn() if fill is None else fill

    def fit(self, train: Histories, num_items: int) -> Self:
        """Fit the baseline that fills up; the repeats themselves need nothing."""
        self._num_items = num_items
        self.fill.fit(train, num_items)
        return self

    def rank(self, users: Histories, k: int, exclude: ItemSets | None = None) -> Rows:
        """Own items first."""
        keys, inverse, counts = np.unique(
            users.users * self._num_items + users.rows, return_inverse=True, return_counts=True
        )
        newest = np.zeros(len(keys), np.int64)
        np.maximum.at(newest, inverse, users.timestamps)
        owners, items = keys // self._num_items, keys % self._num_items
        order = np.lexsort((items, -newest, -counts, owners))
        starts = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=len(users)))])
        places = np.arange(len(keys)) - starts[owners]
        depth = k + (int(exclude.sizes.max(initial=0)) if exclude is not None else 0)
        own = np.full((len(users), min(depth, int(places.max(initial=-1)) + 1)), -1, np.int64)
        kept = places < own.shape[1]
        own[owners[kept], places[kept]] = items[order][kept]
        rest = self.fill.rank(users, k, exclude)
        return clean_lists(np.concatenate([own, rest], axis=1), self._num_items, k, exclude)


class Fusion:
    """Reciprocal rank fusion of other baselines, equal weights."""

    name = "fusion"

    def __init__(self, parts: Sequence[Baseline], constant: float = 20.0) -> None:
        if not parts:
            raise ValueError("a fusion needs at least one part")
        self.parts, self.constant = tuple(parts), constant

    def fit(self, train: Histories, num_items: int) -> Self:
        """Fit every part."""
        self._num_items = num_items
        for part in self.parts:
            part.fit(train, num_items)
        return self

    def rank(self, users: Histories, k: int, exclude: ItemSets | None = None) -> Rows:
        """Fuse the parts' lists of k."""
        return fuse([part.rank(users, k, exclude) for part in self.parts], k, self._num_items, self.constant)


def fuse(lists: Sequence[Rows], k: int, num_items: int, constant: float = 20.0) -> Rows:
    """Reciprocal rank fusion (Cormack, Clarke, Büttcher, SIGIR 2009): each rank gives 1 / (constant + rank).

    Args:
        lists: (users, length) item rows per system, -1 padded; lengths may differ.
        k: Places of the result.
        num_items: Size of the catalogue.
        constant: Flattens the differences between the first ranks.
    """
    num_users = len(lists[0])
    owners, items, gains = [], [], []
    for one in lists:
        rows, columns = np.nonzero(one >= 0)
        owners.append(rows)
        items.append(one[rows, columns])
        gains.append(1 / (constant + 1 + columns))
    scores = sp.coo_array(
        (np.concatenate(gains), (np.concatenate(owners), np.concatenate(items))), shape=(num_users, num_items)
    )
    return top_sparse(sp.csr_array(scores), k)
