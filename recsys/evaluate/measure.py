"""The baselines of a table, fitted once and measured under both tasks."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from recsys.evaluate.answers import AnswerSheet, Histories
from recsys.evaluate.baselines import Baseline, fuse, standard_baselines
from recsys.evaluate.bootstrap import REPLICATES
from recsys.evaluate.evaluate import TASKS, Evaluation, Task, evaluate_lists
from recsys.types import Floats, Rows

logger = logging.getLogger(__name__)

_FUSED = ("popular_30d", "item_knn", "ease", "ease_decay", "text_whitened")


def measure_baselines(
    sheet: AnswerSheet,
    train: Histories,
    *,
    vectors: Floats | None = None,
    baselines: Sequence[Baseline] | None = None,
    tasks: Sequence[Task] = TASKS,
    k: int = 50,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> dict[Task, list[Evaluation]]:
    """Every baseline and their rank fusion on one answer sheet, by task.

    Args:
        sheet: Who is measured against what.
        train: Every user's positive events before the cut (all users, not only those measured).
        vectors: (num_items, dim) of the un-tuned text encoder; without them the text baselines are left out.
        baselines: Instead of `standard_baselines`.
        tasks: Under `novel`, what the user has is excluded when ranking.
        k: Length of the lists.
        replicates: Bootstrap resamples.
        seed: Of the bootstrap.
    """
    num_items = len(sheet.items)
    chosen = standard_baselines(num_items, vectors) if baselines is None else list(baselines)
    seen = sheet.histories.distinct(num_items)
    lists: dict[Task, dict[str, Rows]] = {task: {} for task in tasks}
    for baseline in chosen:
        start = time.perf_counter()
        baseline.fit(train, num_items)
        for task in tasks:
            exclude = seen if task == "novel" else None
            lists[task][baseline.name] = baseline.rank(sheet.histories, k, exclude)
        logger.info("baseline %s: %.1f s", baseline.name, time.perf_counter() - start)
    for by_name in lists.values():
        fused = [by_name[name] for name in _FUSED if name in by_name]
        if len(fused) > 1 and "fusion" not in by_name:
            by_name["fusion"] = fuse(fused, k, num_items)
    return {
        task: [
            evaluate_lists(rows, sheet, task, name=name, replicates=replicates, seed=seed)
            for name, rows in by_name.items()
        ]
        for task, by_name in lists.items()
    }
