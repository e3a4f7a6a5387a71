"""PCA whitening of text vectors: what makes an un-tuned encoder's cosines mean something.

Sentence vectors crowd into a narrow cone; after centring and scaling every principal direction to unit
variance, cosines spread out. Su et al., "Whitening Sentence Representations for Better Semantics and
Faster Retrieval", 2021; for recommendation Zhang et al., "Are ID Embeddings Necessary? Whitening
Pre-trained Text Embeddings for Effective Sequential Recommendation", ICDE 2024.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.types import Floats

SMALL_DIM = 128
"""Components kept of a catalogue that is too small to estimate all of them."""
FIT_LIMIT = 200_000
"""More distinct vectors would not change a covariance of some hundred dimensions; a stride picks these."""


@dataclass(frozen=True, slots=True)
class Whitening:
    """A fixed affine map, then unit norm: `(vector - mean) @ projection`, scaled to length one."""

    mean: Floats
    """(hidden,)"""
    projection: Floats
    """(hidden, dim)"""

    @classmethod
    def fit(cls, vectors: Floats, dim: int | None = None, spare: bool = False) -> Whitening:
        """Estimate from a catalogue's raw vectors, (n, hidden).

        Zero rows (items without text) and repeated vectors do not count. `dim` None keeps every
        component, or 128 where the catalogue has fewer than two distinct vectors per component; never
        more than the vectors span. Variances are shrunk towards their mean by n0 / (n + n0) with n0 a
        tenth of the hidden size, so that directions a small catalogue hardly shows are not blown up.
        `spare` leaves the last component, the least of them, at zero for what is not text.
        """
        distinct = _distinct(vectors)
        hidden = vectors.shape[1]
        if not len(distinct):
            return cls(np.zeros(hidden, np.float32), np.eye(hidden, dim or hidden, dtype=np.float32))
        count = len(distinct)
        if dim is None:
            dim = hidden if count >= 2 * hidden else SMALL_DIM
        dim = max(1, min(dim, hidden, count - 1))
        picked = distinct[:: -(-count // FIT_LIMIT)].astype(np.float64)
        mean = picked.mean(axis=0)
        variances, directions = np.linalg.eigh((picked - mean).T @ (picked - mean) / len(picked))
        variances, directions = variances[::-1].clip(min=0.0), directions[:, ::-1]
        shrink = 0.1 * hidden / (count + 0.1 * hidden)
        variances = (1 - shrink) * variances + shrink * variances.mean()
        # The sign of an eigenvector is the solver's whim: make the largest entry positive.
        largest = np.abs(directions).argmax(axis=0)
        directions = directions * np.sign(directions[largest, np.arange(hidden)])
        projection = directions[:, :dim] / np.sqrt(variances[:dim] + 1e-12)
        projection[:, dim - spare :] = 0
        return cls(mean.astype(np.float32), projection.astype(np.float32))

    @property
    def dim(self) -> int:
        """Length of a whitened vector."""
        return int(self.projection.shape[1])

    def apply(self, vectors: Floats) -> Floats:
        """Whitened vectors of unit norm, (n, dim); a zero row (no text) stays zero."""
        out = (vectors - self.mean) @ self.projection
        out[~vectors.any(axis=1)] = 0.0
        norms = np.linalg.norm(out, axis=1, keepdims=True)
        whitened: Floats = (out / np.maximum(norms, 1e-12)).astype(np.float32)
        return whitened

    def arrays(self) -> dict[str, Floats]:
        """The two arrays by name, to persist."""
        return {"whitening.mean": self.mean, "whitening.projection": self.projection}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.float32]]) -> Whitening:
        """The inverse of `arrays`."""
        return cls(arrays["whitening.mean"], arrays["whitening.projection"])


def _distinct(vectors: Floats) -> Floats:
    rows = np.ascontiguousarray(vectors[vectors.any(axis=1)], dtype=np.float32)
    if not len(rows):
        return rows
    as_bytes = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    _, first = np.unique(as_bytes, return_index=True)
    return rows[np.sort(first)]
