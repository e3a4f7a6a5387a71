from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.item_facts import FACTS
from recsys.item_weights import Events, fit_covisitation
from recsys.retrieve import (
    NEW_USER_COLUMNS,
    Batch,
    CategorySource,
    FreshSource,
    ItemToItemSource,
    OwnedRows,
    RepeatsSource,
    TwoTowerSource,
    new_item_profile,
    top_rows,
)
from recsys.types import EncodedHistory

TEXT_ALONE = np.eye(len(NEW_USER_COLUMNS), dtype=np.float32)[0]


def batch_of(histories: list[list[int]], counts: list[list[int]] | None = None) -> Batch:
    encoded, owned = [], []
    for i, rows in enumerate(histories):
        times = np.arange(len(rows), dtype=np.int64)
        encoded.append(EncodedHistory(np.array(rows, np.int64), np.zeros(len(rows), np.int64), times))
        mine = np.array(counts[i] if counts else [1] * len(rows), np.float32)
        owned.append(OwnedRows(np.array(rows, np.int64), mine, times))
    size = len(histories)
    vectors = np.zeros((size, 2), np.float32)
    return Batch(np.full(size, 100), encoded, owned, np.ones(size, np.float32), vectors)


def test_recent_weighs_the_newest_item_most() -> None:
    users = np.repeat(np.arange(40), 2)
    rows = np.array([pair for u in range(40) for pair in ((0, 2) if u % 2 else (1, 3))])
    matrix = fit_covisitation(Events(users, rows, np.arange(80), np.ones(80, np.float32)), 4)
    proposals = ItemToItemSource("covisit_recent", matrix, 4).propose(batch_of([[0, 1], [1, 0]]))
    assert proposals.rows[0, 0] == 3
    assert proposals.rows[1, 0] == 2
    alike = ItemToItemSource("covisit_all", matrix, 4).propose(batch_of([[0, 1]]))
    assert np.isclose(alike.scores[0, 0], alike.scores[0, 1])


def test_repeats_come_by_count_then_by_newest() -> None:
    proposals = RepeatsSource(3).propose(batch_of([[5, 6, 7, 8], []], [[1, 3, 3, 1], []]))
    assert proposals.rows[0].tolist()[:3] == [7, 6, 8]
    assert (proposals.rows[1] == -1).all()


def test_categories_of_the_history_trend_by_their_share_and_their_sales() -> None:
    sold = np.array([9, 3, 7, 8, 0, 5], np.float32)
    codes = np.array([0, 0, 1, 1, 1, -1], np.int32)
    source = CategorySource(sold, codes, 4)
    proposals = source.propose(batch_of([[0], [2, 2, 0], [5], []]))
    assert proposals.rows[0].tolist() == [0, 1, -1, -1]  # nothing of the other category
    assert proposals.rows[1].tolist()[:2] == [3, 2]  # two of three were of category 1, and 3 sold most
    assert (proposals.rows[2:] == -1).all()  # no category, no history


def facts_of(counts: list[int], categories: list[int] | None = None) -> np.ndarray:
    facts = np.zeros(len(counts), FACTS)
    facts["count"], facts["log_price"] = counts, np.nan
    facts["category"] = -1 if categories is None else categories
    facts["brand"] = -1
    return facts


def test_fresh_items_are_those_nobody_had_nearest_in_text_first() -> None:
    text = np.array([[1, 0], [0, 1], [0.8, 0.6], [1, 0], [0.6, 0.8], [-1, 0]], np.float32)
    source = FreshSource(text, facts_of([3, 4, 0, 1, 0, 0]), TEXT_ALONE, np.zeros(6, np.float32), 3)
    proposals = source.propose(batch_of([[0], [1], []]))
    assert proposals.rows[0].tolist() == [2, 4, 5]
    assert proposals.rows[1].tolist() == [4, 2, 5]
    assert (proposals.rows[2] == -1).all()
    assert np.isneginf(proposals.dense[:, [0, 1, 3]]).all()  # only new items have a score


