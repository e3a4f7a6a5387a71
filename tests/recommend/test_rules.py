"""Rules after ranking: each keeps its guarantee whatever the others ask, and off is the identity."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shop_world import DAY, NOW, NUM_ITEMS, build_world, features_of

from recsys.errors import ConfigError
from recsys.recommend import NOTHING_ALLOWED, POPULAR
from recsys.rule_settings import RulesConfig, load_rules
from recsys.rules import CAPS_RELAXED, FILLED, PIN_NOT_ALLOWED, Labels, Pool, barred, diversified, placed
from recsys.terms import NO_RULES, Boosts, Rules
from recsys.types import Query, RankedList

WORLD = build_world()
DETAILS = WORLD.recommender.shelf.details
IDS = st.sampled_from([f"i{row}" for row in range(NUM_ITEMS)] + ["nothing we sell"])
CATEGORIES = st.sampled_from(["C0", "c1", " C2 ", "C3", "C4", "no such"])
BRANDS = st.sampled_from(["b0", "B1", "b2"])
BOOSTS = st.builds(
    Boosts,
    st.dictionaries(IDS, st.floats(-5, 5), max_size=3),
    st.dictionaries(CATEGORIES, st.floats(-5, 5), max_size=2),
    st.dictionaries(BRANDS, st.floats(-5, 5), max_size=2),
)
PINS = st.dictionaries(IDS, st.integers(1, 15), max_size=4).filter(
    lambda pins: len(set(pins.values())) == len(pins)
)
RULES = st.builds(
    Rules,
    block=st.frozensets(IDS, max_size=12),
    categories=st.none() | st.frozensets(CATEGORIES, max_size=3),
    brands=st.none() | st.frozensets(BRANDS, max_size=2),
    min_price=st.none() | st.floats(0, 20),
    max_price=st.none() | st.floats(20, 45),
    pins=st.none() | PINS,
    boosts=st.none() | BOOSTS,
    diversity=st.none() | st.floats(0, 1),
    max_per_category=st.none() | st.integers(1, 4),
    max_per_brand=st.none() | st.integers(1, 4),
    within=st.none() | st.integers(1, 20),
)
USERS = st.one_of(
    st.none(),
    st.lists(st.integers(0, NUM_ITEMS - 1), max_size=6, unique=True).map(lambda rows: features_of("u", rows)),
)


def ask(user: object, k: int = 10, **more: object) -> Query:
    return Query(k=k, moment=NOW, user_id="u", features=user, **more)  # type: ignore[arg-type]


def answer(query: Query) -> RankedList:
    return WORLD.recommender.recommend([query])[0]


def ids(found: RankedList) -> list[str]:
    return [place.item_id for place in found.items]


def row(item_id: str) -> int:
    return int(item_id[1:])


def may_be_answered(rules: Rules) -> set[str]:
    """A second formulation of the hard rules, item by item."""
    allowed = set()
    for number, detail in enumerate(DETAILS):
        price = detail["price"]
        fits = f"i{number}" not in rules.block
        if rules.categories:
            fits &= detail["category"].casefold() in {c.strip().casefold() for c in rules.categories}
        if rules.brands:
            fits &= detail["brand"].casefold() in {b.casefold() for b in rules.brands}
        if rules.min_price is not None:
            fits &= price is not None and price >= rules.min_price
        if rules.max_price is not None:
            fits &= price is not None and price <= rules.max_price
        if fits:
            allowed.add(f"i{number}")
    return allowed


@settings(max_examples=300, deadline=None)
@given(user=USERS, rules=RULES, k=st.integers(1, 30))
def test_whatever_the_rules_each_keeps_its_guarantee(user: object, rules: Rules, k: int) -> None:
    found, allowed = answer(ask(user, k, rules=rules)), may_be_answered(rules)
    got = ids(found)
    assert len(got) == len(set(got)) == min(k, len(allowed)), "k distinct places"
    assert set(got) <= allowed, "nothing barred"
    assert (found.fallback == NOTHING_ALLOWED) == (not allowed)
    pins = {item: place for item, place in (rules.pins or {}).items() if place <= k}
    kept = {item: place for item, place in pins.items() if item in allowed}
    for item, place in kept.items():
        if place <= len(got) - sum(later > place for later in kept.values()):
            assert got[place - 1] == item, "pins stand at their places"
        assert item in got
    assert (PIN_NOT_ALLOWED in found.notes) == (len(kept) < len(pins))
    if CAPS_RELAXED not in found.notes and len(got) == k:
        within = min(rules.within or 10, k)
        for cap, name in ((rules.max_per_category, "category"), (rules.max_per_brand, "brand")):
            labels = [DETAILS[row(item)][name] for item in got[:within]]
            pinned = Counter(DETAILS[row(item)][name] for item, place in kept.items() if place <= within)
            for label, count in Counter(filter(None, labels)).items():
                assert cap is None or count <= max(cap, pinned[label]), "caps hold"
    assert all(place.sources for place in found.items)
    assert [place.rank for place in found.items] == list(range(1, len(got) + 1))


@settings(max_examples=60, deadline=None)
@given(user=USERS, k=st.integers(1, 30), cap=st.integers(1, 5), within=st.integers(1, 20))
def test_one_cap_gives_way_only_where_the_catalogue_cannot_meet_it(
    user: object, k: int, cap: int, within: int
) -> None:
    found = answer(ask(user, k, rules=Rules(max_per_category=cap, within=within)))
    assert (CAPS_RELAXED in found.notes) == (min(k, within) > 5 * cap)  # five categories of eight


@settings(max_examples=60, deadline=None)
@given(user=USERS, k=st.integers(1, 40))
def test_rules_that_ask_for_nothing_change_nothing(user: object, k: int) -> None:
    plain = answer(ask(user, k))
    for rules in (
        Rules(diversity=1.0),
        Rules(pins={}, boosts=Boosts({}, {}, {}), categories=frozenset(), brands=frozenset()),
        Rules(max_per_category=1000, max_per_brand=1000),
        Rules(boosts=Boosts({}, {f"C{n}": 1.0 for n in range(5)}, {})),  # the same for everybody
        Rules(in_stock_only=True, within=3),
    ):
        turned = answer(ask(user, k, rules=rules))
        assert ids(turned) == ids(plain)
        assert turned.fallback == plain.fallback


@settings(max_examples=25, deadline=None)
@given(asked=st.lists(st.tuples(USERS, RULES, st.integers(1, 12)), min_size=2, max_size=6))
def test_a_batch_gives_what_single_requests_give(asked: list[tuple[object, Rules, int]]) -> None:
    queries = [ask(user, k, rules=rules) for user, rules, k in asked]
    for together, query in zip(WORLD.recommender.recommend(queries), queries, strict=True):
        alone = answer(query)
        assert ids(together) == ids(alone)
        assert (together.fallback, together.notes) == (alone.fallback, alone.notes)


def test_a_pinned_item_that_nobody_proposed_is_brought_in_and_scored() -> None:
    far = "i39"  # of another block than the user's
    user = WORLD.users["u0"]
    assert far not in ids(answer(ask(user, 5)))
    found = answer(ask(user, 5, rules=Rules(pins={far: 3})))
    assert ids(found)[2] == far
    assert np.isfinite(found.items[2].score)
    for nobody in (None, features_of("x", [])):
        assert ids(answer(ask(nobody, 5, rules=Rules(pins={far: 1}))))[0] == far


def test_exclusion_is_stronger_than_a_pin() -> None:
    user = WORLD.users["u0"]
    mine = user.owned.item_ids[0]
    found = answer(ask(user, 5, exclude_seen=True, rules=Rules(pins={mine: 1, "i9": 2})))
    assert mine not in ids(found)
    assert ids(found)[1] == "i9"
    assert found.notes == (PIN_NOT_ALLOWED,)


def test_a_boost_lifts_by_standard_deviations_and_below_zero_sinks() -> None:
    user = WORLD.users["u0"]
    plain = ids(answer(ask(user, 20)))
    assert DETAILS[row(plain[0])]["category"] == "C0"
    lifted = ids(answer(ask(user, 20, rules=Rules(boosts=Boosts({}, {"c3": 10.0}, {})))))
    assert DETAILS[row(lifted[0])]["category"] == "C3"
    sunk = ids(answer(ask(user, 20, rules=Rules(boosts=Boosts({plain[0]: -10.0}, {}, {})))))
    assert sunk[0] == plain[1]
    assert plain[0] not in sunk[:10]


def test_diversity_brings_in_other_blocks_and_zero_spreads_most() -> None:
    user = WORLD.users["u0"]

    def blocks(rules: Rules) -> int:
        return len({row(item) // 8 for item in ids(answer(ask(user, 5, rules=rules)))})

    assert blocks(NO_RULES) == 1
    assert blocks(Rules(diversity=0.5)) > 1
    assert blocks(Rules(diversity=0.0)) == 5


def test_diversity_is_maximal_marginal_relevance() -> None:
    """Against the definition, written as two loops."""
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(12, 4)).astype(np.float32)
    pool = Pool(np.arange(12), np.linspace(1, 0, 12, dtype=np.float32), 12)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for trade in (0.0, 0.3, 0.7, 1.0):
        taken: list[int] = []
        for _ in range(12):
            near = {i: max((float(unit[i] @ unit[j]) for j in taken), default=0.0) for i in range(12)}
            left = [i for i in range(12) if i not in taken]
            worth = {i: trade * (1 - i / 11) - (1 - trade) * near[i] for i in left}
            taken.append(max(worth, key=lambda i: (round(worth[i], 6), -i)))
        assert diversified(np.arange(12), pool, trade, 12, vectors).tolist() == taken


def test_filters_do_not_shorten_a_list_that_candidates_cannot_fill() -> None:
    user = WORLD.users["u0"]
    found = answer(ask(user, 8, rules=Rules(categories=frozenset({"C4"}))))
    assert {DETAILS[row(item)]["category"] for item in ids(found)} == {"C4"}
    assert len(found.items) == 8
    narrow = build_world(two_tower=2, covisitation=1, repeats=1, trending=1, fresh=1).recommender
    short = narrow.recommend([ask(user, 8, rules=Rules(categories=frozenset({"C4"})))])[0]
    assert len(short.items) == 8
    assert short.notes == (FILLED,)
    assert (POPULAR,) in [place.sources for place in short.items]


@settings(max_examples=40, deadline=None)
@given(user=USERS, rules=RULES, out=st.sets(IDS, max_size=20), k=st.integers(1, 20))
def test_an_index_that_keeps_to_what_is_allowed_gives_the_same_lists(
    user: object, rules: Rules, out: set[str], k: int
) -> None:
    queries = [ask(user, k, rules=rules, exclude=frozenset(out)), ask(user, k, exclude=frozenset(out))]
    asked_for_more = [answer(query) for query in queries]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recsys.recommend._MANY", 0)
        assert [answer(query) for query in queries] == asked_for_more
        assert WORLD.recommender.recommend(queries) == asked_for_more


def test_out_of_stock_items_come_back_where_a_request_wants_them() -> None:
    in_stock = np.ones(NUM_ITEMS, bool)
    in_stock[3] = False
    recommender = build_world(in_stock=in_stock).recommender
    recommender.shelf.facts["available_from"][4] = NOW + DAY
    user = WORLD.users["u0"]
    assert not {"i3", "i4"} & set(ids(recommender.recommend([ask(user, NUM_ITEMS)])[0]))
    every = recommender.recommend([ask(user, NUM_ITEMS, rules=Rules(in_stock_only=False))])[0]
    assert len(every.items) == NUM_ITEMS


def test_rules_of_the_run_hold_and_a_request_changes_them_field_by_field() -> None:
    run = Rules(block=frozenset({"i1"}), max_per_category=1, pins={"i12": 1}, min_price=10.0)
    asked = Rules(block=frozenset({"i2"}), max_per_category=3, max_price=30.0)
    both = asked.over(run)
    assert both.block == {"i1", "i2"}
    assert (both.max_per_category, both.pins) == (3, {"i12": 1})
    assert (both.min_price, both.max_price) == (None, 30.0)
    assert NO_RULES.over(run) == run
    recommender = build_world().recommender
    recommender._rules = run
    blocked = recommender.recommend([ask(WORLD.users["u0"], NUM_ITEMS)])[0]
    assert "i1" not in ids(blocked)
    assert ids(blocked)[0] == "i12"
    assert "i1" not in ids(recommender.similar("i2", 30))


def test_similar_items_leave_out_what_the_run_blocks() -> None:
    world = build_world()
    world.recommender._rules = Rules(block=frozenset({"i10"}))
    assert "i10" in ids(WORLD.recommender.similar("i9", 7))
    assert "i10" not in ids(world.recommender.similar("i9", 7))


def test_waiting_items_come_back_behind_the_capped_places() -> None:
    codes = np.array([0, 0, 0, 1, 1, 2])
    out, relaxed = placed(np.arange(6), 6, {}, [(codes, 1)], 3)
    assert (out.tolist(), relaxed) == ([0, 3, 5, 1, 2, 4], False)
    out, relaxed = placed(np.arange(6), 6, {4: 0}, [(codes, 1)], 6)
    assert (out.tolist(), relaxed) == ([3, 5, 1, 2, 0, 4], True)
    assert placed(np.arange(3), 3, {2: 0}, [], 10)[0].tolist() == [1, 2, 0]
    assert placed(np.arange(2), 2, {0: 1}, [], 10)[0].tolist() == [1, 0]


def test_filters_leave_out_what_has_no_price_or_no_such_label() -> None:
    labels = Labels.of([{"category": "A", "price": 5.0}, {"category": None, "price": None}, {"price": 9.0}])
    found = barred(Rules(min_price=1.0), labels)
    assert found is not None
    assert found.tolist() == [False, True, False]
    assert barred(Rules(categories=frozenset({"a "})), labels).tolist() == [False, True, True]  # type: ignore[union-attr]
    assert barred(NO_RULES, labels) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"pins": {"a": 1, "b": 1}},
        {"pins": {"a": 0}},
        {"pins": {"a": 101}},
        {"diversity": 1.5},
        {"max_per_brand": 0},
        {"min_price": 5, "max_price": 4},
        {"boost_items": {"a": 11}},
        {"boost_brands": {"a": float("nan")}},
        {"pinned": {}},
    ],
)
def test_rules_that_contradict_themselves_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"(?i)pin|place|less|greater|price|boost|finite|extra|11|nan"):
        RulesConfig.model_validate(wrong)


def test_a_file_of_rules_says_only_what_it_says(tmp_path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "rules.toml"
    file.write_text('block = ["i3"]\nmax_per_brand = 2\n[boost_brands]\noak = 0.5\n')
    rules = load_rules(file, ["diversity=0.7", "pins={i1 = 2}"])
    assert rules == Rules(
        block=frozenset({"i3"}), max_per_brand=2, diversity=0.7, pins={"i1": 2},
        boosts=Boosts({}, {}, {"oak": 0.5}),
    )  # fmt: skip
    file.write_text("[rules]\nmax_price = 3\n")
    assert load_rules(file) == Rules(max_price=3.0)
    assert load_rules(None) == NO_RULES
    assert replace(RulesConfig().to_rules(), boosts=None).arrange is False
    wrong = {"[x": "TOML", "max_per_brnad = 2": "no rule 'max_per_brnad'", "within = 0": "within"}
    for text, word in wrong.items():
        file.write_text(text)
        with pytest.raises(ConfigError, match=word):
            load_rules(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_rules(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="key=value"):
        load_rules(None, ["within"])
