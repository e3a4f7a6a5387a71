"""Who is held against whom: masks, hard negatives, and the two corrections of in-batch softmax."""

import numpy as np
import pytest
import torch

from recsys.config import TrainConfig
from recsys.model.batching import in_batch_candidates, seen_items, target_pairs
from recsys.model.loss import multi_target_softmax
from recsys.model.negatives import Negatives, mask_of, near_texts
from recsys.model.step import batch_loss
from recsys.model.towers import TwoTower
from recsys.train import fit_towers


class Killed(Exception):
    pass


def unit(rows, dim, seed):
    torch.manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(rows, dim, dtype=torch.float64), dim=-1)


def negatives_of(contexts, vectors, **settings):
    counts = np.bincount(contexts.target_rows, minlength=len(vectors))
    seen = seen_items(contexts, counts)
    return Negatives(contexts, vectors, seen, TrainConfig(**settings), 0, "select")


def left_as_sets(negatives, contexts, positions):
    left = negatives.left_out(positions, target_pairs(contexts, positions))
    return [set(left.items[left.users == i].tolist()) for i in range(len(positions))]


def test_a_users_own_items_are_those_of_all_his_original_rows(make, unit_vectors):
    contexts = make([[0], [0, 1], [2]], [[1], [3], [4]])
    contexts.user_ids[:] = ["a", "a", "b"]
    contexts.parents[1] = 0  # what augmentation says of `a` is not what `a` had
    negatives = negatives_of(contexts, unit_vectors, mask_own=True)
    assert left_as_sets(negatives, contexts, np.array([2, 0])) == [{2, 4}, {0, 1}]


def test_texts_as_near_as_asked_are_found_both_ways_and_only_among_seen_items(unit_vectors):
    vectors = unit_vectors.copy()
    vectors[7], vectors[9] = vectors[3], vectors[3]
    lists = near_texts(vectors, np.array([1, 3, 7, 12]), 0.95)
    places, values = lists.of_keys(np.array([3, 7, 1, 9]))
    assert sorted(zip(places.tolist(), values.tolist(), strict=True)) == [(0, 7), (1, 3)]
    blank = np.zeros_like(vectors)  # items without a text are nobody's duplicates
    assert not len(near_texts(blank, np.arange(5), 0.5).values)


def test_masked_items_leave_the_loss_as_if_they_were_no_candidates(make, unit_vectors, config):
    contexts = make([[0, 5], [1]], [[2], [3]])
    model = TwoTower(np.ones(24, np.int64), 16, config.model)
    text, positions = torch.from_numpy(unit_vectors), np.array([0, 1])
    pairs = target_pairs(contexts, positions)
    masked = negatives_of(contexts, unit_vectors, mask_own=True)
    plain = negatives_of(contexts, unit_vectors)

    def loss(negatives, places, without=()):
        candidates = plain.candidates(pairs, np.random.default_rng(0))
        kept = ~np.isin(candidates.rows, without)
        fewer = type(candidates)(
            candidates.rows[kept], candidates.log_corrections[kept], candidates.num_targets
        )
        chosen = positions[places]
        own = target_pairs(contexts, chosen)
        return batch_loss(model, text, contexts, chosen, own, fewer, None, 6, negatives)

    assert set(plain.candidates(pairs, np.random.default_rng(0)).rows.tolist()) == {0, 1, 2, 3, 5} - {0, 1, 5}
    whole = negatives_of(contexts, unit_vectors)
    torch.testing.assert_close(loss(masked, [1]), loss(whole, [1]))  # nothing of his is a candidate
    contexts.user_ids[:] = "one"  # now each row's target is the other row's own item
    together = negatives_of(contexts, unit_vectors, mask_own=True)
    assert float(loss(together, [0, 1]).detach()) == 0.0
    assert float(loss(whole, [0, 1]).detach()) > 0.1


def test_hard_negatives_are_the_nearest_below_the_margin(make, unit_vectors, config):
    contexts = make([[0], [1], [2], [3]], [[4], [5], [6], [7]])
    counts = np.bincount(np.arange(12), minlength=24)
    seen = np.arange(12)
    settings = TrainConfig(hard_negatives=3, hard_margin=0.9, hard_after=0)
    negatives = Negatives(contexts, unit_vectors, seen, settings, 0, "select")
    shape = config.model.model_copy(update={"item_bias": False})  # so that scores are those of the texts
    model, text = TwoTower(counts, 16, shape), torch.from_numpy(unit_vectors)
    assert not negatives.mines
    negatives.refresh(model, text, 0)
    assert negatives.mines
    users = text[[20, 21]]
    pairs = target_pairs(contexts, np.array([0, 1]))
    scores = (users @ text[:12].T).numpy()
    positives = np.array([0.4, -0.1], np.float32)
    found = negatives.hard(users, torch.from_numpy(positives), pairs, None)
    for row, target in enumerate((4, 5)):
        limit = min(0.9 * positives[row], positives[row])
        allowed = [i for i in np.argsort(-scores[row]) if scores[row, i] <= limit and i != target]
        assert found[row].tolist() == (allowed + [-1] * 3)[:3]
    late = Negatives(contexts, unit_vectors, seen, TrainConfig(hard_negatives=3, hard_after=2), 0, "select")
    late.refresh(model, text, 1)
    assert not late.mines


