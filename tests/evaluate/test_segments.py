from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.evaluate.answers import AnswerSheet, Histories, ItemSets
from recsys.evaluate.evaluate import evaluate_lists
from recsys.evaluate.segments import (
    THE_REST,
    ItemFields,
    category_segments,
    repeat_segments,
    sparse_segments,
    standard_segments,
    thin_segments,
)

Split = tuple[AnswerSheet, Histories]


def test_sparse_bands_lie_within_each_other() -> None:
    one, two = sparse_segments(np.array([0, 1, 3, 4, 5]))
    assert one.users is not None
    assert two.users is not None
    assert one.users.tolist() == [False, True, True, False, False]
    assert two.users.tolist() == [False, True, True, True, False]


def test_categories_by_events_with_the_rest_together_and_nameless_items_in_none() -> None:
    categories = ["tea", "cups", "", "pots", "cups", "spoons"]
    counts = np.array([9, 1, 100, 1, 1, 2])
    parts = category_segments(categories, counts, most=2)
    assert [part.label for part in parts] == ["tea", "cups", THE_REST]  # cups and spoons tie: more items
    rows = [np.flatnonzero(part.items).tolist() for part in parts if part.items is not None]
    assert rows == [[0], [1, 4], [3, 5]]
    assert category_segments(["", ""], np.array([1, 2])) == []
    assert category_segments([], np.array([], np.int64)) == []
    assert [part.label for part in category_segments(categories, counts, most=4)][-1] == "pots"


def test_thin_text_counts_words_of_both_languages_and_what_is_missing() -> None:
    texts = [
        "one two three",
        " ".join("abcdefgh"),
        "红色保温杯不锈钢大容量便携",
        "",
        "Kühlschrank-Magnet 5 cm",
    ]
    brands = ["x", "x", "", "x", "x"]
    fields = ItemFields(texts, (), {"brand": brands, "category": ["", "", "", "", "one"], "maker": ["m"] * 5})
    by_label = {part.label: part.items for part in thin_segments(fields)}
    assert set(by_label) == {"thin", "under 8 words", "8 words and more", "no brand"}  # most have no category
    assert by_label["thin"] is not None
    assert by_label["thin"].tolist() == [True, False, True, True, True]
    assert by_label["under 8 words"] is not None
    assert by_label["under 8 words"].tolist() == [True, False, True, True, True]
    assert by_label["no brand"] is not None
    assert by_label["no brand"].tolist() == [False, False, True, False, False]
    assert thin_segments(ItemFields()) == []


def test_repeats_and_novel_answers_share_the_list(split: Split) -> None:
    """One user who had item 1; answers are 1 and 2; the list is 1, 3, 2."""
    sheet = AnswerSheet(
        split[0].users[:1], split[0].items,
        ItemSets.from_pairs(np.array([0, 0]), np.array([1, 2]), 1, 60),
        Histories(np.array([0, 1]), np.array([1]), np.array([5])), np.array([1]), np.ones(60, np.int64),
    )  # fmt: skip
    lists = np.array([[1, 3, 2]])
    evaluation = evaluate_lists(lists, sheet, ks=(1, 3), segments=repeat_segments())
    repeat, novel = (evaluation.segment("answers", label).figures for label in ("repeat", "novel"))
    assert (repeat["recall@1"].mean, novel["recall@1"].mean) == (1, 0)
    assert novel["mrr@3"].mean == pytest.approx(1 / 3)  # the repeat keeps its place before it
    assert evaluation["recall@3"].mean == 1


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_answers_divide_into_repeats_and_novel_ones(split: Split, data: st.DataObject) -> None:
    sheet, _ = split
    random = np.random.Generator(np.random.PCG64(data.draw(st.integers(0, 10_000))))
    lists = np.stack([random.permutation(60)[:20] for _ in range(len(sheet))])
    evaluation = evaluate_lists(lists, sheet, ks=(20,), replicates=0)
    had = sheet.histories.distinct(60)
    old = sheet.truth.sizes - sheet.truth.without(had, 60).sizes
    repeat, novel = (evaluation.segment("answers", label) for label in ("repeat", "novel"))
    assert len(repeat) == (old > 0).sum()
    found = np.zeros(len(sheet))
    for part, sizes in ((repeat, old), (novel, sheet.truth.sizes - old)):
        cases = np.flatnonzero(sheet.truth.sizes > 0)[part.cases]
        found[cases] += part.by_case[:, part.names.index("recall@20")] * sizes[cases]
    everything = evaluation.whole.by_case[:, evaluation.whole.names.index("recall@20")]
    kept = sheet.truth.sizes > 0
    np.testing.assert_allclose(found[kept] / sheet.truth.sizes[kept], everything)


def test_the_standard_set(split: Split) -> None:
    sheet, _ = split
    dimensions = [part.dimension for part in standard_segments(sheet)]
    assert list(dict.fromkeys(dimensions)) == ["history", "sparse", "coldness", "answers"]
    fields = ItemFields(["a b"] * 60, ["tea"] * 60, {"category": ["tea"] * 60})
    more = standard_segments(sheet, fields)
    assert list(dict.fromkeys(part.dimension for part in more))[-2:] == ["category", "text"]
