"""Statistics of a comparison: each against a second formulation, and whole worlds whose answer is known."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from recsys.evaluate.contrast import Finding, Part, contrast
from recsys.evaluate.paired import NOBODY, pair, pair_all
from recsys.evaluate.power import LEVEL, POWER, detectable, users_needed
from recsys.evaluate.several import holm
from recsys.evaluate.verdicts import judge

METRIC = "ndcg@10"
finite = st.floats(-1, 1, allow_nan=False)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_closed_testing_with_bonferroni(p_values: list[float]) -> None:
    """Adjusted p of a test: the largest Bonferroni p over all sets of tests that it belongs to."""
    places = range(len(p_values))
    sets = [s for size in places for s in itertools.combinations(places, size + 1)]
    for i, found in enumerate(holm(p_values)):
        worst = max(len(s) * min(p_values[j] for j in s) for s in sets if i in s)
        assert found == pytest.approx(min(worst, 1.0))


def test_holm_of_nothing_is_nothing() -> None:
    assert holm([]) == []


@settings(deadline=None)
@given(st.floats(0.01, 2), st.floats(0.001, 0.5), st.sampled_from([0.05, 0.01]), st.floats(0.5, 0.95))
def test_so_many_users_give_the_power_and_one_less_does_not(
    deviation: float, difference: float, level: float, power: float
) -> None:
    needed = users_needed(deviation, difference, level=level, power=power)

    def reached(users: int) -> float:
        shift = difference * math.sqrt(users) / deviation
        return float(stats.norm.sf(stats.norm.isf(level / 2) - shift))

    assert reached(needed) >= power - 1e-9
    assert needed == 2 or reached(needed - 1) < power
    assert detectable(deviation, needed, level=level, power=power) <= difference * (1 + 1e-9)


def test_the_promised_power_is_met_by_the_permutation_test() -> None:
    rng = np.random.default_rng(0)
    users = users_needed(1.0, 0.25)
    assert (LEVEL, POWER) == (0.05, 0.8)
    seen = []
    for _ in range(150):
        values = rng.normal(0.25, 1.0, users)
        seen.append(pair([values], [np.zeros(users)], np.arange(users), rounds=400, resamples=2).p < LEVEL)
    assert 0.7 < np.mean(seen) < 0.9


def test_a_difference_of_zero_cannot_be_told() -> None:
    with pytest.raises(ValueError, match="zero"):
        users_needed(1.0, 0.0)


@settings(deadline=None)
@given(st.lists(st.tuples(finite, finite), min_size=3, max_size=12))
def test_the_effect_size_is_t_over_the_root_of_n(values: list[tuple[float, float]]) -> None:
    own, other = np.array(values).T
    if np.ptp(own - other) < 1e-6:
        return
    found = pair([own], [other], np.arange(len(own)), rounds=50, resamples=10)
    t = stats.ttest_rel(own, other).statistic
    assert found.effect == pytest.approx(t / math.sqrt(len(own)), abs=1e-9)
    assert found.difference == pytest.approx(float(own.mean() - other.mean()))


def test_the_interval_agrees_with_scipys_bootstrap() -> None:
    rng = np.random.default_rng(3)
    values = rng.exponential(1.0, 200)
    found = pair([values], [np.zeros(200)], np.arange(200), rounds=50)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=5000, method="percentile", rng=rng)
    assert found.low == pytest.approx(theirs.confidence_interval.low, abs=0.02)
    assert found.high == pytest.approx(theirs.confidence_interval.high, abs=0.02)


def test_the_p_value_agrees_with_scipys_permutations() -> None:
    rng = np.random.default_rng(4)
    values = rng.normal(0.15, 1.0, 120)
    found = pair([values], [np.zeros(120)], np.arange(120))
    theirs = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=9999, rng=rng)
    assert found.p == pytest.approx(theirs.pvalue, abs=0.02)


def test_seeds_of_a_user_are_averaged_and_told_apart() -> None:
    own = [np.array([0.4, 0.6]), np.array([0.8, 0.6])]
    found = pair(own, [np.zeros(2), np.ones(2)], np.arange(2), rounds=50)
    assert found.difference == pytest.approx(0.1)
    assert found.by_seed == pytest.approx((0.5, -0.3))
    assert found.seeds_in_favour == 1


def test_metrics_together_are_metrics_alone_up_to_chance() -> None:
    rng = np.random.default_rng(5)
    own = {name: [rng.normal(0.1, 1, 90)] for name in ("a", "b")}
    other = {name: [np.zeros(90)] for name in own}
    both = pair_all(own, other, np.arange(90))
    for name, found in both.items():
        alone = pair(own[name], other[name], np.arange(90))
        assert (found.difference, found.low, found.high) == pytest.approx(
            (alone.difference, alone.low, alone.high), abs=1e-6
        )
        assert found.p == pytest.approx(alone.p, abs=0.02)


def test_other_seeds_or_nobody() -> None:
    with pytest.raises(ValueError, match="same seeds"):
        pair([np.zeros(2)], [np.zeros(2), np.zeros(2)], np.arange(2))
    assert pair([np.zeros(0)], [np.zeros(0)], np.zeros(0, np.int64)) == NOBODY
    assert judge(NOBODY, 1.0, 1).outcome == "cannot tell"


# Worlds: users with figures, arms that add a known amount to some of them.

USERS, SEEDS = 400, 3


def world(gains: dict[str, dict[str, float]], seed: int = 0) -> dict[str, list[Part]]:
    """Arms by name: the mean that each adds to the users of `short` and of `long` histories."""
    rng = np.random.default_rng(seed)
    base = rng.beta(1, 6, USERS)
    short = np.arange(USERS) < USERS // 2
    made = {}
    for arm, gain in gains.items():
        shift = np.where(short, gain.get("short", 0.0), gain.get("long", 0.0))
        figures = base + shift + rng.normal(0, 0.05, (SEEDS, USERS))
        made[arm] = [part("whole", "whole", figures, np.ones(USERS, bool))]
        made[arm] += [part("history", "short", figures, short), part("history", "long", figures, ~short)]
    return made


def part(dimension: str, label: str, figures: np.ndarray, inside: np.ndarray) -> Part:
    users = np.array([f"u{i}" for i in np.flatnonzero(inside)], object)
    return Part(dimension, label, METRIC, users, {METRIC: figures[:, inside]})


def outcomes(findings: list[Finding], arm: str) -> dict[str, str]:
    return {one.label: one.verdict.outcome for one in findings if one.arm == arm and one.verdict}


def test_an_arm_that_helps_some_and_hurts_others_is_told_so() -> None:
    arms = world({"off": {}, "on": {"short": 0.03, "long": -0.03}, "placebo": {}})
    findings = contrast(arms, "off", ["placebo"])
    assert outcomes(findings, "on") == {"whole": "cannot tell", "short": "helps", "long": "hurts"}
    assert outcomes(findings, "placebo") == {}, "a placebo gets no verdict"


def test_a_placebo_that_gains_as_much_blocks_the_verdict() -> None:
    gains = {"off": {}, "on": {"short": 0.03}, "idle": {}, "twin": {"short": 0.03}}
    findings = contrast(world(gains), "off", ["idle", "twin"])
    short = next(one for one in findings if (one.arm, one.label) == ("on", "short"))
    assert short.main.low > 0
    assert short.placebo == "twin"
    assert short.verdict is not None
    assert short.verdict.outcome == "cannot tell"
    assert "placebo twin" in short.verdict.why
    assert outcomes(contrast(world(gains), "off", ["idle"]), "on")["short"] == "helps"


def test_equal_arms_are_hardly_ever_told_apart() -> None:
    told = 0
    for seed in range(100):
        found = outcomes(contrast(world({"off": {}, "on": {}}, seed), "off", resamples=300), "on")
        told += any(outcome != "cannot tell" for outcome in found.values())
    assert told <= 11, "5 % of a hundred families, with room for chance"


def test_the_correction_runs_over_all_arms_and_parts() -> None:
    arms = world({"off": {}, "a": {}, "b": {}, "placebo": {}})
    findings = contrast(arms, "off", ["placebo"])
    judged = [one for one in findings if one.verdict]
    assert len(judged) == 6
    expected = holm([one.main.p for one in judged])
    assert [one.verdict.p_adjusted for one in judged if one.verdict] == expected


def test_parts_that_are_too_alike_are_not_tested_and_do_not_count() -> None:
    arms = world({"off": {}, "on": {"short": 0.03}})
    for name, parts in arms.items():
        same = parts[2].figures[METRIC].copy() if name == "off" else arms["off"][2].figures[METRIC].copy()
        same[:, :9] += 0.5 * (name == "on")
        parts[2] = replace(parts[2], figures={METRIC: same})
    findings = contrast(arms, "off")
    long = next(one for one in findings if one.label == "long")
    assert long.verdict is not None
    assert (long.verdict.outcome, long.verdict.why) == (
        "cannot tell",
        "the figures of only 9 of 200 users differ",
    )
    tested = [one for one in findings if one.label != "long" and one.verdict]
    assert [one.verdict.p_adjusted for one in tested if one.verdict] == holm([one.main.p for one in tested])


def test_parts_that_were_not_planned_are_shown_without_a_verdict() -> None:
    arms = world({"off": {}, "on": {"short": 0.1}})
    for parts in arms.values():
        parts[1] = Part("history", "short", METRIC, parts[1].users, parts[1].figures, planned=False)
    findings = contrast(arms, "off")
    assert outcomes(findings, "on").keys() == {"whole", "long"}
    assert next(one for one in findings if one.label == "short").main.low > 0


def test_too_few_users_are_told_how_many_are_needed() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0.001, 0.1, 40)
    verdict = judge(pair([0.2 + values], [np.full(40, 0.2)], np.arange(40)), 0.9, 5)
    assert verdict.outcome == "cannot tell"
    assert verdict.users_needed == users_needed(float(values.std(ddof=1)), 0.02 * 0.2, level=0.01)
    assert f"{verdict.users_needed:,}" in verdict.why
    assert verdict.detectable is not None
    assert verdict.detectable > 0.02


def test_arms_of_other_users_cannot_be_compared() -> None:
    arms = world({"off": {}, "on": {}})
    arms["on"][0] = part("whole", "whole", np.zeros((SEEDS, USERS + 1)), np.ones(USERS + 1, bool))
    with pytest.raises(ValueError, match="same users"):
        contrast(arms, "off")
