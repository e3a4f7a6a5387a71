"""The baselines of a table, fitted once and measured under both tasks."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from recsys.evaluate.answers import AnswerSheet, Histories
from recsys.evaluate.baselines import Baseline, fuse
from recsys.evaluate.bootstrap import REPLICATES
from recsys.evaluate.evaluate import TASKS, Evaluation, Task, evaluate_lists
from recsys.evaluate.segments import Segment
from recsys.evaluate.standard import FUSED
from recsys.types import Floats, Rows

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Measure:
    """How every system of a table is measured."""

    segments: Sequence[Segment] | None = None
    """None takes the standard ones of the sheet."""
    space: Floats | None = None
    """(num_items, dim) of unit norm, in which the diversity of all lists is measured."""
    replicates: int = REPLICATES
    seed: int = 0
    """Of the bootstrap."""

    def __call__(self, lists: Rows | pd.DataFrame, sheet: AnswerSheet, task: Task, name: str) -> Evaluation:
        """Score one system's lists."""
        return evaluate_lists(
            lists, sheet, task, name=name, vectors=self.space, segments=self.segments,
            replicates=self.replicates, seed=self.seed,
        )  # fmt: skip


def measure_baselines(
    sheet: AnswerSheet,
    train: Histories,
    baselines: Sequence[Baseline],
    measure: Measure | None = None,
    *,
    tasks: Sequence[Task] = TASKS,
    k: int = 50,
) -> dict[Task, list[Evaluation]]:
    """Baselines and the rank fusion of those that take part in it, on one answer sheet, by task.

    Args:
        sheet: Who is measured against what.
        train: Every user's positive events before the cut (all users, not only those measured).
        baselines: As `standard_baselines` chooses them.
        measure: Segments, space and bootstrap; the defaults when None.
        tasks: Under `novel`, what the user has is excluded when ranking.
        k: Length of the lists.
    """
    score = Measure() if measure is None else measure
    num_items = len(sheet.items)
    seen = sheet.histories.distinct(num_items)
    lists: dict[Task, dict[str, Rows]] = {task: {} for task in tasks}
    for baseline in baselines:
        start = time.perf_counter()
        baseline.fit(train, num_items)
        for task in tasks:
            exclude = seen if task == "novel" else None
            lists[task][baseline.name] = baseline.rank(sheet.histories, k, exclude)
        logger.info("baseline %s: %.1f s", baseline.name, time.perf_counter() - start)
    for by_name in lists.values():
        fused = [by_name[name] for name in FUSED if name in by_name]
        if len(fused) > 1 and "fusion" not in by_name:
            by_name["fusion"] = fuse(fused, k, num_items)
    return {
        task: [score(rows, sheet, task, name) for name, rows in by_name.items()]
        for task, by_name in lists.items()
    }


def say_left_out(left_out: Mapping[str, str]) -> list[str]:
    """A sentence per baseline that is missing, for tables and reports."""
    return [f"Baseline {name} is left out: {why}." for name, why in left_out.items()]
