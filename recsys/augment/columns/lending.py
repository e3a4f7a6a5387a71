"""What users lend to many rows at once: the newest event of each, then the second newest of each, and on."""

from __future__ import annotations

import numpy as np

from recsys.augment.columns.runs import Ints, offsets_of, owners
from recsys.augment.columns.spans import Lent, Names, Spans
from recsys.contexts import Contexts


def bisected(values: Ints, low: Ints, high: Ints, asked: Ints) -> Ints:
    """`bisect_left` for many stretches of one array: (n,) the first place not below what is asked.

    Args:
        values: Ascending within each stretch.
        low: (n,) where the stretches begin.
        high: (n,) where they end.
        asked: (n,)
    """
    low, high = low.copy(), high.copy()
    rows = np.flatnonzero(low < high)
    while len(rows):
        middle = (low[rows] + high[rows]) // 2
        below = values[middle] < asked[rows]
        low[rows[below]] = middle[below] + 1
        high[rows[~below]] = middle[~below]
        rows = rows[low[rows] < high[rows]]
    return low


def interleaved(newest: Contexts, names: Names, chosen: Spans, moments: Ints, most: int) -> Lent:
    """Events of chosen users from before each row's moment, the users taking turns, newest events first.

    Args:
        newest: Users' histories and targets, one context each.
        names: Their ids.
        chosen: Per row the users who lend to it, the first choice first.
        moments: (rows,) what is lent lies strictly before.
        most: Events that are lent to one row at most.
    """
    whose, users = owners(chosen.offsets), chosen.values
    told = np.where(newest.moments[users] < moments[whose], np.diff(newest.target_offsets)[users], 0)
    first = newest.history_offsets[users]
    stop = bisected(newest.history_timestamps, first, newest.history_offsets[users + 1], moments[whose])
    sizes = np.minimum(told + stop - first, most)
    # Who has nothing before the moment is passed over; of the others only so many can come to their turn.
    some = np.flatnonzero(sizes)
    counts = np.bincount(whose[some], minlength=len(moments))
    number = np.arange(len(some)) - offsets_of(counts)[whose[some]]
    some, number = some[number < most], number[number < most]
    width = int(number.max(initial=0)) + 1
    left, entries = (np.zeros((len(moments), width), np.int64) for _ in range(2))
    left[whose[some], number], entries[whose[some], number] = sizes[some], some
    turns = (np.arange(most)[:, None] < left[:, None, :]).reshape(len(moments), most * width)
    turns &= np.cumsum(turns, axis=1, dtype=np.int32) <= most
    rows, places = np.nonzero(turns)
    turn, number = np.divmod(places, width)
    entry = entries[rows, number]
    by_target = turn < told[entry]
    at = np.where(by_target, newest.target_offsets[users[entry]] + turn, stop[entry] - 1 - turn + told[entry])
    items, events = np.empty(len(at), np.int64), np.zeros(len(at), np.int64)
    times = newest.moments[users[entry]]
    items[by_target] = newest.target_rows[at[by_target]]
    earlier = at[~by_target]
    items[~by_target] = newest.history_rows[earlier]
    events[~by_target] = newest.history_events[earlier]
    times[~by_target] = newest.history_timestamps[earlier]
    counts = np.bincount(rows, minlength=len(moments))
    return Lent(offsets_of(counts), items, events, times, users[entry], names)
