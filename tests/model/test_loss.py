"""The loss against a slow second formulation, and the sign of its corrections on a toy softmax."""

import numpy as np
import pytest
import torch

from recsys.model.batching import in_batch_candidates, uniform_candidates
from recsys.model.loss import multi_target_softmax


def unit(rows, dim, seed):
    torch.manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(rows, dim, dtype=torch.float64), dim=-1)


def by_hand(users, candidates, temperature, corrections, pairs):
    """Cross entropy of each pair over its own list: the target and the user's non-targets."""
    total = torch.zeros((), dtype=torch.float64)
    for user, column, weight in pairs:
        own = {c for u, c, _ in pairs if u == user}
        scores = [users[user] @ candidates[column] / temperature]
        scores += [
            users[user] @ candidates[c] / temperature + corrections[c]
            for c in range(len(candidates))
            if c not in own
        ]
        total = total - weight * torch.log_softmax(torch.stack(scores), dim=0)[0]
    return total


def test_loss_and_gradients_equal_the_formulation_by_hand():
    pairs = [(0, 1, 1.0), (0, 3, 0.5), (1, 2, 2.0), (2, 1, 1.0)]
    users = unit(3, 6, 0).requires_grad_()
    candidates = unit(7, 6, 1).requires_grad_()
    corrections = torch.tensor([0, 0, 0, 0, 0.7, 0.7, 0.7], dtype=torch.float64)
    slow = by_hand(users, candidates, 0.1, corrections, pairs)
    expected = torch.autograd.grad(slow, [users, candidates])
    places = [torch.tensor([p[i] for p in pairs]) for i in (0, 1)]
    weights = torch.tensor([p[2] for p in pairs], dtype=torch.float64)
    fast = multi_target_softmax(users, candidates, 0.1, corrections, *places, weights)
    found = torch.autograd.grad(fast, [users, candidates])
    torch.testing.assert_close(fast, slow)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_another_target_of_the_same_user_is_no_negative():
    users, candidates = unit(1, 4, 0), unit(3, 4, 1)
    args = (users, candidates, 0.1, torch.zeros(3, dtype=torch.float64))
    one = torch.tensor([1.0], dtype=torch.float64)
    both = multi_target_softmax(
        *args, torch.tensor([0, 0]), torch.tensor([0, 1]), torch.tensor([1.0, 0.0], dtype=torch.float64)
    )
    alone = multi_target_softmax(*args, torch.tensor([0]), torch.tensor([0]), one)
    assert both < alone  # without item 1 among its negatives
    smaller = multi_target_softmax(
        users,
        candidates[[0, 2]],
        0.1,
        torch.zeros(2, dtype=torch.float64),
        torch.tensor([0]),
        torch.tensor([0]),
        one,
    )
    torch.testing.assert_close(both, smaller)


def test_parts_of_a_batch_add_up_to_the_whole():
    users, candidates = unit(6, 4, 0), unit(9, 4, 1)
    zeros = torch.zeros(9, dtype=torch.float64)
    columns, weights = torch.arange(6), torch.rand(6, dtype=torch.float64)
    whole = multi_target_softmax(users, candidates, 0.1, zeros, torch.arange(6), columns, weights)
    parts = sum(
        multi_target_softmax(users[s], candidates, 0.1, zeros, torch.arange(3), columns[s], weights[s])
        for s in (slice(0, 3), slice(3, 6))
    )
    torch.testing.assert_close(whole, parts)


def test_uniform_negatives_estimate_the_full_sum_without_bias():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=40)
    seen, targets = np.arange(35), np.array([3, 3, 8])
    expected = np.exp(np.delete(scores[:35], 3)).sum()  # all seen items but the target at hand
    estimates = []
    for _ in range(4000):
        drawn = uniform_candidates(seen, targets, 10, rng)
        others = drawn.rows != 3
        assert (drawn.rows < 35).all()
        estimates.append(np.exp(scores[drawn.rows] + drawn.log_corrections)[others].sum())
    standard_error = np.std(estimates) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates) - expected) < 4 * standard_error


def test_few_seen_items_give_the_full_softmax():
    drawn = uniform_candidates(np.arange(12), np.array([3, 8]), 10, np.random.default_rng(0))
    assert sorted(drawn.rows) == list(range(12))
    assert not drawn.log_corrections.any()
    sampled = uniform_candidates(np.arange(13), np.array([3, 8]), 10, np.random.default_rng(0))
    assert len(sampled.rows) == 12
    np.testing.assert_allclose(sampled.log_corrections[2:], np.log(11 / 10), rtol=1e-6)


def fit_toy_softmax(truth, correct, steps=800, batch=64):
    """One user, items with popularities `truth`, trained on in-batch negatives: returns its softmax."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    logits = torch.zeros(len(truth), requires_grad=True)
    log_shares = np.log(truth).astype(np.float32)
    optimizer = torch.optim.SGD([logits], lr=0.5)
    for _ in range(steps):
        targets = rng.choice(len(truth), batch, p=truth)
        drawn = in_batch_candidates(targets, log_shares)
        corrections = correct(torch.from_numpy(drawn.log_corrections))
        # As embeddings: the user is (1,), an item is its logit.
        loss = multi_target_softmax(
            torch.ones(batch, 1), logits[torch.from_numpy(drawn.rows)][:, None], 1.0, corrections,
            torch.arange(batch), torch.from_numpy(np.searchsorted(drawn.rows, targets)), torch.ones(batch),
        ) / batch  # fmt: skip
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return torch.softmax(logits.detach(), dim=0).numpy()


def test_logq_recovers_the_true_popularities_and_its_opposite_does_not():
    truth = np.array([0.4, 0.25, 0.15, 0.1, 0.06, 0.04])
    corrected = fit_toy_softmax(truth, lambda c: c)
    np.testing.assert_allclose(corrected, truth, atol=0.035)
    wrong_sign = fit_toy_softmax(truth, lambda c: -c)
    assert np.abs(wrong_sign - truth).max() > 3 * np.abs(corrected - truth).max()
    uncorrected = fit_toy_softmax(truth, torch.zeros_like)
    assert np.abs(uncorrected - truth).max() > np.abs(corrected - truth).max()


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_extreme_similarities_stay_finite(scale):
    users = torch.tensor([[1.0, 0.0]], requires_grad=True)
    candidates = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    loss = multi_target_softmax(
        users, candidates, 0.01 * scale, torch.zeros(2), torch.tensor([0]), torch.tensor([0]), torch.ones(1)
    )
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(users.grad).all()
