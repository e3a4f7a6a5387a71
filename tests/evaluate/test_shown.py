"""Metrics of what is shown, with intervals, against plain loops over the resamples."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.evaluate import metrics
from recsys.evaluate.answers import ItemSets
from recsys.evaluate.shown import _gini_of_rows, _resamples, shown_figures

USERS, ITEMS = 40, 30


def world(seed: int = 0) -> tuple[np.ndarray, ItemSets, np.ndarray]:
    random = np.random.Generator(np.random.PCG64(seed))
    lists = np.stack([random.permutation(ITEMS)[:10] for _ in range(USERS)])
    lists[3, 2:] = -1
    lists[4] = -1
    truth = ItemSets.from_pairs(random.integers(0, USERS, 90), random.integers(0, ITEMS, 90), USERS, ITEMS)
    return lists, truth, random.integers(0, 50, ITEMS)


def test_means_are_those_of_the_plain_metrics(vectors: np.ndarray) -> None:
    lists, truth, counts = world()
    figures = shown_figures(lists, truth, counts, np.arange(USERS), (5, 10), vectors[:ITEMS])
    for k in (5, 10):
        assert figures[f"coverage@{k}"].mean == metrics.coverage(lists, ITEMS, k)
        assert figures[f"gini@{k}"].mean == metrics.gini(lists, ITEMS, k)
        assert figures[f"novelty@{k}"].mean == pytest.approx(np.nanmean(metrics.novelty(lists, counts, k)))
        expected = metrics.popularity_bias(lists, truth, counts, k)
        assert figures[f"popularity_bias@{k}"].mean == pytest.approx(expected)
        by_user = metrics.diversity(lists, vectors[:ITEMS], (k,))[k]
        assert figures[f"diversity@{k}"].mean == pytest.approx(np.nanmean(by_user))
    for figure in figures.values():
        assert figure.low <= figure.mean <= figure.high


def test_intervals_are_those_of_lists_drawn_anew() -> None:
    lists, truth, counts = world()
    figures = shown_figures(lists, truth, counts, np.arange(USERS), (10,), replicates=60, seed=3)
    drawn = [np.repeat(np.arange(USERS), row.astype(int)) for row in _resamples(USERS, 60, 3)]
    for name, measured in {
        "coverage@10": [metrics.coverage(lists[users], ITEMS, 10) for users in drawn],
        "gini@10": [metrics.gini(lists[users], ITEMS, 10) for users in drawn],
    }.items():
        low, high = np.quantile(np.array(measured) - np.mean(measured) + figures[name].mean, (0.025, 0.975))
        assert (figures[name].low, figures[name].high) == pytest.approx((low, min(high, 1.0)))
    bias = [metrics.popularity_bias(lists[users], truth.take(users), counts, 10) for users in drawn]
    low, high = np.quantile(bias, (0.025, 0.975))
    assert (figures["popularity_bias@10"].low, figures["popularity_bias@10"].high) == pytest.approx(
        (low, high)
    )
    novelty = metrics.novelty(lists, counts, 10)
    low, high = np.quantile([np.nanmean(novelty[users]) for users in drawn], (0.025, 0.975))
    assert (figures["novelty@10"].low, figures["novelty@10"].high) == pytest.approx((low, high))


def test_a_users_cases_are_drawn_together() -> None:
    """Ten copies of every user's case say no more than one."""
    lists, truth, counts = world()
    tenfold = np.repeat(np.arange(USERS), 10)
    once = shown_figures(lists, truth, counts, np.arange(USERS), (5,))
    often = shown_figures(lists[tenfold], truth.take(tenfold), counts, tenfold, (5,))
    for name, figure in once.items():
        other = often[name]
        assert (figure.mean, figure.low, figure.high) == pytest.approx((other.mean, other.low, other.high))


def test_gini_of_rows_equals_the_metric() -> None:
    random = np.random.Generator(np.random.PCG64(2))
    counts = random.integers(0, 5, (20, 12)).astype(np.float32)
    for row, value in zip(counts, _gini_of_rows(counts, 50), strict=True):
        shown = np.repeat(np.arange(12), row.astype(int))[:, None]
        assert value == pytest.approx(metrics.gini(shown, 50, 1))


def test_nothing_shown_and_nobody_there() -> None:
    _, truth, counts = world()
    figures = shown_figures(np.full((USERS, 5), -1), truth, counts, np.arange(USERS), (5,))
    assert figures["coverage@5"].mean == 0
    for name in ("gini@5", "novelty@5", "popularity_bias@5"):
        assert np.isnan([figures[name].mean, figures[name].low, figures[name].high]).all()
    none = ItemSets(np.zeros(1, np.int64), np.empty(0, np.int64))
    figures = shown_figures(np.empty((0, 5), np.int64), none, counts, np.empty(0, np.int64), (5,))
    assert figures["coverage@5"].mean == 0
    assert np.isnan(figures["novelty@5"].mean)
    figures = shown_figures(*world(), np.arange(USERS), (5,), replicates=0)
    assert figures["coverage@5"].mean > 0
    assert np.isnan(figures["coverage@5"].low)
