"""How much each item sold lately, now and at the moments of the training rows: what the item bias reads.

A bias that knows one popularity per item explains old rows by what sells today, and what it cannot explain
goes into the residuals, as if it were taste. So a row is trained with the popularity of its own moment, and
vectors are made with that of the end (after He and McAuley's time-dependent biases, WWW 2016, and Koren's,
KDD 2009, with decayed counts in the place of bins that are learned one by one).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.contexts import Contexts
from recsys.types import Floats, Rows

HALF_LIVES = (0.02, 0.1, 1.0)
"""Shares of all events by which an event must have aged to count half. Shares, not days: they mean the same
in a shop with ten sales a day and with a million, in one that grows and in one that does not. A plain count,
which only ever grows, in the place of the last ranked a tenth worse on one of four datasets."""
MOST_BINS = 64
"""Moments at which the past is written down: the rows in between read the one before."""
MOST_NUMBERS = 1 << 26
"""Entries that the past may have: there are fewer moments where many items have sold."""


@dataclass(frozen=True, slots=True)
class Popularity:
    """The logarithm of decayed counts, each scale divided by the largest that it has now."""

    now: Floats
    """(n, scales) at the end of the events, from 0 to 1."""
    past: Floats
    """(moments, sold, scales) the same at earlier moments, for the items with events, ascending."""
    starts: NDArray[np.int64]
    """(moments,) Unix seconds, ascending; the first is that of the oldest event."""

    @classmethod
    def of(cls, contexts: Contexts, item_counts: NDArray[np.int64], *, over_time: bool = True) -> Popularity:
        """From training rows: every target of an original is an event at its row's moment.

        Args:
            contexts: Rows of role `fit`; augmented ones do not count.
            item_counts: (n,) training events per item: which items have sold at all.
            over_time: False takes the counts alone.
        """
        if not over_time:
            return cls.of_counts(item_counts)
        sold = np.flatnonzero(np.asarray(item_counts) > 0)
        place = np.full(len(item_counts), -1, np.int64)
        place[sold] = np.arange(len(sold))
        sizes = np.diff(contexts.target_offsets)
        counted = np.repeat(contexts.parents < 0, sizes) & (place[contexts.target_rows] >= 0)
        moments = np.repeat(contexts.moments, sizes)[counted]
        order = np.argsort(moments, kind="stable")
        heats, starts = _heats(place[contexts.target_rows[counted][order]], moments[order], len(sold))
        logs = np.log1p(heats)
        logs /= np.maximum(logs[-1].max(axis=0, initial=0.0), 1e-12)
        now = np.zeros((len(item_counts), len(HALF_LIVES)), np.float32)
        now[sold] = logs[-1]
        return cls(now, logs[:-1], starts)

    @classmethod
    def of_counts(cls, item_counts: NDArray[np.int64]) -> Popularity:
        """Where nothing is known but how often each item sold in all: one popularity for all moments."""
        now = np.zeros((len(item_counts), len(HALF_LIVES)), np.float32)
        logs = np.log1p(np.asarray(item_counts, np.float64))
        now[:, -1] = logs / max(logs.max(initial=0.0), 1e-12)
        return cls(now, now[None, np.asarray(item_counts) > 0], np.zeros(1, np.int64))

    def places(self, moments: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which entry of `past` each of some moments reads: the newest that is not after it."""
        found: NDArray[np.int64] = np.searchsorted(self.starts, moments, side="right") - 1
        return np.maximum(found, 0)


def _heats(items: Rows, moments: NDArray[np.int64], size: int) -> tuple[Floats, NDArray[np.int64]]:
    """Decayed counts before each of some moments and after the last event, and the moments.

    Args:
        items: (events,) in order of time, below `size`.
        moments: (events,) ascending.
        size: Number of items.

    Returns:
        (moments + 1, size, scales) and (moments,).
    """
    total = len(items)
    bins = max(1, min(MOST_BINS, MOST_NUMBERS // max(size * len(HALF_LIVES), 1)))
    # Events that share a moment share a place: nobody knows their order.
    place = np.searchsorted(moments, moments)
    edges = np.unique(place[np.arange(bins) * total // bins]) if total else np.zeros(1, np.int64)
    heats = np.zeros((len(edges) + 1, size, len(HALF_LIVES)), np.float32)
    for scale, half_life in enumerate(HALF_LIVES):
        heat, last = np.zeros(size), 0
        for number, edge in enumerate([*edges.tolist(), total]):
            age = (edge - place[last:edge]) / max(total, 1)
            new = np.bincount(items[last:edge], 0.5 ** (age / half_life), size)
            heat = heat * 0.5 ** ((edge - last) / max(total, 1) / half_life) + new
            heats[number, :, scale], last = heat, edge
    return heats, moments[edges] if total else np.zeros(1, np.int64)
