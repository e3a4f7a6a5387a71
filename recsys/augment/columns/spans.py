"""Lists of integers of many rows: an item's neighbours, a row's targets, what is lent to a row."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.augment.columns.runs import Ints, like_sized, offsets_of, owners, places
from recsys.augment.example import Event

_WIDEST = 64
"""Lists up to this length stand in tables: of items, with four bytes for each place of each, and of rows."""
NONE = -2
"""No item, in a table of items; `recsys.contexts.MASKED` is another number."""


class Spans(NamedTuple):
    """Lists of integers, one after the other."""

    offsets: Ints
    """(n + 1,)"""
    values: Ints

    @property
    def sizes(self) -> Ints:
        """(n,) how long each list is."""
        return np.diff(self.offsets)

    def take(self, rows: Ints) -> Spans:
        """The lists of some rows."""
        found, offsets = places(self.offsets, rows)
        return Spans(offsets, self.values[found])

    def list(self, row: int) -> list[int]:
        """One list."""
        found: list[int] = self.values[self.offsets[row] : self.offsets[row + 1]].tolist()
        return found


class ItemLists:
    """Other items of each item, in order, and perhaps how likely each is.

    Args:
        lists: By item; items without a list have an empty one.
        num_items: Items are below it.
    """

    def __init__(self, lists: Mapping[Any, Sequence[Any]], num_items: int) -> None:
        items = sorted(item for item in lists if 0 <= item < num_items)
        sizes = np.zeros(num_items + 1, np.int64)  # the last is of no item
        sizes[items] = [len(lists[item]) for item in items]
        self._offsets = offsets_of(sizes)
        entries = [entry for item in items for entry in lists[item]]
        paired = bool(entries) and isinstance(entries[0], tuple)
        # One more entry than there are: something stands at every place, also where no item has a list.
        said = [entry[0] for entry in entries] if paired else entries
        self._values: Ints = np.array([*said, NONE], np.int64)
        self._chances = np.array([*(entry[1] for entry in entries if paired), 0.0], np.float64)
        self.longest = int(sizes.max(initial=0))
        """Of all lists."""
        self._table: NDArray[np.int32] | None = None
        if self.longest <= _WIDEST:
            self._table = self._values[self._index(np.arange(num_items + 1), self.longest)].astype(np.int32)

    def padded(self, items: Ints, top: int) -> Ints:
        """(items, 1 to top) the first of each item's list, `NONE` where it is shorter."""
        if self._table is not None:
            lists = self._table.take(items, axis=0)  # that of no item is the last
            return lists[:, : max(top, 1)].astype(np.int64)
        found: Ints = self._values[self._index(items, top)]
        return found

    def hold(self, items: Ints, others: Ints) -> NDArray[np.bool_]:
        """(items,) whether another item is in each item's list."""
        lists = self._values[self._index(items, self.longest)] if self._table is None else self._table[items]
        found: NDArray[np.bool_] = (lists == others[:, None]).any(axis=1)
        return found

    def padded_chances(self, items: Ints) -> NDArray[np.float64]:
        """(items, longest) how likely the entries of each item's list are; 0 where it is shorter."""
        found: NDArray[np.float64] = self._chances[self._index(items, self.longest)]
        return found

    def _index(self, items: Ints, top: int) -> Ints:
        items = np.where(items < 0, len(self._offsets) - 2, items)
        first = self._offsets[items]
        turns = np.arange(max(min(top, self.longest), 1))
        missing = turns >= (self._offsets[items + 1] - first)[:, None]
        index = first[:, None] + turns
        index[missing] = len(self._values) - 1
        return index


class Names(Sequence[str]):
    """Names of those who lend, as texts and as JSON."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: Any) -> Any:
        return self._names[index]

    @functools.cached_property
    def quoted(self) -> pa.Array:
        """Each as JSON."""
        return pa.array([json.dumps(name, ensure_ascii=False) for name in self._names], pa.string())


@dataclass(frozen=True, slots=True)
class Lent:
    """What one lender lends to each of some rows, the first choice first."""

    offsets: Ints
    """(n + 1,)"""
    items: Ints
    events: Ints
    times: Ints
    lenders: Ints
    """Whose event it is: a place among the names."""
    names: Names

    def events_of(self, row: int) -> tuple[Event, ...]:
        """What one row may borrow."""
        span = slice(self.offsets[row], self.offsets[row + 1])
        names = [self.names[lender] for lender in self.lenders[span].tolist()]
        columns = (self.items[span].tolist(), self.events[span].tolist(), self.times[span].tolist())
        return tuple([Event(*one) for one in zip(*columns, names, strict=True)])

    def quoted(self, entries: Ints) -> pa.Array:
        """(entries,) the lenders of some events as JSON."""
        return self.names.quoted.take(pa.array(self.lenders[entries]))


def joined(first: Spans, second: Spans) -> Spans:
    """Each row's list of one kind, and then its list of another."""
    offsets = first.offsets + second.offsets
    values = np.empty(offsets[-1], np.int64)
    for lists, shift in ((first, second.offsets[:-1]), (second, first.offsets[1:])):
        values[np.arange(len(lists.values)) + np.repeat(shift, lists.sizes)] = lists.values
    return Spans(offsets, values)


def held(asked: Spans, lists: Spans, *, once: bool = False) -> NDArray[np.bool_]:
    """Which of the values that rows ask for are in another list of the same row; `NONE` is in none.

    Short lists are held against each other value by value, which for many rows at one time is several
    times as quick as sorting them; longer ones are sorted.

    Args:
        asked: Per row some values, `NONE` or higher.
        lists: Per row other values, higher than `NONE`.
        once: A value that the row has asked for before counts as held as well.

    Returns:
        (values asked for,)
    """
    found = np.zeros(len(asked.values), np.bool_)
    sizes = np.where(asked.sizes > 0, np.maximum(asked.sizes, lists.sizes), 0)
    rows = np.flatnonzero(sizes > _WIDEST)
    if len(rows):
        found[places(asked.offsets, rows)[0]] = _among_sorted(asked.take(rows), lists.take(rows), once)
        sizes[rows] = 0
    for rows, _ in like_sized(sizes):
        first, counts = asked.offsets[rows], asked.sizes[rows]
        columns = list(_columns(lists, rows))
        for turn in range(int(counts.max())):
            asks = asked.values.take(first + turn, mode="clip")  # of another row where there is none
            there = np.zeros(len(rows), np.bool_)
            for column in columns:
                there |= column == asks
            if once:
                columns.append(asks)
            more = np.flatnonzero(counts > turn)
            found[first[more] + turn] = there[more]
    return found


def _columns(lists: Spans, rows: Ints) -> Iterator[Ints]:
    """The first values of some rows, then the second, and on; where there is no more, what no list has."""
    first, counts = lists.offsets[rows], lists.sizes[rows]
    for turn in range(int(counts.max())):
        yield np.where(counts > turn, lists.values.take(first + turn, mode="clip"), NONE - 1)


def _among_sorted(asked: Spans, lists: Spans, once: bool) -> NDArray[np.bool_]:
    """`held`, for lists of any length."""
    top = 1 + max(int(asked.values.max(initial=0)), int(lists.values.max(initial=0)))
    keys, known = (owners(one.offsets) * (top - NONE) + one.values - NONE for one in (asked, lists))
    found = np.isin(keys, known)
    if once:
        again = np.ones(len(keys), np.bool_)
        again[np.unique(keys, return_index=True)[1]] = False
        found |= again
    return found
