"""Arms side by side: paired differences to a reference in every part, corrected together, with verdicts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.evaluate.evaluate import Evaluation, Slice
from recsys.evaluate.paired import RESAMPLES, Paired, pair_all
from recsys.evaluate.several import holm
from recsys.evaluate.verdicts import MIN_DIFFERING, WORTH, Verdict, judge

SHOWN = ("ndcg@10", "recall@20", "hit@10", "mrr@20")
"""Metrics whose differences are worked out, as far as they were measured."""


@dataclass(frozen=True, slots=True)
class Part:
    """One arm in one part of an evaluation: figures by seed and user.

    Parts usually come from ranked lists (`parts_of`), but whatever has a figure per user can be one.
    """

    dimension: str
    label: str
    decides: str
    """The metric that the verdict rests on."""
    users: NDArray[np.object_]
    """(n,) user ids."""
    figures: Mapping[str, NDArray[np.float64]]
    """By metric (num_seeds, n)."""
    planned: bool = True
    """Whether a verdict is given; other parts are only shown."""

    @property
    def name(self) -> str:
        """What the part is called in tables."""
        return self.label if self.label == self.dimension else f"{self.dimension} {self.label}"


@dataclass(frozen=True, slots=True)
class Finding:
    """An arm minus the reference in one part."""

    arm: str
    reference: str
    dimension: str
    label: str
    name: str
    """Of the part."""
    decides: str
    differences: Mapping[str, Paired]
    """By metric."""
    verdict: Verdict | None = None
    """None for placebos and for parts that were not planned."""
    placebo: str | None = None
    """The placebo that did best here."""
    over_placebo: Paired | None = None
    """The arm minus that placebo, in the metric that decides."""

    @property
    def main(self) -> Paired:
        """The difference in the metric that decides."""
        return self.differences[self.decides]

    def to_plain(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "arm": self.arm,
            "reference": self.reference,
            "dimension": self.dimension,
            "segment": self.label,
            "decides": self.decides,
            "verdict": None if self.verdict is None else self.verdict.to_plain(),
            "placebo": self.placebo,
            "over_placebo": None if self.over_placebo is None else self.over_placebo.to_plain(),
            "differences": {name: found.to_plain() for name, found in self.differences.items()},
        }


def parts_of(
    evaluations: Sequence[Evaluation], planned: Collection[tuple[str, str]], decides: Mapping[str, str]
) -> list[Part]:
    """The whole and every segment of one arm's evaluations, one of each seed.

    Args:
        evaluations: Of the same cases and segments.
        planned: (dimension, label) of the parts that get a verdict.
        decides: By dimension the metric that decides; ndcg@10 for others.
    """
    users = np.asarray(evaluations[0].users, object)
    slices = [(one.whole, *one.segments) for one in evaluations]
    found = []
    for seeds in zip(*slices, strict=True):
        first: Slice = seeds[0]
        if not all(np.array_equal(first.cases, other.cases) for other in seeds):
            raise ValueError(f"seeds differ in the cases of {first.dimension} {first.label}")
        names = [name for name in SHOWN if name in first.names]
        figures = {name: np.stack([one.by_case[:, one.names.index(name)] for one in seeds]) for name in names}
        key = (first.dimension, first.label)
        metric = decides.get(first.dimension, "ndcg@10")
        found.append(Part(*key, metric, users[first.cases], figures, key in planned))
    return found


def contrast(
    arms: Mapping[str, Sequence[Part]],
    reference: str,
    placebos: Collection[str] = (),
    worth: float = WORTH,
    resamples: int = RESAMPLES,
) -> list[Finding]:
    """Every arm against the reference, part by part.

    Holm's correction runs over all verdicts: every planned part of every arm that is no placebo. Parts where
    fewer than `MIN_DIFFERING` users' figures differ are not tested and do not count (Tarone, Biometrics
    1990): signs are flipped given the sizes of the differences, so leaving out by sizes is no choice by
    result.

    Args:
        arms: Parts by arm, the same parts in the same order.
        reference: The arm that the others are compared with.
        placebos: Arms that get no verdict and that others must beat.
        worth: The relative difference that the power computation is about.
        resamples: Of the bootstrap; the permutation test does twice as many.
    """
    base = arms[reference]
    found = [
        Finding(
            arm, reference, part.dimension, part.label, part.name, part.decides,
            _pairs(part, base[i], list(part.figures), resamples),
        )
        for arm, parts in arms.items() if arm != reference
        for i, part in enumerate(parts)
    ]  # fmt: skip
    planned = {part.name for part in base if part.planned}
    judged = [
        i for i, one in enumerate(found)
        if one.arm not in placebos and one.name in planned and one.main.differing >= MIN_DIFFERING
    ]  # fmt: skip
    adjusted = dict(zip(judged, holm([found[i].main.p for i in judged]), strict=True))
    return [
        one
        if one.arm in placebos or one.name not in planned
        else _judged(one, arms, placebos, adjusted.get(i, 1.0), (len(judged), worth, resamples))
        for i, one in enumerate(found)
    ]


def _judged(
    one: Finding,
    arms: Mapping[str, Sequence[Part]],
    placebos: Collection[str],
    adjusted: float,
    how: tuple[int, float, int],
) -> Finding:
    family, worth, resamples = how
    best: str | None = None
    over: Paired | None = None
    if placebos and one.main.users:
        parts = {arm: _part(arms[arm], one) for arm in (one.arm, *placebos)}
        best = max(placebos, key=lambda arm: float(np.mean(parts[arm].figures[one.decides])))
        over = _pairs(parts[one.arm], parts[best], [one.decides], resamples)[one.decides]
    placebo = None if best is None or over is None else (best, over)
    verdict = judge(one.main, adjusted, family, placebo, worth)
    return replace(one, verdict=verdict, placebo=best, over_placebo=over)


def _part(parts: Sequence[Part], like: Finding) -> Part:
    return next(part for part in parts if (part.dimension, part.label) == (like.dimension, like.label))


def _pairs(own: Part, other: Part, metrics: Sequence[str], resamples: int) -> dict[str, Paired]:
    if (own.dimension, own.label) != (other.dimension, other.label) or not np.array_equal(
        own.users, other.users
    ):
        raise ValueError(f"the arms were not judged on the same users of {own.name}")
    _, owners = np.unique(own.users.astype(str), return_inverse=True)
    mine, theirs = ({name: list(side.figures[name]) for name in metrics} for side in (own, other))
    return pair_all(mine, theirs, owners, rounds=2 * resamples, resamples=resamples)
