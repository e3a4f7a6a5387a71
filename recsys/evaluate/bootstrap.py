"""Percentile bootstrap over users (Efron, Annals of Statistics 1979), for many means at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.randomness import generator
from recsys.types import Rows

Values = NDArray[np.float64]
REPLICATES = 1000
_BLOCK_CELLS = 4_000_000


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean and its 95% bootstrap interval over users; NaN where there is nobody to measure."""

    mean: float
    low: float
    high: float

    @classmethod
    def nothing(cls) -> Figure:
        """Nobody to measure."""
        return cls(float("nan"), float("nan"), float("nan"))

    def to_dict(self) -> dict[str, float | None]:
        """Plain values; NaN becomes None."""
        return {"mean": _plain(self.mean), "low": _plain(self.low), "high": _plain(self.high)}


def by_owner(owners: Rows, values: Values) -> tuple[Rows, Values]:
    """The mean of each user's cases: users, ascending (m,), and their means (m, num_metrics).

    Args:
        owners: (n,) the user of each case.
        values: (n, num_metrics)
    """
    users, inverse, counts = np.unique(owners, return_inverse=True, return_counts=True)
    if len(users) == len(owners):
        return users, values[np.argsort(owners, kind="stable")]
    sums = np.zeros((len(users), values.shape[1]))
    np.add.at(sums, inverse, values)
    return users, sums / counts[:, None]


def intervals(
    slices: Sequence[tuple[Rows, Values]],
    owners: Rows,
    replicates: int = REPLICATES,
    seed: int = 0,
    level: float = 0.95,
) -> list[NDArray[np.float64]]:
    """Intervals of the means of several slices, from the same resamples of users.

    A replicate draws as many users as there are, with replacement, and a slice's mean is then taken over the
    drawn cases that belong to it: the size of a segment is random too, as it is in the world. Paired
    differences are handled by passing differences as values.

    Args:
        slices: Per slice the positions of its cases (m,) and their values (m, num_metrics).
        owners: (num_cases,) the user of each case, 0-based and dense; cases of one user are drawn together.
        replicates: How many resamples.
        seed: Same seed, same resamples.
        level: Coverage of the interval.

    Returns:
        Per slice (2, num_metrics): low and high; NaN for an empty slice.
    """
    num_cases, num_users = len(owners), int(owners.max()) + 1 if len(owners) else 0
    widths = [values.shape[1] for _, values in slices]
    if not num_cases:
        return [np.full((2, width), np.nan) for width in widths]
    table = np.zeros((num_cases, sum(widths) + len(slices)), np.float32)
    starts = np.concatenate([[0], np.cumsum(widths)])
    for number, (positions, values) in enumerate(slices):
        table[positions, starts[number] : starts[number + 1]] = values
        table[positions, starts[-1] + number] = 1
    means = _replicate_means(table, owners, num_users, widths, generator(seed, "bootstrap"), replicates)
    tail = (1 - level) / 2
    bounds = _quantiles(means, (tail, 1 - tail))
    return [bounds[:, starts[i] : starts[i + 1]] for i in range(len(slices))]


def _replicate_means(
    table: NDArray[np.float32],
    owners: Rows,
    num_users: int,
    widths: Sequence[int],
    random: np.random.Generator,
    replicates: int,
) -> Values:
    """(replicates, num_columns): weighted column sums over weighted slice sizes."""
    num_columns = sum(widths)
    block = max(1, min(replicates, _BLOCK_CELLS // max(num_users, len(owners))))
    slice_of_column = np.repeat(np.arange(len(widths)), widths)
    means = np.empty((replicates, num_columns))
    identity = num_users == len(owners) and bool((owners == np.arange(num_users)).all())
    for start in range(0, replicates, block):
        size = min(block, replicates - start)
        weights = np.empty((size, num_users), np.float32)
        for row in weights:
            row[:] = np.bincount(random.integers(0, num_users, num_users), minlength=num_users)
        sums = (weights if identity else weights[:, owners]) @ table
        sizes = sums[:, num_columns:][:, slice_of_column]
        with np.errstate(invalid="ignore", divide="ignore"):  # a small segment may miss a replicate
            means[start : start + size] = sums[:, :num_columns] / np.where(sizes > 0, sizes, np.nan)
    return means


def _quantiles(means: Values, levels: tuple[float, float]) -> Values:
    bounds = np.full((2, means.shape[1]), np.nan)
    missing = np.isnan(means)
    whole = ~missing.any(axis=0)
    bounds[:, whole] = np.quantile(means[:, whole], levels, axis=0)
    partial = ~whole & ~missing.all(axis=0)
    if partial.any():
        bounds[:, partial] = np.nanquantile(means[:, partial], levels, axis=0)
    return bounds


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)
