"""Explanations: numbers that add up, evidence that is the user's own, nothing of it when nobody asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shop_world import DAY, NOW, NUM_ITEMS, PER_BLOCK, build_world, features_of

import recsys.recommend as path
from recsys.rank_features import RANK_FEATURES
from recsys.retrieve import ItemToItemSource
from recsys.terms import Boosts, Explanation, Rules
from recsys.types import Augmentation, Floats, History, Query, RankedList, Views


class Linear:
    """A ranker whose contributions are known: weight times distance from the mean."""

    weights = np.linspace(-1.0, 1.0, len(RANK_FEATURES)).astype(np.float32)

    def __init__(self) -> None:
        self.calls: list[int] = []

    def score(self, features: Floats) -> Floats:
        self.calls.append(len(features))
        return features @ self.weights


SCORER = Linear()
WORLD = build_world(SCORER)
PLAIN = build_world()
ROWS = st.lists(st.integers(0, NUM_ITEMS - 1), min_size=1, max_size=9)


def ask(rows: Sequence[int], k: int = 8, **more: object) -> Query:
    distinct = list(dict.fromkeys(rows))
    ids = tuple(f"i{row}" for row in rows)
    times = tuple(NOW - DAY * (len(ids) - place) for place in range(len(ids)))
    user = replace(features_of("u", distinct), history=History(ids, ("purchase",) * len(ids), times))
    return Query(k=k, moment=NOW, user_id="u", features=user, explain=True, **more)  # type: ignore[arg-type]


def answer(query: Query, world: object = WORLD) -> RankedList:
    return world.recommender.recommend([query])[0]  # type: ignore[attr-defined, no-any-return]


def why(place: object) -> Explanation:
    found = place.explanation  # type: ignore[attr-defined]
    assert isinstance(found, Explanation)
    return found


def views_of(*rows: list[int], weight: float = 0.4) -> Views:
    made = [ask(one).features.history for one in rows]  # type: ignore[union-attr]
    return Views(tuple(made), weight, Augmentation("p-1", ("insert",), len(made), 0.1))


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, views=st.lists(ROWS, max_size=3))
def test_the_match_and_the_sources_scores_are_sums_over_the_users_items(
    rows: list[int], views: list[list[int]]
) -> None:
    query = ask(rows, views=views_of(*views) if views else None)
    ranked = WORLD.recommender.rank([query], [WORLD.recommender.excluded_rows(query)])
    match = dict(zip(ranked.candidates.rows.tolist(), ranked.features[:, 0].tolist(), strict=True))
    for place in answer(query).items:
        said = why(place)
        row = int(place.item_id[1:])
        assert said.match == pytest.approx(match[row], abs=1e-5)
        parts = sum(one.match for one in said.history) + said.others.match + said.augmented
        assert parts == pytest.approx(said.match, abs=1e-5)
        assert views or said.augmented == 0
        for source, score in said.source_scores.items():
            mine = sum(one.sources[source] for one in said.history) + said.others.sources[source]
            assert mine == pytest.approx(score, abs=1e-5)
        named = [one.item_id for one in said.history]
        assert len(named) == len(set(named)) <= 5
        assert set(named) <= {f"i{row}" for row in rows}


def test_parts_of_the_match_are_what_leaving_an_item_out_of_the_sum_takes_away() -> None:
    """A second formulation, over the encoder's own sum."""
    rows = [0, 1, 9, 1]
    vectors = WORLD.vectors
    total = np.linalg.norm(vectors[rows].sum(0))
    place = answer(ask(rows)).items[0]
    item = vectors[int(place.item_id[1:])]
    for said in why(place).history:
        row = int(said.item_id[1:])  # type: ignore[index]
        expected = rows.count(row) * float(vectors[row] @ item) / total
        assert said.match == pytest.approx(expected, abs=1e-5), "an item bought twice counts twice"


def test_the_items_of_the_same_block_are_named_first() -> None:
    rows = [8, 9, 0, 1, 2]
    for place in answer(ask(rows, k=3), PLAIN).items:
        block = int(place.item_id[1:]) // PER_BLOCK
        first = why(place).history[0]
        assert int(first.item_id[1:]) // PER_BLOCK == block  # type: ignore[index]


def test_sources_and_their_places_are_those_of_the_answer() -> None:
    for place in answer(ask([0, 1, 2])).items:
        assert tuple(why(place).proposed) == place.sources
        assert all(rank >= 1 for rank in why(place).proposed.values())
        assert why(place).score == pytest.approx(place.score)


