"""Lists of integers of many rows: an item's neighbours, a row's targets, what is lent to a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.augment.columns.runs import Ints, offsets_of, places
from recsys.augment.example import Event

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

    @property
    def highest(self) -> int:
        """The highest item in a list; -1 where all are empty."""
        return int(self._values.max(initial=-1))

    def padded(self, items: Ints, top: int) -> Ints:
        """(items, 1 to top) the first of each item's list, `NONE` where it is shorter."""
        found: Ints = self._values[self._index(items, top)]
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
    names: Sequence[str]

    def events_of(self, row: int) -> tuple[Event, ...]:
        """What one row may borrow."""
        span = slice(self.offsets[row], self.offsets[row + 1])
        names = [self.names[lender] for lender in self.lenders[span].tolist()]
        columns = (self.items[span].tolist(), self.events[span].tolist(), self.times[span].tolist())
        return tuple([Event(*one) for one in zip(*columns, names, strict=True)])


class Pairs:
    """A set of (row, item) pairs.

    Args:
        rows: (n,)
        items: (n,) from -1, which is `recsys.contexts.MASKED`, to below `num_items`.
        num_items: All items are below it.
    """

    def __init__(self, rows: Ints, items: Ints, num_items: int) -> None:
        self._step = num_items + 2
        self._keys = np.sort(rows * self._step + items)

    def has(self, rows: Ints, items: Ints) -> NDArray[np.bool_]:
        """Which of other pairs are in it; of `NONE` none is."""
        if not len(self._keys):
            return np.zeros(len(items), bool)
        asked = rows * self._step + items
        places = np.minimum(np.searchsorted(self._keys, asked), len(self._keys) - 1)
        found: NDArray[np.bool_] = self._keys[places] == asked
        return found
