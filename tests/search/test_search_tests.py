"""The paired test: interval and p-value against what is known."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from fake_bench import Clock, FakeBench, nothing_gains
from hypothesis import given
from hypothesis import strategies as st

from recsys.arms import Arm
from recsys.errors import ArtifactError
from recsys.evaluate.permutation import sign_flip_p
from recsys.search.bench import Score
from recsys.search.finals import Finals, paired
from recsys.search.ledger import Ledger


def score(values: list[float], users: list[str] | None = None) -> Score:
    names = users or [f"u{i}" for i in range(len(values))]
    return Score(np.array(names), {"ndcg@10": np.array(values)}, 1.0, 3)


def exact(differences: list[float]) -> float:
    """Share of all assignments of signs whose sum is as large."""
    flips = list(itertools.product((-1, 1), repeat=len(differences)))
    limit = abs(sum(differences)) - 1e-12
    return sum(abs(np.dot(signs, differences)) >= limit for signs in flips) / len(flips)


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=9))
def test_p_is_that_of_all_assignments(values: list[int]) -> None:
    differences = np.array(values, np.float64)
    assert sign_flip_p(differences, np.arange(len(values)), 20_000) == pytest.approx(exact(values), abs=0.02)


def test_a_users_cases_are_flipped_together() -> None:
    differences, together = np.full(12, 0.1), np.zeros(12, np.int64)
    assert sign_flip_p(differences, together) == 1.0, "one user says nothing"
    assert sign_flip_p(differences, np.arange(12)) < 0.01


def test_no_difference_is_no_evidence() -> None:
    assert sign_flip_p(np.zeros(50), np.arange(50)) == 1.0
    assert sign_flip_p(np.empty(0), np.empty(0, np.int64)) == 1.0


def test_false_alarms_are_as_rare_as_promised() -> None:
    rng = np.random.default_rng(0)
    alarms = [sign_flip_p(rng.normal(size=60), np.arange(60), 400, i) < 0.05 for i in range(400)]
    assert 0.02 < np.mean(alarms) < 0.09


def test_differences_are_averaged_over_seeds_first() -> None:
    arm = [score([0.4, 0.6, 0.5]), score([0.6, 0.8, 0.5])]
    off = [score([0.3, 0.5, 0.4]), score([0.3, 0.5, 0.4])]
    found = paired("ndcg@10", list(zip(arm, off, strict=True)), (0, 1))
    assert found.difference == pytest.approx(0.5 / 3)
    assert found.off == pytest.approx(0.4)
    assert found.relative == pytest.approx(0.5 / 3 / 0.4)
    assert (found.users, found.seeds) == (3, (0, 1))
    assert found.low <= found.difference <= found.high


def test_arms_of_other_users_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="same users"):
        paired("ndcg@10", [(score([1.0], ["a"]), score([1.0], ["b"]))], (0,))


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(60):
        differences = rng.exponential(1.0, 80) - 1.0
        found = paired("ndcg@10", [(score((0.5 + differences).tolist()), score([0.5] * 80))], (0,))
        inside += found.low <= 0.0 <= found.high
    assert inside >= 51


def test_a_damaged_choice_of_epochs_says_what_to_do(tmp_path: Path) -> None:
    clock = Clock()
    finals = Finals(tmp_path, FakeBench(nothing_gains, clock), Ledger(tmp_path / "spent.json", 600, clock))
    assert finals.epochs(Arm.of("off"), 0) == 5
    assert finals.num_runs == 1
    (path,) = tmp_path.glob("epochs-*.json")
    path.write_text('{"epochs"', encoding="utf-8")
    with pytest.raises(ArtifactError, match="delete it, and it is chosen again"):
        finals.epochs(Arm.of("off"), 0)
