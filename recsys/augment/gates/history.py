"""Gates on histories: the target stays likely, and what came in belongs to what was there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.augment.columns.histories import HistoryRows
from recsys.augment.columns.histories_gates import DECAY, related_shares, target_ratios
from recsys.augment.example import HistoryExample
from recsys.augment.gates.gate import Evidence, Gate, Verdicts
from recsys.augment.neighbours import Covisitation
from recsys.augment.op import Kind
from recsys.contexts import MASKED
from recsys.types import Floats


class HistoryGate(Gate[HistoryExample]):
    """A gate that judges by co-visitation."""

    kind: ClassVar[Kind] = "history"
    needs: ClassVar[frozenset[str]] = frozenset({"covisitation"})


class LabelConsistency(HistoryGate):
    """The target stays as likely under a simple co-visitation model as it was before the edit."""

    name = "label_consistency"

    min_ratio: float = Field(0.3, ge=0, le=1)
    """Smallest likelihood of the targets, as a share of what the original history gave them."""

    def judge(
        self, originals: Sequence[HistoryExample], candidates: Sequence[HistoryExample], evidence: Evidence
    ) -> Verdicts:
        """The ratio, at most 1; 1 where the original says nothing of its targets either."""
        if evidence.covisitation is None:
            raise ValueError("the gate 'label_consistency' needs co-visitation")
        if isinstance(originals, HistoryRows) and isinstance(candidates, HistoryRows):
            ratio = target_ratios(evidence.covisitation, originals.histories, candidates.histories)
            return _verdicts(ratio, ratio < self.min_ratio, "target_unlikely")
        targets = [example.targets for example in originals]
        before = likelihood(evidence.covisitation, originals, targets)
        after = likelihood(evidence.covisitation, candidates, targets)
        ratio = np.minimum(after / np.maximum(before, 1e-9), 1.0)
        ratio[before <= 0] = 1.0
        return _verdicts(ratio, ratio < self.min_ratio, "target_unlikely")


class Related(HistoryGate):
    """Most events of the edited history were there before, or go with what was."""

    name = "related"

    min_share: float = Field(0.5, ge=0, le=1)
    """Smallest share of the candidate's events that the original has, or has a neighbour of."""

    def judge(
        self, originals: Sequence[HistoryExample], candidates: Sequence[HistoryExample], evidence: Evidence
    ) -> Verdicts:
        """The share; an original without events cannot contradict anything."""
        model = evidence.covisitation
        if model is None:
            raise ValueError("the gate 'related' needs co-visitation")
        if isinstance(originals, HistoryRows) and isinstance(candidates, HistoryRows):
            shares = related_shares(model, originals.histories, candidates.histories)
            return _verdicts(shares, shares < self.min_share, "unrelated_events")
        known = [np.array(sorted({*example.history} - {MASKED}), np.int64) for example in originals]
        new = [
            np.array([item for item in candidate.history if item not in old], np.int64)
            for old, candidate in zip(({*e.history, MASKED} for e in originals), candidates, strict=True)
        ]
        near = _sums(model, known, new) > 0
        ends = np.cumsum([len(items) for items in new])
        verdicts = Verdicts([], [])
        for i, candidate in enumerate(candidates):
            size = len(candidate.history) - candidate.history.count(MASKED)
            foreign = len(new[i]) - int(near[ends[i] - len(new[i]) : ends[i]].sum())
            share = 1.0 - foreign / size if size and len(known[i]) else 1.0
            verdicts.scores.append(share)
            verdicts.reasons.append("unrelated_events" if share < self.min_share else None)
        return verdicts


def likelihood(
    model: Covisitation, examples: Sequence[HistoryExample], targets: Sequence[Sequence[object]]
) -> Floats:
    """(n,) mean cosine of the targets with the history's events, newer ones weighing more.

    An event on a target itself counts as 1; a masked one says nothing, and those before it keep their ages.
    """
    lefts, rights, weights, owners = [], [], [], []
    for row, (example, wanted) in enumerate(zip(examples, targets, strict=True)):
        items = np.array(example.history, np.int64)
        known = items != MASKED
        size = int(known.sum())
        if not size or not wanted:
            continue
        ages = (DECAY ** np.arange(len(items) - 1, -1, -1))[known]
        ages /= ages.cumsum()[-1] * len(wanted)  # one after the other, as columns add them
        lefts.append(np.tile(items[known], len(wanted)))
        rights.append(np.repeat(np.array(wanted, np.int64), size))
        weights.append(np.tile(ages, len(wanted)))
        owners.append(np.full(size * len(wanted), row))
    if not lefts:
        return np.zeros(len(examples), np.float32)
    left, right = np.concatenate(lefts), np.concatenate(rights)
    cosine = np.where(left == right, np.float32(1.0), model.cosine(left, right))
    scores = np.bincount(np.concatenate(owners), np.concatenate(weights) * cosine, len(examples))
    return scores.astype(np.float32)


def _verdicts(scores: NDArray[Any], refused: NDArray[np.bool_], reason: str) -> Verdicts:
    return Verdicts(scores.tolist(), [reason if low else None for low in refused.tolist()])


def _sums(model: Covisitation, known: list[NDArray[np.int64]], new: list[NDArray[np.int64]]) -> Floats:
    """For each new item, in one run over all rows, the largest cosine with a known item of its row."""
    lefts = [np.repeat(items, len(old)) for old, items in zip(known, new, strict=True)]
    rights = [np.tile(old, len(items)) for old, items in zip(known, new, strict=True)]
    sizes = np.array([len(old) for old, items in zip(known, new, strict=True) for _ in items], np.int64)
    total = len(sizes)
    if not total:
        return np.zeros(0, np.float32)
    cosine = model.cosine(np.concatenate(lefts), np.concatenate(rights))
    return np.bincount(np.repeat(np.arange(total), sizes), cosine, total).astype(np.float32)
