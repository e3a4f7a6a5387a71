"""Distances between samples against hand cases, and a batch that drifts is cut back or refused."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from recsys.augment.gates.distance import (
    distinct_n,
    energy_distance,
    jensen_shannon,
    mmd,
    novelty,
    psi,
    quantile_bins,
    shares,
    two_sample_p,
)
from recsys.augment.gates.drift import Drift, Sample, consistent, measure


def test_psi_and_jensen_shannon_by_hand() -> None:
    assert psi(np.array([0.5, 0.5]), np.array([0.5, 0.5])) == 0.0
    assert psi(np.array([0.5, 0.5]), np.array([0.25, 0.75])) == pytest.approx(0.25 * np.log(3), rel=1e-6)
    assert jensen_shannon(Counter("aabb"), Counter("ab")) == pytest.approx(0.0)
    assert jensen_shannon(Counter("aa"), Counter("bbb")) == pytest.approx(1.0)
    assert jensen_shannon(Counter(), Counter("a")) == 0.0


def test_bins_hold_equal_shares() -> None:
    values = np.arange(1000.0)
    edges = quantile_bins(values)
    assert shares(values, edges) == pytest.approx([0.1] * 10, abs=0.002)
    assert shares(np.array([np.nan, 5.0]), edges).sum() == 1.0
    assert len(quantile_bins(np.array([1.0] * 9 + [2.0]))) <= 2


@pytest.mark.parametrize("statistic", [energy_distance, mmd])
def test_two_samples_are_told_apart_when_they_differ(statistic: Any) -> None:
    rng = np.random.default_rng(0)
    one, same, other = (rng.normal(m, 1, (120, 8)).astype(np.float32) for m in (0.0, 0.0, 0.7))
    near, p_same = two_sample_p(one, same, statistic)
    far, p_other = two_sample_p(one, other, statistic)
    assert p_same > 0.05
    assert p_other == pytest.approx(1 / 200)
    assert far > near
    assert two_sample_p(one, one[:1], statistic) == (0.0, 1.0)


def test_p_values_are_uniform_under_the_null() -> None:
    rng = np.random.default_rng(1)
    found = [
        two_sample_p(*rng.normal(0, 1, (2, 30, 3)).astype(np.float32), seed=i, rounds=39)[1]
        for i in range(60)
    ]
    assert sum(p <= 0.1 for p in found) <= 14
    assert 0.3 < float(np.mean(found)) < 0.7


def test_variety_of_texts() -> None:
    assert distinct_n([["a", "b", "a", "b"]]) == pytest.approx(2 / 3)
    assert distinct_n([["a"]]) == 1.0
    assert novelty([["a", "b", "c"]], [["a", "b", "c", "d"]]) == pytest.approx(0.5)
    assert novelty([], []) == 0.0


def batch(share_long: float) -> tuple[Sample, Sample, np.ndarray, list[str]]:
    rng = np.random.default_rng(2)
    size = 1000
    before = Sample(
        {"length": rng.integers(1, 100, size).astype(float)}, {"category": list("ab") * (size // 2)}
    )
    lengths = before.numbers["length"].copy()
    lengths[: int(share_long * size)] = 99.0
    after = Sample({"length": lengths}, {"category": list("ab") * (size // 2)})
    return before, after, np.arange(size), [f"r{i}" for i in range(size)]


def test_a_steady_batch_is_kept_whole() -> None:
    before, after, parents, ids = batch(0.0)
    kept, counts = consistent(Drift(), before, after, parents, ids, 0)
    assert kept.tolist() == list(range(1000))
    assert counts == {}


def test_a_drifting_batch_is_cut_back_to_the_bound() -> None:
    before, after, parents, ids = batch(0.7)
    drift = Drift(max_psi=0.1)
    assert measure(before, after)["psi:length"] > 0.1
    kept, counts = consistent(drift, before, after, parents, ids, 0)
    assert 200 < len(kept) < 1000
    assert measure(before, after.take(kept))["psi:length"] <= 0.1
    assert counts == {"rejected:drift:psi:length": 1000 - len(kept)}
    gone = set(range(1000)) - set(kept.tolist())
    assert np.mean([i < 700 for i in gone]) > 0.85, "it thins what there is too much of"
    again, _ = consistent(drift, before, after, parents, ids, 0)
    assert again.tolist() == kept.tolist()


def test_a_drifting_batch_is_refused_as_configured_or_when_it_cannot_be_mended() -> None:
    before, after, parents, ids = batch(0.7)
    kept, counts = consistent(Drift(max_psi=0.1, action="refuse"), before, after, parents, ids, 0)
    assert len(kept) == 0
    assert counts == {"rejected:drift:psi:length": 1000}
    kept, counts = consistent(Drift(max_psi=1e-9), before, after, parents, ids, 0)
    assert len(kept) == 0


def test_a_changed_mix_is_noticed() -> None:
    before, after, parents, ids = batch(0.0)
    after.labels["category"] = ["a"] * 900 + ["b"] * 100
    kept, counts = consistent(Drift(max_jensen_shannon=0.01), before, after, parents, ids, 0)
    assert len(kept) < 1000
    assert set(counts) == {"rejected:drift:js:category"}


def test_vectors_that_can_be_told_from_their_parents_are_refused() -> None:
    before, after, parents, ids = batch(0.0)
    rng = np.random.default_rng(3)
    before.vectors = rng.normal(0, 1, (1000, 8)).astype(np.float32)
    after.vectors = before.vectors + rng.normal(0, 0.05, (1000, 8)).astype(np.float32)
    assert len(consistent(Drift(min_p=0.01), before, after, parents, ids, 0)[0]) == 1000
    after.vectors = before.vectors + 0.8
    kept, counts = consistent(Drift(min_p=0.01), before, after, parents, ids, 0)
    assert len(kept) == 0
    assert counts == {"rejected:drift:vectors": 1000}
    assert len(consistent(Drift(), before, after, parents, ids, 0)[0]) == 1000, "0 does not ask"
