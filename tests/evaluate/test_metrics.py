from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.evaluate import metrics
from recsys.evaluate.answers import ItemSets


def sets(*groups: list[int], num_items: int = 20) -> ItemSets:
    users = np.repeat(np.arange(len(groups)), [len(g) for g in groups])
    return ItemSets.from_pairs(
        users, np.array([i for g in groups for i in g], np.int64), len(groups), num_items
    )


def one(ranked: list[int], answers: list[int], ks: tuple[int, ...] = (1, 2, 3, 5)) -> dict[str, float]:
    lists = np.array([ranked], np.int64).reshape(1, -1)
    return {name: float(v[0]) for name, v in metrics.per_user(lists, sets(answers), 20, ks).items()}


def test_no_answers_is_undefined_not_zero() -> None:
    assert all(math.isnan(value) for value in one([1, 2], []).values())


def test_empty_list_is_zero() -> None:
    assert set(one([-1, -1], [3]).values()) == {0.0}
    assert set(one([], [3]).values()) == {0.0}


def test_hand_case() -> None:
    values = one([7, 3, 9, 4], [3, 4, 11])
    ideal3 = 1 + 1 / math.log2(3) + 1 / 2
    assert values["ndcg@1"] == 0
    assert values["ndcg@2"] == pytest.approx((1 / math.log2(3)) / (1 + 1 / math.log2(3)))
    assert values["ndcg@5"] == pytest.approx((1 / math.log2(3) + 1 / math.log2(5)) / ideal3)
    assert values["recall@1"] == 0
    assert values["recall@3"] == pytest.approx(1 / 3)
    assert values["recall@5"] == pytest.approx(2 / 3)
    assert (values["hit@1"], values["hit@2"]) == (0, 1)
    assert (values["mrr@1"], values["mrr@2"], values["mrr@5"]) == (0, 0.5, 0.5)
    assert values["map@5"] == pytest.approx((1 / 2 + 2 / 4) / 3)
    assert values["map@2"] == pytest.approx((1 / 2) / 2)


def test_perfect_list_of_more_answers_than_places() -> None:
    values = one([1, 2], [1, 2, 3, 4], ks=(2,))
    assert values == {"ndcg@2": 1, "recall@2": 0.5, "hit@2": 1, "mrr@2": 1, "map@2": 1}


def second_formulation(ranked: list[int], answers: set[int], k: int) -> dict[str, float]:
    """Loops over one user, as the definitions read."""
    top = [item for item in ranked[:k] if item >= 0]
    gains = [1.0 if item in answers else 0.0 for item in top]
    dcg = sum(g / math.log(place + 2, 2) for place, g in enumerate(gains))
    best = sum(1 / math.log(place + 2, 2) for place in range(min(k, len(answers))))
    precisions = [sum(gains[: i + 1]) / (i + 1) for i, g in enumerate(gains) if g]
    first = next((place + 1 for place, g in enumerate(gains) if g), None)
    return {
        f"ndcg@{k}": dcg / best,
        f"recall@{k}": len(answers & set(top)) / len(answers),
        f"hit@{k}": float(bool(answers & set(top))),
        f"mrr@{k}": 0.0 if first is None else 1 / first,
        f"map@{k}": sum(precisions) / min(k, len(answers)),
    }


cases = st.lists(
    st.tuples(
        st.lists(st.integers(0, 19), unique=True, max_size=12),
        st.sets(st.integers(0, 19), min_size=1, max_size=15),
    ),
    min_size=1,
    max_size=6,
)


@given(cases, st.sampled_from([(1,), (3, 5), (5, 10, 20)]))
@settings(max_examples=150, deadline=None)
def test_agrees_with_a_second_formulation(
    users: list[tuple[list[int], set[int]]], ks: tuple[int, ...]
) -> None:
    lists = np.full((len(users), 12), -1, np.int64)
    for row, (ranked, _) in enumerate(users):
        lists[row, : len(ranked)] = ranked
    values = metrics.per_user(lists, sets(*[sorted(a) for _, a in users]), 20, ks)
    for row, (ranked, answers) in enumerate(users):
        for k in ks:
            for name, expected in second_formulation(ranked, answers, k).items():
                assert values[name][row] == pytest.approx(expected, abs=1e-12), name


