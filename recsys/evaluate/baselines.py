"""What a user would set up in an afternoon: the systems that every result must stand beside.

All have one protocol: `fit` on everybody's events before the cut, then `rank` histories in batch. None sees
an answer, none is tuned to a dataset: the settings are those of the published defaults named at each class.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.linalg import lapack

from recsys.errors import ConfigError
from recsys.evaluate.answers import Histories, ItemSets
from recsys.evaluate.ranked import clean_lists
from recsys.evaluate.topk import blocks, keep_largest, top_dense, top_sparse
from recsys.types import Floats, Rows

_DENSE_CELLS = 8_000_000
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
        longest = int(exclude.sizes.max(initial=0)) if exclude is not None else 0
        top = self._order[: k + longest]
        lists = np.full((len(users), k), -1, np.int64)
        for part in blocks(np.full(len(users), len(top)), _DENSE_CELLS):
            size = part.stop - part.start
            drop = None if exclude is None else exclude.take(np.arange(part.start, part.stop))
            lists[part] = clean_lists(np.tile(top, (size, 1)), self._num_items, k, drop)
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


class TextNearest:
    """Nearest items to the user's last ones by text vectors that nobody tuned.

    Raw: cosine to the mean of the last 10 items. Whitened: the vectors after PCA whitening over the catalogue
    (all components; a third of them where the catalogue is under twice as large as their number), the last
    20 events weighted by .7 per step back (WhitenRec, Zhang et al., arXiv 2402.10602, gives the reason).
    """

    def __init__(self, vectors: Floats, whitened: bool) -> None:
        self.name = "text_whitened" if whitened else "text_untuned"
        self.whitened = whitened
        self.last, self.decay = (20, 0.7) if whitened else (10, 1.0)
        self._vectors = whiten(vectors) if whitened else _unit(vectors)

    def fit(self, train: Histories, num_items: int) -> Self:
        """Nothing is learned from events."""
        if len(self._vectors) != num_items:
            raise ValueError(f"{len(self._vectors)} vectors for {num_items} items")
        return self

    def rank(self, users: Histories, k: int, exclude: ItemSets | None = None) -> Rows:
        """Inner products of all items with the weighted sum of the history's vectors."""
        queries = recent_matrix(users, len(self._vectors), self.last, self.decay) @ self._vectors
        known = np.diff(users.offsets) > 0
        return _rank_dense(
            lambda part: queries[part] @ self._vectors.T, known, len(self._vectors), k, exclude
        )


class Ease:
    """EASE, the closed-form linear model of Steck (WWW 2019), lambda 200, over the user's distinct items.

    With `decay`, the last 20 events weighted by it per step back take the place of the plain history.
    Time grows with the cube and memory with the square of the catalogue: 12 thousand items take minutes on a
    core and 2 GB.

    Raises:
        ConfigError: the catalogue is larger than `limit`.
    """

    def __init__(
        self, decay: float | None = None, regularisation: float = 200.0, limit: int = 20_000
    ) -> None:
        self.name = "ease" if decay is None else "ease_decay"
        self.decay, self.regularisation, self.limit = decay, regularisation, limit

    def fit(self, train: Histories, num_items: int) -> Self:
        """Invert the regularised co-occurrence matrix in float32."""
        if num_items > self.limit:
            raise ConfigError(
                f"{self.name} takes catalogues up to {self.limit:,} items, this has {num_items:,}"
            )
        own = binary_matrix(train.distinct(num_items), num_items)
        gram = np.asfortranarray((own.T @ own).toarray().astype(np.float32))
        gram[np.diag_indices(num_items)] += self.regularisation
        factor, failed = lapack.spotrf(gram, lower=1, overwrite_a=1)
        inverse, failed_inverse = lapack.spotri(factor, lower=1, overwrite_c=1)
        if failed or failed_inverse:
            raise AssertionError("a regularised Gram matrix is positive definite")
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        self._weights = -inverse / np.diag(inverse)
        self._weights[np.diag_indices(num_items)] = 0
        return self

    def rank(self, users: Histories, k: int, exclude: ItemSets | None = None) -> Rows:
        """History times weights."""
        num_items = len(self._weights)
        if self.decay is None:
            history = binary_matrix(users.distinct(num_items), num_items)
        else:
            history = recent_matrix(users, num_items, 20, self.decay)
        known = np.diff(users.offsets) > 0
        return _rank_dense(lambda part: history[part] @ self._weights, known, num_items, k, exclude)


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


def standard_baselines(
    num_items: int, vectors: Floats | None = None, ease_limit: int = 5_000
) -> list[Baseline]:
    """The set for a table: EASE only up to `ease_limit` items, text only where vectors are given.

    `vectors` (num_items, dim) are those of the un-tuned encoder, in catalogue order. Fusion is left to
    `measure_baselines`, which has the others' lists at hand.
    """
    neighbours = ItemKnn()
    chosen: list[Baseline] = [Popular(), Popular(days=30), neighbours, OwnRepeats(neighbours)]
    if num_items <= ease_limit:
        chosen += [Ease(), Ease(decay=0.7)]
    if vectors is not None:
        chosen += [TextNearest(vectors, whitened=False), TextNearest(vectors, whitened=True)]
    return chosen


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


def whiten(vectors: Floats) -> Floats:
    """PCA whitening of (n, dim) unit vectors over themselves, then unit norm again.

    Keeps all components, or a third of them where n is under 2 dim; directions without variance are dropped.
    """
    unit = _unit(vectors).astype(np.float64)  # small eigenvalues drown in the rounding of float32
    centred = unit - unit.mean(axis=0)
    num, dim = centred.shape
    covariance = centred.T @ centred / num
    values, directions = np.linalg.eigh(covariance)
    kept = np.argsort(-values)[: dim if num >= 2 * dim else max(1, dim // 3)]
    kept = kept[values[kept] > 1e-9 * max(float(values.max()), 1e-30)]
    scale = directions[:, kept] / np.sqrt(values[kept])
    return _unit(centred @ scale)


def _unit(vectors: Floats | NDArray[np.float64]) -> Floats:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), np.float32)


class _Scores(Protocol):
    def __call__(self, part: slice) -> NDArray[np.float32]: ...


def _rank_dense(
    scores: _Scores, known: NDArray[np.bool_], num_items: int, k: int, exclude: ItemSets | None
) -> Rows:
    """Top k of dense scores; users nobody knows get an empty list, not the ties of a zero vector."""
    lists = np.full((len(known), k), -1, np.int64)
    for part in blocks(np.full(len(known), num_items), _DENSE_CELLS):
        drop = None if exclude is None else exclude.take(np.arange(part.start, part.stop))
        lists[part] = top_dense(np.asarray(scores(part)), k, drop)
    lists[~known] = -1
    return lists
