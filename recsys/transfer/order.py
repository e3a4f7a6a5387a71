"""What a transfer is asked for and what it comes to: systems by seed, and paired differences between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from recsys.evaluate.baselines import Popular
from recsys.evaluate.contrast import Finding, Part, contrast, parts_of
from recsys.evaluate.evaluate import WHOLE, Evaluation, Task, evaluate_lists
from recsys.evaluate.segments import Segment, coldness_segments, history_segments, sparse_segments
from recsys.transfer.side import Judged
from recsys.transfer.systems import K
from recsys.types import Rows

USERS = "users"
"""Dimension of the users that the question is about."""
PLANNED = frozenset({(WHOLE, WHOLE), ("sparse", "1-4"), ("coldness", "0"), ("coldness", "1-5")})
"""Parts with a verdict, written down beforehand; parts of dimension `users` are too."""
DECIDES = {"coldness": "recall@20"}
"""The metric of the verdict where answers are restricted to some items; elsewhere it is ndcg@10."""


@dataclass(frozen=True, slots=True)
class Order:
    """How it is measured."""

    seeds: int = 3
    """Trainings of every system that is trained."""
    task: Task = "novel"
    same_users: bool = False
    """Whether one user id in two datasets is one person: ids of strangers coincide too."""


@dataclass(frozen=True, slots=True)
class Question:
    """One system against another, with its placebos."""

    system: str
    reference: str
    placebos: tuple[str, ...] = ()


@dataclass(frozen=True)
class Done:
    """What was measured."""

    title: str
    systems: Mapping[str, Sequence[Part]]
    """Every system's figures, by part, seed and user."""
    findings: Sequence[Finding]
    """System minus reference, in the order of the questions."""
    facts: Mapping[str, str]
    """How it was made, in plain words."""
    notes: Sequence[str] = ()
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """What augmentation did, by system."""


class Board:
    """Collects the lists of systems and seeds, all judged on the same users."""

    def __init__(self, judged: Judged, order: Order, segments: Sequence[Segment] = ()) -> None:
        """Args: `segments` hold the users that the question is about, where not all are."""
        sheet = judged.sheet
        self.judged, self.order = judged, order
        self.seen = sheet.histories.distinct(len(sheet.items)) if order.task == "novel" else None
        popular = Popular(days=30).fit(judged.train, len(sheet.items))
        self._fallback = popular.rank(sheet.histories, K, self.seen)
        self._segments = [
            *history_segments(sheet.history_counts),
            *sparse_segments(sheet.history_counts),
            *coldness_segments(sheet.item_counts),
            *segments,
        ]
        self._planned = PLANNED | {(segment.dimension, segment.label) for segment in segments}
        self._evaluations: dict[str, list[Evaluation]] = {}

    def add(self, system: str, lists: Rows) -> None:
        """One seed's lists; a system without seeds is added once.

        Who gets no list, since nothing is known of them, gets what is popular, as they would be served.
        """
        lists = np.where(lists[:, :1] < 0, self._fallback, lists)
        one = evaluate_lists(
            lists, self.judged.sheet, self.order.task, name=system, segments=self._segments, replicates=0
        )
        self._evaluations.setdefault(system, []).append(one)

    def systems(self) -> dict[str, list[Part]]:
        """Parts by system; what has no seeds stands for every seed."""
        return {
            name: parts_of(every if len(every) > 1 else every * self.order.seeds, self._planned, DECIDES)
            for name, every in self._evaluations.items()
        }


def answered(systems: Mapping[str, Sequence[Part]], questions: Sequence[Question]) -> list[Finding]:
    """Every question's findings; p-values are corrected over the verdicts of one question."""
    found: list[Finding] = []
    for question in questions:
        names = (question.reference, question.system, *question.placebos)
        arms = {name: [_decisive(part) for part in systems[name] if part.planned] for name in names}
        found += contrast(arms, question.reference, question.placebos)
    return found


def _decisive(part: Part) -> Part:
    """The part with the metrics that verdicts rest on alone: each costs thousands of resamples."""
    return replace(part, figures={name: part.figures[name] for name in ("ndcg@10", "recall@20")})


def mean_of(part: Part, metric: str) -> float:
    """A system's figure in a part, seeds and users averaged; NaN where nobody is in it."""
    figures = part.figures[metric]
    return float(np.mean(figures)) if figures.size else float("nan")
