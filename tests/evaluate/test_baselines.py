from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable

import numpy as np
import pytest
import scipy.sparse as sp

from recsys.errors import ConfigError, DependencyError
from recsys.evaluate import baselines, linear, text_baselines
from recsys.evaluate.answers import AnswerSheet, Histories, ItemSets
from recsys.evaluate.baselines import Baseline, Fusion, ItemKnn, OwnRepeats, Popular, fuse
from recsys.evaluate.linear import Als, Ease
from recsys.evaluate.measure import Measure, measure_baselines
from recsys.evaluate.standard import standard_baselines
from recsys.evaluate.text_baselines import TextNearest, whiten
from recsys.evaluate.topk import blocks, keep_largest, top_dense, top_sparse

Split = tuple[AnswerSheet, Histories]
Make = Callable[[np.ndarray], Baseline]
needs_implicit = pytest.mark.skipif(
    importlib.util.find_spec("implicit") is None, reason="implicit (extra 'baselines') is not installed"
)

# The conformance suite: a new baseline is one line here.
ALL: dict[str, Make] = {
    "popular": lambda v: Popular(),
    "popular_30d": lambda v: Popular(days=30),
    "item_knn": lambda v: ItemKnn(),
    "repeats": lambda v: OwnRepeats(),
    "ease": lambda v: Ease(),
    "ease_decay": lambda v: Ease(decay=0.7),
    "als": lambda v: Als(),
    "text_untuned": lambda v: TextNearest(v, whitened=False),
    "text_whitened": lambda v: TextNearest(v, whitened=True),
    "fusion": lambda v: Fusion([Popular(), ItemKnn()]),
}


@pytest.fixture(params=[pytest.param(name, marks=needs_implicit if name == "als" else ()) for name in ALL])
def fitted(request: pytest.FixtureRequest, split: Split, vectors: np.ndarray) -> Baseline:
    baseline = ALL[request.param](vectors)
    assert baseline.name == request.param
    assert baseline.fit(split[1], len(split[0].items)) is baseline
    return baseline


def test_every_baseline_is_enrolled(vectors: np.ndarray) -> None:
    classes = {
        name
        for module in (baselines, linear, text_baselines)
        for name, value in inspect.getmembers(module, inspect.isclass)
        if value.__module__ == module.__name__ and hasattr(value, "rank") and name != "Baseline"
    }
    assert classes == {type(make(vectors)).__name__ for make in ALL.values()}


def test_lists_are_distinct_rows_then_padding(fitted: Baseline, split: Split) -> None:
    sheet, _ = split
    lists = fitted.rank(sheet.histories, 20)
    assert lists.shape == (len(sheet), 20)
    assert lists.dtype == np.int64
    for row in lists:
        kept = row[row >= 0]
        assert (row[len(kept) :] == -1).all()
        assert len(set(kept)) == len(kept)
        assert (kept < len(sheet.items)).all()
    assert (lists[:, 0] >= 0).all()


def test_excluded_items_never_appear(fitted: Baseline, split: Split) -> None:
    sheet, _ = split
    seen = sheet.histories.distinct(len(sheet.items))
    lists = fitted.rank(sheet.histories, 30, seen)
    for user, row in enumerate(lists):
        own = seen.rows[seen.offsets[user] : seen.offsets[user + 1]]
        assert not set(own) & set(row.tolist())


def test_exclusion_leaves_the_order_of_the_rest(fitted: Baseline, split: Split) -> None:
    if isinstance(fitted, Fusion):
        pytest.skip("its parts' lists move up, so that their ranks change")
    sheet, _ = split
    seen = sheet.histories.distinct(len(sheet.items))
    plain = fitted.rank(sheet.histories, len(sheet.items))
    less = fitted.rank(sheet.histories, len(sheet.items), seen)
    for user in range(len(sheet)):
        own = set(seen.rows[seen.offsets[user] : seen.offsets[user + 1]].tolist())
        expected = [row for row in plain[user].tolist() if row not in own and row >= 0]
        assert [row for row in less[user].tolist() if row >= 0] == expected


