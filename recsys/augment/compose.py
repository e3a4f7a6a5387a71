"""Pipelines are ops themselves: `Compose` in order, `OneOf` by weight, `SomeOf` a few; empty is identity.

A child's stream is forked by its name (and its number among siblings of that name), never by its position,
so that adding or removing a sibling changes nobody else's draws.
"""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Generic

from pydantic import Field, SkipValidation, field_validator, model_validator

from recsys.augment.op import Counts, E, Kind, Op, Plan, Step
from recsys.randomness import Stream, derive

CHANCE = derive(0, "composite", "chance")
CHOICE = derive(0, "composite", "choice")
"""Keys of a composite's own draws."""


class Composite(Op[E], Generic[E]):
    """Ops as one op; the children must all edit the same kind of example."""

    kind: ClassVar[Kind | None] = None

    ops: tuple[SkipValidation[Op[Any]], ...] = ()
    """The children."""

    @field_validator("ops")
    @classmethod
    def _one_kind(cls, ops: tuple[Any, ...]) -> tuple[Any, ...]:
        for op in ops:
            if not isinstance(op, Op):
                raise ValueError(f"expected ops, got {type(op).__name__}")
        kinds = {leaf.kind for op in ops for leaf in leaves(op)}
        if len(kinds) > 1:
            raise ValueError("history ops and text ops cannot be in one pipeline")
        return ops

    @functools.cached_property
    def keyed_children(self) -> tuple[tuple[int, Op[E], int], ...]:
        """The children with their numbers and the keys of their streams."""
        seen: Counter[str] = Counter()
        children = []
        for number, op in enumerate(self.ops):
            seen[op.name] += 1
            children.append((number, op, derive(0, "child", op.name, seen[op.name])))
        return tuple(children)

    @abstractmethod
    def _chosen(self, rng: Stream) -> Sequence[tuple[int, Op[E], int]]:
        """The children to run for one row, in order."""

    def plan(self, example: E, rng: Stream) -> Plan | None:
        """The plans of the chosen children, each made on what the one before left."""
        done = self.run(example, rng)
        return None if done is None else done[1]

    def run(self, example: E, rng: Stream) -> tuple[E, Plan] | None:
        """The edited example and its plan; None where no child had anything to do."""
        if self.p < 1.0 and not rng.fork(CHANCE).chance(self.p):
            return None
        plans: list[tuple[int, Plan]] = []
        fork = rng.fork
        for number, op, key in self._chosen(rng):
            done = op.run(example, fork(key))
            if done is not None:
                example, plan = done
                plans.append((number, plan))
        return (example, Plan(self.name, tuple(plans))) if plans else None

    def apply(self, example: E, plan: Plan) -> E:
        """Carry out the children's plans, in order."""
        if plan.op != self.name:
            raise ValueError(f"a plan of {plan.op!r} cannot be applied by {self.name!r}")
        for number, child in plan.values:
            example = self.ops[number].apply(example, child)
        return example

    def steps(self, plan: Plan) -> Iterator[Step]:
        """The edits of all children, in order."""
        for number, child in plan.values:
            yield from self.ops[number].steps(child)

    def parse(self, values: Any) -> Plan:
        """A plan from plain values, children included."""
        name, rest = values
        if name != self.name:
            raise ValueError(f"a plan of {name!r} cannot be applied by {self.name!r}")
        return Plan(name, tuple((number, self.ops[number].parse(child)) for number, child in rest))

    def settings(self) -> dict[str, Any]:
        """Settings that differ from their defaults, children left out."""
        return self.model_dump(mode="json", exclude_defaults=True, exclude={"ops"})

    def to_plain(self) -> dict[str, Any]:
        """Plain values, children included."""
        return {"op": self.name, **self.settings(), "ops": [op.to_plain() for op in self.ops]}

    def tree(self, indent: str = "") -> Iterator[str]:
        """The composite's line, then its children's, indented."""
        yield from super().tree(indent)
        for op in self.ops:
            yield from op.tree(indent + "  ")


class Compose(Composite[E], Generic[E]):
    """Runs all its ops, in order; without ops it changes nothing."""

    name = "compose"

    def _chosen(self, rng: Stream) -> Sequence[tuple[int, Op[E], int]]:
        return self.keyed_children


class OneOf(Composite[E], Generic[E]):
    """Runs one of its ops, chosen by weight."""

    name = "one_of"

    weights: tuple[float, ...] = ()
    """One per op, not negative; left out, all weigh the same."""

    @model_validator(mode="after")
    def _weights_fit(self) -> OneOf[E]:
        if self.weights and len(self.weights) != len(self.ops):
            raise ValueError(f"weights: {len(self.weights)} given for {len(self.ops)} ops")
        if self.weights and (min(self.weights) < 0 or sum(self.weights) <= 0):
            raise ValueError("weights: must not be negative, and their sum must be positive")
        return self

    def _chosen(self, rng: Stream) -> Sequence[tuple[int, Op[E], int]]:
        if not self.ops:
            return ()
        draw = rng.fork(CHOICE)
        return (
            self.keyed_children[draw.weighted(self.weights) if self.weights else draw.below(len(self.ops))],
        )


class SomeOf(Composite[E], Generic[E]):
    """Runs a few of its ops, drawn at random, in the order in which they are listed."""

    name = "some_of"

    count_range: Counts = Field((1, 1))
    """Fewest and most ops to run; more than there are means all."""

    def _chosen(self, rng: Stream) -> Sequence[tuple[int, Op[E], int]]:
        draw = rng.fork(CHOICE)
        low, high = (min(count, len(self.ops)) for count in self.count_range)
        count = low + draw.below(high - low + 1)
        return [self.keyed_children[number] for number in draw.sample(len(self.ops), count)]


def leaves(op: Op[Any]) -> Iterator[Op[Any]]:
    """The ops that edit, under a composite or the op itself."""
    if isinstance(op, Composite):
        for child in op.ops:
            yield from leaves(child)
    else:
        yield op
