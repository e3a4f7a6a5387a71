"""What the gates on histories say of many rows: the same scores as row by row, from arrays."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from recsys.augment.columns.histories import Histories
from recsys.augment.columns.runs import Ints, offsets_of, owners, places
from recsys.augment.columns.spans import Spans, held
from recsys.augment.neighbours import Covisitation
from recsys.contexts import MASKED
from recsys.types import Floats

DECAY = 0.9
"""Weight of each step back in the history: the newest event says most of the target."""
_PAIRS = 4_000_000
"""Pairs of items whose cosine is looked up at one time."""


def target_ratios(model: Covisitation, before: Histories, after: Histories) -> Floats:
    """(n,) how likely the targets are after an edit against before, at most 1; 1 where they never were."""
    targets = before.known.targets.take(before.origins)
    likely, now = (_likelihood(model, Spans(rows.offsets, rows.items), targets) for rows in (before, after))
    ratio: Floats = np.minimum(now / np.maximum(likely, 1e-9), 1.0)
    ratio[likely <= 0] = 1.0
    return ratio


def related_shares(model: Covisitation, before: Histories, after: Histories) -> NDArray[np.float64]:
    """(n,) the share of each edited history's events that was there, or that goes with what was."""
    old, new = (_known(Spans(rows.offsets, rows.items))[0] for rows in (before, after))
    whose, sizes = owners(new.offsets), new.sizes
    come = np.flatnonzero(~held(new, old))
    foreign = come[~_near_any(model, old, whose[come], new.values[come])]
    share = 1.0 - np.bincount(whose[foreign], minlength=len(sizes)) / np.maximum(sizes, 1)
    share[(sizes == 0) | (old.sizes == 0)] = 1.0
    return share


def _likelihood(model: Covisitation, histories: Spans, targets: Spans) -> Floats:
    """`recsys.augment.gates.history.likelihood` for many rows."""
    known, places_of = _known(histories)
    ages = np.repeat(histories.offsets[1:], histories.sizes) - 1 - np.arange(len(histories.values))
    weights = (DECAY ** np.arange(int(histories.sizes.max(initial=0)) + 1))[ages[places_of]]
    row, count = owners(known.offsets), len(known.sizes)
    weights /= (np.bincount(row, weights, count) * targets.sizes)[row]
    whose = owners(targets.offsets)
    scores = np.zeros(count)
    for start, stop in _blocks(known.sizes[whose]):
        pairs, ends = places(known.offsets, whose[start:stop])
        left, right = known.values[pairs], np.repeat(targets.values[start:stop], np.diff(ends))
        cosine = np.where(left == right, np.float32(1.0), model.cosine(left, right))
        scores += np.bincount(np.repeat(whose[start:stop], np.diff(ends)), weights[pairs] * cosine, count)
    return scores.astype(np.float32)


def _near_any(model: Covisitation, known: Spans, rows: Ints, items: Ints) -> NDArray[np.bool_]:
    """For each item, whether it goes with a known item of its row."""
    near = np.zeros(len(items), bool)
    for start, stop in _blocks(known.sizes[rows]):
        pairs, ends = places(known.offsets, rows[start:stop])
        whose = np.repeat(np.arange(start, stop), np.diff(ends))
        near[whose[model.cosine(items[whose], known.values[pairs]) > 0]] = True
    return near


def _known(histories: Spans) -> tuple[Spans, Ints]:
    """Histories without the events that are masked, and where those that are left stood."""
    told = histories.values != MASKED
    stood = np.flatnonzero(told)
    return Spans(offsets_of(told)[histories.offsets], histories.values[stood]), stood


def _blocks(sizes: Ints) -> Iterator[tuple[int, int]]:
    """From and to, so that a block has so many pairs, or is one list."""
    ends = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        done = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, done + _PAIRS, side="right")), start + 1)
        yield start, stop
        start = stop
