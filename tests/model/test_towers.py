import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.config import ModelConfig
from recsys.model.batching import pad_histories, seen_items, target_pairs, trainable
from recsys.model.fitted import TowersFit
from recsys.model.popularity import Popularity
from recsys.model.step import pooled
from recsys.model.towers import TwoTower, UserTower, combined, gates
from recsys.optimise import tower_parameters

PLAIN = ModelConfig(item_bias=False)


def unit(*shape, seed=0):
    values = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def test_gates_shrink_by_evidence():
    found = gates(np.array([0, 1, 10, 1000]), 10.0)
    np.testing.assert_allclose(found, [0, 1 / 11, 0.5, 1000 / 1010], rtol=1e-6)
    np.testing.assert_array_equal(gates(np.array([0, 1]), 0.0), [0, 1])


def test_a_cold_item_is_its_text_whatever_the_table_holds():
    model = TwoTower(np.array([0, 5]), 4, PLAIN)
    torch.nn.init.normal_(model.target_residual)
    text = torch.from_numpy(unit(2, 4))
    items = model.items(text, torch.arange(2), "target")
    torch.testing.assert_close(items[0], text[0])
    assert not torch.allclose(items[1], text[1])
    dropped = model.items(text, torch.arange(2), "target", torch.zeros(2))
    torch.testing.assert_close(dropped, text)


def test_numpy_and_torch_combine_alike():
    counts = np.array([0, 1, 7, 100])
    model = TwoTower(counts, 6, PLAIN)
    torch.nn.init.normal_(model.history_residual)
    text = unit(4, 6)
    text[1] = 0  # an item without text
    ours = model.items(torch.from_numpy(text), torch.arange(4), "history").detach().numpy()
    theirs = combined(text, model.whole()["history_residual"].numpy(), gates(counts, 10.0))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_tables_hold_the_items_that_have_events():
    counts = np.array([0, 3, 0, 1, 0])
    model = TwoTower(counts, 4, ModelConfig(item_bias=True))
    assert len(model.target_residual) == len(model.history_residual) == len(model.bias) == 2
    for table in (model.target_residual, model.history_residual, model.bias):
        torch.nn.init.normal_(table)
    whole = model.whole()
    assert whole["target_residual"].shape == (5, 4)
    assert not whole["target_residual"][counts == 0].any()
    torch.testing.assert_close(whole["history_residual"][[1, 3]], model.history_residual.detach())
    again = TwoTower(counts, 4, ModelConfig(item_bias=True))
    again.load_whole(whole)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor)
    text = torch.from_numpy(unit(5, 4))
    found = model.items(text[[4, 3]], torch.tensor([4, 3]), "target").detach().numpy()
    share = gates(counts, 10.0)
    bias = Popularity.of_counts(counts).now @ model.bias_slopes.detach().numpy()
    everything = combined(
        text.numpy(), whole["target_residual"].numpy(), share, share * (bias + whole["bias"].numpy())
    )
    np.testing.assert_allclose(found, everything[[4, 3]], atol=1e-6)


def test_a_shop_without_any_event_has_towers_all_the_same():
    model = TwoTower(np.zeros(3, np.int64), 4, ModelConfig())
    text = torch.from_numpy(unit(3, 4))
    torch.testing.assert_close(model.items(text, torch.arange(3), "history")[:, :-1], head(text))
    again = TwoTower(np.zeros(3, np.int64), 4, ModelConfig())
    again.load_whole(model.whole())


def head(text):
    return torch.nn.functional.normalize(text[:, :-1], dim=-1)


