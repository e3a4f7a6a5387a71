"""Column forms of history ops that borrow events: each says on many rows what the op says on one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.augment.borrow import BorrowOp
from recsys.augment.columns.edits import Edited, Json, named, number_lists
from recsys.augment.columns.histories import Histories, woven
from recsys.augment.columns.histories_cut import Drawing, history_form
from recsys.augment.columns.histories_put import taken_by
from recsys.augment.columns.lending import bisected
from recsys.augment.columns.runs import Ints, offsets_of, ordered_within, owners, places
from recsys.augment.columns.spans import Lent, Names, Spans, held


def _borrow(op: BorrowOp, histories: Histories, drawing: Drawing) -> Edited[Histories]:
    lent = histories.known.lent.get(op.lender, _nothing(histories))
    drawing = drawing.only(drawing.sizes <= op.max_length)
    found, sizes = _usable(histories, drawing, lent)
    low, high = op.count_range
    asked = (low + drawing.streams.below(high - low + 1)) * drawing.strengths
    counts = np.minimum((asked + 0.5).astype(np.int64), sizes)
    some = counts >= 1
    drawing, first = drawing.only(some), offsets_of(sizes)[:-1][some]
    offsets, numbers = drawing.streams.sample(sizes[some], counts[some])
    chosen = found[np.repeat(first, counts[some]) + numbers]
    edited = _merged(histories, drawing.rows, offsets, lent, chosen)
    return named(op.name, drawing.rows, edited, _said(lent, chosen, offsets))


def _usable(histories: Histories, drawing: Drawing, lent: Lent) -> tuple[Ints, Ints]:
    """What rows may borrow: places in what is lent, row after row, and how many each row has.

    Each item counts once, where it is lent first; none is in the history or a target.
    """
    found, offsets = places(lent.offsets, histories.origins[drawing.rows])
    asked = Spans(offsets, lent.items[found])
    good = np.flatnonzero(~held(asked, taken_by(histories, drawing.rows), once=True))
    return found[good], np.bincount(owners(offsets)[good], minlength=len(drawing.rows))


def _merged(histories: Histories, rows: Ints, offsets: Ints, lent: Lent, chosen: Ints) -> Histories:
    """Lent events come in at their own time, before what the user did at the same second."""
    whose, times = owners(offsets), lent.times[chosen]
    order = ordered_within(offsets, times)  # of one second, as they were drawn
    times, chosen = times[order], chosen[order]
    first = histories.offsets[rows][whose]
    before = bisected(histories.times, first, histories.offsets[rows + 1][whose], times) - first
    return woven(histories, rows, offsets, before, (lent.items[chosen], lent.events[chosen], times))


def _said(lent: Lent, chosen: Ints, offsets: Ints) -> Json:
    numbers = [number_lists(values[chosen], offsets) for values in (lent.items, lent.events, lent.times)]
    lenders = pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), lent.quoted(chosen))
    return Json("[", pc.binary_join_element_wise(*numbers, pc.binary_join(lenders, ","), "],["), "]")


def _nothing(histories: Histories) -> Lent:
    none = np.empty(0, np.int64)
    rows = int(histories.origins.max(initial=-1)) + 1
    return Lent(np.zeros(rows + 1, np.int64), none, none, none, none, Names(()))


borrow = history_form(_borrow)
