from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shop_world import (
    BLOCKS,
    NOW,
    NUM_ITEMS,
    PER_BLOCK,
    ExactIndex,
    MeanEncoder,
    World,
    build_world,
    features_of,
)

from recsys.errors import UnknownItemError
from recsys.rank_features import RANK_FEATURES
from recsys.recommend import POPULAR, Recommender, merge
from recsys.retrieve import Proposals
from recsys.types import Query, UserFeatures

WORLD = build_world()


def ask(user: UserFeatures | None, k: int = 8, **more: object) -> Query:
    return Query(k=k, moment=NOW, user_id=user.user_id if user else None, features=user, **more)  # type: ignore[arg-type]


def rows_of(answer: object) -> list[int]:
    return [int(place.item_id[1:]) for place in answer.items]  # type: ignore[attr-defined]


def test_every_user_gets_the_items_of_their_own_block(world: World) -> None:
    users = list(world.users.values())
    answers = world.recommender.recommend([ask(user, k=PER_BLOCK) for user in users])
    for number, answer in enumerate(answers):
        assert {row // PER_BLOCK for row in rows_of(answer)} == {number % BLOCKS}
        assert answer.fallback is None


def test_an_item_nobody_bought_is_reached_by_its_vector(world: World) -> None:
    cold = PER_BLOCK - 1  # nobody in block 0 has its last item
    answer = world.recommender.recommend([ask(world.users["u0"])])[0]
    place = next(place for place in answer.items if place.item_id == f"i{cold}")
    assert place.sources == ("two_tower", "fresh")


def test_exclude_seen_leaves_out_everything_owned_also_beyond_the_history(world: World) -> None:
    features = features_of("long", [0, 1, 2])
    longer = UserFeatures("long", features.history, 9, features_of("long", [0, 1, 2, 3, 4]).owned)
    answer = world.recommender.recommend([ask(longer, k=NUM_ITEMS, exclude_seen=True)])[0]
    assert not set(rows_of(answer)) & {0, 1, 2, 3, 4}
    assert len(answer.items) == NUM_ITEMS - 5
    kept = world.recommender.recommend([ask(longer, k=NUM_ITEMS)])[0]
    assert len(kept.items) == NUM_ITEMS


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.integers(0, NUM_ITEMS + 3), max_size=12, unique=True),
    k=st.integers(1, 60),
    exclude=st.sets(st.integers(0, NUM_ITEMS + 3), max_size=NUM_ITEMS - 1),
    seen=st.booleans(),
)
def test_an_answer_always_has_k_distinct_allowed_items(
    rows: list[int], k: int, exclude: set[int], seen: bool
) -> None:
    user = features_of("u", rows)
    query = ask(user, k=k, exclude=frozenset(f"i{row}" for row in exclude), exclude_seen=seen)
    answer = WORLD.recommender.recommend([query])[0]
    banned = exclude | (set(rows) if seen else set())
    allowed = NUM_ITEMS - len({row for row in banned if row < NUM_ITEMS})
    got = rows_of(answer)
    assert len(got) == min(k, allowed) == len(set(got))
    assert not set(got) & banned
    assert [place.rank for place in answer.items] == list(range(1, len(got) + 1))
    scores = [place.score for place in answer.items]
    assert scores == sorted(scores, reverse=True)
    assert all(place.sources for place in answer.items)


def test_a_batch_gives_what_single_requests_give(world: World) -> None:
    queries = [ask(user, k=6, exclude_seen=bool(i % 2)) for i, user in enumerate(world.users.values())]
    queries.insert(3, ask(None, k=6))
    together = world.recommender.recommend(queries)
    alone = [world.recommender.recommend([query])[0] for query in queries]
    for one, other in zip(together, alone, strict=True):
        assert [p.item_id for p in one.items] == [p.item_id for p in other.items]
        assert one.fallback == other.fallback
        np.testing.assert_allclose([p.score for p in one.items], [p.score for p in other.items], atol=1e-5)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        (Query(k=5, moment=NOW, user_id="stranger"), "unknown_user"),
        (Query(k=5, moment=NOW), "no_history"),
        (ask(features_of("empty", []), k=5), "no_history"),
        (ask(UserFeatures("odd", features_of("x", [999]).history, 1), k=5), "unknown_items"),
    ],
)
def test_whoever_cannot_be_known_gets_the_popular_list_and_is_told(
    world: World, query: Query, reason: str
) -> None:
    answer = world.recommender.recommend([query])[0]
    assert answer.fallback == reason
    assert len(answer.items) == 5
    assert {place.sources for place in answer.items} == {(POPULAR,)}
    counts = world.recommender.shelf.facts["count"]
    assert counts[rows_of(answer)].min() >= np.sort(counts)[-5:].min()