def test_histories_are_pooled_without_a_copy_per_event_as_with_one(make):
    contexts = make([[0, 1, 2, 2], [], [3], [1, 0]], [[3], [3], [1], [2]])
    config = ModelConfig(history_length=3)
    model, text = TwoTower(np.array([5, 5, 5, 5]), 4, config), torch.from_numpy(unit(4, 4))
    torch.manual_seed(1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    positions = np.arange(4)
    padded = pad_histories(contexts, positions, 3)
    distinct, places = np.unique(padded.rows, return_inverse=True)
    rows = torch.from_numpy(distinct)
    told = [torch.from_numpy(part) for part in (padded.events, padded.gaps, padded.mask)]

    def gradients(users):
        model.zero_grad()
        (users * torch.arange(16.0).reshape(4, 4)).sum().backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    table = model.items(text[rows], rows, "history")
    ours = pooled(model, padded, padded.mask, places, table)
    mine = gradients(ours)
    table = model.items(text[rows], rows, "history")
    theirs = model.user(table[torch.from_numpy(places.reshape(padded.rows.shape))], *told)
    torch.testing.assert_close(ours, theirs)
    assert not ours[1].any()
    wanted = gradients(theirs)
    assert mine.keys() == wanted.keys() >= {"history_residual", "user.lag_bias", "user.gap_bias"}
    for name, gradient in wanted.items():
        torch.testing.assert_close(mine[name], gradient)


def biased(counts, dim=6, seed=0):
    model = TwoTower(np.array(counts), dim, ModelConfig(item_bias=True, history_length=5))
    torch.manual_seed(seed)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def test_an_item_bias_adds_to_the_match_what_its_evidence_has_earned():
    counts = [0, 1, 7, 100]
    model, text = biased(counts), torch.from_numpy(unit(4, 6))
    items = model.items(text, torch.arange(4), "target").detach()
    history = model.items(text, torch.arange(4), "history").detach()
    assert not history[:, -1].any()
    assert items[0, -1] == 0  # a cold item has none
    slope, learned = float(model.bias_slopes[-1].detach()), model.whole()["bias"].numpy()
    share = gates(np.array(counts), 10.0)
    expected = share * (slope * np.log1p(counts) / np.log(101) + learned)
    np.testing.assert_allclose(items[:, -1], expected, atol=1e-6)
    args = (torch.zeros(2, 2, dtype=torch.int64), torch.ones(2, 2), torch.tensor([[True, True], [False] * 2]))
    users = model.user(history[torch.tensor([[0, 1], [2, 3]])], *args).detach()
    assert users[0].norm() == pytest.approx(1, rel=1e-5)
    assert not users[1].any()
    # Half of a user's squared length is for the bias: match of the texts plus bias, both times .5 ** .5.
    match = users[0] @ items.T * 2**0.5
    plain = users[0, :-1] @ items[:, :-1].T * 2**0.5
    np.testing.assert_allclose(match - plain, expected, atol=1e-6)
    assert users[0, :-1].norm() * 2**0.5 == pytest.approx(1, rel=1e-5)


def test_numpy_and_torch_agree_on_biased_items():
    counts = np.array([0, 1, 7, 100])
    model, text = biased(counts), unit(4, 6)
    state = {name: value.numpy() for name, value in model.whole().items()}
    config = ModelConfig(item_bias=True, history_length=5)
    fitted = TowersFit(state, text, counts, config, 1, (), (), 0.0)
    for side, ours in (("target", fitted.unit_item_vectors()), ("history", fitted.history_vectors())):
        theirs = model.items(torch.from_numpy(text), torch.arange(4), side).detach()
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_bias_starts_at_the_plain_ranking_and_learns_what_is_popular():
    rng = np.random.default_rng(0)
    truth = np.array([0.5, 0.2, 0.1, 0.1, 0.05, 0.05])
    targets = rng.choice(6, 2000, p=truth)
    model = TwoTower(np.bincount(targets, minlength=6), 8, ModelConfig(item_bias=True, history_length=2))
    assert not model.bias.any()
    text = torch.from_numpy(unit(6, 8))
    optimizer = torch.optim.Adam([model.bias, model.bias_slopes], lr=0.02)
    users = torch.zeros(len(targets), 8)
    users[:, -1] = 0.5**0.5  # nobody likes anything in particular
    for _ in range(300):
        items = model.items(text, torch.arange(6), "target")
        loss = torch.nn.functional.cross_entropy(users @ items.T / 0.05, torch.from_numpy(targets))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = torch.softmax(users[0] @ model.items(text, torch.arange(6), "target").T / 0.05, 0)
    np.testing.assert_allclose(found.detach(), truth, atol=0.04)


def test_an_item_with_neither_text_nor_evidence_has_a_finite_gradient():
    model = TwoTower(np.array([3]), 4, ModelConfig())
    items = model.items(torch.zeros(1, 4), torch.arange(1), "target")
    items.sum().backward()
    assert not items.detach().any()
    assert model.target_residual.grad.abs().max() < 1e3


def test_the_pool_starts_as_a_recency_decay():
    tower = UserTower(5, 0.8)
    history = torch.from_numpy(unit(1, 3, 4))
    args = (
        torch.zeros(1, 3, dtype=torch.int64),
        torch.full((1, 3), 3600.0),
        torch.ones(1, 3, dtype=torch.bool),
    )
    found = tower(history, *args)
    expected = (history[0] * torch.tensor([1.0, 0.8, 0.64])[:, None]).sum(dim=0)
    torch.testing.assert_close(found[0], expected / expected.norm())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 6), st.integers(0, 3), st.integers(0, 50))
