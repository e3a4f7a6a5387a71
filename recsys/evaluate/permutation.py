"""Sign-flip permutation test of a mean difference, by user (Fisher, The Design of Experiments, 1935)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.randomness import generator
from recsys.types import Rows

ROUNDS = 10_000
_BLOCK_CELLS = 20_000_000


def sign_flip_p(differences: NDArray[np.float64], owners: Rows, rounds: int = ROUNDS, seed: int = 0) -> float:
    """Two-sided p-value of paired differences (n,) having mean zero; see `sign_flip_ps`."""
    return sign_flip_ps(differences[:, None], owners, rounds, seed)[0]


def sign_flip_ps(
    differences: NDArray[np.float64], owners: Rows, rounds: int = ROUNDS, seed: int = 0
) -> list[float]:
    """Two-sided p-values of several figures' paired differences having mean zero, from the same signs.

    Where neither arm is better, a user's differences could as well have had the other sign, all of them
    together. The p-value is (1 + as large) / (1 + rounds), so that it is never zero.

    Args:
        differences: (n, num_figures) one row per case.
        owners: (n,) the user of each case, 0-based and dense; a user's cases are flipped together.
        rounds: How many random assignments of signs.
        seed: Same seed, same signs.
    """
    width = differences.shape[1]
    sums = np.stack(
        [np.bincount(owners, differences[:, i]) if len(owners) else np.empty(0) for i in range(width)], axis=1
    )
    sums = sums[sums.any(axis=1)]  # zeros have no sign
    if not len(sums):
        return [1.0] * width
    total = sums.sum(axis=0)
    observed = np.abs(total) * (1 - 1e-12)  # the same sum in another order may differ in its last digit
    rng = generator(seed, "sign flip")
    block = max(1, min(rounds, _BLOCK_CELLS // len(sums)))
    beaten = np.zeros(width, np.int64)
    for start in range(0, rounds, block):
        signs = rng.integers(0, 2, (min(block, rounds - start), len(sums)), dtype=np.int8)
        beaten += (np.abs(signs.astype(np.float32) @ (2 * sums) - total) >= observed).sum(axis=0)
    return [(1 + int(count)) / (1 + rounds) for count in beaten]
