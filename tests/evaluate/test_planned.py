"""Segments that were planned: who and what belongs to them."""

from __future__ import annotations

import numpy as np

from recsys.evaluate.answers import AnswerSheet, Histories
from recsys.evaluate.evaluate import WHOLE
from recsys.evaluate.planned import PLANNED, planned_segments, thin_items


def test_every_planned_part_is_measured(split: tuple[AnswerSheet, Histories]) -> None:
    sheet, _ = split
    segments = planned_segments(sheet, np.zeros(len(sheet.items), np.bool_))
    made = {(one.dimension, one.label) for one in segments} | {(WHOLE, WHOLE)}
    assert made >= PLANNED


def test_bands_hold_every_user_and_item_once(split: tuple[AnswerSheet, Histories]) -> None:
    sheet, _ = split
    segments = planned_segments(sheet, np.zeros(len(sheet.items), np.bool_))
    users = sum(one.users.astype(int) for one in segments if one.users is not None)
    assert (users == 1).all()
    items = sum(one.items.astype(int) for one in segments if one.items is not None)
    assert (items == 1).all()
    short = next(one for one in segments if one.label == "1-4")
    np.testing.assert_array_equal(short.users, (sheet.history_counts >= 1) & (sheet.history_counts <= 4))


def test_an_item_is_thin_by_its_words_or_by_what_most_others_have() -> None:
    attributes = {"brand": ["a", "", "c", "d"], "tags": ["", "", "", "x"]}
    assert thin_items([8, 20, 7, 20], attributes).tolist() == [False, True, True, False]
    assert thin_items([9, 9], {}).tolist() == [False, False]