@given(cases)
@settings(max_examples=80, deadline=None)
def test_invariants(users: list[tuple[list[int], set[int]]]) -> None:
    lists = np.full((len(users), 12), -1, np.int64)
    for row, (ranked, _) in enumerate(users):
        lists[row, : len(ranked)] = ranked
    truth = sets(*[sorted(a) for _, a in users])
    ks = (1, 3, 10)
    values = metrics.per_user(lists, truth, 20, ks)
    assert set(values) == {f"{name}@{k}" for name in metrics.ACCURACY for k in ks}
    for array in values.values():
        assert ((array >= 0) & (array <= 1 + 1e-12)).all()
    for name in ("recall", "hit", "mrr"):  # more places never hurt these
        assert (values[f"{name}@1"] <= values[f"{name}@3"] + 1e-12).all()
        assert (values[f"{name}@3"] <= values[f"{name}@10"] + 1e-12).all()
    for k in ks:
        assert ((values[f"hit@{k}"] == 0) == (values[f"ndcg@{k}"] == 0)).all()
        assert (values[f"mrr@{k}"] <= values[f"hit@{k}"]).all()


def test_moving_an_answer_up_raises_ndcg_and_map() -> None:
    low, high = one([9, 8, 3], [3]), one([9, 3, 8], [3])
    assert high["ndcg@3"] > low["ndcg@3"]
    assert high["map@3"] > low["map@3"]
    assert high["recall@3"] == low["recall@3"]


def test_coverage_and_gini() -> None:
    everything = np.arange(20, dtype=np.int64).reshape(10, 2)
    assert metrics.coverage(everything, 20, 2) == 1
    assert metrics.coverage(everything, 20, 1) == 0.5
    assert metrics.gini(everything, 20, 2) == pytest.approx(0)
    same = np.zeros((10, 1), np.int64)
    assert metrics.coverage(same, 20, 1) == 0.05
    assert metrics.gini(same, 20, 1) == pytest.approx(19 / 20)
    assert math.isnan(metrics.gini(np.full((2, 3), -1, np.int64), 20, 3))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_gini_is_half_the_relative_mean_difference(shown: list[int]) -> None:
    exposure = np.bincount(shown, minlength=10).astype(float)
    expected = np.abs(exposure[:, None] - exposure).sum() / (2 * 10 * exposure.sum())
    assert metrics.gini(np.array(shown)[:, None], 10, 1) == pytest.approx(expected)


def test_novelty_and_popularity() -> None:
    counts = np.array([7, 1, 0, 0])  # smoothed: 8, 2, 1, 1 of 12
    lists = np.array([[0, 1], [2, -1], [-1, -1]])
    bits = metrics.novelty(lists, counts, 2)
    assert bits[0] == pytest.approx((math.log2(12 / 8) + math.log2(12 / 2)) / 2)
    assert bits[1] == pytest.approx(math.log2(12))
    assert math.isnan(bits[2])
    assert metrics.mean_popularity(lists, counts, 2)[:2].tolist() == [4, 0]
    truth = sets([0], [1], [2], num_items=4)
    assert metrics.popularity_bias(lists, truth, counts, 2) == pytest.approx(2 / (8 / 3))
    assert math.isnan(metrics.popularity_bias(lists, sets([2], [3], [2], num_items=4), counts, 2))


def test_diversity_equals_the_pairs(vectors: np.ndarray) -> None:
    random = np.random.Generator(np.random.PCG64(0))
    lists = np.stack([random.permutation(60)[:6] for _ in range(30)])
    lists[0, 2:] = -1
    lists[1, 1:] = -1
    for k, values in metrics.diversity(lists, vectors, (5, 2, 10), block=7).items():
        for row, ranked in enumerate(lists):
            top = vectors[ranked[:k][ranked[:k] >= 0]]
            pairs = [1 - top[i] @ top[j] for i in range(len(top)) for j in range(i)]
            if pairs:
                assert values[row] == pytest.approx(float(np.mean(pairs)), abs=1e-5)
            else:
                assert math.isnan(values[row])
