"""Original against candidate, for many histories: what `Acceptance` says of each, computed over arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.augment.columns.histories import Histories
from recsys.augment.columns.runs import Ints
from recsys.augment.columns.spans import Pairs
from recsys.augment.constraints import Acceptance
from recsys.contexts import MASKED

REASONS = ("too_short", "too_different", "target_inserted", "unchanged", "nothing_known")
"""Why a history is refused, in the order in which it is asked. Columns cannot be ragged, and edits of them
share their targets with the original."""


class Judged(NamedTuple):
    """What acceptance says of some candidates."""

    reasons: Ints
    """(n,) a place among `REASONS`; -1 accepts."""
    gone: NDArray[np.float64]
    """(n,) share of the original's events that is gone."""


def judge(acceptance: Acceptance, before: Histories, after: Histories) -> Judged:
    """`Acceptance.judge` for many histories.

    Args:
        acceptance: The bounds.
        before: The originals.
        after: Their candidates, row by row.
    """
    rows, num_items = len(before), before.known.side.num_items
    sizes, lengths = before.sizes, after.sizes
    owners, own = before.owners, after.owners
    old, new = Pairs(owners, before.items, num_items), Pairs(own, after.items, num_items)
    there = new.has(owners, before.items)
    kept = np.bincount(owners[there], minlength=rows)
    gone = np.maximum(sizes - kept, sizes - lengths) / np.maximum(sizes, 1)
    known = np.bincount(own[after.items != MASKED], minlength=rows)
    faults = (
        (lengths < np.minimum(acceptance.min_length, sizes)) | ((sizes > 0) & (lengths == 0)),
        gone > acceptance.max_modification,
        _target_inserted(before, old, new),
        (sizes == lengths) & ~_differs(before, after, sizes == lengths),
        (lengths > 0) & (known == 0),
    )
    reasons = np.full(rows, -1, np.int64)
    for number in range(len(REASONS) - 1, -1, -1):
        reasons[faults[number]] = number
    return Judged(reasons, gone)


def _target_inserted(before: Histories, old: Pairs, new: Pairs) -> NDArray[np.bool_]:
    targets = before.known.targets.take(before.origins)
    rows = np.repeat(np.arange(len(before)), targets.sizes)
    come = new.has(rows, targets.values)
    rows, values = rows[come], targets.values[come]
    inserted = np.zeros(len(before), bool)
    inserted[rows[~old.has(rows, values)]] = True
    return inserted


def _differs(before: Histories, after: Histories, asked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether items or event types differ anywhere, of the rows that are as long as before."""
    rows = np.flatnonzero(asked)
    old, new = before.take(rows), after.take(rows)
    differs = np.zeros(len(before), bool)
    differs[rows[old.owners[(old.items != new.items) | (old.events != new.events)]]] = True
    return differs
