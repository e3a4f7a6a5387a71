"""History ops that ask what matters: recent slices, what came before, what is not causal for the target."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from recsys.augment.example import HistoryExample, Item
from recsys.augment.history import (
    NEIGHBOURS,
    HistoryOp,
    count_of,
    kept_count,
    part_of,
    replaced,
    with_events,
    with_neighbour,
)
from recsys.augment.op import Rates
from recsys.randomness import Stream


class SubHistory(HistoryOp):
    """Keeps a slice that ends at an event drawn by recency, as if the user had been met at that time."""

    name = "sub_history"
    parameters = ("start", "stop")

    keep_range: Rates = (0.4, 0.8)
    """Share of the events in the slice."""
    decay: float = Field(0.8, gt=0, le=1)
    """Weight of each step back for the slice's last event: 1 is uniform, near 0 is the newest alone."""
    min_keep: int = Field(2, ge=1)
    """Events that are kept at least."""

    def sample(self, example: HistoryExample, rng: Stream, strength: float) -> tuple[Any, ...] | None:
        """Draw length and end (recency sampling: Petrov and Macdonald, arXiv:2207.02643)."""
        size = len(example.history)
        keep = kept_count(size, self.keep_range, rng, strength, self.min_keep)
        if keep >= size:
            return None
        back = 0
        while back < size - keep and not rng.chance(1.0 - self.decay):
            back += 1
        stop = size - (back if back < size - keep or self.decay < 1.0 else rng.below(size - keep + 1))
        return (stop - keep, stop)

    def edit(self, example: HistoryExample, values: tuple[Any, ...]) -> HistoryExample:
        """Cut the slice out."""
        return part_of(example, *values)


class BackwardExtension(HistoryOp):
    """Puts what probably came before in front of a short history, one confident step at a time."""

    name = "backward_extension"
    parameters = ("items",)
    needs = frozenset({"earlier"})

    max_items: int = Field(3, ge=1, le=3)
    """Items put in front at most: beyond three steps a guess follows guesses."""
    min_confidence: float = Field(0.1, gt=0, le=1)
    """Smallest probability of the whole chain of steps back."""
    max_length: int = Field(5, ge=1)
    """Longer histories are left alone."""
    min_length: int = Field(1, ge=1)
    """Histories with fewer events are left alone."""
    gap_seconds: int = Field(86_400, ge=0)
    """How much earlier each proposed event is dated."""

    def sample(self, example: HistoryExample, rng: Stream, strength: float) -> tuple[Any, ...] | None:
        """Walk back from the oldest event while the chain stays confident (ASReP: arXiv:2105.00522)."""
        if len(example.history) > self.max_length:
            return None
        taken = {*example.history, *example.targets}
        most = max(int(self.max_items * strength + 0.5), 1)
        at, confidence = example.history[0], 1.0
        items: list[Item] = []
        earlier, least = example.earlier, self.min_confidence
        while len(items) < most:
            steps = [
                (item, chance)
                for item, chance in earlier.get(at, ())
                if item not in taken and confidence * chance >= least
            ]
            if not steps:
                break
            at, chance = steps[rng.weighted([chance for _, chance in steps])]
            confidence *= chance
            items.append(at)
            taken.add(at)
        return (tuple(reversed(items)),) if items else None

    def edit(self, example: HistoryExample, values: tuple[Any, ...]) -> HistoryExample:
        """Put the items in front, dated before the oldest event and of its type."""
        items: tuple[Item, ...] = values[0]
        oldest = example.timestamps[0]
        gap = self.gap_seconds
        times = tuple([oldest - gap * back for back in range(len(items), 0, -1)])
        return with_events(
            example,
            items + example.history,
            (example.event_types[0],) * len(items) + example.event_types,
            times + example.timestamps,
        )


class Counterfactual(HistoryOp):
    """Replaces events that did not lead to the target by related ones, and keeps those that did."""

    name = "counterfactual"
    parameters = ("positions", "items")
    needs = NEIGHBOURS

    rate_range: Rates = (0.2, 0.5)
    """Share of the events that is replaced."""
    top: int = Field(5, ge=1)
    """A replacement is drawn from this many nearest neighbours."""

    def sample(self, example: HistoryExample, rng: Stream, strength: float) -> tuple[Any, ...] | None:
        """Draw among the events that co-visitation does not connect to a target (CASR, SIGIR 2021).

        Where nothing is connected there is no evidence of what is causal, and the row is left alone.
        """
        targets, near, history = set(example.targets), example.neighbours, example.history
        reached = targets.union(*[near.get(target, ()) for target in targets])
        if len(targets) == 1:  # the common case, at half the price
            (target,) = targets
            cold = [i for i, item in enumerate(history) if item not in reached]
            idle = [i for i in cold if target not in near.get(history[i], ())]
        else:
            free = targets.isdisjoint
            idle = [i for i, item in enumerate(history) if item not in reached and free(near.get(item, ()))]
        if not idle or len(idle) == len(history):
            return None
        count = count_of(len(history), self.rate_range, rng, strength, len(idle))
        places = [idle[i] for i in rng.sample(len(idle), count)] if count else []
        drawn = with_neighbour(example, places, self.top, rng)
        return drawn if drawn[0] else None

    def edit(self, example: HistoryExample, values: tuple[Any, ...]) -> HistoryExample:
        """Replace the items; event types and timestamps stay."""
        return replaced(example, *values)
