"""Runs of values, of different lengths, one after the other: run i is `values[offsets[i]:offsets[i + 1]]`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def offsets_of(sizes: Ints) -> Ints:
    """(n + 1,) where each run begins, from the runs' sizes, and where the last one ends."""
    offsets = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    return offsets


def places(offsets: Ints, rows: Ints) -> tuple[Ints, Ints]:
    """Where the values of some runs stand, run after run, and the offsets of those runs by themselves."""
    sizes = offsets[rows + 1] - offsets[rows]
    ends = offsets_of(sizes)
    return np.arange(ends[-1]) + np.repeat(offsets[rows] - ends[:-1], sizes), ends


def counts(marks: NDArray[np.bool_], offsets: Ints) -> tuple[Ints, Ints]:
    """How many marks each run has, and (n + 1,) how many stand before it."""
    total = np.zeros(len(marks) + 1, np.int64)
    np.cumsum(marks, out=total[1:])
    before = total[offsets]
    return np.diff(before), before


def owners(offsets: Ints) -> Ints:
    """For each value the run that it is in."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def interleaved(parts: Sequence[tuple[Ints, Ints, Ints]], count: int) -> tuple[Ints, Ints]:
    """Runs of several parts in one order.

    Args:
        parts: Of each its rows, its values and its offsets; each row is in one part.
        count: How many rows there are.

    Returns:
        The values of all rows, and their offsets.
    """
    sizes = np.zeros(count, np.int64)
    for rows, _, offsets in parts:
        sizes[rows] = np.diff(offsets)
    ends = offsets_of(sizes)
    merged = np.empty(ends[-1], np.int64)
    for rows, values, _ in parts:
        merged[places(ends, rows)[0]] = values
    return merged, ends


def ordered_within(offsets: Ints, keys: Ints) -> Ints:
    """Places of all values, each run's by key, then as they stood; keys lie within 2^53."""
    pairs = np.empty(len(keys), np.complex128)  # compared by the real part, then by the imaginary one
    pairs.real, pairs.imag = owners(offsets), keys
    return np.argsort(pairs, kind="stable")  # runs are in order already: ten times as quick as `lexsort`


def like_sized(sizes: Ints, least: int = 8) -> Iterator[tuple[Ints, int]]:
    """Rows in groups of like sizes, for tables that are half full at least.

    Args:
        sizes: (n,) of the rows.
        least: Width of the first group's table; each next one's is twice as wide.

    Yields:
        The rows of a group, ascending, and the width of their table; rows of no size are in none.
    """
    low, width, longest = 0, least, int(sizes.max(initial=0))
    while low < longest:
        rows = np.flatnonzero((sizes > low) & (sizes <= width))
        if len(rows):
            yield rows, width
        low, width = width, 2 * width
