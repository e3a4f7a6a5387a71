"""Views move the user's vector, and touch nothing that the user did: exclusion, repeats, features."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from shop_world import BLOCKS, DAY, NOW, NUM_ITEMS, PER_BLOCK, World, build_world, features_of

from recsys.rank_features import RANK_FEATURES
from recsys.types import Augmentation, Floats, History, Query, Views

NOTE = Augmentation("test-1", ("insert",), 1, 0.1)


def view(rows: list[int]) -> History:
    ids = tuple(f"i{row}" for row in rows)
    return History(
        ids, ("purchase",) * len(ids), tuple(NOW - DAY * (len(rows) - i) for i in range(len(rows)))
    )


def ask(rows: list[int], *views: list[int], weight: float = 0.5, **more: object) -> Query:
    seen = Views(tuple(view(one) for one in views), weight, NOTE) if views else None
    return Query(k=NUM_ITEMS, moment=NOW, user_id="u", features=features_of("u", rows), views=seen, **more)  # type: ignore[arg-type]


def vectors(world: World, *queries: Query) -> Floats:
    found: list[Floats] = []

    class Spy:
        name = "two_tower"

        def propose(self, batch: object) -> object:
            found.append(batch.user_vectors)  # type: ignore[attr-defined]
            return inner.propose(batch)  # type: ignore[arg-type]

    recommender = world.recommender
    before = recommender._sources
    inner = before[0]
    recommender._sources = [Spy(), *before[1:]]  # type: ignore[list-item]
    try:
        recommender.rank(queries, [recommender.excluded_rows(query) for query in queries])
    finally:
        recommender._sources = before
    return found[0]


def unit(vector: Floats) -> Floats:
    return vector / np.linalg.norm(vector)


def test_the_vector_is_the_unit_norm_mixture(world: World) -> None:
    own, first, second = (unit(world.vectors[rows].sum(0)) for rows in ([0, 1], [0, 9], [0, 17]))
    (mixed,) = vectors(world, ask([0, 1], [0, 9], [0, 17], weight=0.3))
    np.testing.assert_allclose(mixed, unit(0.7 * own + 0.3 * unit(first + second)), atol=1e-6)


def test_in_a_batch_everyone_gets_their_own_views(world: World) -> None:
    queries = [
        ask([0, 1]),
        ask([8, 9], [8, 20], weight=0.5),
        ask([]),
        ask([16], [24], [16, 32], weight=1.0),
        ask([3]),
    ]
    together = vectors(world, *queries)
    alone = np.concatenate([vectors(world, query) for query in queries])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(together[0], vectors(world, ask([0, 1]))[0])
    assert not together[2].any()


def test_a_user_without_a_vector_gets_none_from_views(world: World) -> None:
    query = ask([999], [3])
    assert not vectors(world, query).any()
    (answer,) = world.recommender.recommend([query])
    assert answer.fallback == "unknown_items"


@pytest.mark.parametrize("nothing", [Views(note=NOTE), Views((view([9]),), 0.0, NOTE)])
def test_no_views_or_no_weight_is_exactly_the_answer_without(world: World, nothing: Views) -> None:
    plain = ask([0, 1])
    before, after = world.recommender.recommend([plain, replace(plain, views=nothing)])
    assert before.items == after.items


def test_an_invented_item_is_neither_excluded_nor_owned_nor_a_repeat(world: World) -> None:
    invented = 2
    query = ask([0, 1], [0, 1, invented], exclude_seen=True)
    (answer,) = world.recommender.recommend([query])
    assert f"i{invented}" in {place.item_id for place in answer.items}
    assert not {"i0", "i1"} & {place.item_id for place in answer.items}
    assert {place.item_id for place in answer.items if "repeats" in place.sources} == set()


def test_only_the_columns_that_read_the_vector_change() -> None:
    plain = ask([0, 1, 9])
    moved = ask([0, 1, 9], [0, 1, 2, 9, 30], [1, 9])
    recommender = build_world(two_tower=NUM_ITEMS).recommender
    before, after = (recommender.rank([q], [recommender.excluded_rows(q)]) for q in (plain, moved))
    assert before.candidates.rows.tolist() == after.candidates.rows.tolist() == list(range(NUM_ITEMS))
    changed = {
        name
        for column, name in enumerate(RANK_FEATURES)
        if not np.array_equal(before.features[:, column], after.features[:, column])
    }
    assert changed <= {"match", "rank_two_tower"}
    assert "match" in changed


def test_views_reach_items_that_the_history_does_not() -> None:
    """Views in a block of their own pull it up: the mechanism works at all."""
    world = build_world(covisitation=0, trending=0, fresh=0, repeats=0)
    plain, pulled = world.recommender.recommend(
        [
            replace(ask([0, 1]), k=2 * PER_BLOCK),
            replace(ask([0, 1], [0, 1, 9, 10], weight=0.5), k=2 * PER_BLOCK),
        ]
    )
    own = {f"i{row}" for row in range(2 * PER_BLOCK)}
    assert BLOCKS > 2
    assert {place.item_id for place in pulled.items} == own
    assert {place.item_id for place in plain.items} != own


def test_the_answer_says_what_was_done(world: World) -> None:
    plain, moved = world.recommender.recommend([ask([0]), ask([0], [0, 9])])
    assert plain.augmentation is None
    assert moved.augmentation == NOTE
