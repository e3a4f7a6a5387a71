"""Two arms on the same users: the difference in a metric, each user's seeds averaged first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.evaluate.bootstrap import intervals
from recsys.evaluate.permutation import ROUNDS, sign_flip_ps
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
    """The difference of two arms in one metric; see `pair_all`."""
    return pair_all({"": own}, {"": other}, owners, rounds=rounds, resamples=resamples)[""]


def pair_all(
    own: Mapping[str, Sequence[Values]],
    other: Mapping[str, Sequence[Values]],
    owners: Rows,
    *,
    rounds: int = ROUNDS,
    resamples: int = RESAMPLES,
) -> dict[str, Paired]:
    """The differences of two arms that were judged on the same cases, by metric.

    Args:
        own: By metric, per seed the values of the cases (n,).
        other: Those of the other arm, of the same seeds in the same order.
        owners: (n,) the user of each case, 0-based and dense.
        rounds: Of the permutation test.
        resamples: Of the bootstrap.

    Raises:
        ValueError: the arms differ in their seeds or cases.
    """
    for metric, mine in own.items():
        if [len(one) for one in mine] != [len(one) for one in other[metric]]:
            raise ValueError("the arms were not measured on the same seeds and cases")
    if not len(owners):
        return dict.fromkeys(own, NOBODY)
    ours, theirs = (
        np.stack([np.mean(side[metric], axis=0) for metric in own], axis=1) for side in (own, other)
    )
    differences = np.asarray(ours - theirs, np.float64)
    bounds = intervals([(np.arange(len(differences)), differences)], owners, resamples)[0]
    chances = sign_flip_ps(differences, owners, rounds)
    found = {}
    for i, metric in enumerate(own):
        by_user = np.bincount(owners, differences[:, i]) / np.bincount(owners)
        deviation = float(by_user.std(ddof=1)) if len(by_user) > 1 else 0.0
        found[metric] = Paired(
            own=float(ours[:, i].mean()),
            other=float(theirs[:, i].mean()),
            difference=float(differences[:, i].mean()),
            low=float(bounds[0, i]),
            high=float(bounds[1, i]),
            p=chances[i],
            effect=float(by_user.mean()) / deviation if deviation else 0.0,
            deviation=deviation,
            users=len(by_user),
            differing=int(np.count_nonzero(by_user)),
            by_seed=tuple(float((a - b).mean()) for a, b in zip(own[metric], other[metric], strict=True)),
        )
    return found
