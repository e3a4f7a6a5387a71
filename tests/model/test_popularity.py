"""Popularity as it was: decayed counts before each moment, read by the rows of that moment."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from recsys.config import ModelConfig, with_settings
from recsys.model import popularity as module
from recsys.model.batching import seen_items, target_pairs, uniform_candidates
from recsys.model.popularity import HALF_LIVES, Popularity
from recsys.model.step import batch_loss
from recsys.model.towers import TwoTower
from recsys.train import fit_towers


def sold(make, targets, moments):
    contexts = make([[0]] * len(targets), targets)
    return replace(contexts, moments=np.array(moments, np.int64))


def by_hand(targets, moments, item, moment):
    """Every scale of one item just before a moment, from single events."""
    events = sorted((when, row) for when, rows in zip(moments, targets, strict=True) for row in rows)

    def earlier(than):
        return sum(when < than for when, _ in events)

    heat = [
        sum(
            0.5 ** ((earlier(moment) - earlier(when)) / len(events) / half_life)
            for when, row in events
            if row == item and when < moment
        )
        for half_life in HALF_LIVES
    ]
    return np.log1p(heat)


@pytest.mark.parametrize("number", [7, 150])
def test_each_entry_is_what_single_events_say(make, number):
    rng = np.random.default_rng(number)
    targets = [rng.choice(8, size=rng.integers(1, 4), replace=False).tolist() for _ in range(number)]
    moments = np.sort(rng.integers(0, 60, number)).tolist()
    contexts = sold(make, targets, moments).take(rng.permutation(number))
    counts = np.bincount([row for rows in targets for row in rows], minlength=10)
    found = Popularity.of(contexts, counts)
    known = np.flatnonzero(counts)
    end = max(moments) + 1
    largest = np.max([by_hand(targets, moments, item, end) for item in known], axis=0)
    for item in range(10):
        np.testing.assert_allclose(
            found.now[item], by_hand(targets, moments, item, end) / largest, rtol=1e-4, atol=1e-6
        )
    assert found.now.max() == pytest.approx(1)
    for place, start in enumerate(found.starts.tolist()):
        for column, item in enumerate(known.tolist()):
            expected = by_hand(targets, moments, item, start) / largest
            np.testing.assert_allclose(found.past[place, column], expected, rtol=1e-4, atol=1e-6)
    assert found.starts[0] == min(moments)
    assert not found.past[0].any(), "nothing was sold before the first event"


def test_a_row_never_reads_what_came_at_its_moment_or_later(make):
    rng = np.random.default_rng(2)
    moments = np.sort(rng.integers(0, 400, 900))
    found = Popularity.of(sold(make, rng.integers(9, size=(900, 1)).tolist(), moments), np.ones(9, np.int64))
    places = found.places(moments)
    assert (found.starts[places] <= moments).all()
    assert len(found.starts) > 30
    later = np.append(found.starts[1:], math.inf)
    assert (moments < later[places]).all(), "and none older than need be"
    assert found.places(np.array([-5]))[0] == 0


def test_augmented_rows_sell_nothing(make):
    contexts = sold(make, [[1], [2], [1]], [1, 2, 3])
    grown = contexts.take(np.array([0, 1, 2, 1, 1]))
    grown = replace(grown, parents=np.array([-1, -1, -1, 1, 1], np.int64))
    counts = np.array([0, 2, 1])
    for name in ("now", "past", "starts"):
        np.testing.assert_array_equal(
            getattr(Popularity.of(grown, counts), name), getattr(Popularity.of(contexts, counts), name)
        )


def test_many_items_have_fewer_moments(make, monkeypatch):
    monkeypatch.setattr(module, "MOST_NUMBERS", 5 * 9 * len(HALF_LIVES))
    rng = np.random.default_rng(2)
    contexts = sold(make, rng.integers(9, size=(900, 1)).tolist(), np.arange(900))
    assert Popularity.of(contexts, np.ones(9, np.int64)).past.shape == (5, 9, len(HALF_LIVES))


def test_no_rows_and_no_items(make):
    empty = Popularity.of(make([], []), np.zeros(3, np.int64))
    assert not empty.now.any()
    assert empty.places(np.array([10])).tolist() == [0]
    TwoTower(np.zeros(3, np.int64), 4, ModelConfig(), empty)


def test_the_bias_of_a_moment_is_the_bias_now_plus_what_it_moved(make):
    rng = np.random.default_rng(3)
    counts = np.array([0, 9, 4, 7, 2])
    contexts = sold(make, [[int(row)] for row in np.repeat(np.arange(5), counts)], rng.permutation(22))
    known = Popularity.of(contexts, counts)
    model = TwoTower(counts, 6, ModelConfig(), known)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    moments, rows = np.array([0, 3, 11, 30]), torch.arange(5)
    text = torch.nn.functional.normalize(torch.randn(5, 6), dim=-1)
    now = model.items(text, rows, "target")[:, -1]
    moved = model.moved_bias(moments, rows)
    for row, moment in enumerate(moments):
        past = np.zeros((5, len(HALF_LIVES)), np.float32)
        past[counts > 0] = known.past[known.places(np.array([moment]))[0]]
        as_then = TwoTower(counts, 6, ModelConfig(), replace(known, now=past))
        as_then.load_state_dict(model.state_dict())
        then = as_then.items(text, rows, "target")[:, -1]
        torch.testing.assert_close(now + moved[row], then)
    chosen = torch.tensor([[1, 2], [4, 4], [0, 3], [2, 1]])
    torch.testing.assert_close(model.moved_bias(moments, chosen), moved.gather(1, chosen))
    assert TwoTower(counts, 6, ModelConfig(item_bias=False)).moved_bias(moments, rows) is None


def test_the_loss_of_a_row_is_that_of_towers_made_at_its_moment(make, unit_vectors):
    rng = np.random.default_rng(6)
    contexts = sold(make, rng.integers(20, size=(90, 1)).tolist(), np.arange(90))
    counts = np.bincount(contexts.target_rows, minlength=24)
    known, text = Popularity.of(contexts, counts), torch.from_numpy(unit_vectors)
    model = TwoTower(counts, 16, ModelConfig(), known)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    seen, losses = seen_items(contexts, counts), []
    for row in (0, 40, 89):
        places = np.array([row])
        pairs = target_pairs(contexts, places)
        candidates = uniform_candidates(seen, pairs.items, 100, rng)
        past = np.zeros_like(known.now)
        past[counts > 0] = known.past[known.places(contexts.moments[places])[0]]
        as_then = TwoTower(counts, 16, ModelConfig(), replace(known, now=past))
        as_then.load_state_dict(model.state_dict())
        ours, theirs = (
            batch_loss(one, text, contexts, places, pairs, candidates, None, 6) for one in (model, as_then)
        )
        torch.testing.assert_close(ours, theirs)
        losses.append(float(ours.detach()))
    assert len(set(losses)) == 3


def test_what_sells_today_is_ahead_though_more_was_sold_before(make, unit_vectors, config, tmp_path):
    """Item 1 sold most of the time, 2 at times and of late; at every moment what sells is what just sold."""
    rng = np.random.default_rng(0)
    sells = np.where(rng.random(480) < 0.8, 1 + (np.arange(480) // 40 % 3 == 2), rng.integers(3, 20, 480))
    targets = sells[:, None].tolist()
    targets += [[2]] * 25
    contexts = sold(make, targets, np.arange(505))
    counts = np.bincount(contexts.target_rows, minlength=24)
    assert counts[1] > 1.5 * counts[2]
    towers = fit_towers(contexts, unit_vectors, counts, config, tmp_path, epochs=25)
    scores = towers.user_vectors(contexts, np.array([0])) @ towers.item_vectors().T
    assert scores[0, 2] > scores[0, 1]
    assert towers.report()["bias_slopes"][0] > 0
    blind = with_settings(config, {"model.bias_over_time": False})
    fit = fit_towers(contexts, unit_vectors, counts, blind, tmp_path / "blind", epochs=25)
    scores = fit.user_vectors(contexts, np.array([0])) @ fit.item_vectors().T
    assert scores[0, 1] > scores[0, 2]
    plain = with_settings(config, {"model.item_bias": False})
    without = fit_towers(contexts, unit_vectors, counts, plain, tmp_path / "plain", epochs=2)
    assert "bias_slopes" not in without.report()
