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


def event_sketch(interactions: pd.DataFrame) -> list[int]:
    """The smallest distinct hashes of (user, item, timestamp), ascending: a uniform sample of the events.

    The hash is fixed, so that a sketch made today can be compared with one made in a year; the method is
    KMV (Bar-Yossef et al., 2002).
    """
    hashes = np.zeros(len(interactions), np.uint64)
    for name in ("user_id", "item_id", "timestamp"):
        column = interactions[name]
        values = column.to_numpy(np.int64) if name == "timestamp" else column.to_numpy(object)
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + pd.util.hash_array(values)
    mixed = (hashes ^ (hashes >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    found: list[int] = np.unique(mixed ^ (mixed >> np.uint64(32)))[:SKETCH].tolist()
    return found


def same_shop(before: Sequence[int], now: Sequence[int]) -> bool:
    """Whether the shorter of two logs mostly lies in the other, as when a log grew or lost its oldest.

    Sketches are compared below the smaller of their largest hashes, where both are complete. No events
    before: anything is the same shop; none now: nothing is.
    """
    if not before or not now:
        return not before
    ends = [sketch[-1] for sketch in (before, now) if len(sketch) == SKETCH]
    one, other = (_until(sketch, min(ends, default=None)) for sketch in (before, now))
    shorter = min(len(one), len(other))
    return shorter > 0 and len(np.intersect1d(one, other)) >= MOST_ALIKE * shorter


def _until(sketch: Sequence[int], end: int | None) -> NDArray[np.uint64]:
    kept = np.array(sketch, np.uint64)
    return kept if end is None else kept[kept <= np.uint64(end)]
