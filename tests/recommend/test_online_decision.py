"""Whether views help is decided on users: a true gain is found, a loss too, and chance is neither."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from shop_world import DAY, NOW, NUM_ITEMS, PER_BLOCK, World, build_world, features_of

from recsys.config import OnlineConfig
from recsys.online import K, _short, measure_views
from recsys.types import Augmentation, History, Query, Rows, Views


class Blocks:
    """Views of items in the block that is so many blocks further."""

    policy_id = "blocks-1"

    def __init__(self, shift: int, weight: float = 1.0) -> None:
        self.skipped: dict[str, str] = {}
        self.shift, self.weight, self.limits = shift, weight, set[bool]()

    def augment(self, query: Query, *, limited: bool = True) -> Query:
        self.limits.add(limited)
        rows = [int(item[1:]) + self.shift * PER_BLOCK for item in query.features.history.item_ids]  # type: ignore[union-attr]
        ids = tuple(f"i{row % NUM_ITEMS}" for row in rows)
        view = History(ids, ("purchase",) * len(ids), tuple(NOW - DAY for _ in ids))
        return replace(query, views=Views((view,), self.weight, Augmentation(self.policy_id, ("shift",), 1)))


@pytest.fixture(scope="module")
def bare() -> World:
    """Vectors alone decide."""
    return build_world(covisitation=0, trending=0, fresh=0, repeats=0)


def users_who_move_on(count: int = 60) -> tuple[list[Query], list[Rows]]:
    """Everybody has items of one block and then takes those of the next."""
    queries, targets = [], []
    for user in range(count):
        block = user % 5
        rows = [block * PER_BLOCK + user % 3, block * PER_BLOCK + 4]
        queries.append(Query(K, NOW, f"u{user}", features_of(f"u{user}", rows)))
        targets.append(np.array([((block + 1) * PER_BLOCK + step) % NUM_ITEMS for step in (1, 2)]))
    return queries, targets


def test_a_gain_a_loss_and_nothing_are_told_apart(bare: World) -> None:
    queries, targets = users_who_move_on()
    found = {
        shift: measure_views(bare.recommender, Blocks(shift), queries, targets, seed=0) for shift in (0, 1, 2)
    }
    for task in ("all", "novel"):
        better, same = found[1][task], found[0][task]
        assert better["low"] > 0.1
        assert better["on"] > better["off"]
        assert better["difference"] == pytest.approx(better["on"] - better["off"], abs=2e-6)
        assert (same["difference"], same["low"], same["high"]) == (0, 0, 0)
        assert better["users"] == 60
    settled = [
        replace(query, features=features_of("x", wanted.tolist()))
        for query, wanted in zip(queries, targets, strict=True)
    ]
    worse = measure_views(bare.recommender, Blocks(2), settled, targets, seed=0)["all"]
    assert worse["high"] < 0


def test_novel_leaves_out_what_a_user_has_had(bare: World) -> None:
    queries, targets = users_who_move_on(10)
    had = [np.array([int(item[1:]) for item in query.features.history.item_ids]) for query in queries]  # type: ignore[union-attr]
    mixed = [np.concatenate([had[i], targets[i]]) if i < 4 else had[i] for i in range(10)]
    figures = measure_views(bare.recommender, Blocks(0), queries, mixed, seed=0)
    assert figures["all"]["users"] == 10
    assert figures["novel"]["users"] == 4, "the others took nothing new, so that there is nothing to find"


def test_measuring_has_no_deadline(bare: World) -> None:
    augmenter = Blocks(1)
    measure_views(bare.recommender, augmenter, *users_who_move_on(5), seed=0)
    assert augmenter.limits == {False}


def test_only_users_under_the_threshold_are_measured_and_not_too_many() -> None:
    sizes = [0, 1, 2, 3, 4, 5, 6, 40]
    queries = [Query(K, NOW, f"u{n}", features_of(f"u{n}", list(range(n)))) for n in sizes]
    queries.append(Query(K, NOW, "stranger"))
    assert _short(queries, OnlineConfig(below=5), seed=0) == [1, 2, 3, 4]
    many = [Query(K, NOW, f"u{n}", features_of(f"u{n}", [n])) for n in range(30)]
    some = _short(many, OnlineConfig(below=5, measured_users=7), seed=0)
    assert len(some) == 7
    assert some == sorted(some) == _short(many, OnlineConfig(below=5, measured_users=7), seed=0)
    assert some != _short(many, OnlineConfig(below=5, measured_users=7), seed=1)
