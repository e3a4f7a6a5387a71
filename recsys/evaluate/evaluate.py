"""Score ranked lists against an answer sheet: whole catalogue, by segment, with intervals over users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.evaluate import metrics
from recsys.evaluate.answers import AnswerSheet, ItemSets, Protocol, members
from recsys.evaluate.bootstrap import REPLICATES, Figure, by_owner, intervals
from recsys.evaluate.ranked import clean_lists, lists_from_frame
from recsys.evaluate.segments import Segment, standard_segments
from recsys.evaluate.shown import shown_figures
from recsys.types import Floats, Rows

Task = Literal["all", "novel"]
"""`novel` takes what the user already had out of answers and lists; `all` keeps it."""
TASKS: tuple[Task, ...] = ("all", "novel")
WHOLE = "whole"
"""The dimension and label of the slice that holds every case."""


@dataclass(frozen=True, slots=True)
class Slice:
    """One segment as measured."""

    dimension: str
    label: str
    cases: Rows
    """(m,) positions in the evaluation's `users`."""
    names: tuple[str, ...]
    """Metrics, `name@k`."""
    by_case: NDArray[np.float64]
    """(m, num_metrics) per case."""
    figures: dict[str, Figure]

    def __len__(self) -> int:
        return len(self.cases)

    def to_dict(self) -> dict[str, Any]:
        """How many cases, and the figures."""
        return {"users": len(self), "metrics": {name: f.to_dict() for name, f in self.figures.items()}}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one system's lists are worth."""

    name: str
    task: Task
    users: pd.Index
    """(n,) whose lists were measured: those with an answer left under the task."""
    whole: Slice
    segments: tuple[Slice, ...]
    catalogue: dict[str, Figure]
    """`coverage@k`, `gini@k`, `novelty@k`, `popularity_bias@k` and, given vectors, `diversity@k`."""
    protocol: Protocol = "sheet"
    """Where the cases come from, as the answer sheet says."""

    def __getitem__(self, metric: str) -> Figure:
        """The figure of a metric over all cases."""
        return self.whole.figures[metric]

    def segment(self, dimension: str, label: str) -> Slice:
        """One segment; KeyError where it was not measured."""
        for part in self.segments:
            if (part.dimension, part.label) == (dimension, label):
                return part
        raise KeyError(f"{dimension} {label}")

    def to_dict(self) -> dict[str, Any]:
        """Figures without the per-user values, as plain JSON types."""
        return {
            "name": self.name,
            "task": self.task,
            "protocol": self.protocol,
            **self.whole.to_dict(),
            "catalogue": {name: figure.to_dict() for name, figure in self.catalogue.items()},
            "segments": _by_dimension(self.segments),
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Paired differences `name` minus `other`, case by case; an interval above zero is a gain."""

    name: str
    other: str
    task: Task
    whole: Slice
    segments: tuple[Slice, ...]
    protocol: Protocol = "sheet"

    def __getitem__(self, metric: str) -> Figure:
        """The difference in a metric over all cases."""
        return self.whole.figures[metric]

    def to_dict(self) -> dict[str, Any]:
        """Figures as plain JSON types."""
        return {
            "name": self.name,
            "other": self.other,
            "task": self.task,
            "protocol": self.protocol,
            **self.whole.to_dict(),
            "segments": _by_dimension(self.segments),
        }


def evaluate_lists(
    lists: pd.DataFrame | Rows,
    sheet: AnswerSheet,
    task: Task = "all",
    *,
    name: str = "system",
    ks: Sequence[int] = metrics.DEFAULT_KS,
    vectors: Floats | None = None,
    segments: Sequence[Segment] | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Evaluation:
    """Score one ranked list per case over the whole catalogue.

    Under `novel`, lists lose what the user had and move up, so ask for more than max(ks) places or exclude
    seen items when ranking. Cases without an answer under the task are left out; a missing list counts zero.
    Where a user has several cases, their mean is taken first, so that every user counts alike.

    Args:
        lists: A table `user_id`, `item_id`, `rank` (1 is best), or item rows (cases, length), best first,
            padded with -1, in the sheet's order.
        sheet: Who is measured against what.
        task: See `Task`.
        name: What the system is called in tables.
        ks: Cut-offs of every metric.
        vectors: (num_items, dim) of unit norm, for `diversity@k`.
        segments: Parts to measure; default: `standard_segments` of the sheet.
        replicates: Bootstrap resamples; 0 leaves the intervals out (NaN).
        seed: Of the bootstrap.

    Raises:
        LeakageError: a row of the lists is augmented.
        InputError: an item outside the catalogue.
    """
    if task not in TASKS:
        raise ValueError(f"task must be one of {TASKS}, got {task!r}")
    num_items = len(sheet.items)
    had = sheet.histories.distinct(num_items)
    drop = had if task == "novel" else None
    array = _as_array(lists, sheet, max(ks), drop)
    truth = sheet.truth if drop is None else sheet.truth.without(drop, num_items)
    cases = np.flatnonzero(truth.sizes > 0)
    places = _Places.of(array[cases], truth.take(cases), had.take(cases), num_items)
    if segments is None:
        segments = standard_segments(sheet)
    parts = [_measure(segment, cases, places, ks) for segment in (Segment(WHOLE, WHOLE), *segments)]
    users = sheet.users[cases]
    whole, *rest = _with_intervals(parts, users, replicates, seed)
    owners = pd.factorize(users)[0].astype(np.int64)
    catalogue = shown_figures(
        places.lists, places.truth, sheet.item_counts, owners, ks, vectors, replicates, seed
    )
    return Evaluation(name, task, users, whole, tuple(rest), catalogue, sheet.protocol)


def compare(a: Evaluation, b: Evaluation, *, replicates: int = 2000, seed: int = 0) -> Comparison:
    """The paired difference `a` minus `b` in every metric and segment, with bootstrap intervals over users.

    Raises:
        ValueError: the evaluations are not of the same cases, task, metrics and segments.
    """
    if (a.task, a.protocol) != (b.task, b.protocol) or not a.users.equals(b.users):
        raise ValueError(f"{a.name} and {b.name} were not measured on the same cases and task")
    pairs = list(zip((a.whole, *a.segments), (b.whole, *b.segments), strict=True))
    for one, two in pairs:
        same = (one.dimension, one.label, one.names) == (two.dimension, two.label, two.names)
        if not same or not np.array_equal(one.cases, two.cases):
            raise ValueError(f"segment {one.dimension} {one.label} of {a.name} is another in {b.name}")
    parts = [_difference(one, two) for one, two in pairs]
    whole, *rest = _with_intervals(parts, a.users, replicates, seed)
    return Comparison(a.name, b.name, a.task, whole, tuple(rest), a.protocol)


def by_task(evaluations: Sequence[Evaluation]) -> dict[tuple[Protocol, Task], list[Evaluation]]:
    """Evaluations in order, grouped by protocol and task."""
    groups: dict[tuple[Protocol, Task], list[Evaluation]] = {}
    for one in evaluations:
        groups.setdefault((one.protocol, one.task), []).append(one)
    return groups


def as_json(evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison] = ()) -> dict[str, Any]:
    """The figures as plain JSON types; absent values are null."""
    return {
        "evaluations": [one.to_dict() for one in evaluations],
        "comparisons": [one.to_dict() for one in comparisons],
    }


_Part = tuple[str, str, Rows, tuple[str, ...], NDArray[np.float64]]


def _difference(one: Slice, two: Slice) -> _Part:
    return one.dimension, one.label, one.cases, one.names, one.by_case - two.by_case


def _as_array(lists: pd.DataFrame | Rows, sheet: AnswerSheet, length: int, seen: ItemSets | None) -> Rows:
    if isinstance(lists, pd.DataFrame):
        return lists_from_frame(lists, sheet, length, seen)
    if len(lists) != len(sheet):
        raise ValueError(f"{len(lists)} lists for {len(sheet)} cases")
    return clean_lists(np.asarray(lists, np.int64), len(sheet.items), length, seen)


@dataclass(frozen=True, slots=True)
class _Places:
    """The measured cases' lists and answers, and which of both the user had before."""

    lists: Rows
    truth: ItemSets
    hits: metrics.Hits
    """(cases, length)"""
    had_hits: metrics.Hits
    """(cases, length) hits on what the user had."""
    had_answers: NDArray[np.bool_]
    """(num_pairs of truth,)"""

    @classmethod
    def of(cls, lists: Rows, truth: ItemSets, had: ItemSets, num_items: int) -> _Places:
        hits = metrics.hit_places(lists, truth, num_items)
        had_hits = hits & metrics.hit_places(lists, had, num_items)
        return cls(lists, truth, hits, had_hits, members(truth.keys(num_items), had.keys(num_items)))


def _measure(segment: Segment, cases: Rows, places: _Places, ks: Sequence[int]) -> _Part:
    """Per-case values of one segment; a hit on an answer outside it does not count but keeps its place."""
    truth, hits, wanted = places.truth, places.hits, np.ones(len(places.truth.rows), np.bool_)
    inside = np.ones(len(cases), np.bool_) if segment.users is None else segment.users[cases]
    if segment.items is not None:
        wanted = segment.items[truth.rows]
        hits = hits & segment.items[places.lists]  # padding reads the last item, but is never a hit
    if segment.had is not None:
        wanted = wanted & (places.had_answers == segment.had)
        hits = hits & (places.had_hits == segment.had)
    num_answers = np.bincount(truth.users[wanted], minlength=len(truth))
    positions = np.flatnonzero(inside & (num_answers > 0))
    values = metrics.accuracy(hits[positions], num_answers[positions], ks)
    return segment.dimension, segment.label, positions, tuple(values), np.column_stack([*values.values()])


def _with_intervals(parts: Sequence[_Part], users: pd.Index, replicates: int, seed: int) -> list[Slice]:
    owners = pd.factorize(users)[0].astype(np.int64)
    by_user = [by_owner(owners[part[2]], part[4]) for part in parts]
    if replicates:
        everybody = np.arange(int(owners.max()) + 1 if len(owners) else 0)
        bounds = intervals(by_user, everybody, replicates, seed)
    else:
        bounds = [np.full((2, part[4].shape[1]), np.nan) for part in parts]
    slices = []
    for part, (_, means), (low, high) in zip(parts, by_user, bounds, strict=True):
        dimension, label, positions, names, values = part
        mean = means.mean(axis=0) if len(means) else np.full(len(names), np.nan)
        figures = {n: Figure(float(mean[i]), float(low[i]), float(high[i])) for i, n in enumerate(names)}
        slices.append(Slice(dimension, label, positions, names, values, figures))
    return slices


def _by_dimension(slices: Sequence[Slice]) -> dict[str, dict[str, Any]]:
    tree: dict[str, dict[str, Any]] = {}
    for part in slices:
        tree.setdefault(part.dimension, {})[part.label] = part.to_dict()
    return tree
