"""Who is most like a row: users by the cosine of what they had, rare items weighing more."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.augment.columns.runs import Ints, like_sized, offsets_of, owners, places
from recsys.augment.columns.spans import Spans

_ASKED = 1024
"""Rows whose likeness to all users is computed at one time."""
_COMMON = 0.02
"""Items that more than this share of the users had say little of who is alike."""

Reals = NDArray[np.float64]


class AlikeUsers:
    """Users, to be asked which of them are most like a row.

    Args:
        owned: Items of each user.
        num_items: Size of the catalogue.
        top: Users who are named for one row, at most.
        min_cosine: Smallest cosine of two users.
    """

    def __init__(self, owned: Spans, num_items: int, top: int = 5, min_cosine: float = 0.1) -> None:
        self._top, self._min_cosine = top, min_cosine
        count = len(owned.sizes)
        had = np.bincount(_distinct(owned, num_items)[1], minlength=num_items)
        rare = (had > 1) & (had <= max(_COMMON * count, 50))
        self._weights: Reals = np.where(rare, np.log2(1.0 + count / np.maximum(had, 1.0)), 0.0)
        self._users = _unit(owned, self._weights).T.tocsr()
        self._sure = _nth_largest(self._users, top + 1)

    def nearest(self, rows: Spans, own: Ints) -> Spans:
        """For each of some rows the users most like it, by cosine, then by number; never itself.

        Args:
            rows: Items of each row.
            own: (rows,) the row's own user, -1 where it is none of them.
        """
        unit = _unit(rows, self._weights)
        least = self._least(unit)
        counts, near = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for low in range(0, len(own), _ASKED):
            high = min(low + _ASKED, len(own))
            found = self._block(_between(unit, low, high), own[low:high], least[low:high])
            counts.append(found.sizes)
            near.append(found.values)
        return Spans(offsets_of(np.concatenate(counts)), np.concatenate(near))

    def _least(self, unit: sparse.csr_array) -> Reals:
        """(rows,) a cosine that those whom a row is looking for have at least.

        Whoever has an item has at least that item's share of the cosine. So once more users than are wanted
        have an item with such a share of them, the row's own user among them, nobody below it is wanted.
        """
        least = np.full(unit.shape[0], self._min_cosine)
        some = np.flatnonzero(np.diff(unit.indptr))
        if len(some):
            shares = np.maximum.reduceat(unit.data * self._sure[unit.indices], unit.indptr[some])
            least[some] = np.maximum(least[some], shares)
        return least

    def _block(self, unit: sparse.csr_array, own: Ints, least: Reals) -> Spans:
        alike = unit @ self._users
        sizes = np.diff(alike.indptr)
        good = np.flatnonzero(alike.data >= np.repeat(least, sizes))
        row = np.repeat(np.arange(len(own)), sizes)[good]
        near, cosine = alike.indices[good], alike.data[good]
        others = near != own[row]
        return _ranked(np.bincount(row[others], minlength=len(own)), near[others], cosine[others], self._top)


def _ranked(counts: Ints, near: NDArray[np.int32], cosine: Reals, top: int) -> Spans:
    """Of each row's candidates the most alike, by cosine, by number where that is equal.

    Args:
        counts: (rows,) how many candidates each row has.
        near: Who they are, row after row.
        cosine: How alike.
        top: How many of a row go on at most.
    """
    keys = np.empty(len(near), np.complex128)  # sorted by the real part, then by the imaginary one
    keys.real, keys.imag = -cosine, near
    first, ends = offsets_of(counts), offsets_of(np.minimum(counts, top))
    best = np.empty(ends[-1], np.int64)
    for rows, width in like_sized(counts):
        table = np.full((len(rows), width), np.inf, np.complex128)
        filled = np.arange(width) < counts[rows, None]
        table[filled] = keys[places(first, rows)[0]]
        if width > 2 * top:
            table = np.partition(table, top - 1, axis=1)[:, :top]
        table.sort(axis=1)
        best[places(ends, rows)[0]] = table.imag[:, :top][filled[:, :top]]
    return Spans(ends, best)


def _distinct(lists: Spans, num_items: int) -> tuple[Ints, Ints]:
    """Rows, ascending, and the items of each, once each, ascending."""
    # Rows stand in order already, which a stable sort makes use of: five times as quick here.
    keys = np.sort(owners(lists.offsets) * num_items + lists.values, kind="stable")
    keys = keys[np.append(True, keys[1:] != keys[:-1])] if len(keys) else keys
    rows = keys // max(num_items, 1)
    return rows, keys - rows * num_items


def _unit(lists: Spans, weights: Reals) -> sparse.csr_array:
    """(rows, items) the weights of what each row has, as rows of unit length, or empty."""
    told = weights[lists.values] > 0
    count = len(lists.sizes)
    kept = Spans(offsets_of(np.bincount(owners(lists.offsets)[told], minlength=count)), lists.values[told])
    row, item = _distinct(kept, len(weights))
    data = weights[item]
    data /= np.sqrt(np.bincount(row, data * data, count))[row]
    ends = offsets_of(np.bincount(row, minlength=count))
    # Half as wide, the places are found in three quarters of the time.
    index = np.int32 if max(len(data), *map(len, (weights, ends))) <= np.iinfo(np.int32).max else np.int64
    return sparse.csr_array((data, item.astype(index), ends.astype(index)), shape=(count, len(weights)))


def _between(matrix: sparse.csr_array, low: int, high: int) -> sparse.csr_array:
    """Some rows of a matrix, its numbers not copied."""
    ends = matrix.indptr[low : high + 1]
    span = slice(ends[0], ends[-1])
    return sparse.csr_array(
        (matrix.data[span], matrix.indices[span], ends - ends[0]), shape=(high - low, matrix.shape[1])
    )


def _nth_largest(matrix: sparse.csr_array, number: int) -> Reals:
    """(rows,) the entry of each row that so many are not below, 0 where it has fewer."""
    sizes = np.diff(matrix.indptr)
    keys = np.empty(matrix.nnz, np.complex128)
    keys.real, keys.imag = np.repeat(np.arange(len(sizes)), sizes), -matrix.data
    keys.sort()
    enough = np.flatnonzero(sizes >= number)
    found = np.zeros(len(sizes))
    found[enough] = -keys.imag[matrix.indptr[enough] + (number - 1)]
    return found
