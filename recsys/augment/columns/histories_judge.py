"""Original against candidate, for many histories: what `Acceptance` says of each, computed over arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.augment.columns.histories import Histories
from recsys.augment.columns.runs import Ints, owners
from recsys.augment.columns.spans import held
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
    rows, sizes, lengths = len(before), before.sizes, after.sizes
    there = held(before.lists, after.lists)
    kept = np.bincount(before.owners[there], minlength=rows)
    gone = np.maximum(sizes - kept, sizes - lengths) / np.maximum(sizes, 1)
    known = np.bincount(after.owners[after.items != MASKED], minlength=rows)
    faults = (
        (lengths < np.minimum(acceptance.min_length, sizes)) | ((sizes > 0) & (lengths == 0)),
        gone > acceptance.max_modification,
        _target_inserted(before, after),
        (sizes == lengths) & ~_differs(before, after, sizes == lengths),
        (lengths > 0) & (known == 0),
    )
    reasons = np.full(rows, -1, np.int64)
    for number in range(len(REASONS) - 1, -1, -1):
        reasons[faults[number]] = number
    return Judged(reasons, gone)


def _target_inserted(before: Histories, after: Histories) -> NDArray[np.bool_]:
    targets = before.known.targets.take(before.origins)
    inserted = np.zeros(len(before), bool)
    rows = np.unique(owners(targets.offsets)[held(targets, after.lists)])
    some, old, new = (lists.take(rows) for lists in (targets, before.lists, after.lists))
    come = held(some, new) & ~held(some, old)
    inserted[rows[owners(some.offsets)[come]]] = True
    return inserted


def _differs(before: Histories, after: Histories, asked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether items or event types differ anywhere, of the rows that are as long as before."""
    rows = np.flatnonzero(asked)
    old, new = before.take(rows), after.take(rows)
    differs = np.zeros(len(before), bool)
    differs[rows[old.owners[(old.items != new.items) | (old.events != new.events)]]] = True
    return differs
