"""Running a branch of a policy over examples: accepted candidates in columns, everything else counted."""

from __future__ import annotations

import contextlib
import gc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic

import numpy as np

from recsys.augment.columns.lazy import Saying, joined, taken
from recsys.augment.example import TextExample
from recsys.augment.op import E, Plan
from recsys.augment.provenance import op_chain
from recsys.randomness import Stream, row_streams
from recsys.types import Floats

if TYPE_CHECKING:
    from recsys.augment.policy import Branch


@contextlib.contextmanager
def _no_cycle_search() -> Iterator[None]:
    """Pause the cycle collector: millions of new tuples, none in a cycle, would set it off all the time.

    Afterwards they count as old, or the collector would walk through all of them at once.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if gc.get_freeze_count() == 0:  # else another's frozen objects would thaw with ours
            gc.freeze()
            gc.unfreeze()
        if was_on:
            gc.enable()


_COLUMNS = ("parents", "row_ids", "parent_ids", "originals", "children", "plans", "chains", "modification")


@dataclass(slots=True)
class Grown(Generic[E]):
    """Accepted candidates, column by column, and the counts of everything else.

    Columns are lists, or what makes its values when they are read (`recsys.augment.columns.lazy`).
    """

    parents: Sequence[int] = field(default_factory=list)
    """Position of the original among the given examples."""
    row_ids: Sequence[str] = field(default_factory=list)
    parent_ids: Sequence[str] = field(default_factory=list)
    originals: Sequence[E] = field(default_factory=list)
    """The parents, row by row."""
    children: Sequence[E] = field(default_factory=list)
    plans: Sequence[Plan] = field(default_factory=list)
    chains: Sequence[str] = field(default_factory=list)
    """The names of the edits in order: `item_dropout>crop`."""
    modification: Sequence[float] = field(default_factory=list)
    """Share of the original's words or events that is gone."""
    scores: dict[str, Sequence[float]] = field(default_factory=dict)
    """What each gate said of each row."""
    counts: Counter[str] = field(default_factory=Counter)
    """`rows`, `accepted`, `left_alone`, rejections by reason as `rejected:<reason>`, gates left out as
    `skipped:<gate>`."""
    refusals: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Rejections by chain of ops and reason."""

    def refuse(self, chains: Iterable[str], reason: str) -> None:
        """Count candidates that were accepted so far as rejected; taking them out is left to `keep`."""
        before = self.refusals.total()
        self.refusals.update((chain, reason) for chain in chains)
        refused = self.refusals.total() - before
        if refused:
            self.counts[f"rejected:{reason}"] += refused
            self.counts["accepted"] -= refused

    def keep(self, rows: Sequence[int]) -> None:
        """Leave these rows only, in every column."""
        for name in _COLUMNS:
            column = getattr(self, name)
            setattr(self, name, taken(column, rows))
        self.scores = {name: taken(column, rows) for name, column in self.scores.items()}


def copy_streams(branch: Branch, seed: int, stage: str) -> list[Callable[[str], Stream]]:
    """For each copy of a branch the function from a row's id to the row's stream."""
    return [row_streams(seed, "augment", stage, copy) for copy in range(branch.copies)]


def grow(
    examples: Iterable[E], branch: Branch, seed: int, stage: str, policy_id: str, first: int = 0
) -> Grown[E]:
    """Run a branch's ops over examples.

    Draws depend on (seed, stage, copy, row id) alone: order, chunks and workers change nothing.

    Args:
        examples: The originals; their `row_id` keys the draws.
        branch: Ops, copies and acceptance.
        seed: The run's seed.
        stage: Keeps the draws of histories and texts apart.
        policy_id: Goes into the children's ids.
        first: Position of the first example, when these are a chunk of more.
    """
    grown: Grown[E] = Grown()
    accepted: list[tuple[Any, ...]] = []  # in the order of _COLUMNS
    run, judge = branch.ops.run, branch.acceptance.judge
    copies = [
        (stream_of, f"~{policy_id}.{copy}")
        for copy, stream_of in enumerate(copy_streams(branch, seed, stage))
    ]
    rows = left_alone = 0
    with _no_cycle_search():
        for position, example in enumerate(examples, first):
            rows += 1
            for stream_of, suffix in copies:
                done = run(example, stream_of(example.row_id))
                if done is None:
                    left_alone += 1
                    continue
                child, plan = done
                reason, gone = judge(example, child)
                chain = op_chain(plan)
                if reason is not None:
                    grown.counts[f"rejected:{reason}"] += 1
                    grown.refusals[chain, reason] += 1
                    continue
                row_id = example.row_id
                accepted.append((position, row_id + suffix, row_id, example, child, plan, chain, gone))
    for name, column in zip(_COLUMNS, zip(*accepted, strict=True), strict=False):
        setattr(grown, name, list(column))
    grown.counts.update(rows=rows, left_alone=left_alone, accepted=len(grown.children))
    return grown


def concatenated(parts: Sequence[Grown[E]]) -> Grown[E]:
    """Parts one after the other, their columns as they are."""
    if len(parts) == 1:
        return parts[0]
    grown: Grown[E] = Grown()
    for name in _COLUMNS:
        setattr(grown, name, joined([getattr(part, name) for part in parts]))
    for part in parts:
        grown.counts.update(part.counts)
        grown.refusals.update(part.refusals)
    return grown


def texts_of(children: Sequence[TextExample]) -> Sequence[str]:
    """What edited texts say; where they are columns, no example is made for it."""
    return children.texts if isinstance(children, Saying) else [child.text for child in children]


def confidences(grown: Grown[Any]) -> Floats:
    """Per child the lowest score that a gate gave, in [0, 1]; 1 without gates."""
    lowest = np.ones(len(grown.row_ids), np.float32)
    for scores in grown.scores.values():
        lowest = np.minimum(lowest, np.asarray(scores, np.float32))
    return np.clip(lowest, 0.0, 1.0)
