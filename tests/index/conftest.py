from collections.abc import Callable

import numpy as np
import pytest

from recsys.randomness import generator
from recsys.types import Floats

MakeVectors = Callable[..., Floats]


@pytest.fixture(scope="session")
def make_vectors() -> MakeVectors:
    """Unit vectors in clusters, as item texts are; the same size and seed give the same vectors."""

    def make(size: int, dim: int = 24, seed: int = 0, clusters: int = 20) -> Floats:
        draws = generator(seed, "vectors", size, dim)
        centres = draws.normal(size=(clusters, dim))
        vectors = centres[draws.integers(0, clusters, size)] + 0.5 * draws.normal(size=(size, dim))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors, np.float32)

    return make
