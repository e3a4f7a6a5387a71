from __future__ import annotations

import numpy as np
import torch

from recsys.config import RankConfig
from recsys.model.ranker import RankingLists, _listwise, _ndcg, fit_ranker


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
    assert _ndcg(model, lists, np.arange(200), novel=False) > 0.97
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
