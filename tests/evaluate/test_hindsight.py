"""What hindsight would have shown: the most that one list for everybody could find."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from recsys.evaluate.answers import AnswerSheet, Histories, answer_sheet
from recsys.evaluate.baselines import same_for_all
from recsys.evaluate.evaluate import TASKS, Task, evaluate_lists
from recsys.evaluate.hindsight import hindsight

Split = tuple[AnswerSheet, Histories]


def events(pairs: list[tuple[str, str]], moment: int) -> pd.DataFrame:
    return pd.DataFrame(pairs, columns=["user_id", "item_id"]).assign(timestamp=moment)


def test_it_is_right_where_everybody_wants_the_same() -> None:
    before = events([("u", "a"), ("v", "b"), ("w", "c")], 1)
    after = events([(user, item) for user in "uvw" for item in ("c", "d")], 2)
    sheet = answer_sheet(before, after, list("abcde"))
    assert hindsight(sheet, "all", 2).tolist() == [[2, 3]] * 3
    # w has had c: it is no answer of w's, and not shown to w.
    assert hindsight(sheet, "novel", 2).tolist() == [[3, 2], [3, 2], [3, 0]]
    for task in TASKS:
        assert evaluate_lists(hindsight(sheet, task), sheet, task, name="x")["recall@10"].mean == 1


@pytest.mark.parametrize("task", TASKS)
def test_hardly_any_order_for_everybody_finds_more(split: Split, task: Task) -> None:
    sheet, _ = split
    seen = sheet.histories.distinct(60)
    num_answers = (sheet.truth.without(seen, 60) if task == "novel" else sheet.truth).sizes

    def found(lists: np.ndarray) -> float:
        whole = evaluate_lists(lists, sheet, task, name="x", replicates=2).whole
        recall = whole.by_case[:, whole.names.index("recall@10")]
        return float((recall * num_answers[whole.cases]).sum())

    most = found(hindsight(sheet, task))
    random = np.random.Generator(np.random.PCG64(0))
    orders = [random.permutation(60) for _ in range(30)] + [np.argsort(-sheet.item_counts, kind="stable")]
    others = [found(same_for_all(o, len(sheet), 60, 50, seen if task == "novel" else None)) for o in orders]
    assert most >= max(others)
    assert most > np.mean(others)
