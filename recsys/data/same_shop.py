"""Whether two logs come from one shop: a bottom-k sketch of their events, small enough for features.json."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

SKETCH = 256
"""Hashes kept; a log of no more events is kept whole."""
MOST_ALIKE = 0.5
"""Share of the shorter log's events that the other has, from which on they are one shop's."""


def event_hashes(interactions: pd.DataFrame) -> NDArray[np.uint64]:
    """The distinct hashes of (user, item, timestamp), ascending.

    The hash is fixed, so that what is kept of it today can be compared with a log in a year.
    """
    hashes = np.zeros(len(interactions), np.uint64)
    for name in ("user_id", "item_id", "timestamp"):
        column = interactions[name]
        values = column.to_numpy(np.int64) if name == "timestamp" else column.to_numpy(object)
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + pd.util.hash_array(values)
    mixed = (hashes ^ (hashes >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return np.unique(mixed ^ (mixed >> np.uint64(32)))


def sketch_of(hashes: NDArray[np.uint64]) -> list[int]:
    """The smallest hashes, ascending: a uniform sample of the events (KMV, Bar-Yossef et al., 2002)."""
    kept: list[int] = hashes[:SKETCH].tolist()
    return kept


def same_shop(before: Sequence[int], now: NDArray[np.uint64]) -> bool:
    """Whether the shorter of two logs mostly lies in the other, as when a log grew or lost its oldest.

    Args:
        before: Sketch of the log before; none if it had no events, then anything is the same shop.
        now: All hashes of the log now; they are compared up to the sketch's last, where it is complete.
    """
    if not before:
        return True
    kept = np.array(before, np.uint64)
    comparable = now[now <= kept[-1]] if len(kept) >= SKETCH else now
    shorter = min(len(kept), len(comparable))
    return shorter > 0 and len(np.intersect1d(kept, comparable)) >= MOST_ALIKE * shorter
