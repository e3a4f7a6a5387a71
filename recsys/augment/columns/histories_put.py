"""Column forms of history ops that put other items into a history: neighbours, and what came before.

Each form says on many rows what the op of its name says on one; the op's docstring has the source.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.augment.columns.edits import Edited, Json, named, number_lists
from recsys.augment.columns.histories import Histories, woven
from recsys.augment.columns.histories_cut import Drawing, count_of, drawn_places, history_form
from recsys.augment.columns.runs import Ints, offsets_of, owners, places
from recsys.augment.columns.spans import NONE, Spans, held, joined
from recsys.augment.extend import BackwardExtension, Counterfactual
from recsys.augment.history import By, Insert, Substitute
from recsys.streams import Streams


class Found(NamedTuple):
    """Drawn events, each with the item that was found for it."""

    rows: Ints
    """Places in the drawing, of the rows that have one at least; ascending."""
    offsets: Ints
    """(rows + 1,) which entries are whose."""
    positions: Ints
    """Of the events in their rows."""
    items: Ints

    def said(self) -> Json:
        """As the values of a plan."""
        lists = [number_lists(values, self.offsets) for values in (self.positions, self.items)]
        return Json("[", pc.binary_join_element_wise(*lists, "],["), "]")


def taken_by(histories: Histories, rows: Ints) -> Spans:
    """What some rows may not be given: items of their histories, and targets."""
    return joined(histories.lists.take(rows), histories.known.targets.take(histories.origins[rows]))


def with_neighbours(
    histories: Histories, drawing: Drawing, offsets: Ints, positions: Ints, top: int, by: By = "covisitation"
) -> Found:
    """`recsys.augment.history.with_neighbour` for many rows.

    Args:
        histories: The batch.
        drawing: Rows of it, their streams where the choice of neighbours begins.
        offsets: (rows + 1,) which of the positions are whose.
        positions: Of the drawn events in their rows, ascending.
        top: Neighbours of one list that are looked at.
        by: Whose neighbours.
    """
    near = _nearest(histories, histories.items[drawn_places(histories, drawing, offsets, positions)], top, by)
    asked = Spans(offsets * near.shape[1], near.reshape(-1))
    usable = (near >= 0) & ~held(asked, taken_by(histories, drawing.rows)).reshape(near.shape)
    items = _chosen(near, usable, offsets, drawing.streams)
    kept = items >= 0
    counts = np.bincount(owners(offsets)[kept], minlength=len(drawing.rows))
    rows = np.flatnonzero(counts)
    return Found(rows, offsets_of(counts[rows]), positions[kept], items[kept])


def _nearest(histories: Histories, items: Ints, top: int, by: By) -> Ints:
    """(items, at most 2 * top) the neighbours of items, `NONE` where there are no more."""
    side = histories.known.side
    if by == "text":
        return side.alike.padded(items, top)
    near = side.nearest.padded(items, top)
    if by == "both":
        more = side.alike.padded(items, top)
        more[(more[:, :, None] == near[:, None, :]).any(axis=2)] = NONE
        near = np.concatenate([near, more], axis=1)
    return near


def _chosen(near: Ints, usable: NDArray[np.bool_], offsets: Ints, streams: Streams) -> Ints:
    """(events,) one usable neighbour of each event that is not another's of the row; `NONE` where none is."""
    counts = np.diff(offsets)
    most = int(counts.max(initial=0))
    chosen = np.full((len(counts), most), NONE, np.int64)
    rows = np.arange(len(counts))
    for turn in range(most):
        rows = rows[counts[rows] > turn]
        at = offsets[rows] + turn
        free = usable[at]
        if turn:
            free &= ~(near[at][:, :, None] == chosen[rows, None, :turn]).any(axis=2)
        number = free.sum(axis=1)
        some = np.flatnonzero(number)
        drawn = streams.below_of(rows[some], number[some])
        column = (np.cumsum(free[some], axis=1) > drawn[:, None]).argmax(axis=1)
        chosen[rows[some], turn] = near[at[some], column]
    return chosen[np.arange(most) < counts[:, None]]


def _replaced(
    op: Substitute | Counterfactual, histories: Histories, drawing: Drawing, found: Found
) -> Edited[Histories]:
    rows = drawing.rows[found.rows]
    kept = histories.take(rows)
    at = np.repeat(kept.offsets[:-1], np.diff(found.offsets)) + found.positions
    return named(op.name, rows, kept.with_items(at, found.items), found.said())


def _substitute(op: Substitute, histories: Histories, drawing: Drawing) -> Edited[Histories]:
    eligible = drawing.sizes - op.keep_newest
    counts = count_of(drawing, op.rate_range, eligible)
    some = counts > 0
    drawing = drawing.only(some)
    drawn = drawing.streams.sample(eligible[some], counts[some])
    return _replaced(op, histories, drawing, with_neighbours(histories, drawing, *drawn, op.top, op.by))


