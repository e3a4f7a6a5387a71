from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.config import RankConfig
from recsys.errors import DependencyError
from recsys.model.ranker import (
    LINE_PENALTY,
    RankingLists,
    _listwise,
    _ndcg,
    fit_ranker,
    neural_scores,
    split_lists,
)
from recsys.model.trees import fit_trees, tree_scores
from recsys.rank_features import RANK_FEATURES
from recsys.ranking import JUDGED_SHARES, NEW_ITEM_LISTS, choose_form, export_ranker, temper_hits
from recsys.scorer import OnnxScorer


def lists_where_one_feature_decides(num_users: int = 200, size: int = 12) -> RankingLists:
    rng = np.random.default_rng(1)
    features = rng.standard_normal((num_users * size, 5)).astype(np.float32)
    features[:, 2] *= 100  # another scale: standardisation is the ranker's own business
    labels = np.zeros(num_users * size, np.float32)
    for user in range(num_users):
        span = slice(user * size, (user + 1) * size)
        labels[span][np.argsort(-features[span, 2])[:2]] = 1
    offsets = np.arange(0, num_users * size + 1, size)
    return RankingLists(features, labels, np.ones(len(labels), bool), offsets)


def test_it_finds_the_feature_that_decides() -> None:
    lists = lists_where_one_feature_decides()
    model, figures = fit_ranker(lists, RankConfig(epochs=6), seed=0)
    assert _ndcg(neural_scores(model), lists, np.arange(200), novel=False) > 0.97
    assert figures["lists"] + figures["held_out_lists"] == 200


def test_one_seed_gives_one_ranker_and_clipping_holds_strange_values() -> None:
    lists = lists_where_one_feature_decides(60)
    one, two = (fit_ranker(lists, RankConfig(epochs=2), seed=4)[0] for _ in range(2))
    x = torch.from_numpy(lists.features[:20])
    torch.testing.assert_close(one(x), two(x), rtol=0, atol=0)
    wild = x.clone()
    wild[:, 0] = 1e9
    edge = x.clone()
    edge[:, 0] = one.high[0]
    torch.testing.assert_close(one(wild), one(edge))