def test_a_user_is_ranked_the_same_alone_and_in_a_batch(fitted: Baseline, split: Split) -> None:
    sheet, _ = split
    whole = fitted.rank(sheet.histories, 10)
    for user in (0, 17, len(sheet) - 1):
        alone = fitted.rank(sheet.histories.take(np.array([user])), 10)
        np.testing.assert_array_equal(alone[0], whole[user])


def test_an_empty_history_and_an_empty_batch_are_fine(fitted: Baseline) -> None:
    nobody = Histories(np.array([0, 0]), np.empty(0, np.int64), np.empty(0, np.int64))
    lists = fitted.rank(nobody, 5)
    assert lists.shape == (1, 5)
    none = Histories(np.array([0]), np.empty(0, np.int64), np.empty(0, np.int64))
    assert fitted.rank(none, 5).shape == (0, 5)


def test_k_beyond_the_catalogue_is_padded(fitted: Baseline, split: Split) -> None:
    sheet, _ = split
    lists = fitted.rank(sheet.histories, 100)
    assert lists.shape == (len(sheet), 100)
    assert (lists[:, 60:] == -1).all()


def test_fitting_and_ranking_leave_the_histories_alone(fitted: Baseline, split: Split) -> None:
    sheet, train = split
    before = (sheet.histories.offsets.copy(), train.rows.copy(), train.timestamps.copy())
    fitted.fit(train, len(sheet.items)).rank(sheet.histories, 5)
    np.testing.assert_array_equal(sheet.histories.offsets, before[0])
    np.testing.assert_array_equal(train.rows, before[1])
    np.testing.assert_array_equal(train.timestamps, before[2])


def two_tastes() -> Histories:
    """Ten users of items 0-4, ten of items 5-9; user 0 lacks item 4, user 10 lacks item 9."""
    users, items = [], []
    for user in range(20):
        for item in range(5):
            if (user, item) not in ((0, 4), (10, 4)):
                users.append(user)
                items.append(item + 5 * (user >= 10))
    order = np.arange(len(users))
    return Histories.from_events(np.array(users), np.array(items), order, 20)


@pytest.mark.parametrize("make", [ItemKnn, Ease, lambda: Ease(decay=0.7, regularisation=5)])
def test_the_missing_item_of_ones_own_taste_comes_first(make: Callable[[], Baseline]) -> None:
    train = two_tastes()
    baseline = make().fit(train, 12)
    lists = baseline.rank(train.take(np.array([0, 10])), 1, train.distinct(12).take(np.array([0, 10])))
    assert lists[:, 0].tolist() == [4, 9]


def test_popular_counts_events_of_the_window() -> None:
    day = 86_400
    train = Histories.from_events(
        np.array([0, 0, 0, 1]), np.array([2, 2, 2, 1]), np.array([0, day, 2 * day, 40 * day]), 2
    )
    assert Popular().fit(train, 3).rank(train, 2)[0].tolist() == [2, 1]
    assert Popular(days=30).fit(train, 3).rank(train, 2)[0].tolist() == [1, 0]


def test_repeats_by_count_then_recency() -> None:
    train = Histories.from_events(
        np.zeros(5, np.int64), np.array([4, 4, 3, 7, 1]), np.array([1, 2, 9, 3, 4]), 1
    )
    assert OwnRepeats(Popular()).fit(train, 8).rank(train, 5)[0].tolist() == [4, 3, 1, 7, 0]


def test_item_knn_equals_the_dense_formula(split: Split) -> None:
    sheet, train = split
    num_items = len(sheet.items)
    own = np.zeros((len(train), num_items))
    own[train.users, train.rows] = 1
    counts = own.sum(axis=0)
    idf = np.log(num_items) - np.log1p(own.sum(axis=1))
    norm = 0.25 + 0.75 * counts / counts.mean()
    weighted = own * 2.2 / (1.2 * norm + 1) * idf[:, None]
    full = weighted.T @ weighted
    kept = np.zeros_like(full)
    for item in range(num_items):
        top = np.argsort(-full[item], kind="stable")[:10]
        kept[item, top] = full[item, top]
    fitted = ItemKnn(neighbours=10).fit(train, num_items)
    np.testing.assert_allclose(fitted.similarity.toarray().sum(axis=1), kept.sum(axis=1), rtol=1e-9)


