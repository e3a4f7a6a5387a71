"""The segments that a comparison gives verdicts on: written down here, before anything is measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.evaluate.answers import AnswerSheet
from recsys.evaluate.evaluate import WHOLE
from recsys.evaluate.segments import Band, Segment

HISTORY: tuple[Band, ...] = (("1-4", 1, 4), ("5-9", 5, 9), ("10+", 10, np.inf))
AMONG_NEW = ("new items", "among themselves")
"""Answers nobody had before the cut, in lists of such items alone."""
COLDNESS: tuple[Band, ...] = (("0", 0, 0), ("1-5", 1, 5), ("6+", 6, np.inf))
PLANNED = frozenset(
    {
        (WHOLE, WHOLE),
        ("history", "1-4"),
        ("coldness", "0"),
        AMONG_NEW,
        ("coldness", "1-5"),
        ("text", "thin"),
    }
)
"""The parts of ranked lists with a verdict; the other bands are shown beside them."""
DECIDES = {"coldness": "recall@20", "new items": "recall@20", "text": "recall@20"}
"""The metric that decides where answers are restricted to some items, which seldom stand among the first ten;
elsewhere it is ndcg@10."""


def planned_segments(sheet: AnswerSheet, thin: NDArray[np.bool_]) -> list[Segment]:
    """Bands of history length and of item coldness, and items with thin text.

    Args:
        sheet: Who is judged.
        thin: (num_items,) as `recsys.thin.thin_items` gives them.
    """
    history, items = sheet.history_counts, sheet.item_counts
    return [
        *(Segment("history", label, users=(history >= a) & (history <= b)) for label, a, b in HISTORY),
        *(Segment("coldness", label, items=(items >= a) & (items <= b)) for label, a, b in COLDNESS),
        Segment("text", "thin", items=thin),
    ]


def among_new(sheet: AnswerSheet) -> Segment:
    """The answers that lists of new items alone are judged by."""
    return Segment(*AMONG_NEW, items=sheet.item_counts == 0)
