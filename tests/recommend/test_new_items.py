from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shop_world import DAY, NOW, build_world, features_of

from recsys.config import RankConfig
from recsys.item_facts import ItemColumns
from recsys.item_weights import Events
from recsys.listing import NEW_ITEMS
from recsys.new_places import _paying, size_new_places
from recsys.newcomers import MIN_CHOICES, first_of_each, fit_newcomers
from recsys.placement import FIRST, LAST, keep_places
from recsys.recommend import Recommender
from recsys.retrieve import NEW_USER_COLUMNS
from recsys.types import Query


def a_list(num: int, new: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Candidates already in order; those at `new` are new, the first of them the best among the new."""
    ranks = np.zeros(num, np.float32)
    ranks[new] = np.arange(1, len(new) + 1)
    return np.arange(num), -np.arange(num, dtype=np.float32), ranks


def test_new_items_move_into_the_second_ten_and_the_first_ten_stay() -> None:
    order, scores, ranks = a_list(60, [30, 40, 50])
    moved, raised, num = keep_places(order, scores, ranks, 2)
    assert num == 2
    assert moved[:FIRST].tolist() == list(range(10))
    assert moved[:LAST][ranks[moved[:LAST]] > 0].tolist() == [30, 40]
    assert np.flatnonzero(ranks[moved] > 0).tolist()[:2] == [14, 19]  # spread over the second ten
    assert (np.diff(raised[moved][:LAST]) <= 0).all()
    assert moved[LAST : LAST + 2].tolist() == [18, 19]  # what gave way comes next


def test_new_items_that_ranking_brought_count() -> None:
    order, scores, ranks = a_list(60, [3, 12, 40])
    assert keep_places(order, scores, ranks, 2)[2] == 0
    moved, _, num = keep_places(order, scores, ranks, 3)
    assert num == 1
    assert 12 in moved[:LAST]
    assert 40 in moved[:LAST]


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 45), st.lists(st.integers(0, 44), unique=True), st.integers(0, 10), st.integers(0, 99))
def test_nothing_is_lost_whatever_is_kept(num: int, new: list[int], places: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal(num).astype(np.float32)
    order = np.argsort(-scores, kind="stable")
    ranks = np.zeros(num, np.float32)
    some = [one for one in new if one < num]
    ranks[some] = rng.permutation(len(some)) + 1
    moved, raised, count = keep_places(order, scores, ranks, places)
    assert sorted(moved.tolist()) == list(range(num))
    assert moved[:FIRST].tolist() == order[:FIRST].tolist()
    assert (np.diff(raised[moved][:LAST]) <= 0).all()
    before, after = ((ranks[one[:LAST]] > 0).sum() for one in (order, moved))
    assert after == before + count
    room = max(0, min(LAST, num) - FIRST)
    assert after >= min(places, (ranks > 0).sum(), room) or num <= LAST


def shop_of_new_items(
    seed: int, num_items: int = 240, users: int = 150
) -> tuple[Events, ItemColumns, np.ndarray]:
    """Every user has one direction of text; items appear over time and sell at once to who likes it,
    but only those of brand `hit` sell at all.
    """
    rng = np.random.default_rng(seed)
    text = rng.standard_normal((num_items, 8)).astype(np.float32)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    hit = rng.random(num_items) < 0.3
    tastes = rng.standard_normal((users, 8))
    rows, owners, times = [], [], []
    for item in range(200):  # the rest stays new
        if hit[item]:
            nearest = np.argsort(-(tastes @ text[item]))[:12]
            rows += [item] * 12
            owners += nearest.tolist()
            times += [NOW - DAY * (200 - item)] * 12
    events = Events(np.array(owners), np.array(rows), np.array(times), np.ones(len(rows), np.float32))
    unknown = np.full(num_items, np.nan)
    brands = ["hit" if one else f"b{i}" for i, one in enumerate(hit)]
    items = ItemColumns(unknown, [""] * num_items, brands, np.ones(num_items, bool), unknown, unknown)
    return events, items, text


def test_the_order_of_new_items_is_learned_from_earlier_ones() -> None:
    events, items, text = shop_of_new_items(0)
    found = fit_newcomers(events, NOW, items, text, np.random.default_rng(1))
    assert found.weights[NEW_USER_COLUMNS.index("text")] > 0
    fresh = np.arange(200, 240)
    hit = np.array([brand == "hit" for brand in items.brands])[fresh]
    assert found.prior[fresh][hit].min() > found.prior[fresh][~hit].max()
    sold = np.unique(events.rows)
    assert (found.prior[sold] == 0).all()
    again = fit_newcomers(events, NOW, items, text, np.random.default_rng(1))
    np.testing.assert_array_equal(found.prior, again.prior)


def test_when_items_came_out_orders_them_as_it_did_before() -> None:
    events, items, text = shop_of_new_items(0)
    rng = np.random.default_rng(3)
    came_out = NOW - DAY * rng.integers(1, 2000, len(text)).astype(float)
    # Whatever sells does so within days of coming out.
    came_out[events.rows] = events.timestamps - DAY * rng.integers(0, 5, len(events.rows))
    came_out[200:] = NOW - DAY * 1000.0
    recent, ahead, unknown = range(200, 205), range(205, 210), range(210, 215)
    came_out[recent], came_out[ahead], came_out[unknown] = NOW - DAY, NOW + 900 * DAY, np.nan
    brands = [""] * len(text)
    dated = replace(items, came_out=came_out, brands=brands)
    prior = fit_newcomers(events, NOW, dated, text, np.random.default_rng(1)).prior
    assert prior[recent].min() > max(prior[ahead].max(), prior[unknown].max(), prior[215:].max())
    undated = replace(items, brands=brands)
    blind = fit_newcomers(events, NOW, undated, text, np.random.default_rng(1)).prior
    assert blind[recent].min() < blind[215:].max()  # without a day nothing tells them apart


def test_the_first_of_each_are_told_in_the_order_given() -> None:
    keys = np.array([7, 3, 7, 7, 3, 9])
    assert first_of_each(keys, 1).tolist() == [True, True, False, False, False, True]
    assert first_of_each(keys, 2).tolist() == [True, True, True, False, True, True]
    assert first_of_each(keys[:0], 2).tolist() == []


def test_a_hit_among_earlier_new_items_is_a_few_choices() -> None:
    events, items, text = shop_of_new_items(0)
    plain = fit_newcomers(events, NOW, items, text, np.random.default_rng(1)).report["choices"]
    rows = events.rows.copy()
    rows[-600:] = rows[-1]  # the newest hundred days sell one item alone
    hit = replace(events, rows=rows, users=np.arange(len(rows)) % 150)
    assert fit_newcomers(hit, NOW, items, text, np.random.default_rng(1)).report["choices"] < plain / 2
    assert plain > 2 * MIN_CHOICES


def test_what_happens_after_the_moment_teaches_nothing() -> None:
    events, items, text = shop_of_new_items(0)
    late = Events(events.users, events.rows, events.timestamps + 300 * DAY, events.weights)
    with pytest.raises(ValueError, match="before their moment"):
        fit_newcomers(late, NOW, items, text, np.random.default_rng(1))


def test_with_too_few_choices_text_alone_orders() -> None:
    events, items, text = shop_of_new_items(0)
    few = Events(events.users[:20], events.rows[:20], events.timestamps[:20], events.weights[:20])
    found = fit_newcomers(few, NOW, items, text, np.random.default_rng(1))
    assert found.weights.tolist() == [1, 0, 0, 0, 0]
    assert not found.prior.any()
    assert str(MIN_CHOICES) in found.report["why"]
    nobody = Events(*(one[:0] for one in (events.users, events.rows, events.timestamps, events.weights)))
    assert fit_newcomers(nobody, NOW, items, text, np.random.default_rng(1)).report["choices"] == 0


def with_places(places: int) -> Recommender:
    world = build_world(two_tower=40, fresh=5).recommender
    return Recommender(
        world.shelf, world._encoder, world._index, world._sources, world._scorer, 50, new_places=places
    )


def test_an_answer_keeps_places_and_says_so() -> None:
    query = Query(k=20, moment=NOW, user_id="u", features=features_of("u", [0, 1, 2]))
    plain, kept = (with_places(places).recommend([query])[0] for places in (0, 6))
    new = {place.item_id for place in kept.items if "fresh" in place.sources}
    assert [p.item_id for p in plain.items[:10]] == [p.item_id for p in kept.items[:10]]
    assert len(new) >= 5
    assert NEW_ITEMS in kept.notes
    assert NEW_ITEMS not in plain.notes
    short = Query(k=10, moment=NOW, user_id="u", features=features_of("u", [0, 1, 2]))
    assert with_places(6).recommend([short])[0].notes == ()


def test_places_are_sized_on_validation_and_off_where_nothing_is_new() -> None:
    recommender = with_places(0)
    queries = [
        Query(k=20, moment=NOW, user_id=f"u{n}", features=features_of(f"u{n}", [n]), exclude_seen=True)
        for n in range(5)
    ]
    new = np.flatnonzero(recommender.shelf.facts["count"] == 0)
    text = recommender.shelf.text_vectors
    sized = size_new_places(recommender, queries, [new[:1]] * 5, text, RankConfig(), 0)
    assert sized["share_taken"] == 1.0
    assert sized["places"] == np.argmax(sized["new_recall_20"]), "1.3 times what text finds is out of reach"
    assert sized["new_recall_20"] == sorted(sized["new_recall_20"])
    assert len(sized["recall_20"]) == 11
    fixed = size_new_places(recommender, queries, [new[:1]] * 5, text, RankConfig(new_items=3), 0)
    assert fixed["places"] == 3
    sold = np.flatnonzero(recommender.shelf.facts["count"] > 0)
    nothing = size_new_places(recommender, queries, [sold[-1:]] * 5, text, RankConfig(), 0)
    assert nothing["places"] == 0
    recommender.shelf.facts["count"] = 1
    assert size_new_places(recommender, queries, [new[:1]] * 5, text, RankConfig(), 0)["places"] == 0


@pytest.mark.parametrize(
    ("new", "whole", "share", "aim", "places"),
    [
        ([0.0, 0.1, 0.2, 0.3], [0.30, 0.30, 0.29, 0.28], 0.05, 0.15, 2),  # the fewest that reach the aim
        ([0.0, 0.1, 0.2, 0.3], [0.30, 0.30, 0.29, 0.28], 0.15, 0.15, 3),  # and their share of what is taken
        ([0.0, 0.0, 0.001, 0.001], [0.058, 0.055, 0.053, 0.05], 0.2, 0.003, 2),  # out of reach: what pays
        ([0.0, 0.1, 0.2, 0.3], [0.30, 0.25, 0.2, 0.1], 0.05, 0.05, 0),  # too dear
        ([0.1, 0.1, 0.1, 0.1], [0.30, 0.30, 0.30, 0.30], 0.1, 0.5, 0),  # nothing more is found
        ([0.0, 0.1, 0.2, 0.3], [0.0, 0.1, 0.2, 0.3], 1.0, 0.1, 10),  # only new items are taken
    ],
)
def test_places_pay_for_themselves(
    new: list[float], whole: list[float], share: float, aim: float, places: int
) -> None:
    rest = 11 - len(new)
    table = list(zip(new + new[-1:] * rest, whole + whole[-1:] * rest, strict=True))
    assert _paying(table, share, aim) == places