def test_a_prior_and_the_users_categories_move_new_items() -> None:
    text = np.tile(np.array([1, 0], np.float32), (5, 1))
    facts, prior = facts_of([3, 0, 0, 0, 0], [1, 0, 1, -1, 0]), np.array([9, 0, 0, 0, 0.4], np.float32)
    weights = np.zeros(len(NEW_USER_COLUMNS), np.float32)
    weights[NEW_USER_COLUMNS.index("category")] = 0.5
    proposals = FreshSource(text, facts, weights, prior, 4).propose(batch_of([[0]]))
    assert proposals.rows[0].tolist() == [2, 4, 1, 3]
    assert proposals.scores[0].tolist() == pytest.approx([0.5, 0.4, 0, 0])


def test_the_score_of_a_new_item_is_the_weighted_sum_of_its_columns() -> None:
    rng = np.random.default_rng(4)
    text = rng.standard_normal((9, 3)).astype(np.float32)
    facts = facts_of([1, 1, 1, 0, 0, 0, 0, 0, 0], [0, 1, -1, 0, 1, 2, -1, 0, 1])
    facts["brand"], facts["log_price"] = rng.integers(-1, 3, 9), rng.standard_normal(9)
    facts["log_price"][[1, 5]] = np.nan
    profile = new_item_profile(np.array([0, 1, 2]), text, facts)
    weights = rng.standard_normal(len(NEW_USER_COLUMNS)).astype(np.float32)
    summed = profile.columns(text[3:], facts[3:]) @ weights
    np.testing.assert_allclose(profile.scores(text[3:], facts[3:], weights), summed, rtol=1e-4, atol=1e-5)


def test_the_last_bit_of_a_score_does_not_order_equal_items() -> None:
    class Wobbly:
        """An index whose last bits depend on the size of the batch, as BLAS makes them."""

        def search(
            self, queries: np.ndarray, k: int, allowed: object = None
        ) -> tuple[np.ndarray, np.ndarray]:
            bit = np.float32(1e-7 if len(queries) > 1 else -1e-7)
            scores = np.array([[0.5 + bit, 0.5, 0.25]] * len(queries), np.float32)
            return np.sort(scores)[:, ::-1], np.array([[7, 3, 1] if bit > 0 else [3, 7, 1]] * len(queries))

    batch = batch_of([[0], [1]])
    batch.user_vectors[:] = 1
    alone = batch_of([[0]])
    alone.user_vectors[:] = 1
    source = TwoTowerSource(Wobbly(), 3)
    assert source.propose(batch).rows[0].tolist() == source.propose(alone).rows[0].tolist() == [3, 7, 1]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 30), st.integers(0, 40), st.integers(0, 99))
def test_top_rows_equals_a_full_sort(users: int, items: int, num: int, seed: int) -> None:
    scores = np.random.default_rng(seed).standard_normal((users, items)).astype(np.float32)
    rows, values = top_rows(scores, num)
    wanted = np.sort(scores, axis=1)[:, ::-1][:, :num]
    np.testing.assert_array_equal(values, wanted)
    np.testing.assert_array_equal(np.take_along_axis(scores, rows, 1), wanted)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([-1.5, -0.0, 0.0, 0.25, 2.0]), min_size=1, max_size=30), st.integers(1, 29))
def test_a_shorter_list_of_equal_scores_begins_the_longer_one(values: list[float], num: int) -> None:
    scores = np.array([values], np.float32)
    longer, _ = top_rows(scores, num + 1)
    shorter, _ = top_rows(scores, num)
    assert shorter[0].tolist() == longer[0][: shorter.shape[1]].tolist()
    assert (
        shorter[0].tolist() == np.lexsort((np.arange(len(values)), -scores[0]))[: shorter.shape[1]].tolist()
    )
