from __future__ import annotations

import numpy as np
import pytest
from shop_world import DAY, NOW, World, build_world, features_of

from recsys.rank_features import RANK_FEATURES, item_facts
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


def test_facts_know_nothing_of_the_moment_or_later() -> None:
    more = {
        "prices": np.ones(2), "categories": ["a", ""], "brands": ["", "b"],
        "in_stock": np.ones(2, bool), "available_from": np.full(2, np.nan),
    }  # fmt: skip
    facts = item_facts(np.array([0, 0, 1]), np.array([10, NOW - 8 * DAY, NOW - 1]), NOW, **more)
    assert facts["count"].tolist() == [2, 1]
    assert facts["count_7d"].tolist() == [0, 1]
    assert facts["count_30d"].tolist() == [1, 1]
    assert facts["first_seen"][0] == 10
    assert facts["category"].tolist() == [0, -1]
    with pytest.raises(ValueError, match="before their moment"):
        item_facts(np.array([0]), np.array([NOW]), NOW, **more)
