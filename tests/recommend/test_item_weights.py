from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.ease import fit_ease
from recsys.item_weights import DAY, Events, fit_covisitation, fit_following


def some_events(seed: int, num: int = 60, users: int = 12, items: int = 9) -> Events:
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, 40, num)) * int(DAY)
    ones = np.ones(num, np.float32)
    return Events(rng.integers(0, users, num), rng.integers(0, items, num), times, ones)


def of(users: list[int], rows: list[int], days: list[int]) -> Events:
    times = np.array(days, np.int64) * int(DAY)
    return Events(np.array(users), np.array(rows), times, np.ones(len(rows), np.float32))


def test_covisitation_is_the_shrunk_cosine_computed_the_slow_way() -> None:
    events = some_events(3)
    fast = fit_covisitation(events, 9, shrink=0.5).toarray()
    have = np.zeros((12, 9))
    have[events.users, events.rows] = 1
    have /= np.log2(2 + have.sum(1, keepdims=True))
    norms = np.sqrt((have**2).sum(0))
    slow = have.T @ have / (np.outer(norms, norms) + 0.5)
    np.fill_diagonal(slow, 0)
    np.testing.assert_allclose(fast, slow, rtol=1e-5, atol=1e-7)


def test_only_the_newest_items_of_a_user_count() -> None:
    events = of([0] * 6, [0, 1, 2, 3, 0, 4], [1, 2, 3, 4, 5, 6])
    matrix = fit_covisitation(events, 5, max_user_items=2).toarray()
    assert matrix[0, 4] > 0  # the second visit to item 0 is new
    assert matrix[:4, 1].sum() == 0


def test_no_events_give_empty_matrices() -> None:
    nothing = of([], [], [])
    for matrix in (fit_covisitation(nothing, 4), fit_following(nothing, 4), fit_ease(nothing, 4)[0]):
        assert matrix.shape == (4, 4)
        assert matrix.nnz == 0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_following_is_the_shrunk_cosine_over_pairs_of_moments_computed_the_slow_way(seed: int) -> None:
    events = some_events(seed, num=40, users=4, items=6)
    fast = fit_following(events, 6, steps=2, half_life_days=10, shrink=0.5).toarray()
    together, before, after = np.zeros((6, 6)), np.zeros(6), np.zeros(6)
    for user in range(4):
        mine = events.users == user
        moments = np.unique(events.timestamps[mine])
        for place, moment in enumerate(moments):
            for step in (1, 2):
                if place + step >= len(moments):
                    continue
                later = moments[place + step]
                weight = 0.5 ** ((later - moment) / DAY / 10) / step
                first = np.unique(events.rows[mine & (events.timestamps == moment)])
                then = np.unique(events.rows[mine & (events.timestamps == later)])
                together[np.ix_(first, then)] += weight
                before[first] += weight
                after[then] += weight
    slow = together / (np.sqrt(np.outer(before, after)) + 0.5)
    np.fill_diagonal(slow, 0)
    np.testing.assert_allclose(fast, slow, rtol=1e-4, atol=1e-6)


def test_following_has_a_direction_and_no_order_within_a_moment() -> None:
    users = np.repeat(np.arange(10), 3).tolist()
    matrix = fit_following(of(users, [0, 1, 2] * 10, [1, 5, 5] * 10), 3).toarray()
    assert matrix[0, 1] > 0
    assert matrix[1, 0] == 0
    assert matrix[1, 2] == matrix[2, 1] == 0


def test_what_follows_sooner_follows_more() -> None:
    users = np.repeat(np.arange(20), 2).tolist()
    rows = [row for user in range(20) for row in ((0, 1) if user % 2 else (0, 2))]
    days = [day for user in range(20) for day in ((0, 1) if user % 2 else (0, 60))]
    matrix = fit_following(of(users, rows, days), 3).toarray()
    assert matrix[0, 1] > matrix[0, 2] > 0


def test_ease_is_the_closed_form_and_solves_the_constrained_problem() -> None:
    events = some_events(1, num=120, users=30)
    have = np.zeros((30, 9))
    have[events.users, events.rows] = 1
    matrix, facts = fit_ease(events, 9, penalty=3.0, neighbours=9)
    weights = matrix.toarray()
    assert facts == {"items": 9, "sold": 9, "overlap_20": 1.0}
    # Each column is the ridge regression of its item on all the others: a second formulation.
    for item in range(9):
        others = np.delete(np.arange(9), item)
        gram = have[:, others].T @ have[:, others] + 3.0 * np.eye(8)
        by_ridge = np.linalg.solve(gram, have[:, others].T @ have[:, item])
        np.testing.assert_allclose(weights[others, item], by_ridge, rtol=1e-3, atol=1e-5)
    assert (weights.diagonal() == 0).all()


def test_ease_keeps_the_strongest_weights_and_says_what_that_costs() -> None:
    events = some_events(2, num=2000, users=150, items=60)
    whole = fit_ease(events, 60, penalty=5.0, neighbours=60)[0].toarray()
    cut, facts = fit_ease(events, 60, penalty=5.0, neighbours=5)
    for row in range(60):
        kept = np.flatnonzero(cut[row].toarray().ravel())
        assert len(kept) == 5
        left = np.delete(np.abs(whole[row]), kept)
        assert np.abs(whole[row, kept]).min() >= left.max() - 1e-6
    assert 0.3 < facts["overlap_20"] < 1


def test_only_items_with_events_enter_ease_and_of_those_the_most_sold() -> None:
    events = of([0, 0, 1, 1, 2, 2, 2], [7, 3, 7, 3, 7, 3, 90], [1] * 7)  # of a large catalogue, three items
    matrix, facts = fit_ease(events, 50_000, penalty=1.0)
    assert (facts["items"], facts["sold"]) == (3, 3)
    assert matrix.shape == (50_000, 50_000)
    assert matrix[7, 3] > 0
    bounded, facts = fit_ease(events, 50_000, penalty=1.0, max_items=2)
    assert (facts["items"], facts["sold"]) == (2, 3)
    assert bounded[:, [90]].nnz == 0
    assert fit_ease(events, 50_000, max_items=0)[0].nnz == 0
