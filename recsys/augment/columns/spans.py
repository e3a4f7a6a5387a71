"""Lists of many rows as arrays: where each begins, and the values one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.augment.columns.runs import Ints, places
from recsys.augment.example import Event


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


def among(owners: Ints, items: Ints, others: Ints, values: Ints, num_items: int) -> NDArray[np.bool_]:
    """Which (row, item) pairs are among other pairs.

    Args:
        owners: (n,) rows.
        items: (n,) their items; `MASKED` is one like others.
        others: (m,) rows of the other pairs.
        values: (m,) their items.
        num_items: All items are below it.
    """
    if not len(values):
        return np.zeros(len(items), bool)
    there = np.sort(others * (num_items + 1) + values)
    asked = owners * (num_items + 1) + items
    found: NDArray[np.bool_] = there[np.minimum(np.searchsorted(there, asked), len(there) - 1)] == asked
    return found