def lists_along_a_line(num: int, seed: int, size: int = 25) -> RankingLists:
    """Six features weigh together, with noise, what three items of a list are taken; half are novel."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((num * size, 6)).astype(np.float32)
    wanted = features @ np.array([3, -2, 1, 0, 0, 0.5]) + rng.standard_normal(num * size)
    labels = np.zeros((num, size), np.float32)
    np.put_along_axis(labels, np.argsort(-wanted.reshape(num, size))[:, :3], 1, axis=1)
    offsets = np.arange(0, num * size + 1, size)
    return RankingLists(features, labels.ravel(), rng.random(num * size) < 0.5, offsets)


def test_few_lists_teach_a_line_and_no_network() -> None:
    model, figures = fit_ranker(lists_along_a_line(20, 0), RankConfig(), seed=0)
    assert figures["best_epoch"] == 0
    assert [one["epoch"] for one in figures["epochs"]] == [0], "four held-out users tell no epochs apart"
    later = lists_along_a_line(200, 1)
    features = torch.from_numpy(later.features)
    assert not model.network(model.standardised(features)).any()
    best_feature = _ndcg(lambda x: x[:, 0], later, np.arange(200), novel=False)
    assert _ndcg(neural_scores(model), later, np.arange(200), novel=False) > best_feature + 0.08


def test_the_line_is_where_its_penalised_loss_is_least() -> None:
    lists = lists_along_a_line(30, 2)
    model, _ = fit_ranker(lists, RankConfig(), seed=0, epochs=0)
    line = model.linear.weight.detach()[0].requires_grad_()
    scores = (model.standardised(torch.from_numpy(lists.features)) @ line).reshape(30, 25)
    labels, novel = (torch.from_numpy(x).reshape(30, 25) for x in (lists.labels, lists.novel))
    losses = []
    for mask in (torch.ones_like(novel), novel):
        shares = torch.log_softmax(torch.where(mask, scores, -torch.inf), 1)
        each = [-row[hit].mean() for row, hit in zip(shares, labels.bool() & mask, strict=True) if hit.any()]
        losses.append(torch.stack(each).mean())
    (sum(losses) + LINE_PENALTY / 30 * line.square().sum()).backward()
    assert line.grad is not None
    assert float(line.grad.abs().max()) < 1e-3
    assert float(line.detach().abs().max()) > 0.3


def test_many_lists_teach_what_a_line_cannot_say() -> None:
    _, figures = fit_ranker(lists_where_two_features_decide_together(), RankConfig(), seed=0)
    start, *later = (one["all"] for one in figures["epochs"])
    assert figures["best_epoch"] > 0
    assert max(later) > start + 0.05


def test_listwise_loss_is_the_plain_cross_entropy_of_each_list() -> None:
    scores = torch.tensor([1.0, 2.0, 0.5, -1.0, 3.0])
    labels = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0])
    groups = torch.tensor([0, 0, 0, 1, 1])
    everything = torch.ones(5, dtype=torch.bool)
    by_hand = (-torch.log_softmax(scores[:3], 0)[0] - torch.log_softmax(scores[3:], 0).mean()) / 2
    torch.testing.assert_close(_listwise(scores, labels, groups, everything, 2), by_hand)
    mask = torch.tensor([True, True, False, False, False])
    only = -torch.log_softmax(scores[:2], 0)[0]
    torch.testing.assert_close(_listwise(scores, labels, groups, mask, 2), only)


def lists_where_two_features_decide_together(num_users: int = 300, size: int = 20) -> RankingLists:
    """What is taken has both features high or both low: no sum of the two says so, a tree does."""
    rng = np.random.default_rng(2)
    features = rng.standard_normal((num_users * size, 4)).astype(np.float32)
    worth = np.where(features[:, 0] * features[:, 1] > 0, 1.0, 0.0) + 0.1 * rng.random(num_users * size)
    labels = np.zeros(num_users * size, np.float32)
    for user in range(num_users):
        span = slice(user * size, (user + 1) * size)
        labels[span][np.argsort(-worth[span])[:3]] = 1
    novel = rng.random(len(labels)) < 0.7
    return RankingLists(features, labels, novel, np.arange(0, num_users * size + 1, size))


FEW_TREES = RankConfig(trees=40, epochs=2, leaves=8)


def test_trees_find_what_two_features_say_together_and_one_seed_gives_one_booster() -> None:
    lists = lists_where_two_features_decide_together()
    fit, held_out = split_lists(lists, 0)
    one, two = (fit_trees(lists, fit, FEW_TREES, 0) for _ in range(2))
    np.testing.assert_array_equal(one.predict(lists.features), two.predict(lists.features))
    chance = _ndcg(lambda features: features[:, 2], lists, held_out, novel=False)
    assert _ndcg(tree_scores(one), lists, held_out, novel=False) > chance + 0.1


@pytest.mark.parametrize("kind", ["neural", "trees", "mix"])
def test_every_form_is_one_graph_that_scores_as_the_model_does(kind: str, tmp_path: Path) -> None:
    lists = lists_where_two_features_decide_together()
    config = RankConfig(kind=kind, trees=40, epochs=2, leaves=8)
    form, figures = choose_form(lists, config, 0)
    assert figures["kind"] == kind
    assert figures["why"] == "rank.kind asks for it"
    parity = export_ranker(form, lists, tmp_path / "ranker.onnx")
    assert parity["same_top_10"] == 1.0
    scorer = OnnxScorer(tmp_path / "ranker.onnx", threads=1)
    assert scorer.num_features == 4
    for num in (1, 2, 7, 600):
        np.testing.assert_allclose(
            scorer.score(lists.features[:num]), form.score(lists.features[:num]), atol=1e-4
        )


def in_parts(lists: RankingLists, parts: int) -> RankingLists:
    """As if drawn from so many parts of time, one after the other."""
    return replace(lists, parts=np.arange(len(lists)) * parts // len(lists))


def test_auto_takes_the_share_of_trees_that_ranks_newer_lists_best_and_says_so() -> None:
    lists = in_parts(lists_where_two_features_decide_together(), 3)
    _, figures = choose_form(lists, FEW_TREES, 0)
    totals = {float(share): sum(one.values()) for share, one in figures["forms"].items()}
    assert tuple(totals) == JUDGED_SHARES
    assert figures["trees_share"] == max(totals, key=lambda share: totals[share]) > 0
    assert figures["kind"] == "mix"
    assert "100 lists newer than those" in figures["why"]


def test_what_held_for_a_while_alone_speaks_against_the_trees() -> None:
    """One feature numbers the items, of which the newest part wants other ones; another always holds."""
    rng = np.random.default_rng(4)
    num, size = 300, 20
    features = rng.standard_normal((num * size, 2)).astype(np.float32)
    features[:, 0] = np.concatenate([rng.permutation(size) for _ in range(num)])
    wanted = np.isin(features[:, 0], [3, 9, 15])
    wanted[200 * size :] = np.isin(features[200 * size :, 0], [0, 6, 12])
    labels = (features[:, 1] + 1.5 * wanted > 1.6).astype(np.float32)
    every = np.arange(0, num * size + 1, size)
    lists = in_parts(RankingLists(features, labels, np.ones(num * size, bool), every), 3)
    config = FEW_TREES.model_copy(update={"epochs": 5})
    _, figures = choose_form(lists, config, 0)
    assert figures["trees_share"] == 0
    assert figures["kind"] == "neural"
    _, same_time = choose_form(replace(lists, parts=np.arange(num) % 3), config, 0)
    assert same_time["trees_share"] > 0, "among lists of the same time the trees look better"


def test_without_newer_lists_to_judge_by_trees_have_a_quarter_of_the_say() -> None:
    lists = lists_where_two_features_decide_together()
    for few in (lists, in_parts(lists, 1), replace(lists, parts=(np.arange(300) >= 280).astype(np.int64))):
        _, figures = choose_form(few, FEW_TREES, 0)
        assert (figures["kind"], figures["trees_share"]) == ("mix", 0.25)
        assert "needed to choose" in figures["why"]


def test_lists_of_some_users_are_theirs_in_the_given_order() -> None:
    lists = lists_where_two_features_decide_together(5, 4)
    some = lists.take(np.array([3, 1]))
    assert some.offsets.tolist() == [0, 4, 8]
    np.testing.assert_array_equal(some.features, lists.features[[12, 13, 14, 15, 4, 5, 6, 7]])
    np.testing.assert_array_equal(some.labels, lists.labels[[12, 13, 14, 15, 4, 5, 6, 7]])


def test_without_lightgbm_auto_is_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.ranking.trees_available", lambda: False)
    _, figures = choose_form(lists_where_one_feature_decides(60), RankConfig(epochs=1), 0)
    assert figures["kind"] == "neural"
    assert "not installed" in figures["why"]
    monkeypatch.setattr("recsys.model.trees.trees_available", lambda: False)
    with pytest.raises(DependencyError, match="lightgbm"):
        fit_trees(lists_where_one_feature_decides(60), np.arange(60), RankConfig(), 0)


def test_a_hit_among_new_items_teaches_a_few_lists_of_each_part_and_the_rest_stay_whole() -> None:
    num, size = 60, 4
    cold = RANK_FEATURES.index("cold")
    features = np.zeros((num * size, len(RANK_FEATURES)), np.float32)
    features[::size, cold] = 1  # the first candidate of each list is new
    labels, items = np.zeros(num * size, np.float32), np.tile(np.arange(size), num)
    labels[::size] = labels[1::size] = 1
    items[: 10 * size : size] = np.arange(10) + 100  # ten lists have new items of their own
    parts, every = np.repeat([0, 1], num // 2), np.arange(0, num * size + 1, size)
    lists = RankingLists(features, labels, np.ones(num * size, bool), every, None, parts, items)
    left = temper_hits(lists, 0)
    assert left.items is not None
    hit = (left.items == 0) & (left.features[:, cold] > 0)
    assert np.bincount(np.repeat(parts, np.diff(left.offsets))[hit]).tolist() == [NEW_ITEM_LISTS] * 2
    assert (left.items >= 100).sum() == 10
    assert left.labels.sum() == 10 + 2 * NEW_ITEM_LISTS + num  # nothing else is left out
    assert len(left.labels) - left.labels.sum() == len(labels) - labels.sum()
    np.testing.assert_array_equal(left.offsets, temper_hits(lists, 0).offsets)
    assert temper_hits(replace(lists, items=None), 0).labels.sum() == labels.sum()
