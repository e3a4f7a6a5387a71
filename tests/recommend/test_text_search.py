"""Search over a small shop: exact and misspelled titles, filters, the user's order, the index's part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shop_world import BLOCKS, NOW, NUM_ITEMS, ExactIndex, build_world, features_of

import recsys.text_search as room
from recsys.config import SearchConfig
from recsys.lexical import BUCKETS, MAX_TEXT, LexicalIndex, grams
from recsys.recommend import NOTHING_ALLOWED
from recsys.terms import Rules
from recsys.text_search import BY_LETTERS, BY_VECTOR, SearchQuery, TextSearch
from recsys.types import Floats, Query

COLOURS = ("amber", "bronze", "cobalt", "dusty", "emerald", "fuchsia", "golden", "hazel")
THINGS = ("lantern", "teapot", "cushion", "blanket", "mirror")
TITLES = [f"{COLOURS[row % 8]} {THINGS[row // 8]}" for row in range(NUM_ITEMS)]
WORLD = build_world()


class BlockEncoder:
    """A text is the block of the thing it names; unknown words say nothing."""

    def encode(self, texts: Sequence[str]) -> Floats:
        out = np.zeros((len(texts), BLOCKS), np.float32)
        for i, text in enumerate(texts):
            for block, thing in enumerate(THINGS):
                out[i, block] = thing in text.split()
        return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)


def make(lexical: bool = True, **settings: float) -> TextSearch:
    index = ExactIndex(WORLD.vectors)
    letters = LexicalIndex.build(TITLES) if lexical else None
    config = SearchConfig.model_validate({"depth": 20, **settings})
    return TextSearch(WORLD.recommender, index, BlockEncoder(), letters, config)


SEARCH = make()


def find(text: str, k: int = 5, search: TextSearch = SEARCH, **more: object) -> list[str]:
    query = Query(k=k, moment=NOW, **more)  # type: ignore[arg-type]
    found = search.search([SearchQuery(text, query)])[0]
    return [TITLES[int(place.item_id[1:])] for place in found.items.items]


def test_every_title_finds_its_item_first() -> None:
    for title in TITLES:
        assert find(title)[0] == title


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("ambr lantern", "amber lantern"),
        ("lanternn amebr", "amber lantern"),
        ("COBALT  Teapto", "cobalt teapot"),
        ("émerald mirror", "emerald mirror"),
        ("fuchsia", "fuchsia"),
    ],
)
def test_misspelled_titles_find_their_item(typed: str, meant: str) -> None:
    assert meant in find(typed)[0]


def test_what_letters_cannot_know_the_vectors_do() -> None:
    class Synonyms(BlockEncoder):
        def encode(self, texts: Sequence[str]) -> Floats:
            return super().encode([text.replace("looking glass", "mirror") for text in texts])

    search = make()
    search._encoder = Synonyms()
    assert all(title.endswith("mirror") for title in find("looking glass", 8, search))


def test_without_letters_the_vectors_decide_alone() -> None:
    found = find("blanket", 8, make(lexical=False))
    assert all(title.endswith("blanket") for title in found)


def test_each_place_says_what_proposed_it() -> None:
    query = Query(k=3, moment=NOW)
    places = SEARCH.search([SearchQuery("amber lantern", query)])[0].items.items
    assert places[0].sources == (BY_VECTOR, BY_LETTERS)
    assert [place.rank for place in places] == [1, 2, 3]
    scores = [place.score for place in places]
    assert scores == sorted(scores, reverse=True)
    assert find("qqqq xxxx", 4), "nothing in common still gives the nearest"


def test_filters_and_blocks_hold_and_nothing_allowed_is_said() -> None:
    assert find("amber lantern", exclude=frozenset({"i0"}))[0] != "amber lantern"
    rules = Rules(categories=frozenset({"c2"}))
    assert all(title.endswith("cushion") for title in find("amber lantern", 8, rules=rules))
    nothing = SEARCH.search([SearchQuery("amber", Query(5, NOW, rules=Rules(min_price=1e6)))])[0].items
    assert (nothing.items, nothing.fallback) == ((), NOTHING_ALLOWED)


@settings(max_examples=60, deadline=None)
@given(
    text=st.text(max_size=300),
    k=st.integers(1, 50),
    out=st.sets(st.integers(0, NUM_ITEMS - 1), max_size=NUM_ITEMS),
)
def test_any_text_gives_k_distinct_allowed_items(text: str, k: int, out: set[int]) -> None:
    query = Query(k, NOW, exclude=frozenset(f"i{row}" for row in out))
    places = make(depth=10).search([SearchQuery(text, query)])[0].items.items
    got = [int(place.item_id[1:]) for place in places]
    assert len(got) == len(set(got)) == min(k, NUM_ITEMS - len(out))
    assert not set(got) & out


def test_around_many_excluded_items_the_index_gives_what_comparing_each_gives(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    exclude = frozenset(f"i{row}" for row in range(0, NUM_ITEMS, 3))
    one_by_one = find("golden teapot", 10, exclude=exclude)
    monkeypatch.setattr(room, "_FEW", 0)
    assert find("golden teapot", 10, exclude=exclude) == one_by_one


def test_a_known_user_gets_items_of_like_relevance_in_their_own_order() -> None:
    mine = features_of("u", [0, 1, 2])  # lanterns
    asked = [SearchQuery("golden", Query(5, NOW)), SearchQuery("golden", Query(5, NOW, "u", mine))]
    plain, personal = SEARCH.search(asked)
    assert (plain.personal, personal.personal) == (False, True)
    assert personal.items.items[0].item_id == "i6", "their kind of thing among equals"
    assert {p.item_id for p in personal.items.items} == {p.item_id for p in plain.items.items}
    strict = SEARCH.search([SearchQuery("cobalt teapot", Query(3, NOW, "u", mine))])[0]
    assert strict.items.items[0].item_id == "i10", "a better match is not overtaken"
    never = make(personal=0.0).search(asked)[1]
    assert never.personal is False
    assert never.items.items == plain.items.items


def test_one_search_and_many_agree() -> None:
    asked = [SearchQuery(title, Query(5, NOW)) for title in TITLES[:6]]
    assert SEARCH.search(asked) == [SEARCH.search([one])[0] for one in asked]


def test_letters_are_bm25_over_trigrams() -> None:
    """Against the formula, written word by word."""
    texts = ["red lamp", "red red rug", "lamp shade for a lamp", ""]
    index = LexicalIndex.build(texts)
    bags = [grams(text) for text in texts]
    mean = np.mean([len(bag) for bag in bags])
    query = set(grams("red lmap"))
    rarity = {g: np.log1p((4 - n + 0.5) / (n + 0.5)) for g in query for n in [sum(g in bag for bag in bags)]}
    for row, bag in enumerate(bags):
        total = 0.0
        for g in query:
            tf = bag.count(g)
            total += rarity[g] * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * len(bag) / mean))
        assert index.scores("red lmap")[row] == pytest.approx(total / sum(rarity.values()), rel=1e-5)


def test_grams_know_words_their_edges_and_letters_that_are_not_latin() -> None:
    assert len(grams("abc")) == 3
    assert grams("Café") == grams("cafe")
    assert len(grams("灯具")) == 3
    assert grams("") == grams("?!") == []
    assert all(0 <= bucket < BUCKETS for bucket in grams("anything at all"))


def test_the_letters_index_is_bounded_and_survives_the_disk(tmp_path: Path) -> None:
    index = LexicalIndex.build([*TITLES, "x" * 5000])
    assert len(index.items) < sum(len(title) + 4 for title in TITLES) + MAX_TEXT
    index.write(tmp_path)
    again = LexicalIndex.load(tmp_path, NUM_ITEMS + 1)
    assert again is not None
    for text in ("amber lantern", "", "y" * 10_000):
        np.testing.assert_array_equal(again.scores(text), index.scores(text))
    assert LexicalIndex.load(tmp_path / "none", 3) is None
    assert LexicalIndex.build([]).scores("lamp").shape == (0,)
