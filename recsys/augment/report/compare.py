"""Two sides of an expansion held against each other: numbers in bins, labels in shares."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.augment.gates.distance import jensen_shannon, psi, quantile_bins, shares

Values = NDArray[np.float64]
_MOST_LABELS = 12


@dataclass(frozen=True, slots=True)
class Numbers:
    """One number per row, before and after."""

    name: str
    bins: tuple[tuple[str, float, float], ...]
    """Range, share of the originals, share of the augmented rows."""
    before: tuple[int, float, float]
    """Rows, mean, median."""
    after: tuple[int, float, float]
    psi_training: float
    """Originals and augmented rows together against originals: what training sees, and drift asks."""
    psi_alone: float
    """Augmented rows against originals."""


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of labels, before and after."""

    name: str
    labels: tuple[tuple[str, float, float], ...]
    """Label, share of the originals, share of the augmented rows; the most frequent ones."""
    others: int
    """Labels that are not shown."""
    js_training: float
    """Jensen-Shannon divergence in bits, as `Numbers.psi_training`."""
    js_alone: float


def compare_numbers(name: str, before: Values, after: Values) -> Numbers:
    """Originals against augmented rows; rows without the number (NaN) are left out."""
    before, after = before[np.isfinite(before)], after[np.isfinite(after)]
    edges = quantile_bins(before)
    own, other = shares(before, edges), shares(after, edges)
    both = shares(np.concatenate([before, after]), edges)
    moved = len(before) > 0 and len(after) > 0
    return Numbers(
        name,
        tuple(zip(_ranges(edges), own.tolist(), other.tolist(), strict=True)),
        _summary(before),
        _summary(after),
        psi(own, both) if moved else 0.0,
        psi(own, other) if moved else 0.0,
    )


def compare_labels(name: str, before: Counter[Hashable], after: Counter[Hashable]) -> Mix:
    """Originals against augmented rows; the labels that are most frequent in either are shown."""
    all_before, all_after = max(before.total(), 1), max(after.total(), 1)
    rows = [
        (str(label), before[label] / all_before, after[label] / all_after)
        for label in before.keys() | after.keys()
    ]
    rows.sort(key=lambda row: (-max(row[1], row[2]), row[0]))
    return Mix(
        name,
        tuple(rows[:_MOST_LABELS]),
        max(len(rows) - _MOST_LABELS, 0),
        jensen_shannon(before, before + after),
        jensen_shannon(before, after),
    )


def _summary(values: Values) -> tuple[int, float, float]:
    if not len(values):
        return 0, 0.0, 0.0
    return len(values), float(values.mean()), float(np.median(values))


def _ranges(edges: Values) -> list[str]:
    if not len(edges):
        return ["all"]
    shown = [f"{edge:.6g}" for edge in edges.tolist()]
    middle = [f"{low} – {high}" for low, high in itertools.pairwise(shown)]
    return [f"< {shown[0]}", *middle, f"≥ {shown[-1]}"]
