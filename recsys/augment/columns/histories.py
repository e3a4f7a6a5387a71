"""Histories of many rows as arrays, and the rows of augmentation as examples where somebody asks for one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from recsys.augment.columns.lazy import Made, Strings
from recsys.augment.columns.runs import Ints, offsets_of, places
from recsys.augment.columns.spans import ItemLists, Lent, Spans
from recsys.augment.example import NOTHING_LENT, HistoryExample
from recsys.augment.lending import HistorySide


class SideColumns:
    """What the history ops read besides a row, in columns.

    Args:
        side: The same by item.
        num_items: Size of the catalogue: rows of items are below it.
    """

    def __init__(self, side: HistorySide, num_items: int) -> None:
        # Whoever brings neighbours of his own may name an item that nobody had.
        named = (
            other
            for near in (side.neighbours, side.text_neighbours)
            for one in near.values()
            for other in one
        )
        self.side, self.num_items = side, max(num_items, 1 + int(max(named, default=-1)))
        self.nearest = ItemLists(side.neighbours, self.num_items)
        self.alike = ItemLists(side.text_neighbours, self.num_items)
        self.earlier = ItemLists(side.earlier, self.num_items)


@dataclass(frozen=True, slots=True)
class Known:
    """What the rows of a range know besides their histories; edits leave it alone."""

    targets: Spans
    """Of the originals, by position in the range."""
    side: SideColumns
    """What all ranges share."""
    lent: Mapping[str, Lent] = field(default_factory=dict)
    """By lender, by position in the range."""


@dataclass(frozen=True, slots=True)
class Histories:
    """Histories of n rows, oldest event first; arrays are read-only by convention."""

    offsets: Ints
    """(n + 1,)"""
    items: Ints
    """`recsys.contexts.MASKED` where the item is not told."""
    events: Ints
    times: Ints
    origins: Ints
    """(n,) position of each row's original in its range."""
    known: Known

    def __len__(self) -> int:
        return len(self.origins)

    @property
    def sizes(self) -> Ints:
        """(n,) events of each row."""
        return np.diff(self.offsets)

    @property
    def lists(self) -> Spans:
        """The items of each row."""
        return Spans(self.offsets, self.items)

    @property
    def owners(self) -> Ints:
        """(events,) the row of each event."""
        return np.repeat(np.arange(len(self)), self.sizes)

    def take(self, rows: Ints) -> Histories:
        """Some rows, in the given order."""
        if len(rows) == len(self) and (rows == np.arange(len(rows))).all():
            return self
        found, offsets = places(self.offsets, rows)
        return self.gathered(rows, offsets, found)

    def merged(self, parts: Sequence[tuple[Ints, Histories]]) -> Histories:
        """The same rows, but those of the parts as the parts have them."""
        if len(parts) == 1 and len(parts[0][0]) == len(self):
            return parts[0][1]
        tables = [self, *(part for _, part in parts)]
        starts = offsets_of(np.array([len(table) for table in tables], np.int64))
        events = offsets_of(np.array([len(table.items) for table in tables], np.int64))
        order = np.arange(len(self))
        for start, (rows, part) in zip(starts[1:-1].tolist(), parts, strict=True):
            order[rows] = start + np.arange(len(part))
        firsts = np.concatenate(
            [table.offsets[:-1] + first for table, first in zip(tables, events[:-1].tolist(), strict=True)]
        )[order]
        sizes = np.concatenate([table.sizes for table in tables])[order]
        offsets = offsets_of(sizes)
        found = np.arange(offsets[-1]) + np.repeat(firsts - offsets[:-1], sizes)
        items, kinds, times = (
            np.concatenate([getattr(table, name) for table in tables])[found]
            for name in ("items", "events", "times")
        )
        return Histories(offsets, items, kinds, times, self.origins, self.known)

    def gathered(self, rows: Ints, offsets: Ints, found: Ints) -> Histories:
        """Histories of some rows, made of events that are here.

        Args:
            rows: (k,) whose histories they are.
            offsets: (k + 1,) where each begins and ends.
            found: Where the events lie here.
        """
        return Histories(
            offsets,
            self.items[found],
            self.events[found],
            self.times[found],
            self.origins[rows],
            self.known,
        )

    def with_items(self, at: Ints, items: Ints | int) -> Histories:
        """The same with other items in some places; event types and times stay."""
        changed = self.items.copy()
        changed[at] = items
        return replace(self, items=changed)


class HistoryRows(Made[HistoryExample]):
    """Rows of augmentation: arrays, and examples when they are read.

    Args:
        row_ids: Of the originals, by row.
        histories: What the rows are.
    """

    def __init__(self, row_ids: Strings, histories: Histories) -> None:
        super().__init__(np.arange(len(histories)), self._examples)
        self.row_ids, self.histories = row_ids, histories

    def take(self, rows: Ints) -> HistoryRows:
        """These rows, in this order."""
        return HistoryRows(self.row_ids.take(rows), self.histories.take(rows))

    def _examples(self, rows: Ints) -> list[HistoryExample]:
        known, offsets = self.histories.known, self.histories.offsets.tolist()
        side, origins = known.side.side, self.histories.origins.tolist()
        items, events, times = (
            tuple(values.tolist())
            for values in (self.histories.items, self.histories.events, self.histories.times)
        )
        return [
            HistoryExample(
                row_id,
                items[offsets[row] : offsets[row + 1]],
                events[offsets[row] : offsets[row + 1]],
                times[offsets[row] : offsets[row + 1]],
                tuple(known.targets.list(origins[row])),
                side.neighbours,
                side.earlier,
                {name: one.events_of(origins[row]) for name, one in known.lent.items()} or NOTHING_LENT,
                side.text_neighbours,
            )
            for row, row_id in zip(rows.tolist(), self.row_ids, strict=True)
        ]


def woven(
    histories: Histories, rows: Ints, offsets: Ints, before: Ints, come: tuple[Ints, Ints, Ints]
) -> Histories:
    """Histories of some rows with other events put into them.

    Args:
        histories: The batch.
        rows: (k,) some of its rows.
        offsets: (k + 1,) which of the events that come are whose.
        before: The position in its row of the event that each is put before; ascending in a row. Those before
            one event keep their order.
        come: Items, event types and times of the events that come.
    """
    found, own = places(histories.offsets, rows)
    ends = own + offsets
    at = np.repeat(own[:-1], np.diff(offsets)) + before + np.arange(len(before))
    stays = np.ones(ends[-1], bool)
    stays[at] = False
    columns = []
    for values, new in zip((histories.items, histories.events, histories.times), come, strict=True):
        column = np.empty(ends[-1], np.int64)
        column[at], column[stays] = new, values[found]
        columns.append(column)
    items, events, times = columns
    return Histories(ends, items, events, times, histories.origins[rows], histories.known)
