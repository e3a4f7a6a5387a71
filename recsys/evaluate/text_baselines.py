"""Baselines that know items by their text alone."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from recsys.evaluate.answers import Histories, ItemSets
from recsys.evaluate.matrices import rank_dense, recent_matrix
from recsys.types import Floats, Rows


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
        self._vectors = whiten(vectors) if whitened else unit_rows(vectors)

    def fit(self, train: Histories, num_items: int) -> Self:
        """Nothing is learned from events."""
        if len(self._vectors) != num_items:
            raise ValueError(f"{len(self._vectors)} vectors for {num_items} items")
        return self

    def rank(self, users: Histories, k: int, exclude: ItemSets | None = None) -> Rows:
        """Inner products of all items with the weighted sum of the history's vectors."""
        queries = recent_matrix(users, len(self._vectors), self.last, self.decay) @ self._vectors
        known = np.diff(users.offsets) > 0
        return rank_dense(lambda part: queries[part] @ self._vectors.T, known, len(self._vectors), k, exclude)


def whiten(vectors: Floats) -> Floats:
    """PCA whitening of (n, dim) unit vectors over themselves, then unit norm again.

    Keeps all components, or a third of them where n is under 2 dim; directions without variance are dropped.
    """
    unit = unit_rows(vectors).astype(np.float64)  # small eigenvalues drown in the rounding of float32
    centred = unit - unit.mean(axis=0)
    num, dim = centred.shape
    covariance = centred.T @ centred / num
    values, directions = np.linalg.eigh(covariance)
    kept = np.argsort(-values)[: dim if num >= 2 * dim else max(1, dim // 3)]
    kept = kept[values[kept] > 1e-9 * max(float(values.max()), 1e-30)]
    scale = directions[:, kept] / np.sqrt(values[kept])
    return unit_rows(centred @ scale)


def unit_rows(vectors: Floats | NDArray[np.float64]) -> Floats:
    """(n, dim) of unit norm; a zero row stays zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), np.float32)
