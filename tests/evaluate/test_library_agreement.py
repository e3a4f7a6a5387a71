"""The metrics per user are those of trec_eval, through its Python binding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.evaluate import metrics
from recsys.evaluate.answers import ItemSets

pytrec_eval: Any = pytest.importorskip("pytrec_eval", reason="pytrec-eval-terrier (extra 'dev')")

ITEMS, LENGTH = 40, 25
KS = (1, 3, 5, 10, 20)
MEASURES = {
    *(f"ndcg_cut.{k}" for k in KS), *(f"recall.{k}" for k in KS), *(f"success.{k}" for k in KS),
    *(f"map_cut.{k}" for k in KS), "recip_rank",
}  # fmt: skip
Users = list[tuple[list[int], set[int]]]
users = st.lists(
    st.tuples(
        st.lists(st.integers(0, ITEMS - 1), unique=True, max_size=LENGTH),
        st.sets(st.integers(0, ITEMS - 1), min_size=1, max_size=30),
    ),
    min_size=1,
    max_size=8,
)


def library(cases: Users, k: int | None = None) -> dict[int, dict[str, float]]:
    """What trec_eval says of each user; it orders by score, so a rank becomes one."""
    truth = {f"u{u}": {f"i{item}": 1 for item in answers} for u, (_, answers) in enumerate(cases)}
    run = {
        f"u{u}": {f"i{item}": float(-place) for place, item in enumerate(ranked[:k])}
        for u, (ranked, _) in enumerate(cases)
    }
    said = pytrec_eval.RelevanceEvaluator(truth, MEASURES).evaluate(run)
    return {u: said.get(f"u{u}", {}) for u in range(len(cases))}  # an empty run is not answered


def ours(cases: Users) -> dict[str, np.ndarray]:
    lists = np.full((len(cases), LENGTH), -1, np.int64)
    for u, (ranked, _) in enumerate(cases):
        lists[u, : len(ranked)] = ranked
    owners = np.repeat(np.arange(len(cases)), [len(answers) for _, answers in cases])
    items = np.array([item for _, answers in cases for item in answers], np.int64)
    return metrics.per_user(lists, ItemSets.from_pairs(owners, items, len(cases), ITEMS), ITEMS, KS)


@given(users)
@settings(max_examples=120, deadline=None)
def test_every_metric_at_every_cut_off(cases: Users) -> None:
    values, whole = ours(cases), library(cases)
    for k in KS:
        cut = library(cases, k)
        for u, (_, answers) in enumerate(cases):
            said = whole[u]
            assert values[f"ndcg@{k}"][u] == pytest.approx(said.get(f"ndcg_cut_{k}", 0.0), abs=1e-6)
            assert values[f"recall@{k}"][u] == pytest.approx(said.get(f"recall_{k}", 0.0), abs=1e-6)
            assert values[f"hit@{k}"][u] == said.get(f"success_{k}", 0.0)
            # trec_eval divides by all answers, we by those that fit into k places
            expected = said.get(f"map_cut_{k}", 0.0) * len(answers) / min(k, len(answers))
            assert values[f"map@{k}"][u] == pytest.approx(expected, abs=1e-6)
            # it has no cut-off for the reciprocal rank: the run is cut instead
            assert values[f"mrr@{k}"][u] == pytest.approx(cut[u].get("recip_rank", 0.0), abs=1e-6)


def test_the_library_is_asked_what_we_think_it_is() -> None:
    said = library([([7, 3, 9, 4], {3, 4, 11})])[0]
    assert said["recip_rank"] == 0.5
    assert said["recall_3"] == pytest.approx(1 / 3)
    assert said["success_1"] == 0
