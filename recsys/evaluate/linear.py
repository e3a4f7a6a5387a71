"""Linear models of the matrix of users and items: EASE in closed form, and factors by alternating squares."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from recsys.ease import ease_weights
from recsys.errors import ConfigError, DependencyError
from recsys.evaluate.answers import Histories, ItemSets
from recsys.evaluate.matrices import binary_matrix, rank_dense, recent_matrix
from recsys.types import Floats, Rows

EASE_ITEMS = 20_000
"""Most sold items that EASE takes: one matrix of 1.6 GB, and some minutes of a core."""


class Ease:
    """EASE, the closed-form linear model of Steck (WWW 2019), lambda 200, over the user's distinct items.

    With `decay`, the last 20 events weighted by it per step back take the place of the plain history.
    Only items that somebody took enter the matrix and the lists, however large the catalogue: the others'
    weights are zero. Time grows with the cube of those items and memory with their square (twelve thousand
    take half a minute of a core and 0.6 GB, while the matrix is made some more).

    Raises:
        ConfigError: more sold items than `limit`.
    """

    def __init__(
        self,
        decay: float | None = None,
        regularisation: float = 200.0,
        limit: int = EASE_ITEMS,
        like: Ease | None = None,
    ) -> None:
        """Args: `like` another one, whose weights are taken over instead of being computed again."""
        self.name = "ease" if decay is None else "ease_decay"
        self.decay, self.regularisation, self.limit, self.like = decay, regularisation, limit, like
        self._train: Histories | None = None
        self._num_items = 0
        self._sold: Rows = np.empty(0, np.int64)
        self._weights: Floats = np.empty((0, 0), np.float32)

    def fit(self, train: Histories, num_items: int) -> Self:
        """Invert the regularised co-occurrence matrix in float32."""
        if self._train is train and self._num_items == num_items:
            return self
        if self.like is not None:
            fitted = self.like.fit(train, num_items)
            self._sold, self._weights = fitted._sold, fitted._weights
        else:
            self._sold = np.unique(train.rows)
            if len(self._sold) > self.limit:
                raise ConfigError(
                    f"{self.name} takes up to {self.limit:,} sold items, this shop has {len(self._sold):,}"
                )
            own = binary_matrix(train.distinct(num_items), num_items)[:, self._sold]
            self._weights = ease_weights(own, self.regularisation)
        self._num_items, self._train = num_items, train
        return self

    def rank(self, users: Histories, k: int, exclude: ItemSets | None = None) -> Rows:
        """History times weights."""
        num_items = self._num_items
        if self.decay is None:
            history = binary_matrix(users.distinct(num_items), num_items)
        else:
            history = recent_matrix(users, num_items, 20, self.decay)
        history = history[:, self._sold]
        known = np.diff(users.offsets) > 0

        def scores(part: slice) -> Floats:
            full = np.full((part.stop - part.start, num_items), -np.inf, np.float32)
            full[:, self._sold] = history[part] @ self._weights
            return full

        return rank_dense(scores, known, num_items, k, exclude)


class Als:
    """Factors by alternating least squares (Hu, Koren, Volinsky, ICDM 2008), by the package `implicit`.

    64 factors, alpha 10, regularisation .05, 20 passes. A user is placed by solving for their factors given
    the items', so that users and histories that were not fitted can be ranked too.

    Raises:
        DependencyError: `implicit` is not installed (extra `baselines`).
    """

    name = "als"

    def __init__(self, factors: int = 64, alpha: float = 10.0, regularisation: float = 0.05) -> None:
        self.factors, self.alpha, self.regularisation = factors, alpha, regularisation
        self.passes = 20
        self._train: Histories | None = None
        self._num_items = 0

    def fit(self, train: Histories, num_items: int) -> Self:
        """Learn the factors of items."""
        try:
            from implicit.cpu.als import AlternatingLeastSquares
            from threadpoolctl import threadpool_limits
        except ImportError as error:
            raise DependencyError(f"als needs the extra 'baselines' ({error})") from error
        if self._train is train and self._num_items == num_items:
            return self
        self._train, self._num_items = train, num_items
        # Two pools of threads in one another's way are slower than one: the package says so when it is built.
        with threadpool_limits(1, "blas"):
            model: Any = AlternatingLeastSquares(
                self.factors, self.regularisation, self.alpha, iterations=self.passes, random_state=0
            )
            model.fit(_plain(binary_matrix(train.distinct(num_items), num_items)), show_progress=False)
        self._items: Floats = np.asarray(model.item_factors, np.float32)
        return self

    def rank(self, users: Histories, k: int, exclude: ItemSets | None = None) -> Rows:
        """Inner products of all items with the user's factors."""
        own = binary_matrix(users.distinct(self._num_items), self._num_items)
        placed = self._placed(own)
        known = np.diff(users.offsets) > 0
        return rank_dense(lambda part: placed[part] @ self._items.T, known, self._num_items, k, exclude)

    def _placed(self, own: Any) -> Floats:
        """(users, factors) x: (Y'Y + lambda I + sum (alpha - 1) y y') x = alpha sum y, y the user's items."""
        items = self._items.astype(np.float64)
        shared = items.T @ items + self.regularisation * np.eye(items.shape[1])
        placed = np.zeros((own.shape[0], items.shape[1]), np.float32)
        for user in range(own.shape[0]):
            mine = items[own.indices[own.indptr[user] : own.indptr[user + 1]]]
            if len(mine):
                matrix = shared + (self.alpha - 1) * (mine.T @ mine)
                placed[user] = np.linalg.solve(matrix, self.alpha * mine.sum(axis=0))
        return placed


def _plain(matrix: Any) -> Any:
    """A sparse matrix of the older kind, which the package asks for."""
    import scipy.sparse as sp

    return sp.csr_matrix(matrix)