def test_a_row_with_hard_negatives_has_them_in_its_own_sum_alone():
    users, candidates = unit(2, 4, 0), unit(5, 4, 1)
    harder = unit(3, 4, 2)
    args = (users, candidates, 0.1, torch.zeros(5, dtype=torch.float64))
    pairs = (torch.tensor([0, 1]), torch.tensor([0, 1]), torch.ones(2, dtype=torch.float64))
    logits = torch.stack([users[0] @ harder.T / 0.1, torch.full((3,), -torch.inf, dtype=torch.float64)])
    found = multi_target_softmax(*args, *pairs, harder=logits)
    both = torch.cat([candidates, harder])
    first = torch.logsumexp(users[0] @ both[1:].T / 0.1, 0) - users[0] @ both[0] / 0.1
    second = torch.logsumexp(users[1] @ candidates[[0, 2, 3, 4]].T / 0.1, 0) - users[1] @ candidates[1] / 0.1
    expected = torch.nn.functional.softplus(first) + torch.nn.functional.softplus(second)
    torch.testing.assert_close(found, expected)


def test_the_gradient_is_that_of_the_corrected_logq():
    """arXiv:2507.09331: the chance of a wrong answer, held fixed, times the target against the others."""
    users, candidates = unit(3, 6, 0), unit(7, 6, 1)
    corrections = torch.randn(7, dtype=torch.float64)
    for leaf in (users, candidates):
        leaf.requires_grad_()
    columns = torch.tensor([1, 4, 2])
    ours = multi_target_softmax(
        users, candidates, 0.2, corrections, torch.arange(3), columns, torch.ones(3, dtype=torch.float64)
    )
    found = torch.autograd.grad(ours, [users, candidates])
    logits = users @ candidates.T / 0.2
    own = logits[torch.arange(3), columns]
    others = (logits + corrections).masked_fill(torch.nn.functional.one_hot(columns, 7).bool(), -torch.inf)
    rest = torch.logsumexp(others, dim=1)
    wrong = (1 - torch.sigmoid(own - rest)).detach()
    expected = torch.autograd.grad((-wrong * (own - rest)).sum(), [users, candidates])
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("logq", ["negatives", "all", "off"])
def test_each_correction_is_what_it_says(logq):
    log_shares = np.log(np.array([0.5, 0.3, 0.2])).astype(np.float32)
    drawn = in_batch_candidates(np.array([0, 0, 2]), log_shares, logq)
    assert drawn.rows.tolist() == [0, 2]
    counts, expected = np.log([2, 1]), np.log(3) + log_shares[[0, 2]]
    if logq == "off":
        np.testing.assert_allclose(drawn.log_corrections, counts, rtol=1e-6)
    else:
        np.testing.assert_allclose(drawn.log_corrections, counts - expected, rtol=1e-5)
    if logq == "all":
        np.testing.assert_allclose(drawn.target_corrections, -expected, rtol=1e-6)
    else:
        assert drawn.target_corrections is None


def test_a_mask_names_the_columns_of_the_items(make, unit_vectors):
    contexts = make([[0], [1]], [[2], [3]])
    left = negatives_of(contexts, unit_vectors, mask_own=True).left_out(
        np.array([0, 1]), target_pairs(contexts, np.array([0, 1]))
    )
    mask = mask_of(left, np.array([3, 9, 0]), 2, 24)
    assert mask.tolist() == [[False, False, True], [True, False, False]]


ALL = {"hard_negatives": 4, "hard_after": 0, "hard_pool": 12, "mask_own": True, "mask_near": 0.4}


@pytest.mark.parametrize("step", [3, 10, 13])
def test_hard_negatives_survive_a_kill(shop, unit_vectors, config, tmp_path, step):
    rows, held_out = shop(200, 24, 0), shop(60, 24, 1, "held_out")
    counts = np.bincount(rows.target_rows, minlength=24)
    config = config.model_copy(update={"train": config.train.model_copy(update=ALL)})

    def fit(folder, hook=None):
        return fit_towers(rows, unit_vectors, counts, config, folder, validation=held_out, on_step=hook)

    def kill(done):
        if done == step:
            raise Killed

    whole = fit(tmp_path / "whole")
    with pytest.raises(Killed):
        fit(tmp_path / "killed", kill)
    resumed = fit(tmp_path / "killed")
    for name, value in whole.state.items():
        assert value.tobytes() == resumed.state[name].tobytes(), name
    plain = config.model_copy(update={"train": config.train.model_copy(update={"hard_negatives": 0})})
    other = fit_towers(rows, unit_vectors, counts, plain, tmp_path / "plain", validation=held_out)
    assert other.losses != whole.losses


def test_accumulation_changes_nothing_with_every_option_on(shop, unit_vectors, config, tmp_path):
    rows = shop(120, 24, 0)
    counts = np.bincount(rows.target_rows, minlength=24)
    fits = []
    for parts in (1, 3):
        train = config.train.model_copy(update={**ALL, "accumulate": parts})
        changed, folder = config.model_copy(update={"train": train}), tmp_path / str(parts)
        fits.append(fit_towers(rows, unit_vectors, counts, changed, folder, epochs=2))
    np.testing.assert_allclose(fits[0].losses, fits[1].losses, rtol=1e-4)
    np.testing.assert_allclose(fits[0].unit_item_vectors(), fits[1].unit_item_vectors(), atol=1e-3)
