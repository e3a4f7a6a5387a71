from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.config import FeaturesConfig
from recsys.data.as_known import features_as_known
from recsys.data.behaviour import user_features_at

ITEMS = pd.DataFrame(
    {
        "item_id": [f"i{n}" for n in range(8)],
        "category": ["tea", "tea", "", "cups", "cups", "pots", "", "tea"],
        "brand": ["x"] * 8,
        "price": [1.5, np.nan, 3.0, 4.0, 5.0, 6.0, 7.0, 8.25],
    }
)
events = st.lists(
    st.tuples(
        st.sampled_from(["ann", "bob", "cid"]), st.integers(0, 7), st.integers(0, 30),
        st.sampled_from(["view", "purchase", "return"]),
    ),
    min_size=1, max_size=60,
)  # fmt: skip
asked = st.lists(
    st.tuples(st.sampled_from(["ann", "bob", "cid", "nobody"]), st.integers(0, 35)), min_size=1, max_size=12
)


@given(events, asked, st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_each_is_what_the_store_says_at_that_moment(
    rows: list[tuple[str, int, int, str]], cases: list[tuple[str, int]], length: int
) -> None:
    log = pd.DataFrame(
        [(u, f"i{i}", 1_000_000 + 40_000 * t, kind) for u, i, t, kind in rows],
        columns=["user_id", "item_id", "timestamp", "event_type"],
    )
    config = FeaturesConfig(history_length=length)
    moments = np.array([1_000_000 + 40_000 * t for _, t in cases])
    found = features_as_known(log, ITEMS, [user for user, _ in cases], moments, config)
    for (user, _), moment, mine in zip(cases, moments.tolist(), found, strict=True):
        (expected,) = user_features_at(log, ITEMS, [user], moment, config)
        assert mine == expected
        if mine is not None:
            assert max(mine.history.timestamps) < moment


def test_nobody_is_asked_for() -> None:
    log = pd.DataFrame({"user_id": ["a"], "item_id": ["i1"], "timestamp": [5], "event_type": ["view"]})
    assert features_as_known(log, ITEMS, [], np.empty(0, np.int64), FeaturesConfig()) == []
