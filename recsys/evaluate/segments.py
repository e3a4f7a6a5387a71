"""Segments: parts of an evaluation, by whose lists count or by which answers count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recsys.evaluate.answers import AnswerSheet
from recsys.thin import THIN_WORDS, missing_attributes, short_texts, thin_items

Mask = NDArray[np.bool_]
Band = tuple[str, int, float]
"""A label and the smallest and largest count in it."""

HISTORY_BANDS: tuple[Band, ...] = (
    ("0", 0, 0), ("1-3", 1, 3), ("4-10", 4, 10), ("11-50", 11, 50), (">50", 51, np.inf),
)  # fmt: skip
"""Positive events of a user before the cut; 0 is shown only where there are such users."""
SPARSE_BANDS: tuple[Band, ...] = (("1-3", 1, 3), ("1-4", 1, 4))
"""The users that nobody knows well; the bands lie within each other."""
COLDNESS_BANDS: tuple[Band, ...] = (("0", 0, 0), ("1-5", 1, 5), ("6-50", 6, 50), (">50", 51, np.inf))
"""Positive events of an item before the cut."""
MOST_CATEGORIES = 8
"""Categories with a segment of their own; those after them are one segment together."""
THE_REST = "the rest"


@dataclass(frozen=True, slots=True)
class Segment:
    """A named part: some users, only the answers that are some items, only repeats or none, or all of it."""

    dimension: str
    label: str
    users: Mask | None = None
    """(num_users,) None takes all."""
    items: Mask | None = None
    """(num_items,) None takes all; users without such an answer are left out."""
    had: bool | None = None
    """True takes the answers that the user had before, False those that are new to them, None both."""


@dataclass(frozen=True, slots=True)
class ItemFields:
    """What is known of each item of the catalogue, in row order; empty where nothing is."""

    texts: Sequence[str] = ()
    """What an encoder reads of an item."""
    categories: Sequence[str] = ()
    attributes: Mapping[str, Sequence[object]] = field(default_factory=dict)
    """By name (`recsys.thin.ATTRIBUTES`); None, NaN or empty where it is missing."""


def standard_segments(sheet: AnswerSheet, items: ItemFields | None = None) -> list[Segment]:
    """The segments of every report: history, sparse users, coldness, repeats; of fields, given items."""
    segments = [
        *history_segments(sheet.history_counts),
        *sparse_segments(sheet.history_counts),
        *coldness_segments(sheet.item_counts),
        *repeat_segments(),
    ]
    if items is not None:
        segments += category_segments(items.categories, sheet.item_counts)
        segments += thin_segments(items)
    return segments


def history_segments(history_counts: NDArray[np.int64]) -> list[Segment]:
    """Users by the length of their history."""
    return [
        Segment("history", label, users=_within(history_counts, low, high))
        for label, low, high in HISTORY_BANDS
        if low > 0 or (history_counts == 0).any()
    ]


def sparse_segments(history_counts: NDArray[np.int64]) -> list[Segment]:
    """Users with few events."""
    return [
        Segment("sparse", label, users=_within(history_counts, low, high))
        for label, low, high in SPARSE_BANDS
    ]


def coldness_segments(item_counts: NDArray[np.int64]) -> list[Segment]:
    """Answers by how often their item was taken before the cut."""
    return [
        Segment("coldness", label, items=_within(item_counts, low, high))
        for label, low, high in COLDNESS_BANDS
    ]


def repeat_segments() -> list[Segment]:
    """Answers that the user had before, and answers that are new to them.

    Not the tasks: here the list stays as it is, so that a repeat in it takes a place from a novel answer.
    """
    return [Segment("answers", "repeat", had=True), Segment("answers", "novel", had=False)]


def category_segments(
    categories: Sequence[str], item_counts: NDArray[np.int64], most: int = MOST_CATEGORIES
) -> list[Segment]:
    """Answers by category: those with the most events before the cut, then the rest together.

    Items without a category are in no segment. Ties go to the category with more items, then by name.

    Args:
        categories: One per item; none at all where the catalogue has no categories.
        item_counts: (num_items,) events before the cut.
        most: Categories with a segment of their own.
    """
    labels = np.asarray(categories, dtype=object).astype(str)
    named = labels != ""
    if not named.any():
        return []
    names, codes, sizes = np.unique(labels[named], return_inverse=True, return_counts=True)
    events = np.bincount(codes, weights=item_counts[named], minlength=len(names))
    order = np.lexsort((names, -sizes, -events))
    leading = [str(name) for name in names[order[:most]]]
    segments = [Segment("category", name, items=labels == name) for name in leading]
    if len(names) > most:
        segments.append(Segment("category", THE_REST, items=named & ~np.isin(labels, leading)))
    return segments


def thin_segments(items: ItemFields) -> list[Segment]:
    """Answers whose item says little (`recsys.thin`); then by what is short, and by what is missing."""
    segments = []
    if len(items.texts):
        short = short_texts(items.texts)
        segments += [
            Segment("text", "thin", items=thin_items(items.texts, items.attributes)),
            Segment("text", f"under {THIN_WORDS} words", items=short),
            Segment("text", f"{THIN_WORDS} words and more", items=~short),
        ]
    for name, lacking in missing_attributes(items.attributes).items():
        segments.append(Segment("text", f"no {name}", items=lacking))
    return segments


def item_segments(dimension: str, values: Sequence[str], most: int = 10) -> list[Segment]:
    """Answers by a property of their item (its brand): the `most` values that the most items have.

    `values` has one entry per item of the catalogue; the empty string belongs to no segment.
    """
    labels = np.asarray(values, dtype=object).astype(str)
    names, counts = np.unique(labels[labels != ""], return_counts=True)
    order = np.lexsort((names, -counts))[:most]
    return [Segment(dimension, str(name), items=labels == name) for name in names[order]]


def _within(counts: NDArray[np.int64], low: float, high: float) -> Mask:
    inside: Mask = (counts >= low) & (counts <= high)
    return inside
