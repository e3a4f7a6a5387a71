"""What a thin item is: one definition, whoever asks."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from recsys.augment.backfill import AttributeBackfill
from recsys.augment.tokens import cut, language_of
from recsys.evaluate.segments import ItemFields, thin_segments
from recsys.thin import THIN_WORDS, missing_attributes, num_words, short_texts, thin_items

SHORT, LONG = "two words", "a b c d e f g h"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 0), ("  ", 0), (LONG, 8), ("T-shirt, 2-pack & more", 4), ("Crème brûlée für zwei", 4),
        ("红色保温杯", 3), ("红色，保温杯。", 3), ("红色保温杯 500ml Thermos", 5), ("【新款】杯", 2),
    ],
)  # fmt: skip
def test_words_stand_between_spaces_and_two_chinese_characters_are_one(text: str, words: int) -> None:
    assert num_words(text) == words
    if text.isascii():
        assert num_words(text) == len(cut(text, language_of(text))[0]), "as the ops on texts count"


def test_an_item_is_thin_by_its_words_or_by_what_most_others_have() -> None:
    attributes = {
        "brand": ["a", "", "c", "d", "e"],
        "tags": ["", "", "", "x", "y"],  # most have none
        "price": [1.0, 2.0, 0.0, math.nan, 5.0],
        "category": [None, "a", "b", "c", "d"],
    }
    texts = [LONG, LONG, LONG, LONG, SHORT]
    lacking = missing_attributes(attributes)
    assert {name: np.flatnonzero(rows).tolist() for name, rows in lacking.items()} == {
        "brand": [1], "price": [3], "category": [0],
    }  # fmt: skip
    assert thin_items(texts, attributes).tolist() == [True, True, False, True, True]
    assert thin_items(texts, {}).tolist() == short_texts(texts).tolist() == [False] * 4 + [True]
    assert thin_items(texts, {"brand": [""] * 5}).tolist() == [False] * 4 + [True], "nobody has one"


def test_whatever_a_table_says_for_missing_is_missing() -> None:
    values = ["a", pd.NA, None, math.nan, pd.NaT, "", [], (), np.array([]), np.array(["x", "y"]), 0.0, ["z"]]
    values += ["b"] * 10
    lacking = missing_attributes({"brand": values})["brand"]
    assert np.flatnonzero(lacking).tolist() == [1, 2, 3, 4, 5, 6, 7, 8]


def test_the_report_and_the_op_mean_the_same() -> None:
    texts, attributes = [LONG, SHORT, LONG], {"brand": ["a", "b", ""]}
    reported = thin_segments(ItemFields(texts, (), attributes))[0]
    assert reported.label == "thin"
    assert reported.items is not None
    assert reported.items.tolist() == thin_items(texts, attributes).tolist() == [False, True, True]
    assert AttributeBackfill().max_words == THIN_WORDS
