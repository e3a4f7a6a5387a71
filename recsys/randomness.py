"""Randomness is passed in and keyed: the same seed, stage and id give the same draws, whoever asks.

`stream` serves one row of an augmentation, where setting up a NumPy generator (9 µs) would cost more
than the edit itself; `generator` serves array work. Both are keyed by hash, so that adding an op,
dropping a row or changing the number of workers changes nobody else's draws.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

_MASK = (1 << 64) - 1
_TO_UNIT = 2.0**-53


def derive(seed: int, *keys: str | int) -> int:
    """A 64-bit key from a seed and any number of keys (BLAKE2b)."""
    text = "\x1f".join([str(seed), *map(str, keys)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def generator(seed: int, *keys: str | int) -> np.random.Generator:
    """A NumPy generator of its own for `(seed, *keys)`, for array work."""
    return np.random.Generator(np.random.PCG64(derive(seed, *keys)))


def turn_of_shuffles(number: int, size: int, turn: int, seed: int, *keys: str | int) -> NDArray[np.int64]:
    """The `turn`-th handful when everything is dealt out, shuffled, dealt out again, and so on.

    So that all are taken about equally often, whatever the size of a handful, and none twice in one.

    Args:
        number: How many there are, at least `size`.
        size: How many a turn takes, at least 1.
        turn: From 0.
        seed: Each shuffle is keyed by (seed, *keys, its number).
        keys: Whose shuffles they are.

    Returns:
        (size,) places in [0, number), in the order in which they are dealt.
    """
    if not 0 < size <= number:
        raise ValueError(f"turns of {size} out of {number}")
    shuffle, start = divmod(turn * size, number)
    first = generator(seed, *keys, shuffle).permutation(number)[start:][:size]
    if len(first) == size:
        return first
    # What is left over goes first; the next shuffle fills up, without those.
    rest = generator(seed, *keys, shuffle + 1).permutation(number)
    return np.concatenate([first, rest[~np.isin(rest, first)][: size - len(first)]])


def stream(seed: int, *keys: str | int) -> Stream:
    """A light stream of its own for `(seed, *keys)`, for the edits of one row."""
    return Stream(derive(seed, *keys))


def row_streams(seed: int, *keys: str | int) -> Callable[[str], Stream]:
    """A function from a row's id to the row's stream, for loops over many rows (half the price of `stream`).

    The streams depend on the seed, the keys and the id alone, in whichever order they are asked for. They are
    not those of `stream(seed, *keys, id)`.
    """
    keyed = derive(seed, *keys).to_bytes(8, "little")
    begun = hashlib.blake2b(digest_size=8, key=keyed).copy  # cheaper than taking in the key for each row
    from_bytes = int.from_bytes

    def stream_of(row_id: str) -> Stream:
        hashed = begun()
        hashed.update(row_id.encode())
        return Stream(from_bytes(hashed.digest(), "little"))

    return stream_of


def row_states(ids: Sequence[str], seed: int, *keys: str | int) -> NDArray[np.uint64]:
    """(n,) where the streams of many rows begin: `row_streams(seed, *keys)` of each id, as numbers."""
    keyed = derive(seed, *keys).to_bytes(8, "little")
    begun = hashlib.blake2b(digest_size=8, key=keyed).copy
    digests = []
    for row_id in ids:
        hashed = begun()
        hashed.update(row_id.encode())
        digests.append(hashed.digest())
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


class Stream:
    """A few draws for one row: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).

    Cheap to make, passes BigCrush, 2^64 period; not for cryptography and not for arrays.
    """

    __slots__ = ("_state",)

    def __init__(self, key: int) -> None:
        self._state = key & _MASK

    @property
    def state(self) -> int:
        """Where the stream stands; `Stream(state)` goes on from there."""
        return self._state

    def bits(self) -> int:
        """The next 64 random bits."""
        self._state = state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        return state ^ (state >> 31)

    def fork(self, key: int) -> Stream:
        """A stream of its own for a key, from where this one stands; this one does not move.

        Two keys give unrelated streams, so that siblings never share draws.
        """
        state = (self._state ^ key) * 0xBF58476D1CE4E5B9 & _MASK
        state = ((state ^ (state >> 32)) * 0x94D049BB133111EB) & _MASK
        return Stream(state ^ (state >> 29))

    def random(self) -> float:
        """Uniform in [0, 1)."""
        # `bits`, written out: this and `below` are called several times per augmented row.
        self._state = state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        return ((state ^ (state >> 31)) >> 11) * _TO_UNIT

    def uniform(self, low: float, high: float) -> float:
        """Uniform in [low, high)."""
        return low + (high - low) * self.random()

    def below(self, n: int) -> int:
        """Uniform integer in [0, n); n must be positive (bias under n / 2^64)."""
        if n <= 0:
            raise ValueError(f"below() needs n > 0, got {n}")
        self._state = state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        return ((state ^ (state >> 31)) * n) >> 64

    def chance(self, p: float) -> bool:
        """True with probability p."""
        return self.random() < p

    def choice(self, options: Sequence[T]) -> T:
        """One option, each as likely."""
        return options[self.below(len(options))]

    def weighted(self, weights: Sequence[float]) -> int:
        """An index, drawn in proportion to non-negative weights of positive sum."""
        total = 0.0
        for weight in weights:  # in order: `sum` of floats rounds otherwise from one Python to another
            total += weight
        if total <= 0:
            raise ValueError("weighted() needs weights with a positive sum")
        mark = self.random() * total
        for index, weight in enumerate(weights):
            mark -= weight
            if mark < 0:
                return index
        return max(index for index, weight in enumerate(weights) if weight > 0)  # rounding at the very end

    def sample(self, n: int, k: int) -> list[int]:
        """Distinct integers of [0, n), k of them, ascending (Floyd's method)."""
        if not 0 <= k <= n:
            raise ValueError(f"sample() needs 0 <= k <= n, got k={k}, n={n}")
        if k == 1:
            return [self.below(n)]
        chosen: set[int] = set()
        at = self._state
        for top in range(n - k, n):
            # `below`, written out.
            at = (at + 0x9E3779B97F4A7C15) & _MASK
            state = ((at ^ (at >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
            state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
            pick = ((state ^ (state >> 31)) * (top + 1)) >> 64
            chosen.add(top if pick in chosen else pick)
        self._state = at
        return sorted(chosen)

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """A new list in random order (Fisher-Yates)."""
        out = list(options)
        at = self._state
        for last in range(len(out) - 1, 0, -1):
            # `below`, written out.
            at = (at + 0x9E3779B97F4A7C15) & _MASK
            state = ((at ^ (at >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
            state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
            other = ((state ^ (state >> 31)) * (last + 1)) >> 64
            out[last], out[other] = out[other], out[last]
        self._state = at
        return out
