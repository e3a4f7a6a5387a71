"""How far a list that is the same for everybody could get, had it known what was going to be taken.

No baseline, and nothing that anybody could serve: it is made from the answers. What a system lacks beside it
is a matter of foreseeing what sells; what a system has above it is taste.
"""

from __future__ import annotations

import numpy as np

from recsys.evaluate.answers import AnswerSheet
from recsys.evaluate.baselines import same_for_all
from recsys.evaluate.evaluate import Task
from recsys.types import Rows

HINDSIGHT = "hindsight"
"""What tables call it."""
HINDSIGHT_NOTE = (
    f"{HINDSIGHT}: what most of those measured went on to take, the same list for everybody. It is made from "
    "the answers and no baseline: it says how far foreseeing what sells could carry a list without taste."
)


def hindsight(sheet: AnswerSheet, task: Task, k: int = 50) -> Rows:
    """(len(sheet), k) the catalogue by how many cases have an item among their answers.

    Args:
        sheet: Who is measured against what.
        task: Under `novel`, what a case had before is neither answer nor recommended.
        k: Places.
    """
    num_items = len(sheet.items)
    seen = sheet.histories.distinct(num_items) if task == "novel" else None
    answers = sheet.truth if seen is None else sheet.truth.without(seen, num_items)
    order = np.argsort(-np.bincount(answers.rows, minlength=num_items), kind="stable")
    return same_for_all(order, len(sheet), num_items, k, seen)
