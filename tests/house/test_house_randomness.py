"""Keyed randomness: the same key the same draws, other keys other draws, and the draws fair."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from recsys.randomness import Stream, derive, generator, stream, turn_of_shuffles

SEEDS = st.integers(0, 2**63)


def test_splitmix64_gives_the_published_numbers() -> None:
    """The first outputs for seed 1234567, as in the reference implementation."""
    draws = Stream(1234567)
    assert [draws.bits() for _ in range(3)] == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@given(SEEDS, st.lists(st.one_of(st.text(), st.integers()), max_size=4))
def test_one_key_one_sequence(seed: int, keys: list[str | int]) -> None:
    one, other = stream(seed, *keys), stream(seed, *keys)
    assert [one.bits() for _ in range(5)] == [other.bits() for _ in range(5)]
    assert generator(seed, *keys).integers(2**60) == generator(seed, *keys).integers(2**60)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((0, "a", "b"), (0, "b", "a")),
        ((0, "a"), (1, "a")),
        ((0, "ab", "c"), (0, "a", "bc")),
        ((0, "a"), (0, "a", "")),
        ((1, 2), (12,)),
    ],
)
def test_keys_do_not_run_into_each_other(one: tuple[int | str, ...], other: tuple[int | str, ...]) -> None:
    assert derive(*one) != derive(*other)  # type: ignore[arg-type]


def test_no_two_of_many_keys_collide() -> None:
    keys = {derive(seed, stage, row) for seed in range(5) for stage in ("a", "b") for row in range(5000)}
    assert len(keys) == 5 * 2 * 5000


def test_draws_are_uniform() -> None:
    draws = stream(1, "uniform")
    values = np.array([draws.random() for _ in range(20_000)])
    assert values.min() >= 0
    assert values.max() < 1
    assert stats.kstest(values, "uniform").pvalue > 1e-3


def test_first_draws_of_neighbouring_keys_are_independent() -> None:
    """What matters for rows: the n-th draws of many rows' streams look like one random sequence."""
    table = np.array(
        [[draws.random() for _ in range(3)] for draws in (stream(0, "op", i) for i in range(8000))]
    )
    for column in table.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3
    assert np.abs(np.corrcoef(table.T) - np.eye(3)).max() < 0.04
    assert abs(np.corrcoef(table[:-1, 0], table[1:, 0])[0, 1]) < 0.04


def test_bits_are_even_in_every_place() -> None:
    draws = stream(2, "bits")
    words = [draws.bits() for _ in range(4000)]
    ones = np.array([sum(word >> place & 1 for word in words) for place in range(64)])
    assert np.abs(ones / 4000 - 0.5).max() < 5 * 0.5 / np.sqrt(4000)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 10])
def test_below_is_fair(n: int) -> None:
    draws = stream(3, "below", n)
    counts = Counter(draws.below(n) for _ in range(3000 * n))
    assert set(counts) == set(range(n))
    if n > 1:
        assert stats.chisquare([counts[i] for i in range(n)]).pvalue > 1e-3


def test_weighted_follows_its_weights_and_never_takes_a_zero() -> None:
    draws = stream(4, "weighted")
    counts = Counter(draws.weighted([3.0, 0.0, 1.0, 0.0]) for _ in range(8000))
    assert set(counts) == {0, 2}
    assert abs(counts[0] / 8000 - 0.75) < 0.025


@given(SEEDS, st.integers(0, 40), st.data())
def test_sample_gives_distinct_members_in_order(seed: int, n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    picked = stream(seed).sample(n, k)
    assert picked == sorted(set(picked))
    assert len(picked) == k
    assert all(0 <= member < n for member in picked)


def test_sample_takes_each_subset_as_often() -> None:
    draws = stream(5, "sample")
    counts = Counter(tuple(draws.sample(5, 2)) for _ in range(10_000))
    assert len(counts) == 10
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3


@given(SEEDS, st.lists(st.integers(), max_size=30))
def test_shuffled_is_a_permutation_and_leaves_its_input(seed: int, options: list[int]) -> None:
    before = list(options)
    assert sorted(stream(seed).shuffled(options)) == sorted(options)
    assert options == before


def test_shuffled_gives_each_order_as_often() -> None:
    draws = stream(6, "shuffled")
    counts = Counter(tuple(draws.shuffled("abc")) for _ in range(6000))
    assert len(counts) == 6
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3


@given(SEEDS, st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_uniform_stays_in_its_range(seed: int, low: float, width: float) -> None:
    assert low <= stream(seed).uniform(low, low + width) <= low + width


def test_chance_at_its_ends_and_between() -> None:
    draws = stream(7, "chance")
    assert not any(draws.chance(0.0) for _ in range(1000))
    assert all(draws.chance(1.0) for _ in range(1000))
    assert abs(sum(draws.chance(0.3) for _ in range(8000)) / 8000 - 0.3) < 0.025


@pytest.mark.parametrize("call", ["below", "weighted", "sample"])
def test_impossible_draws_are_refused(call: str) -> None:
    arguments = {"below": (0,), "weighted": ([0.0, 0.0],), "sample": (2, 3)}[call]
    with pytest.raises(ValueError, match=call):
        getattr(stream(0), call)(*arguments)


@given(st.integers(1, 40), st.integers(1, 40), SEEDS)
def test_turns_of_shuffles_deal_everything_out(number: int, size: int, seed: int) -> None:
    size = min(size, number)
    turns = [turn_of_shuffles(number, size, turn, seed, "any") for turn in range(2 * number)]
    assert all(len(np.unique(turn)) == size and turn.max() < number for turn in turns)
    whole = number // size  # turns that the first shuffle has to itself
    assert len(np.unique(np.concatenate(turns[:whole]))) == whole * size
    dealt = np.bincount(np.concatenate(turns), minlength=number)
    assert dealt.min() > 0
    assert abs(dealt.mean() - 2 * size) < 1e-9


def test_turns_are_keyed_and_of_no_more_than_there_are() -> None:
    one, other = (turn_of_shuffles(50, 20, 1, seed, "any").tolist() for seed in (0, 1))
    assert one != other
    assert one == turn_of_shuffles(50, 20, 1, 0, "any").tolist()
    for wrong in (0, 51):
        with pytest.raises(ValueError, match="turns of"):
            turn_of_shuffles(50, wrong, 0, 0)
