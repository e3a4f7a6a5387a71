"""Two arms on the same users: the difference in a metric, each user's seeds averaged first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.evaluate.bootstrap import intervals
from recsys.evaluate.permutation import ROUNDS, sign_flip_p
from recsys.types import Rows

RESAMPLES = 5000
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Paired:
    """An arm minus another in one metric."""

    own: float
    """Mean of the arm."""
    other: float
    """Mean of the arm that it is compared with."""
    difference: float
    low: float
    high: float
    """95 % percentile bootstrap interval of the difference, over users."""
    p: float
    """Sign-flip permutation by user, two-sided."""
    effect: float
    """Cohen's d_z: the mean of the users' differences in standard deviations of them (Cohen, Statistical
    Power Analysis for the Behavioral Sciences, 1988; named as in Lakens, Frontiers in Psychology 2013)."""
    deviation: float
    """Standard deviation of the users' differences."""
    users: int
    differing: int
    """Users whose figure is not the same in both arms."""
    by_seed: tuple[float, ...]
    """The difference of each seed, users averaged."""

    @property
    def relative(self) -> float | None:
        """The difference as a share of the other arm's mean; None where that is zero."""
        return self.difference / self.other if self.other else None

    @property
    def seeds_in_favour(self) -> int:
        """Seeds whose difference has the sign of the whole."""
        return sum(one * self.difference > 0 for one in self.by_seed)

    def to_plain(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "by_seed": list(self.by_seed), "relative": self.relative}


NOBODY = Paired(0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0, 0, ())
"""The difference where there is no user to measure."""


def pair(
    own: Sequence[Values],
    other: Sequence[Values],
    owners: Rows,
    *,
    rounds: int = ROUNDS,
    resamples: int = RESAMPLES,
) -> Paired:
    """The difference of two arms that were judged on the same cases.

    Args:
        own: Per seed the values of the cases (n,).
        other: Those of the other arm, of the same seeds in the same order.
        owners: (n,) the user of each case, 0-based and dense.
        rounds: Of the permutation test.
        resamples: Of the bootstrap.

    Raises:
        ValueError: the arms differ in their seeds or cases.
    """
    if [len(one) for one in own] != [len(one) for one in other]:
        raise ValueError("the arms were not measured on the same seeds and cases")
    if not len(owners):
        return NOBODY
    mine, theirs = np.mean(own, axis=0), np.mean(other, axis=0)
    differences = np.asarray(mine - theirs, np.float64)
    cases = np.arange(len(differences))
    low, high = intervals([(cases, differences[:, None])], owners, resamples)[0][:, 0].tolist()
    by_user = np.bincount(owners, differences) / np.bincount(owners)
    deviation = float(by_user.std(ddof=1)) if len(by_user) > 1 else 0.0
    return Paired(
        own=float(mine.mean()),
        other=float(theirs.mean()),
        difference=float(differences.mean()),
        low=low,
        high=high,
        p=sign_flip_p(differences, owners, rounds),
        effect=float(by_user.mean()) / deviation if deviation else 0.0,
        deviation=deviation,
        users=len(by_user),
        differing=int(np.count_nonzero(by_user)),
        by_seed=tuple(float((a - b).mean()) for a, b in zip(own, other, strict=True)),
    )
