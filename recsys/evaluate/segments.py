"""Segments: parts of an evaluation, by whose lists count or by which answers count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Band = tuple[str, int, float]
"""A label and the smallest and largest count in it."""

HISTORY_BANDS: tuple[Band, ...] = (
    ("0", 0, 0), ("1-3", 1, 3), ("4-10", 4, 10), ("11-50", 11, 50), (">50", 51, np.inf),
)  # fmt: skip
"""Positive events of a user before the cut; 0 is shown only where there are such users."""
COLDNESS_BANDS: tuple[Band, ...] = (("0", 0, 0), ("1-5", 1, 5), ("6-50", 6, 50), (">50", 51, np.inf))
"""Positive events of an item before the cut."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A named part: some users (`users`), or only the answers that are some items (`items`), or both."""

    dimension: str
    label: str
    users: Mask | None = None
    """(num_users,) None takes all."""
    items: Mask | None = None
    """(num_items,) None takes all; users without such an answer are left out."""


def history_segments(history_counts: NDArray[np.int64]) -> list[Segment]:
    """Users by the length of their history."""
    return [
        Segment("history", label, users=(history_counts >= low) & (history_counts <= high))
        for label, low, high in HISTORY_BANDS
        if low > 0 or (history_counts == 0).any()
    ]


def coldness_segments(item_counts: NDArray[np.int64]) -> list[Segment]:
    """Answers by how often their item was taken before the cut."""
    return [
        Segment("coldness", label, items=(item_counts >= low) & (item_counts <= high))
        for label, low, high in COLDNESS_BANDS
    ]


def item_segments(dimension: str, values: Sequence[str], most: int = 10) -> list[Segment]:
    """Answers by a property of their item (its category, its brand): the `most` frequent values.

    `values` has one entry per item of the catalogue; the empty string belongs to no segment.
    """
    labels = np.asarray(values, dtype=object).astype(str)
    names, counts = np.unique(labels[labels != ""], return_counts=True)
    order = np.lexsort((names, -counts))[:most]
    return [Segment(dimension, str(name), items=labels == name) for name in names[order]]