def test_ease_solves_its_objective(split: Split) -> None:
    sheet, train = split
    num_items = len(sheet.items)
    own = np.zeros((len(train), num_items))
    own[train.users, train.rows] = 1
    gram = own.T @ own
    fitted = Ease(regularisation=20).fit(train, num_items)
    weights = np.zeros((num_items, num_items))
    weights[np.ix_(fitted._sold, fitted._sold)] = fitted._weights
    assert np.abs(np.diag(weights)).max() == 0
    gradient = gram @ weights - gram + 20 * weights  # zero off the diagonal, a multiplier on it
    np.fill_diagonal(gradient, 0)
    assert np.abs(gradient).max() < 1e-2


def test_ease_takes_sold_items_alone_however_large_the_catalogue() -> None:
    train = two_tastes()
    large = Ease().fit(train, 500_000)
    assert large._weights.shape == (10, 10)
    users = train.take(np.array([0, 10]))
    lists = large.rank(users, 12, train.distinct(500_000).take(np.array([0, 10])))
    assert lists[:, 0].tolist() == [4, 9]
    assert sorted(lists[0].tolist())[-6:] == [4, 5, 6, 7, 8, 9]
    np.testing.assert_allclose(large._weights, Ease().fit(train, 12)._weights, rtol=1e-5)


def test_ease_decay_takes_over_the_weights(split: Split) -> None:
    sheet, train = split
    ease = Ease()
    shared = Ease(decay=0.7, like=ease).fit(train, len(sheet.items))
    assert shared._weights is ease._weights
    alone = Ease(decay=0.7).fit(train, len(sheet.items))
    np.testing.assert_array_equal(shared.rank(sheet.histories, 10), alone.rank(sheet.histories, 10))


def test_ease_refuses_a_shop_that_sold_too_many_items(split: Split) -> None:
    with pytest.raises(ConfigError, match="up to 10 sold items, this shop has"):
        Ease(limit=10).fit(split[1], 60)


@needs_implicit
def test_als_places_a_user_where_the_package_does(split: Split) -> None:
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    sheet, train = split
    own = sp.csr_matrix(baselines.binary_matrix(train.distinct(len(sheet.items)), len(sheet.items)))
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(64, 0.05, 10.0, iterations=20, random_state=0)
        model.fit(own, show_progress=False)
        expected = model.recalculate_user(np.arange(own.shape[0]), own)
    fitted = Als().fit(train, len(sheet.items))
    np.testing.assert_allclose(fitted._items, model.item_factors, atol=1e-5)
    np.testing.assert_allclose(fitted._placed(own), expected, atol=1e-3)


def test_als_without_the_package_says_which_extra_brings_it(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "implicit.cpu.als", None)
    with pytest.raises(DependencyError, match="extra 'baselines'"):
        Als().fit(split[1], 60)


def test_text_vectors_must_be_those_of_the_catalogue(split: Split, vectors: np.ndarray) -> None:
    with pytest.raises(ValueError, match="59 vectors for 60 items"):
        TextNearest(vectors[:59], whitened=False).fit(split[1], 60)


def test_whitened_vectors_are_isotropic() -> None:
    random = np.random.Generator(np.random.PCG64(0))
    raw = random.normal(size=(3000, 8)) * np.array([9, 5, 3, 2, 1, 1, 0.5, 0.1]) + 4
    white = whiten(raw.astype(np.float32))
    assert white.shape == (3000, 8)
    assert np.linalg.norm(white, axis=1) == pytest.approx(np.ones(3000), abs=1e-5)
    spectrum = np.linalg.eigvalsh(np.cov(white.T))
    assert spectrum.max() / spectrum.min() < 3
    assert whiten(raw[:10].astype(np.float32)).shape == (10, 2)


