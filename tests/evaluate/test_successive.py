"""Every later moment is a case with a strictly earlier history: against loops over the log."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import LeakageError
from recsys.evaluate.answers import AnswerSheet
from recsys.evaluate.evaluate import evaluate_lists
from recsys.evaluate.successive import Caps, successive_cases

ITEMS = [f"i{n}" for n in range(6)]
ALL = Caps(per_user=10_000, in_all=10_000)
Rows = list[tuple[str, int, int, str]]
rows = st.lists(
    st.tuples(
        st.sampled_from(["ann", "bob", "cid", "dee"]), st.integers(0, 5), st.integers(0, 40),
        st.sampled_from(["view", "view", "purchase", "return"]),
    ),
    max_size=70,
)  # fmt: skip


def table(rows: Rows) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["user_id", "item", "timestamp", "event_type"])
    return frame.assign(item_id=[f"i{i}" for i in frame["item"]], timestamp=frame["timestamp"].astype(int))


def expected(rows: Rows, cut: int, end: int, grain: int) -> dict[tuple[str, int], tuple[set[int], list[int]]]:
    """By user and moment: answers and the times of the history."""
    found: dict[tuple[str, int], tuple[set[int], list[int]]] = {}
    kept = [(u, i, t) for u, i, t, kind in rows if kind != "return" and t < end]
    for user, item, time in kept:
        if time >= cut:
            moment = time // grain * grain
            history = sorted(t for u, _, t in kept if u == user and t < moment)
            if history:
                found.setdefault((user, moment), (set(), history))[0].add(item)
    return found


def as_plain(sheet: AnswerSheet, moments: np.ndarray) -> dict[tuple[str, int], tuple[set[int], list[int]]]:
    return {
        (str(sheet.users[case]), int(moments[case])): (
            set(sheet.truth.rows[sheet.truth.offsets[case] : sheet.truth.offsets[case + 1]].tolist()),
            sheet.histories.timestamps[
                sheet.histories.offsets[case] : sheet.histories.offsets[case + 1]
            ].tolist(),
        )
        for case in range(len(sheet))
    }


@given(rows, st.integers(5, 30), st.sampled_from([1, 4, 10]))
@settings(max_examples=80, deadline=None)
def test_cases_are_those_of_the_loop(rows: Rows, cut: int, grain: int) -> None:
    cases = successive_cases(table(rows), ITEMS, cut, 35, grain, ALL)
    assert as_plain(cases.sheet, cases.moments) == expected(rows, cut, 35, grain)
    assert cases.sheet.protocol == "successive"
    before = [i for _, i, t, kind in rows if kind != "return" and t < cut]
    assert cases.sheet.item_counts.tolist() == np.bincount(before, minlength=6).tolist()
    for case in range(len(cases.sheet)):
        span = slice(cases.sheet.histories.offsets[case], cases.sheet.histories.offsets[case + 1])
        assert (cases.sheet.histories.timestamps[span] < cases.moments[case]).all()
        assert cases.sheet.history_counts[case] == span.stop - span.start


def test_a_day_in_a_log_of_days_is_one_moment() -> None:
    day = 86_400
    rows = [("ann", 0, day, "view"), ("ann", 1, 2 * day, "view"), ("ann", 2, 2 * day, "view")]
    cases = successive_cases(table(rows), ITEMS, 2 * day, 9 * day, 1, ALL)
    assert len(cases.sheet) == 1
    assert cases.sheet.truth.rows.tolist() == [1, 2]
    assert cases.sheet.histories.rows.tolist() == [0]  # neither of the same day


@given(rows, st.integers(1, 3), st.integers(0, 6), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_caps_are_kept_and_counted(rows: Rows, per_user: int, in_all: int, seed: int) -> None:
    frame = table(rows)
    every = successive_cases(frame, ITEMS, 10, 50, 1, ALL)
    some = successive_cases(frame, ITEMS, 10, 50, 1, Caps(per_user, in_all, seed))
    counts = some.counts
    assert counts["measured"] == len(some.sheet) <= in_all
    assert sum(counts[name] for name in ("measured", "beyond_per_user", "beyond_in_all")) == len(every.sheet)
    assert counts["without_history"] == every.counts["without_history"]
    if len(some.sheet):
        assert some.sheet.users.value_counts().max() <= per_user
    mine, whole = as_plain(some.sheet, some.moments), as_plain(every.sheet, every.moments)
    assert all(whole[key] == value for key, value in mine.items())


def test_other_users_change_nobodys_draw() -> None:
    rows = [("ann", t % 6, t, "view") for t in range(40)]
    caps = Caps(per_user=4, in_all=100)
    alone = successive_cases(table(rows), ITEMS, 10, 50, 1, caps)
    more = rows + [("bob", 1, t, "view") for t in range(30)] + [("aaa", 2, 20, "view")]
    beside = successive_cases(table(more), ITEMS, 10, 50, 1, caps)
    assert beside.moments[beside.sheet.users == "ann"].tolist() == alone.moments.tolist()
    other = successive_cases(table(rows), ITEMS, 10, 50, 1, Caps(4, 100, seed=1))
    assert other.moments.tolist() != alone.moments.tolist()


def test_a_user_counts_once_however_many_cases() -> None:
    """Ann is right three times, Bob wrong once: the mean over users is a half, not three quarters."""
    rows = [("ann", 0, 1, "view"), ("bob", 0, 1, "view")]
    rows += [("ann", 1, 10 + t, "view") for t in range(3)] + [("bob", 2, 10, "view")]
    cases = successive_cases(table(rows), ITEMS, 10, 50, 1, ALL)
    evaluation = evaluate_lists(np.tile([1], (4, 1)), cases.sheet, ks=(1,))
    assert evaluation["hit@1"].mean == 0.5
    assert evaluation.protocol == "successive"
    assert evaluation.segment("answers", "repeat").figures["hit@1"].mean == 1


def test_augmented_rows_are_refused() -> None:
    frame = table([("ann", 0, 1, "view"), ("ann", 1, 20, "view")]).assign(parent_id=[None, "r1"])
    with pytest.raises(LeakageError):
        successive_cases(frame, ITEMS, 10, 50, 1, ALL)


def test_nobody_came_later() -> None:
    cases = successive_cases(table([("ann", 0, 1, "view")]), ITEMS, 10, 50, 1, ALL)
    assert len(cases.sheet) == 0
    evaluation = evaluate_lists(np.empty((0, 5), np.int64), cases.sheet)
    assert np.isnan(evaluation["ndcg@10"].mean)