def test_feature_contributions_are_single_ablations_in_one_call() -> None:
    means = np.full(len(RANK_FEATURES), 0.25, np.float32)
    world = build_world(SCORER)
    world.recommender._parts = replace(world.recommender._parts, means=means)
    query = ask([0, 1, 2], k=4)
    SCORER.calls.clear()
    places = answer(query, world).items
    assert SCORER.calls[1:] == [4 * (len(RANK_FEATURES) + 1)], "one call for all items and features"
    for place in places:
        found = why(place).features
        assert 0 < len(found) <= 5
        sizes = [abs(one.contribution) for one in found]
        assert sizes == sorted(sizes, reverse=True)
        for one in found:
            weight = SCORER.weights[RANK_FEATURES.index(one.feature)]
            assert one.contribution == pytest.approx(weight * (one.value - 0.25), abs=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    rows=ROWS,
    trade=st.floats(0, 1),
    boost=st.floats(-3, 3),
    cap=st.integers(1, 4),
    pin=st.integers(1, 8),
)
def test_moves_add_up_from_the_place_by_score_to_the_place(
    rows: list[int], trade: float, boost: float, cap: int, pin: int
) -> None:
    rules = Rules(
        diversity=trade, boosts=Boosts({}, {"c1": boost}, {}), max_per_category=cap, pins={"i30": pin}
    )
    plain = {p.item_id: p.rank for p in answer(replace(ask(rows, NUM_ITEMS), explain=False)).items}
    for place in answer(ask(rows, rules=rules)).items:
        said = why(place)
        assert said.place_by_score - place.rank == sum(said.moves.values())
        if said.proposed:
            assert said.place_by_score <= plain[place.item_id] + 1, "the pin is one candidate more at most"


def test_without_rules_nothing_moved() -> None:
    for place in answer(ask([0, 1, 2])).items:
        assert why(place).place_by_score == place.rank
        assert not any(why(place).moves.values())


def test_filled_places_and_fallback_lists_say_little_and_truly() -> None:
    few = dict.fromkeys(("two_tower", "covisitation", "following", "ease", "repeats", "trending", "fresh"), 1)
    narrow = build_world(SCORER, **few)
    filled = answer(ask([0, 1], k=30), narrow).items[-1]
    assert filled.sources == ("popular",)
    assert (why(filled).proposed, why(filled).match, why(filled).history) == ({}, None, ())
    nobody = answer(Query(k=3, moment=NOW, explain=True))
    assert [why(place).match for place in nobody.items] == [None] * 3


def test_a_batch_explains_as_single_requests_do() -> None:
    queries = [ask([0, 1]), replace(ask([9, 10]), explain=False), ask([17, 3, 8])]
    together = WORLD.recommender.recommend(queries)
    assert all(place.explanation is None for place in together[1].items)
    for one, query in ((together[0], queries[0]), (together[2], queries[2])):
        for mine, other in zip(one.items, answer(query).items, strict=True):
            assert why(mine).proposed == why(other).proposed
            assert [e.item_id for e in why(mine).history] == [e.item_id for e in why(other).history]
            assert why(mine).match == pytest.approx(why(other).match, abs=1e-5)


def test_nobody_pays_who_does_not_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("explained without being asked")

    monkeypatch.setattr(path, "explain", never)
    SCORER.calls.clear()
    answer(replace(ask([0, 1]), explain=False))
    assert len(SCORER.calls) == 1


def test_a_tower_that_is_no_weighted_sum_names_nobody_for_the_match() -> None:
    world = build_world(SCORER)

    class Whole:
        def encode(self, histories: list, moments: list) -> Floats:
            return WORLD.recommender._encoder.encode(histories, moments)

        def parts(self, history: object, moment: int) -> None:
            return None

    world.recommender._parts = replace(world.recommender._parts, encoder=Whole())
    for place in answer(ask([0, 1, 2]), world).items:
        said = why(place)
        assert all(one.match == 0 for one in said.history)
        assert said.others.match == pytest.approx(said.match, abs=1e-6)


def test_evidence_of_a_source_adds_up_to_what_it_proposed() -> None:
    query = ask([0, 1, 2, 9])
    batch = WORLD.recommender.rank([query], [np.empty(0, np.int64)]).batch
    checked = 0
    for source in WORLD.recommender._sources:
        if isinstance(source, ItemToItemSource):
            dense = source.propose(batch).dense
            rows, parts = source.evidence(batch.histories[0], batch.owned[0], np.arange(NUM_ITEMS))
            assert dense is not None
            np.testing.assert_allclose(parts.sum(axis=0), dense[0], atol=1e-5)
            assert set(rows.tolist()) <= {0, 1, 2, 9}
            checked += 1
    assert checked >= 2
