"""Streams side by side draw what each row's own stream draws."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.randomness import Stream, row_states, row_streams, stream
from recsys.streams import Streams

KEYS = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=12)


def both(keys):
    return [Stream(key) for key in keys], Streams(np.array(keys, np.uint64))


def parts(offsets, values):
    return [values[a:b].tolist() for a, b in itertools.pairwise(offsets)]


@given(KEYS, st.integers(0, 2**64 - 1))
def test_plain_draws_and_forks(keys, key):
    alone, together = both(keys)
    assert [s.bits() for s in alone] == together.bits().tolist()
    assert [s.fork(key).bits() for s in alone] == together.fork(key).bits().tolist()
    assert [s.random() for s in alone] == together.random().tolist()
    assert [s.uniform(-2.0, 0.3) for s in alone] == together.uniform(-2.0, 0.3).tolist()
    assert [s.chance(0.4) for s in alone] == together.chance(0.4).tolist()
    weights = (0.0, 0.5, 2.0, 0.0)
    assert [s.weighted(weights) for s in alone] == together.weighted(weights).tolist()
    assert [s.bits() for s in alone] == together.bits().tolist()


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(1, 2**32 - 1)), min_size=1, max_size=12))
def test_below(pairs):
    alone, together = both([key for key, _ in pairs])
    n = np.array([n for _, n in pairs])
    expected = [s.below(int(bound)) for s, bound in zip(alone, n, strict=True)]
    assert together.below(n).tolist() == expected


@given(
    st.lists(
        st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12
    )
)
def test_sample_and_shuffled(rows):
    alone, together = both([key for key, _, _ in rows])
    n = np.array([max(a, b) for _, a, b in rows])
    k = np.array([min(a, b) for _, a, b in rows])
    expected = [s.sample(int(a), int(b)) for s, a, b in zip(alone, n, k, strict=True)]
    assert parts(*together.sample(n, k)) == expected
    expected = [s.shuffled(range(int(a))) for s, a in zip(alone, n, strict=True)]
    assert parts(*together.shuffled(n)) == expected
    assert [s.bits() for s in alone] == together.bits().tolist()


def test_rows_that_are_taken_draw_alone():
    streams = Streams.of([stream(0, "row", i) for i in range(6)])
    some = streams.take(np.array([1, 4]))
    assert some.bits().tolist() == [stream(0, "row", i).bits() for i in (1, 4)]
    assert streams.bits().tolist() == [stream(0, "row", i).bits() for i in range(6)]


def test_nothing_to_draw_from_is_refused():
    streams = Streams(np.arange(2, dtype=np.uint64))
    with pytest.raises(ValueError, match="below"):
        streams.below(np.array([3, 0]))
    with pytest.raises(ValueError, match="sample"):
        streams.sample(np.array([1, 1]), np.array([2, 0]))
    with pytest.raises(ValueError, match="weighted"):
        streams.weighted((0.0, 0.0))


@given(
    st.lists(
        st.tuples(st.integers(0, 2**64 - 1), st.lists(st.floats(0, 5), min_size=3, max_size=3)),
        min_size=1,
        max_size=12,
    )
)
def test_weights_of_each_rows_own(rows):
    rows = [(key, [*weights, 0.1, 0.0]) for key, weights in rows]
    alone, together = both([key for key, _ in rows])
    expected = [s.weighted(weights) for s, (_, weights) in zip(alone, rows, strict=True)]
    assert together.weighted(np.array([weights for _, weights in rows])).tolist() == expected
    with pytest.raises(ValueError, match="positive sum"):
        together.weighted(np.zeros((len(rows), 2)))


@given(KEYS)
def test_some_rows_draw_and_the_others_do_not_move(keys):
    alone, together = both(keys)
    some = np.arange(0, len(keys), 2)
    assert together.chance_of(some, 0.4).tolist() == [alone[row].chance(0.4) for row in some]
    bounds = some + 3
    drawn = [alone[row].below(int(n)) for row, n in zip(some, bounds, strict=True)]
    assert together.below_of(some, bounds).tolist() == drawn
    assert [s.bits() for s in alone] == together.bits().tolist()


def test_rows_begin_where_their_own_streams_do():
    ids = ["a", "ü", ""]
    stream_of = row_streams(3, "stage", 1)
    assert row_states(ids, 3, "stage", 1).tolist() == [stream_of(row_id).state for row_id in ids]


@given(
    st.lists(
        st.tuples(st.integers(0, 2**64 - 1), st.lists(st.integers(1, 2**32 - 1), max_size=5)),
        min_size=1,
        max_size=9,
    )
)
def test_several_draws_of_each_row(rows):
    alone, together = both([key for key, _ in rows])
    expected = [[s.below(bound) for bound in bounds] for s, (_, bounds) in zip(alone, rows, strict=True)]
    offsets = np.cumsum([0, *(len(bounds) for _, bounds in rows)])
    flat = np.array([bound for _, bounds in rows for bound in bounds], np.int64)
    assert parts(offsets, together.below_runs(flat, offsets)) == expected
    assert [s.bits() for s in alone] == together.bits().tolist()
    assert [s.state for s in together.singly()] == [s.state for s in alone]