def test_fusion_adds_reciprocal_ranks() -> None:
    lists = [np.array([[1, 2, 3]]), np.array([[3, 1, -1]]), np.array([[3]])]
    # 1: 1/21 + 1/22; 3: 1/23 + 2/21; 2: 1/22
    assert fuse(lists, 4, 9)[0].tolist() == [3, 1, 2, -1]
    with pytest.raises(ValueError, match="at least one part"):
        Fusion([])


def test_standard_set_says_what_it_leaves_out_and_why(
    split: Split, vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, train = split
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    whole = standard_baselines(train, vectors)
    assert [b.name for b in whole.baselines] == [n for n in ALL if n != "fusion"]
    assert whole.left_out == {}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    least = standard_baselines(train, ease_items=10)
    assert [b.name for b in least.baselines] == ["popular", "popular_30d", "item_knn", "repeats"]
    assert set(least.left_out) == {"ease", "ease_decay", "als", "text_untuned", "text_whitened"}
    assert "up to 10 are taken" in least.left_out["ease"]
    assert "extra 'baselines'" in least.left_out["als"]


def test_measured_under_both_tasks_with_their_fusion(split: Split, vectors: np.ndarray) -> None:
    sheet, train = split
    chosen = standard_baselines(train, vectors)
    measured = measure_baselines(sheet, train, chosen.baselines, Measure(space=vectors, replicates=20))
    assert list(measured) == ["all", "novel"]
    for task, evaluations in measured.items():
        assert [one.name for one in evaluations] == [n for n in ALL if n not in chosen.left_out]
        assert {one.task for one in evaluations} == {task}
        assert all("diversity@10" in one.catalogue for one in evaluations)
    by_name = {one.name: one["ndcg@10"].mean for one in measured["novel"]}
    assert by_name["item_knn"] > by_name["popular"]  # two tastes: co-occurrence must help here


def test_top_dense_and_top_sparse_agree_with_sorting() -> None:
    random = np.random.Generator(np.random.PCG64(5))
    scores = random.permutation(600).reshape(20, 30).astype(np.float32) + 1
    exclude = ItemSets.from_pairs(np.repeat(np.arange(20), 3), random.integers(0, 30, 60), 20, 30)
    expected = scores.copy()
    expected[exclude.users, exclude.rows] = -1
    order = np.argsort(-expected, axis=1)[:, :7]
    np.testing.assert_array_equal(top_sparse(sp.csr_array(scores), 7, exclude), order)
    np.testing.assert_array_equal(top_dense(scores.copy(), 7, exclude), order)


@pytest.mark.parametrize("density", [0.05, 0.9])
def test_keep_largest_agrees_with_sorting_ties_included(density: float) -> None:
    random = np.random.Generator(np.random.PCG64(6))
    dense = random.integers(1, 9, (40, 50)) * (random.random((40, 50)) < density).astype(float)
    kept = keep_largest(sp.csr_array(dense), 6).toarray()
    for row, expected in zip(kept, dense, strict=True):
        order = np.lexsort((np.arange(50), -expected))[:6]
        wanted = np.zeros(50)
        wanted[order] = expected[order]
        np.testing.assert_array_equal(row, wanted)


def test_keep_largest_keeps_the_largest() -> None:
    matrix = sp.csr_array(np.array([[0, 3, 1, 2], [0, 0, 0, 0], [5, 0, 0, 4.0]]))
    kept = keep_largest(matrix, 2).toarray()
    assert kept.tolist() == [[0, 3, 0, 2], [0, 0, 0, 0], [5, 0, 0, 4]]


def test_blocks_cover_everything_within_the_budget() -> None:
    costs = np.array([3, 3, 3, 50, 1, 1])
    parts = list(blocks(costs, 7))
    assert [(p.start, p.stop) for p in parts] == [(0, 2), (2, 3), (3, 4), (4, 6)]
    assert list(blocks(np.empty(0, np.int64), 7)) == []
