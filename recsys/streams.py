"""Many `Stream`s side by side: draw after draw what each row's own stream would give, as arrays.

Augmentation keys the draws of each row by its id (see `recsys.randomness`). Here the rows of a range draw at
once, so that a draw costs nanoseconds; the numbers are the same, bit for bit, as drawing row by row.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.randomness import Stream

Words = NDArray[np.uint64]
Counts = NDArray[np.int64]

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_LOW = np.uint64(0xFFFFFFFF)
_TO_UNIT = 2.0**-53


def _shift(bits: int) -> np.uint64:
    return np.uint64(bits)


class Streams:
    """One stream per row. A method draws once for every row; `take` leaves out rows that do not draw.

    Args:
        states: (n,) the rows' states; copied.
    """

    __slots__ = ("_states",)

    def __init__(self, states: Words) -> None:
        self._states: Words = np.array(states, np.uint64)

    @classmethod
    def of(cls, streams: Sequence[Stream]) -> Streams:
        """The same streams, from where each of them stands."""
        return cls(np.fromiter((stream.state for stream in streams), np.uint64, len(streams)))

    def __len__(self) -> int:
        return len(self._states)

    def singly(self) -> list[Stream]:
        """Each row's stream by itself, from where it stands; these here do not move when those draw."""
        return [Stream(state) for state in self._states.tolist()]

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Streams:
        """The streams of some rows, from where they stand; these here do not move when those draw."""
        return Streams(self._states[rows])

    def put(self, rows: Counts, streams: Streams) -> None:
        """Let some rows, each named once, go on from where others stand."""
        self._states[rows] = streams._states

    def fork(self, key: int) -> Streams:
        """Per row a stream of its own for a key, from where the row's stands; these do not move."""
        state = (self._states ^ np.uint64(key)) * _FIRST
        state = (state ^ (state >> _shift(32))) * _SECOND
        return Streams(state ^ (state >> _shift(29)))

    def bits(self) -> Words:
        """(n,) the next 64 random bits of each row."""
        self._states += _STEP
        return _mixed(self._states)

    def random(self) -> NDArray[np.float64]:
        """(n,) uniform in [0, 1)."""
        return (self.bits() >> _shift(11)).astype(np.float64) * _TO_UNIT

    def uniform(self, low: float, high: float) -> NDArray[np.float64]:
        """(n,) uniform in [low, high)."""
        return low + (high - low) * self.random()

    def below(self, n: int | Counts) -> Counts:
        """(n,) uniform integers in [0, n), one bound for all or one per row; bounds lie in 1 to 2^32 - 1."""
        return _scaled(self.bits(), _checked(n))

    def below_of(self, rows: Counts, n: Counts) -> Counts:
        """`below` for some rows, each named once; the others do not move."""
        drawn = Streams(self._states[rows])
        found = _scaled(drawn.bits(), _checked(n))
        self._states[rows] = drawn._states
        return found

    def below_runs(self, n: Counts, offsets: Counts) -> Counts:
        """Several draws per row, one after the other, each with its own bound.

        Args:
            n: The bounds, row after row.
            offsets: (rows + 1,) where each row's bounds begin; a row without any does not move.
        """
        sizes = np.diff(offsets)
        number = np.arange(1, len(n) + 1) - np.repeat(offsets[:-1], sizes)
        states = np.repeat(self._states, sizes) + number.astype(np.uint64) * _STEP
        self._states += sizes.astype(np.uint64) * _STEP
        return _scaled(_mixed(states), _checked(n))

    def chance(self, p: float) -> NDArray[np.bool_]:
        """(n,) true with probability p."""
        return self.random() < p

    def chance_of(self, rows: Counts, p: float) -> NDArray[np.bool_]:
        """`chance` for some rows, each named once; the others do not move."""
        drawn = Streams(self._states[rows])
        found = drawn.chance(p)
        self._states[rows] = drawn._states
        return found

    def weighted(self, weights: Sequence[float] | NDArray[np.float64]) -> Counts:
        """(n,) indices drawn in proportion to non-negative weights of positive sum.

        Args:
            weights: The same for all rows, or (n, k) a row's own; a weight of zero is as good as none.
        """
        columns = weights.T if isinstance(weights, np.ndarray) else np.asarray(weights, np.float64)[:, None]
        total = np.zeros(columns.shape[1])
        for weight in columns:  # one after the other, as `Stream.weighted` adds them
            total = total + weight
        if (total <= 0).any():
            raise ValueError("weighted() needs weights with a positive sum")
        mark = self.random() * total
        found = np.full(len(self), -1, np.int64)
        last = np.zeros(len(self), np.int64)
        for index, weight in enumerate(columns):
            mark = mark - weight
            found[(mark < 0) & (found < 0)] = index
            last = np.where(weight > 0, index, last)
        return np.where(found < 0, last, found)  # rounding at the very end

    def weighted_of(self, rows: Counts, weights: NDArray[np.float64]) -> Counts:
        """`weighted` for some rows, each named once, by weights of their own; the others do not move."""
        drawn = Streams(self._states[rows])
        found = drawn.weighted(weights)
        self._states[rows] = drawn._states
        return found

    def sample(self, n: Counts, k: Counts) -> tuple[Counts, Counts]:
        """Distinct integers of [0, n), k of them per row, ascending (Floyd's method).

        Args:
            n: (rows,) how many there are to draw from.
            k: (rows,) how many are drawn, 0 <= k <= n; a row that draws none does not move.

        Returns:
            Offsets (rows + 1,) and the integers of all rows, row after row.
        """
        if np.any((k < 0) | (k > n)):
            raise ValueError("sample() needs 0 <= k <= n in every row")
        offsets = np.concatenate([[0], np.cumsum(k)]).astype(np.int64)
        number = np.arange(offsets[-1]) - np.repeat(offsets[:-1], k)
        tops = np.repeat(n - k, k) + number
        picks = self.below_runs(tops + 1, offsets)
        most = int(k.max(initial=0))
        if most < 2:
            return offsets, picks
        chosen = np.full((len(self), most), np.iinfo(np.int64).max, np.int64)
        for draw in range(most):
            rows = np.flatnonzero(k > draw)
            pick, top = picks[offsets[rows] + draw], tops[offsets[rows] + draw]
            taken = (chosen[rows, :draw] == pick[:, None]).any(axis=1)
            chosen[rows, draw] = np.where(taken, top, pick)
        chosen.sort(axis=1)
        return offsets, chosen[np.arange(most) < k[:, None]]

    def shuffled(self, sizes: Counts) -> tuple[Counts, Counts]:
        """Per row the numbers 0 to size - 1 in random order (Fisher-Yates).

        Args:
            sizes: (rows,) how many; a row of fewer than two does not move.

        Returns:
            Offsets (rows + 1,) and the numbers of all rows, row after row: `options[numbers]` is what
            `Stream.shuffled(options)` gives.
        """
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        most = int(sizes.max(initial=0))
        order = np.tile(np.arange(most, dtype=np.int64), (len(self), 1))
        steps = np.maximum(sizes - 1, 0)
        begins = np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)
        number = np.arange(begins[-1]) - np.repeat(begins[:-1], steps)
        others = self.below_runs(np.repeat(sizes, steps) - number, begins)
        rows = np.flatnonzero(sizes > 1)
        for step in range(1, most):
            rows = rows[sizes[rows] > step]
            last, other = sizes[rows] - step, others[begins[rows] + step - 1]
            order[rows, last], order[rows, other] = order[rows, other], order[rows, last]
        return offsets, order[np.arange(most) < sizes[:, None]]


def _mixed(state: Words) -> Words:
    """What SplitMix64 says of states."""
    state = (state ^ (state >> _shift(30))) * _FIRST
    state = (state ^ (state >> _shift(27))) * _SECOND
    return state ^ (state >> _shift(31))


def _checked(n: int | Counts) -> Words:
    bounds = np.asarray(n)
    if bounds.size and (bounds.min() <= 0 or bounds.max() > 0xFFFFFFFF):
        raise ValueError(f"below() needs 0 < n < 2^32, got {int(bounds.min())} to {int(bounds.max())}")
    return bounds.astype(np.uint64)


def _scaled(bits: Words, n: Words) -> Counts:
    """Bits * n / 2^64, the product being of 96 bits."""
    high, low = bits >> _shift(32), bits & _LOW
    return ((high * n + ((low * n) >> _shift(32))) >> _shift(32)).astype(np.int64)
