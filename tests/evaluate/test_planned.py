"""Segments that were planned: who and what belongs to them."""

from __future__ import annotations

import numpy as np

from recsys.evaluate.answers import AnswerSheet, Histories
from recsys.evaluate.evaluate import WHOLE
from recsys.evaluate.planned import PLANNED, among_new, planned_segments


def test_every_planned_part_is_measured(split: tuple[AnswerSheet, Histories]) -> None:
    sheet, _ = split
    segments = planned_segments(sheet, np.zeros(len(sheet.items), np.bool_))
    new = among_new(sheet)
    made = {(one.dimension, one.label) for one in (*segments, new)} | {(WHOLE, WHOLE)}
    assert made >= PLANNED
    cold = next(one for one in segments if (one.dimension, one.label) == ("coldness", "0"))
    np.testing.assert_array_equal(new.items, cold.items)


def test_bands_hold_every_user_and_item_once(split: tuple[AnswerSheet, Histories]) -> None:
    sheet, _ = split
    segments = planned_segments(sheet, np.zeros(len(sheet.items), np.bool_))
    users = sum(one.users.astype(int) for one in segments if one.users is not None)
    assert (users == 1).all()
    items = sum(one.items.astype(int) for one in segments if one.items is not None)
    assert (items == 1).all()
    short = next(one for one in segments if one.label == "1-4")
    np.testing.assert_array_equal(short.users, (sheet.history_counts >= 1) & (sheet.history_counts <= 4))