def test_out_of_stock_and_not_yet_for_sale_are_left_out() -> None:
    in_stock = np.ones(NUM_ITEMS, bool)
    in_stock[3] = False
    world = build_world(in_stock=in_stock)
    facts = world.recommender.shelf.facts
    facts["available_from"][4] = NOW + 10
    user = world.users["u0"]
    early, late = world.recommender.recommend(
        [ask(user, k=NUM_ITEMS), ask(user, k=NUM_ITEMS, available_at=NOW + 11)]
    )
    assert 3 not in rows_of(early)
    assert 4 not in rows_of(early)
    assert 4 in rows_of(late)


def test_degraded_reasons_are_passed_on(world: World) -> None:
    answer = world.recommender.recommend([ask(world.users["u1"], degraded=("stale_features",))])[0]
    assert answer.degraded == ("stale_features",)


def test_similar_items_are_of_the_same_block_and_never_the_item_itself(world: World) -> None:
    answer = world.recommender.similar("i9", 5)
    assert {row // PER_BLOCK for row in rows_of(answer)} == {1}
    assert 9 not in rows_of(answer)
    with pytest.raises(UnknownItemError, match="nothing"):
        world.recommender.similar("nothing", 5)


def test_a_bias_says_nothing_of_what_an_item_is(world: World) -> None:
    shelf = world.recommender.shelf
    assert shelf.contents is shelf.item_vectors
    bias = np.linspace(0, 5, len(shelf.vocabulary), dtype=np.float32)[:, None]
    biased = replace(shelf, item_vectors=np.concatenate([shelf.item_vectors, bias], axis=1), biased=True)
    np.testing.assert_array_equal(biased.contents, shelf.item_vectors)


def test_the_scorer_decides_the_order() -> None:
    class Reversed:
        def score(self, features: np.ndarray) -> np.ndarray:
            return -features[:, RANK_FEATURES.index("match")]

    world = build_world(Reversed())
    plain, turned = (w.recommender.recommend([ask(WORLD.users["u0"], k=3)])[0] for w in (WORLD, world))
    assert {row // PER_BLOCK for row in rows_of(plain)} == {0}
    assert 0 not in {row // PER_BLOCK for row in rows_of(turned)}


def test_towers_alone_are_the_nearest_items_whatever_the_rest_says() -> None:
    class Backwards:
        def score(self, features: np.ndarray) -> np.ndarray:
            return -features[:, RANK_FEATURES.index("match")]

    whole = build_world(Backwards())
    user, alone = whole.users["u3"], whole.recommender.by_towers_alone()
    assert alone is not None
    answer = alone.recommend([ask(user, k=5)])[0]
    assert {place.sources for place in answer.items} == {("two_tower",)}
    mine = whole.vectors[[int(item[1:]) for item in user.history.item_ids]].sum(0)
    nearest = np.argsort(-(whole.vectors @ mine), kind="stable")[:5]
    assert rows_of(answer) == nearest.tolist()
    assert rows_of(whole.recommender.recommend([ask(user, k=5)])[0]) != nearest.tolist()
    nobody = Recommender(
        whole.recommender.shelf, MeanEncoder(whole.vectors), ExactIndex(whole.vectors), [], None, 5
    )
    assert nobody.by_towers_alone() is None


def test_merge_drops_the_excluded_and_counts_ranks_and_quotas_after_it() -> None:
    rows = np.array([[4, 2, 0, 1]])
    proposals = {"two_tower": Proposals(rows, np.ones((1, 4), np.float32), quota=2)}
    merged = merge(proposals, [np.array([4])], 5)
    assert merged.rows.tolist() == [0, 2]
    assert merged.source_ranks[:, 0].tolist() == [2, 1]
