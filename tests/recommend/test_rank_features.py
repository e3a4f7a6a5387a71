from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from shop_world import DAY, NOW, World, build_world, features_of

from recsys.item_facts import ItemColumns, item_facts
from recsys.item_weights import Events
from recsys.rank_features import FEATURE_GROUPS, RANK_FEATURES
from recsys.types import Query


def column(world: World, name: str, rows: list[int]) -> dict[int, float]:
    query = Query(k=5, moment=NOW, user_id="u", features=features_of("u", rows))
    ranked = world.recommender.rank([query], [world.recommender.excluded_rows(query)])
    values = ranked.features[:, RANK_FEATURES.index(name)]
    return dict(zip(ranked.candidates.rows.tolist(), values.tolist(), strict=True))


def test_features_say_what_their_names_say(world: World) -> None:
    assert column(world, "owned", [0, 1])[0] == 1
    assert column(world, "owned", [0, 1])[2] == 0
    shares = column(world, "category_share", [0, 1, 8])
    assert shares[2] == pytest.approx(2 / 3)
    gaps = column(world, "owned_gap", [0, 1])
    assert gaps[1] == pytest.approx(np.log1p(1.0))
    assert column(world, "cold", [0])[7] == 1
    prices = column(world, "price_gap", [8, 16])  # 20 and 30
    assert prices[8] == pytest.approx(abs(np.log(20) - (np.log(20) + np.log(30)) / 2), rel=1e-4)


def test_all_features_are_finite_and_named_once(world: World) -> None:
    assert len(set(RANK_FEATURES)) == len(RANK_FEATURES)
    for rows in ([], [0], list(range(40))):
        query = Query(k=5, moment=NOW + 400 * DAY, user_id="u", features=features_of("u", rows))
        features = world.recommender.rank([query], [np.empty(0, np.int64)]).features
        assert features.shape[1] == len(RANK_FEATURES)
        assert np.isfinite(features).all()


def test_a_source_switched_off_leaves_its_columns_empty() -> None:
    world = build_world(repeats=0)
    assert set(column(world, "rank_repeats", [0, 1]).values()) == {0.0}


def events_of(rows: list[int], times: list[int], users: list[int] | None = None) -> Events:
    numbers = np.zeros(len(rows), np.int64) if users is None else np.array(users)
    return Events(numbers, np.array(rows), np.array(times), np.ones(len(rows), np.float32))


TWO_ITEMS = ItemColumns(
    np.ones(2), ["a", ""], ["", "b"], np.ones(2, bool), np.full(2, np.nan), np.full(2, np.nan)
)


def test_what_nobody_has_had_waits_for_its_day_and_what_has_sold_does_not() -> None:
    dated = replace(TWO_ITEMS, came_out=np.full(2, NOW + 10.0))
    facts = item_facts(events_of([0], [NOW - 1]), NOW, dated)
    np.testing.assert_array_equal(facts["available_from"], [np.nan, NOW + 10])
    known = replace(dated, available_from=np.full(2, NOW + 20.0), came_out=np.full(2, NOW + 20.0))
    assert item_facts(events_of([0], [NOW - 1]), NOW, known)["available_from"].tolist() == [NOW + 20] * 2


def test_facts_know_nothing_of_the_moment_or_later() -> None:
    facts = item_facts(events_of([0, 0, 1], [10, NOW - 8 * DAY, NOW - 1]), NOW, TWO_ITEMS)
    assert facts["count"].tolist() == [2, 1]
    assert facts["count_7d"].tolist() == [0, 1]
    assert facts["count_30d"].tolist() == [1, 1]
    assert facts["count_90d"].tolist() == [1, 1]
    assert facts["heat"] == pytest.approx([0.5**0.8, 1.0], rel=1e-4)
    assert facts["first_seen"][0] == 10
    assert facts["last_seen"].tolist() == [NOW - 8 * DAY, NOW - 1]
    assert facts["category"].tolist() == [0, -1]
    with pytest.raises(ValueError, match="before their moment"):
        item_facts(events_of([0], [NOW]), NOW, TWO_ITEMS)


def test_repeats_are_users_who_come_back_and_the_days_until_they_do() -> None:
    days = [0, 4, 8, 12, 0, 0, 0, 0]
    rows, users = [0, 0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 1, 0, 1, 2]
    facts = item_facts(events_of(rows, [NOW - DAY * (20 - day) for day in days], users), NOW, TWO_ITEMS)
    assert facts["repeat_days"].tolist() == [4, 4]  # nobody came back for item 1: the shop's figure
    overall = 1 / 5
    assert facts["repeat_rate"] == pytest.approx([(1 + 20 * overall) / 22, 20 * overall / 23])


def test_every_feature_is_in_one_group() -> None:
    names = [name for group in FEATURE_GROUPS.values() for name in group]
    assert sorted(names) == sorted(RANK_FEATURES)


def test_what_comes_after_the_moment_changes_no_feature(world: World) -> None:
    query = Query(k=5, moment=NOW, user_id="u", features=features_of("u", [0, 1]))
    before = world.recommender.rank([query], [np.empty(0, np.int64)]).features
    again = build_world().recommender.rank([query], [np.empty(0, np.int64)]).features
    np.testing.assert_array_equal(before, again)
    last = RANK_FEATURES.index("category_last")
    rows = world.recommender.rank([query], [np.empty(0, np.int64)]).candidates.rows
    assert (before[:, last] == (rows < 8)).all()
