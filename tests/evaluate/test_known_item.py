"""Known-item search: the same queries for every system, figures against hand counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from recsys.augment.noise import mistyped
from recsys.evaluate.known_item import (
    DEPTH,
    KINDS,
    METRICS,
    Bm25,
    NearestText,
    known_items,
    measure_search,
    search_grids,
)
from recsys.types import Rows

TITLES = ["Oak desk lamp", "oak  DESK lamp", "Red rug", "Mug", "", "Walnut bookshelf with drawers", "灯"]


def test_queries_are_of_each_kind_and_the_same_for_everybody() -> None:
    known = known_items(TITLES, 100, mistyped, seed=3)
    assert known == known_items(TITLES, 100, mistyped, seed=3)
    assert known.queries != known_items(TITLES, 100, mistyped, seed=4).queries
    assert len(known) == 5, "twins are one item, an item without a title is none"
    by_title = dict(zip(known.queries["title"], range(5), strict=True))
    desk, shelf, mug = by_title["Oak desk lamp"], by_title["Walnut bookshelf with drawers"], by_title["Mug"]
    assert known.answers[desk] == {0, 1}
    half = known.queries["half"][shelf]
    assert half is not None
    assert len(half.split()) == 2
    assert set(half.split()) < set(TITLES[5].split())
    typed = known.queries["typo"][shelf]
    assert typed is not None
    assert sum(a != b for a, b in zip(typed.split(), TITLES[5].split(), strict=True)) == 1
    assert known.queries["half"][mug] is None
    assert known.queries["typo"][mug] is None, "too short to be mistyped"
    assert len(known_items(TITLES, 2, mistyped)) == 2


def test_figures_are_what_counting_by_hand_gives() -> None:
    known = known_items(TITLES, 100, mistyped)
    titles = known.queries["title"]

    def second(queries: Sequence[str]) -> Rows:
        """The item at place 2 for all, at 11 for the rug, nowhere for the mug."""
        lists = np.full((len(queries), 12), -1, np.int64)
        for i, query in enumerate(queries):
            row = next((TITLES.index(t) for t in TITLES if t == query), -1)
            if query == "Red rug":
                lists[i, 10] = row
            elif query != "Mug":
                lists[i, 1] = row
        return lists

    found = measure_search("second", second, known, replicates=50)
    assert found.sizes["title"] == len(titles) == 5
    mrr, first, ten = (found.figures["title"][name].mean for name in METRICS)
    assert mrr == pytest.approx((3 * 0.5 + 1 / 11) / 5)
    assert (first, ten) == (0.0, pytest.approx(3 / 5))
    assert found.figures["title"]["mrr@20"].low <= mrr <= found.figures["title"]["mrr@20"].high
    plain = found.to_dict()
    assert plain["queries"] == found.sizes
    assert set(plain["figures"]) == set(KINDS)


def test_a_kind_without_queries_is_shown_as_nothing() -> None:
    known = known_items(["灯", "椅"], 10, mistyped)
    found = measure_search("x", lambda queries: np.full((len(queries), 3), -1), known, replicates=10)
    assert found.sizes["typo"] == 0
    assert np.isnan(found.figures["typo"]["recall@1"].mean)
    assert found.to_dict()["figures"]["typo"]["recall@1"]["mean"] is None
    assert search_grids([found])[2].rows == (("x", "–", "–", "–"),)


def test_baselines_find_what_they_can() -> None:
    titles = [f"{a} {b}" for a in ("oak", "red", "tin", "blue") for b in ("lantern", "cushion", "teapot")]
    known = known_items(titles, 100, mistyped)
    words = measure_search("bm25_words", Bm25(titles), known, replicates=10).figures
    assert words["title"]["recall@1"].mean == 1.0
    assert words["typo"]["recall@1"].mean < 1.0, "a word that is mistyped is no word"
    assert (Bm25(titles)(["nothing in common"]) == -1).all()
    assert Bm25(titles)(["oak"]).shape == (1, DEPTH)
    table = np.eye(len(titles), dtype=np.float32)
    rows = {title: row for row, title in enumerate(titles)}
    nearest = NearestText(lambda queries: table[[rows.get(query, 0) for query in queries]], table)
    assert measure_search("n", nearest, known, replicates=10).figures["title"]["recall@1"].mean == 1.0