def test_padding_changes_no_user_and_an_empty_history_is_zero(length, extra, seed):
    tower = UserTower(10, 0.9)
    torch.nn.init.normal_(tower.event_bias)
    torch.nn.init.normal_(tower.gap_bias)
    rng = np.random.default_rng(seed)
    width = length + extra or 1
    history = torch.from_numpy(unit(1, width, 4, seed=seed))
    events = torch.from_numpy(rng.integers(8, size=(1, width)))
    gaps = torch.from_numpy(np.exp(rng.uniform(0, 22, (1, width))).astype(np.float32))
    mask = torch.arange(width)[None] < length
    found = tower(history, events, gaps, mask)
    if length == 0:
        assert not found.detach().any()
        return
    short = slice(0, length)
    alone = tower(history[:, short], events[:, short], gaps[:, short], mask[:, short])
    torch.testing.assert_close(found, alone)
    assert math.isclose(float(found.norm().detach()), 1, rel_tol=1e-5)


def test_time_gap_and_event_type_weigh():
    tower = UserTower(4, 1.0)
    history = torch.eye(2)[None]
    events, mask = torch.tensor([[0, 1]]), torch.ones(1, 2, dtype=torch.bool)
    gaps = torch.tensor([[3600.0, 3600.0 * 10_000]])
    with torch.no_grad():
        tower.gap_bias[10:] = -3.0
        aged = tower(history, events, gaps, mask)
        tower.event_bias[1] = 6.0
        bought = tower(history, events, gaps, mask)
    assert aged[0, 0] > aged[0, 1]
    assert bought[0, 0] < bought[0, 1]


def test_histories_are_padded_newest_first(make):
    contexts = make([[1, 2, 3], [], [4]], [[5], [6], [7, 7, 8]])
    padded = pad_histories(contexts, np.arange(3), 2)
    np.testing.assert_array_equal(padded.rows, [[3, 2], [0, 0], [4, 0]])
    np.testing.assert_array_equal(padded.mask, [[True, True], [False, False], [True, False]])
    np.testing.assert_array_equal(padded.gaps, [[86_400, 172_800], [0, 0], [86_400, 0]])
    np.testing.assert_array_equal(trainable(contexts), [0, 2])


def test_pairs_are_distinct_and_share_the_weight(make):
    contexts = make([[1], [1]], [[5], [7, 7, 8, 9, 6]], weights=[1.0, 2.0])
    pairs = target_pairs(contexts, np.array([1, 0]))
    np.testing.assert_array_equal(pairs.users, [0, 0, 0, 0, 1])
    np.testing.assert_array_equal(pairs.items, [6, 7, 8, 9, 5])
    np.testing.assert_allclose(pairs.weights, [1.0, 1.0, 1.0, 1.0, 1.0])


def test_seen_items_are_those_with_an_event_or_a_target(make):
    contexts = make([[1]], [[5]])
    np.testing.assert_array_equal(seen_items(contexts, np.array([0, 1, 0, 2, 0, 0, 0])), [1, 3, 5])


def test_user_vectors_of_contexts_agree_with_the_module(make):
    contexts = make([[0, 1, 2], [], [2]], [[3], [3], [3]])
    config = ModelConfig(history_length=2, item_bias=False)
    model = TwoTower(np.array([5, 5, 5, 5]), 4, config)
    torch.nn.init.normal_(model.history_residual)
    state = {k: v.numpy() for k, v in model.whole().items()}
    fit = TowersFit(state, unit(4, 4), np.array([5, 5, 5, 5]), config, 0, (), (), 0.0)
    users = fit.user_vectors(contexts)
    table = fit.history_vectors()
    expected = table[2] + config.decay * table[1]
    np.testing.assert_allclose(users[0], expected / np.linalg.norm(expected), atol=1e-6)
    assert not users[1].any()
    np.testing.assert_allclose(users[2], table[2], atol=1e-6)


@pytest.mark.parametrize("bias", [False, True])
def test_every_parameter_learns(bias):
    model = TwoTower(np.array([1, 5]), 4, ModelConfig(item_bias=bias))
    own, shared = tower_parameters(model)
    assert {id(one) for one in (*own, *shared)} == {id(one) for one in model.parameters()}
