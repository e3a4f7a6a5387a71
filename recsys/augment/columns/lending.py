"""What users lend to many rows at once: the newest event of each, then the second newest of each, and on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from recsys.augment.columns.runs import Ints, offsets_of, owners
from recsys.augment.columns.spans import Lent, Names, Spans
from recsys.contexts import Contexts


class Owned(NamedTuple):
    """Users' events, user after user, oldest first: histories, and the targets at their moment.

    Of several targets the first comes last: whoever goes backwards meets them in their order.
    """

    offsets: Ints
    """(users + 1,)"""
    items: Ints
    events: Ints
    """0 for targets."""
    times: Ints


def bisected(values: Ints, low: Ints, high: Ints, asked: Ints) -> Ints:
    """`bisect_left` for many stretches of one array: (n,) the first place not below what is asked.

    Args:
        values: Ascending within each stretch.
        low: (n,) where the stretches begin.
        high: (n,) where they end.
        asked: (n,)
    """
    found = high.copy()
    rows = np.flatnonzero(low < high)
    rows = rows[values[high[rows] - 1] >= asked[rows]]  # half of those who ask are past the end
    low, high, asked = low[rows], high[rows] - 1, asked[rows]
    while len(rows):
        middle = (low + high) // 2
        below = values[middle] < asked
        low, high = np.where(below, middle + 1, low), np.where(below, high, middle)
        going = low < high
        found[rows[~going]] = low[~going]
        rows, low, high, asked = rows[going], low[going], high[going], asked[going]
    return found


def owned_events(newest: Contexts) -> Owned:
    """All that users have, from a context of each."""
    events = newest.history_offsets[-1] if len(newest) else 0
    offsets = newest.history_offsets + newest.target_offsets
    firsts, sizes = offsets[:-1], np.diff(newest.history_offsets)
    told = np.diff(newest.target_offsets)
    early = np.arange(events) + np.repeat(firsts - newest.history_offsets[:-1], sizes)
    late = np.repeat(offsets[1:] + newest.target_offsets[:-1] - 1, told) - np.arange(offsets[-1] - events)
    items, kinds, times = (np.empty(offsets[-1], np.int64) for _ in range(3))
    items[early], items[late] = newest.history_rows, newest.target_rows
    kinds[early], kinds[late] = newest.history_events, 0
    times[early], times[late] = newest.history_timestamps, np.repeat(newest.moments, told)
    return Owned(offsets, items, kinds, times)


def interleaved(owned: Owned, names: Names, chosen: Spans, moments: Ints, most: int) -> Lent:
    """Events of chosen users from before each row's moment, the users taking turns, newest events first.

    Args:
        owned: What users have.
        names: Their ids.
        chosen: Per row the users who lend to it, the first choice first.
        moments: (rows,) what is lent lies strictly before.
        most: Events that are lent to one row at most.
    """
    whose, users = owners(chosen.offsets), chosen.values
    first = owned.offsets[users]
    stop = bisected(owned.times, first, owned.offsets[users + 1], moments[whose])
    sizes = stop - first
    # Who has nothing before the moment is passed over; of the others only so many can come to their turn.
    some = np.flatnonzero(sizes)
    counts = np.bincount(whose[some], minlength=len(moments))
    number = np.arange(len(some)) - offsets_of(counts)[whose[some]]
    some, number = some[number < most], number[number < most]
    left, after, lender = (
        np.zeros((int(number.max(initial=-1)) + 1, len(moments)), np.int64) for _ in range(3)
    )
    for table, values in ((left, sizes), (after, stop), (lender, users)):
        table[number, whose[some]] = values[some]
    ends = offsets_of(np.minimum(left.sum(axis=0), most))
    at, lenders = (np.empty(ends[-1], np.int64) for _ in range(2))
    place = ends[:-1].copy()
    for turn in range(most):
        for said, newest, who in zip(left, after, lender, strict=True):
            rows = np.flatnonzero((said > turn) & (place < ends[1:]))
            at[place[rows]] = newest[rows] - (turn + 1)
            lenders[place[rows]] = who[rows]
            place[rows] += 1
    return Lent(ends, owned.items[at], owned.events[at], owned.times[at], lenders, names)