def _insert(op: Insert, histories: Histories, drawing: Drawing) -> Edited[Histories]:
    counts = count_of(drawing, op.rate_range, drawing.sizes)
    some = counts > 0
    drawing = drawing.only(some)
    drawn = drawing.streams.sample(drawing.sizes, counts[some])
    found = with_neighbours(histories, drawing, *drawn, op.top, op.by)
    rows = drawing.rows[found.rows]
    at = np.repeat(histories.offsets[rows], np.diff(found.offsets)) + found.positions
    come = (found.items, histories.events[at], histories.times[at])
    return named(op.name, rows, woven(histories, rows, found.offsets, found.positions, come), found.said())


def _counterfactual(op: Counterfactual, histories: Histories, drawing: Drawing) -> Edited[Histories]:
    found, offsets = places(histories.offsets, drawing.rows)
    idle = np.flatnonzero(~_led(histories, drawing.rows, histories.items[found], owners(offsets)))
    positions = idle - offsets[:-1][owners(offsets)[idle]]
    sizes = np.bincount(owners(offsets)[idle], minlength=len(drawing.rows))
    asked = (sizes > 0) & (sizes < drawing.sizes)
    used, starts = places(offsets_of(sizes), np.flatnonzero(asked))
    drawing, positions, sizes = drawing.only(asked), positions[used], sizes[asked]
    counts = count_of(drawing, op.rate_range, sizes)
    some = counts > 0
    drawing = drawing.only(some)
    ends, numbers = drawing.streams.sample(sizes[some], counts[some])
    chosen = positions[np.repeat(starts[:-1][some], counts[some]) + numbers]
    return _replaced(op, histories, drawing, with_neighbours(histories, drawing, ends, chosen, op.top))


def _led(histories: Histories, rows: Ints, items: Ints, whose: Ints) -> NDArray[np.bool_]:
    """Which events are on a target, or on an item that co-visitation connects to one, either way.

    Args:
        histories: The batch.
        rows: Some of its rows.
        items: Of the events of these rows, row after row.
        whose: The row of each event, as a place among the rows.
    """
    nearest = histories.known.side.nearest
    targets = histories.known.targets.take(histories.origins[rows])
    sizes = targets.sizes
    led = np.zeros(len(items), bool)
    for turn in range(int(sizes.max(initial=0))):
        asked = np.flatnonzero(~led & (sizes[whose] > turn))
        target = targets.values[targets.offsets[whose[asked]] + turn]
        item = items[asked]
        there = (item == target) | nearest.hold(item, target) | nearest.hold(target, item)
        led[asked[there]] = True
    return led


def _backward(op: BackwardExtension, histories: Histories, drawing: Drawing) -> Edited[Histories]:
    drawing = drawing.only(drawing.sizes <= op.max_length)
    count, earlier = len(drawing.rows), histories.known.side.earlier
    most = np.maximum((op.max_items * drawing.strengths + 0.5).astype(np.int64), 1)
    taken = taken_by(histories, drawing.rows)
    first = histories.offsets[drawing.rows]
    at, confidence = histories.items[first], np.ones(count)
    items = np.full((count, op.max_items), NONE, np.int64)
    walking = np.arange(count)
    for step in range(op.max_items):
        walking = walking[most[walking] > step]
        steps, chances = earlier.padded(at[walking], earlier.longest), earlier.padded_chances(at[walking])
        usable = (steps >= 0) & (confidence[walking, None] * chances >= op.min_confidence)
        asked = Spans(np.arange(len(steps) + 1) * steps.shape[1], steps.reshape(-1))
        usable &= ~held(asked, taken.take(walking)).reshape(steps.shape)
        usable &= ~(steps[:, :, None] == items[walking, None, :step]).any(axis=2)
        some = np.flatnonzero(usable.any(axis=1))
        walking = walking[some]
        column = drawing.streams.weighted_of(walking, np.where(usable, chances, 0.0)[some])
        at[walking] = items[walking, step] = steps[some, column]
        confidence[walking] *= chances[some, column]
    added = (items >= 0).sum(axis=1)
    some = np.flatnonzero(added)
    rows, sizes, first = drawing.rows[some], added[some], first[some]
    backwards = items[some][:, ::-1]
    said = backwards[backwards >= 0]
    offsets = offsets_of(sizes)
    back = np.repeat(offsets[1:], sizes) - np.arange(len(said))
    come = (
        said,
        np.repeat(histories.events[first], sizes),
        np.repeat(histories.times[first], sizes) - op.gap_seconds * back,
    )
    edited = woven(histories, rows, offsets, np.zeros(len(said), np.int64), come)
    return named(op.name, rows, edited, Json("[", number_lists(said, offsets), "]"))


substitute, insert = history_form(_substitute), history_form(_insert)
counterfactual, backward_extension = history_form(_counterfactual), history_form(_backward)
