"""Lists of many rows at once, against the same row by row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.augment.columns import spans
from recsys.augment.columns.runs import offsets_of, ordered_within
from recsys.augment.columns.spans import NONE, Spans, held, joined
from recsys.contexts import MASKED

Lists = list[list[int]]
pairs_of_lists = st.lists(
    st.tuples(
        st.lists(st.integers(MASKED, 6), max_size=20),
        st.lists(st.integers(MASKED, 6), max_size=20),
    ),
    max_size=12,
)


def spans_of(lists: Lists) -> Spans:
    values = [value for one in lists for value in one]
    return Spans(offsets_of(np.array([*map(len, lists)], np.int64)), np.array(values, np.int64))


@settings(max_examples=200, deadline=None)
@given(rows=pairs_of_lists, once=st.booleans(), widest=st.sampled_from([0, 2, 8, 64]))
def test_what_a_row_holds_is_found_in_short_lists_and_in_long_ones(
    rows: list[tuple[list[int], list[int]]], once: bool, widest: int
) -> None:
    asked, lists = [row[0] for row in rows], [row[1] for row in rows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spans, "_WIDEST", widest)
        found = held(spans_of(asked), spans_of(lists), once=once).tolist()
    plain = [
        value in known or (once and value in wanted[:place])
        for wanted, known in rows
        for place, value in enumerate(wanted)
    ]
    assert found == plain


@pytest.mark.parametrize("length", [1, 63, 64, 65, 300])
def test_no_item_is_in_no_list(length: int) -> None:
    rng = np.random.default_rng(length)
    lists: Lists = [rng.integers(MASKED, 500, length).tolist(), [], [3]]
    asked: Lists = [[NONE, lists[0][-1], 501], [NONE, 3], [NONE, NONE, 3]]
    found = held(spans_of(asked), spans_of(lists)).tolist()
    assert found == [False, True, False, False, False, False, False, True]


@given(pairs_of_lists)
def test_one_list_comes_after_the_other(rows: list[tuple[list[int], list[int]]]) -> None:
    both = joined(spans_of([row[0] for row in rows]), spans_of([row[1] for row in rows]))
    assert [both.list(row) for row in range(len(rows))] == [first + second for first, second in rows]


@given(st.lists(st.lists(st.integers(-3, 2**53), max_size=9), max_size=9))
def test_values_are_ordered_within_their_run(runs: Lists) -> None:
    lists = spans_of(runs)
    order = ordered_within(lists.offsets, lists.values)
    plain = [
        int(lists.offsets[row]) + place
        for row, run in enumerate(runs)
        for place in sorted(range(len(run)), key=run.__getitem__)
    ]
    assert order.tolist() == plain
