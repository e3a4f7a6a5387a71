"""A tree of ops run over a batch of rows at once: what `Composite.run` does for one row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from recsys.augment.columns.edits import B, Edited, gathered
from recsys.augment.columns.runs import Ints
from recsys.augment.compose import CHANCE, CHOICE, Compose, Composite, OneOf, SomeOf
from recsys.augment.op import Op
from recsys.streams import Streams

Form = Callable[[Any, B, Streams], Edited[B] | None]
"""The column form of an op: from the op, rows and their streams to what it edits, drawn as `run` draws."""
Forms = Mapping[type[Op[Any]], Form[B]]


def has_form(op: Op[Any], forms: Forms[B]) -> bool:
    """Whether an op, or all that is under a composite, has a column form."""
    if isinstance(op, Composite):
        return type(op) in (Compose, OneOf, SomeOf) and all(has_form(child, forms) for child in op.ops)
    return type(op) in forms


def run(op: Op[Any], batch: B, streams: Streams, forms: Forms[B]) -> Edited[B] | None:
    """What an op does to rows; None where it edits none.

    Args:
        op: With a form, as `has_form` says.
        batch: The rows.
        streams: One per row, as `Op.run` is given for it.
        forms: Column forms by class of op.
    """
    if not isinstance(op, Composite):
        done = forms[type(op)](op, batch, streams) if len(batch) else None
        return done if done is not None and len(done.rows) else None
    disjoint = isinstance(op, OneOf)  # a row is edited by one child at most: none sees what another left
    parts: list[tuple[int, Edited[B]]] = []
    current, left = batch, 0  # how many parts are in `current`
    for number, child, key, rows in _chosen(op, streams):
        if not disjoint:
            current, left = _after(current, parts, left), len(parts)
        if rows is None:
            done = run(child, current, streams.fork(key), forms)
        else:
            done = run(child, current.take(rows), streams.take(rows).fork(key), forms)
            done = done and done._replace(rows=rows[done.rows])
        if done is not None:
            parts.append((number, done))
    several = len(parts) > 1 and not disjoint
    return gathered(op.name, batch, parts, _after(current, parts, left) if several else None)


def _after(current: B, parts: list[tuple[int, Edited[B]]], left: int) -> B:
    """The rows as they are after the parts from `left` on."""
    for _, part in parts[left:]:
        current = current.merged([(part.rows, part.batch)])
    return current


def _chosen(op: Composite[Any], streams: Streams) -> Iterator[tuple[int, Op[Any], int, Ints | None]]:
    """The children in order: number, op, key, and the rows that run it; None is all of them."""
    tried = None
    if op.p < 1.0:
        tried = np.flatnonzero(streams.fork(CHANCE).chance(op.p))
    if isinstance(op, Compose):
        yield from ((*child, tried) for child in op.keyed_children)
        return
    if not op.ops:
        return
    drawn = (streams if tried is None else streams.take(tried)).fork(CHOICE)
    rows = np.arange(len(streams)) if tried is None else tried
    if isinstance(op, OneOf):
        picks = drawn.weighted(op.weights) if op.weights else drawn.below(len(op.ops))
        yield from ((*child, rows[picks == child[0]]) for child in op.keyed_children)
        return
    assert isinstance(op, SomeOf)
    low, high = (min(count, len(op.ops)) for count in op.count_range)
    counts = low + drawn.below(high - low + 1)
    offsets, picks = drawn.sample(np.full(len(rows), len(op.ops)), counts)
    owners = np.repeat(rows, np.diff(offsets))
    yield from ((*child, owners[picks == child[0]]) for child in op.keyed_children)
