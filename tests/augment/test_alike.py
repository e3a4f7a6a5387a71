"""Who is most like whom, against a plain reckoning of every cosine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from recsys.augment import alike
from recsys.augment.alike import AlikeUsers
from recsys.augment.columns.lending import bisected
from recsys.augment.columns.runs import like_sized, offsets_of
from recsys.augment.columns.spans import Spans

NUM_ITEMS = 12


def spans(lists: list[list[int]]) -> Spans:
    values = [value for one in lists for value in one]
    return Spans(offsets_of(np.array([*map(len, lists)], np.int64)), np.array(values, np.int64))


def reckoned(
    users: list[list[int]], rows: list[list[int]], own: list[int], top: int, least: float
) -> list[list[int]]:
    """All cosines, sorted by cosine and number."""
    had = np.bincount([item for one in users for item in {*one}], minlength=NUM_ITEMS)
    rare = (had > 1) & (had <= max(0.02 * len(users), 50))
    weights = np.where(rare, np.log2(1.0 + len(users) / np.maximum(had, 1)), 0.0)

    def unit(lists: list[list[int]]) -> sparse.csr_array:
        told = [sorted(item for item in {*one} if weights[item] > 0) for one in lists]
        row = np.repeat(np.arange(len(told)), [*map(len, told)])
        item = np.array([item for one in told for item in one], np.int64)
        data = weights[item]
        data = data / np.sqrt(np.bincount(row, data * data, len(told)))[row]
        return sparse.csr_array((data, (row, item)), shape=(len(told), NUM_ITEMS))

    cosines = (unit(rows) @ unit(users).T.tocsr()).toarray()
    found = []
    for row, mine in zip(cosines, own, strict=True):
        order = np.lexsort((np.arange(len(row)), -row)).tolist()
        found.append([user for user in order if user != mine and row[user] >= least][:top])
    return found


def asked(
    users: list[list[int]], rows: list[list[int]], own: list[int], top: int, least: float
) -> list[list[int]]:
    near = AlikeUsers(spans(users), NUM_ITEMS, top, least).nearest(spans(rows), np.array(own, np.int64))
    return [near.list(row) for row in range(len(rows))]


# Few items and many users: most cosines are equal to others.
lists_of_items = st.lists(st.lists(st.integers(0, NUM_ITEMS - 1), max_size=5), max_size=40)


@settings(max_examples=150, deadline=None)
@given(
    users=lists_of_items,
    rows=lists_of_items,
    shift=st.integers(-3, 3),
    top=st.integers(1, 6),
    least=st.sampled_from([1e-9, 0.1, 0.5]),
    block=st.sampled_from([1, 7, 1024]),
)
def test_the_nearest_are_those_of_all_cosines(
    users: list[list[int]], rows: list[list[int]], shift: int, top: int, least: float, block: int
) -> None:
    rows = rows + users
    own = [-1 if not 0 <= row + shift < len(users) else row + shift for row in range(len(rows))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alike, "_ASKED", block)
        assert asked(users, rows, own, top, least) == reckoned(users, rows, own, top, least)


@pytest.mark.parametrize("seed", range(3))
def test_long_histories_and_many_candidates(seed: int) -> None:
    rng = np.random.default_rng(seed)
    users = [rng.integers(0, NUM_ITEMS, rng.integers(0, 9)).tolist() for _ in range(110)]
    own = [*range(110)]
    assert asked(users, users, own, 5, 0.1) == reckoned(users, users, own, 5, 0.1)


def test_a_rows_own_user_takes_no_place_from_others() -> None:
    users = [[1, 2], [1, 2], [1], [1, 3], [2, 3]]
    assert asked(users, [[1, 2]], [0], 2, 0.1) == [[1, 2]]
    assert asked(users, [[1, 2]], [-1], 2, 0.1) == [[0, 1]]


def test_what_one_or_almost_all_had_says_nothing() -> None:
    users = [[0, 1]] * 60 + [[0, 2], [0, 3], [0, 3]]
    assert asked(users, [[0], [2], [3], []], [-1] * 4, 5, 0.1) == [[], [], [61, 62], []]


def test_nobody_is_alike_where_nobody_is() -> None:
    assert asked([], [[1]], [-1], 5, 0.1) == [[]]
    assert asked([[1], [1]], [], [], 5, 0.1) == []


@given(st.lists(st.integers(0, 70), max_size=30), st.integers(1, 9))
def test_groups_of_like_sizes_hold_each_row_once(sizes: list[int], least: int) -> None:
    seen: list[int] = []
    for rows, width in like_sized(np.array(sizes, np.int64), least):
        assert all(width == least or width < 2 * sizes[row] for row in rows)
        assert all(0 < sizes[row] <= width for row in rows)
        seen += rows.tolist()
    assert sorted(seen) == [row for row, size in enumerate(sizes) if size]


@given(st.lists(st.lists(st.integers(0, 9), max_size=9), max_size=9), st.data())
def test_a_place_is_found_in_every_stretch(stretches: list[list[int]], data: st.DataObject) -> None:
    lists = spans([sorted(one) for one in stretches])
    wanted = data.draw(st.lists(st.integers(-1, 10), min_size=len(stretches), max_size=len(stretches)))
    found = bisected(lists.values, lists.offsets[:-1], lists.offsets[1:], np.array(wanted, np.int64))
    plain = [int(np.searchsorted(lists.list(row), want)) for row, want in enumerate(wanted)]
    assert (found - lists.offsets[:-1]).tolist() == plain
