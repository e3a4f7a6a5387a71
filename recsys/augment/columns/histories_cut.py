"""Column forms of history ops that leave events out, hide them, or put them in another order.

Each form says on many rows what the op of its name says on one; the op's docstring has the source.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.augment.columns.edits import Edited, Json, named, number_lists
from recsys.augment.columns.histories import Histories
from recsys.augment.columns.running import Form
from recsys.augment.columns.runs import Ints, offsets_of, places
from recsys.augment.extend import SubHistory
from recsys.augment.history import Crop, HistoryOp, ItemDropout, Reorder
from recsys.augment.mask import Mask
from recsys.augment.op import Rates
from recsys.contexts import MASKED
from recsys.streams import Streams


class Drawing(NamedTuple):
    """Rows that an op is drawing for."""

    rows: Ints
    """(n,) their places in the batch."""
    sizes: Ints
    """(n,) events of each."""
    strengths: NDArray[np.float64]
    """(n,) as `LeafOp.strength` gives them."""
    streams: Streams

    def only(self, kept: NDArray[np.bool_]) -> Drawing:
        """Those of them that go on."""
        return Drawing(self.rows[kept], self.sizes[kept], self.strengths[kept], self.streams.take(kept))


Draw = Callable[[Any, Histories, Drawing], Edited[Histories]]
"""`sample` and `edit` for the rows of a batch that an op draws for."""


def history_form(draw: Draw) -> Form[Histories]:
    """The form of a history op: which rows are long enough and tried, as `HistoryOp.plan` decides it."""

    def form(op: HistoryOp, histories: Histories, streams: Streams) -> Edited[Histories]:
        sizes = histories.sizes
        strengths = np.ones(len(sizes))
        if op.taper is not None:
            low, high = op.taper
            fading = (sizes > low) & (sizes < high)
            strengths[fading] = (high - sizes[fading]) / (high - low)
            strengths[(sizes > low) & (sizes >= high)] = 0.0
        drawing = Drawing(np.arange(len(sizes)), sizes, strengths, streams)
        tried = (sizes >= op.min_length) & (strengths > 0.0)
        if not tried.all():
            drawing = drawing.only(tried)
        if op.p < 1.0:
            drawing = drawing.only(drawing.streams.chance(op.p))
        return draw(op, histories, drawing)

    return form


def count_of(drawing: Drawing, rates: Rates, most: Ints) -> Ints:
    """`recsys.augment.history.count_of` for many rows."""
    low, high = rates
    share = (low + (high - low) * drawing.streams.random()) * drawing.strengths
    return np.maximum(np.minimum((share * drawing.sizes + 0.5).astype(np.int64), most), 0)


def kept_count(drawing: Drawing, keep_range: Rates, fewest: int) -> Ints:
    """`recsys.augment.history.kept_count` for many rows."""
    share = 1.0 - (1.0 - drawing.streams.uniform(*keep_range)) * drawing.strengths
    return np.maximum((share * drawing.sizes + 0.5).astype(np.int64), fewest)


def drawn_places(histories: Histories, drawing: Drawing, offsets: Ints, positions: Ints) -> Ints:
    """Where the events at drawn positions lie; position is within a row, rows as in the drawing."""
    return np.repeat(histories.offsets[drawing.rows], np.diff(offsets)) + positions


def _parts(op: Any, histories: Histories, drawing: Drawing, starts: Ints, stops: Ints) -> Edited[Histories]:
    offsets = offsets_of(stops - starts)
    first = histories.offsets[drawing.rows] + starts
    found = np.arange(offsets[-1]) + np.repeat(first - offsets[:-1], np.diff(offsets))
    said = pc.binary_join_element_wise(whole_numbers(starts), whole_numbers(stops), ",")
    edited = histories.gathered(drawing.rows, offsets, found)
    return named(op.name, drawing.rows, edited, Json("", said, ""))


def _crop(op: Crop, histories: Histories, drawing: Drawing) -> Edited[Histories]:
    keep = kept_count(drawing, op.keep_range, op.min_keep)
    shorter = keep < drawing.sizes
    drawing, keep = drawing.only(shorter), keep[shorter]
    spare = drawing.sizes - keep
    starts = spare if op.part == "newest" else drawing.streams.below(spare + 1)
    return _parts(op, histories, drawing, starts, starts + keep)


def _sub_history(op: SubHistory, histories: Histories, drawing: Drawing) -> Edited[Histories]:
    keep = kept_count(drawing, op.keep_range, op.min_keep)
    shorter = keep < drawing.sizes
    drawing, keep = drawing.only(shorter), keep[shorter]
    spare = drawing.sizes - keep
    back: Ints = np.zeros(len(keep), np.int64)
    walking = np.arange(len(keep))
    while len(walking):
        walking = walking[~drawing.streams.chance_of(walking, 1.0 - op.decay)]
        back[walking] += 1
        walking = walking[back[walking] < spare[walking]]
    if op.decay == 1.0:
        far = np.flatnonzero(back >= spare)
        back[far] = drawing.streams.below_of(far, spare[far] + 1)
    stops = drawing.sizes - back
    return _parts(op, histories, drawing, stops - keep, stops)


def _item_dropout(op: ItemDropout, histories: Histories, drawing: Drawing) -> Edited[Histories]:
    eligible = drawing.sizes - op.keep_newest
    counts = count_of(drawing, op.rate_range, np.minimum(eligible, drawing.sizes - op.min_keep))
    some = counts > 0
    drawing = drawing.only(some)
    offsets, positions = drawing.streams.sample(eligible[some], counts[some])
    kept = np.ones(len(histories.items), bool)
    kept[drawn_places(histories, drawing, offsets, positions)] = False
    found, before = places(histories.offsets, drawing.rows)
    stays = kept[found]
    after = offsets_of(stays)[before]
    edited = histories.gathered(drawing.rows, after, found[stays])
    return named(op.name, drawing.rows, edited, Json("[", number_lists(positions, offsets), "]"))


def _mask(op: Mask, histories: Histories, drawing: Drawing) -> Edited[Histories]:
    found, offsets = places(histories.offsets, drawing.rows)
    owners = np.repeat(np.arange(len(drawing.rows)), drawing.sizes)
    positions = np.arange(len(found)) - np.repeat(offsets[:-1], drawing.sizes)
    known = histories.items[found] != MASKED
    usable = known & (positions < (drawing.sizes - op.keep_newest)[owners])
    eligible = np.bincount(owners[usable], minlength=len(drawing.rows))
    spare = np.bincount(owners[known], minlength=len(drawing.rows)) - op.min_keep
    counts = count_of(drawing, op.rate_range, np.minimum(eligible, spare))
    some = counts > 0
    drawing = drawing.only(some)
    drawn, numbers = drawing.streams.sample(eligible[some], counts[some])
    first = np.concatenate([[0], np.cumsum(eligible)])[:-1][some]
    chosen = positions[usable][np.repeat(first, counts[some]) + numbers]
    kept = histories.take(drawing.rows)
    masked = kept.with_items(np.repeat(kept.offsets[:-1], counts[some]) + chosen, MASKED)
    return named(op.name, drawing.rows, masked, Json("[", number_lists(chosen, drawn), "]"))


def _reorder(op: Reorder, histories: Histories, drawing: Drawing) -> Edited[Histories]:
    longest = (drawing.streams.uniform(*op.rate_range) * drawing.strengths * drawing.sizes + 0.5).astype(
        np.int64
    )
    some = longest >= 2
    drawing, longest = drawing.only(some), longest[some]
    starts = drawing.streams.below(drawing.sizes - 1)
    first = histories.offsets[drawing.rows] + starts
    lengths = np.ones(len(starts), np.int64)
    most = np.minimum(longest, drawing.sizes - starts)
    growing = np.flatnonzero(lengths < most)
    while len(growing):
        at = first[growing]
        near = histories.times[at + lengths[growing]] - histories.times[at] <= op.window_seconds
        growing = growing[near]
        lengths[growing] += 1
        growing = growing[lengths[growing] < most[growing]]
    offsets, order = drawing.streams.shuffled(lengths)
    straight = np.arange(len(order)) - np.repeat(offsets[:-1], lengths)
    moved = np.bincount(
        np.repeat(np.arange(len(lengths)), lengths)[order != straight], minlength=len(lengths)
    )
    rows = np.flatnonzero(moved)
    drawing, first, starts = drawing.only(moved > 0), first[rows], starts[rows]
    used, offsets = places(offsets, rows)
    runs, order, straight = np.diff(offsets), order[used], straight[used]
    found, before = places(histories.offsets, drawing.rows)
    shuffled = found.copy()
    shuffled[np.repeat(before[:-1] + starts, runs) + straight] = np.repeat(first, runs) + order
    edited = Histories(
        before, histories.items[shuffled], histories.events[shuffled], histories.times[found],
        histories.origins[drawing.rows], histories.known,
    )  # fmt: skip
    orders = number_lists(np.repeat(starts, runs) + order, offsets)
    said = pc.binary_join_element_wise(whole_numbers(starts), orders, ",[")
    return named(op.name, drawing.rows, edited, Json("", said, "]"))


def whole_numbers(values: Ints) -> pa.Array:
    """Whole numbers as JSON."""
    return pa.array(values).cast(pa.string())


crop, item_dropout, mask = history_form(_crop), history_form(_item_dropout), history_form(_mask)
reorder, sub_history = history_form(_reorder), history_form(_sub_history)
