"""History ops. None empties a history, touches a target, or puts a target into the history.

Rates count events of the history. Crop and reorder follow CL4SRec (Xie et al., arXiv:2010.14395), substitute
and insert by correlated items CoSeRec (Liu et al., arXiv:2108.06479), item dropout the subset split of DA4Rec
(Zhou et al., WWW 2024). Neighbours by co-visitation and by text together are what CoSeRec calls hybrid.
"""

from __future__ import annotations

from abc import abstractmethod
from itertools import compress
from operator import itemgetter
from typing import Any, ClassVar, Literal

from pydantic import Field

from recsys.augment.example import HistoryExample, Item
from recsys.augment.op import Kind, LeafOp, Plan, Rates
from recsys.randomness import Stream

NEIGHBOURS = frozenset({"neighbours"})
By = Literal["covisitation", "text", "both"]
SIDES: dict[By, frozenset[str]] = {
    "covisitation": NEIGHBOURS,
    "text": frozenset({"text_neighbours"}),
    "both": frozenset({"neighbours", "text_neighbours"}),
}
"""The side data behind each meaning of an item's neighbours."""


class HistoryOp(LeafOp[HistoryExample]):
    """An op on a history."""

    kind: ClassVar[Kind | None] = "history"

    min_length: int = Field(3, ge=1)
    """Histories with fewer events are left alone."""

    def plan(self, example: HistoryExample, rng: Stream) -> Plan | None:
        """Sample an edit of a long enough history."""
        size = len(example.history)
        if size < self.min_length:
            return None
        strength = 1.0 if self.taper is None else self.strength(size)
        if strength <= 0.0 or (self.p < 1.0 and not rng.chance(self.p)):
            return None
        values = self.sample(example, rng, strength)
        return None if values is None else Plan(self.name, values)

    @abstractmethod
    def sample(self, example: HistoryExample, rng: Stream, strength: float) -> tuple[Any, ...] | None:
        """The plan's values for a history of at least `min_length` events."""


class Crop(HistoryOp):
    """Keeps one contiguous part of the history, the newest or any."""

    name = "crop"
    parameters = ("start", "stop")

    keep_range: Rates = (0.6, 0.9)
    """Share of the events that is kept."""
    part: Literal["newest", "any"] = "newest"
    """Which part: ending with the newest event, or anywhere."""
    min_keep: int = Field(2, ge=1)
    """Events that are kept at least."""

    def sample(self, example: HistoryExample, rng: Stream, strength: float) -> tuple[Any, ...] | None:
        """Draw the kept range; strength pulls the kept share towards all."""
        size = len(example.history)
        keep = kept_count(size, self.keep_range, rng, strength, self.min_keep)
        if keep >= size:
            return None
        start = size - keep if self.part == "newest" else rng.below(size - keep + 1)
        return (start, start + keep)

    def edit(self, example: HistoryExample, values: tuple[Any, ...]) -> HistoryExample:
        """Cut the range out."""
        return part_of(example, *values)


class ItemDropout(HistoryOp):
    """Deletes events at random, as if the user had been seen less often."""

    name = "item_dropout"
    parameters = ("positions",)

    rate_range: Rates = (0.1, 0.5)
    """Share of the events that is deleted."""
    min_keep: int = Field(2, ge=1)
    """Events that are kept at least."""
    keep_newest: int = Field(1, ge=0)
    """How many of the newest events are never deleted."""

    def sample(self, example: HistoryExample, rng: Stream, strength: float) -> tuple[Any, ...] | None:
        """Draw the deleted positions."""
        size = len(example.history)
        eligible = size - self.keep_newest
        count = count_of(size, self.rate_range, rng, strength, min(eligible, size - self.min_keep))
        return (tuple(rng.sample(eligible, count)),) if count else None

    def edit(self, example: HistoryExample, values: tuple[Any, ...]) -> HistoryExample:
        """Delete the positions."""
        _, history, events, times, *_ = example
        kept = bytearray(b"\1") * len(history)
        for position in values[0]:
            kept[position] = 0
        return with_events(
            example,
            tuple(compress(history, kept)),
            tuple(compress(events, kept)),
            tuple(compress(times, kept)),
        )


class Reorder(HistoryOp):
    """Shuffles a run of events that lie within a time window, where the order is mostly noise."""

    name = "reorder"
    parameters = ("start", "order")

    rate_range: Rates = (0.2, 0.6)
    """Share of the events in the shuffled run, at most."""
    window_seconds: int = Field(86_400, ge=0)
    """The run's first and last event lie at most this far apart."""

    def sample(self, example: HistoryExample, rng: Stream, strength: float) -> tuple[Any, ...] | None:
        """Draw where the run starts and its new order."""
        size, times = len(example.history), example.timestamps
        longest = int(rng.uniform(*self.rate_range) * strength * size + 0.5)
        if longest < 2:
            return None
        start = rng.below(size - 1)
        stop = start + 1
        while stop < size and stop - start < longest and times[stop] - times[start] <= self.window_seconds:
            stop += 1
        order = tuple(rng.shuffled(range(start, stop)))
        return (start, order) if any(a != b for a, b in enumerate(order, start)) else None

    def edit(self, example: HistoryExample, values: tuple[Any, ...]) -> HistoryExample:
        """Put the run's events in the new order; the timestamps stay where they are, so that they ascend."""
        start, order = values
        stop = start + len(order)
        _, history, events, times, *_ = example
        pick = itemgetter(*order)
        return with_events(
            example,
            history[:start] + pick(history) + history[stop:],
            events[:start] + pick(events) + events[stop:],
            times,
        )


class ByNeighbour(HistoryOp):
    """An op that puts an item's neighbour into a history."""

    by: By = "covisitation"
    """Whose neighbours: items that the same users had, items with similar texts, or both lists together."""
    top: int = Field(5, ge=1)
    """The item is drawn from this many nearest neighbours (of each list, where there are two)."""

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]  # what is read depends on a setting
        """Side data that the op reads as it is set."""
        return SIDES[self.by]


class Substitute(ByNeighbour):
    """Replaces events by a correlated item."""

    name = "substitute"
    parameters = ("positions", "items")

    rate_range: Rates = (0.1, 0.3)
    """Share of the events that is replaced."""
    keep_newest: int = Field(1, ge=0)
    """How many of the newest events are never replaced."""

    def sample(self, example: HistoryExample, rng: Stream, strength: float) -> tuple[Any, ...] | None:
        """Draw positions and replacements; positions without a usable neighbour stay."""
        size = len(example.history)
        eligible = size - self.keep_newest
        count = count_of(size, self.rate_range, rng, strength, eligible)
        drawn = with_neighbour(example, rng.sample(eligible, count) if count else [], self.top, rng, self.by)
        return drawn if drawn[0] else None

    def edit(self, example: HistoryExample, values: tuple[Any, ...]) -> HistoryExample:
        """Replace the items; event types and timestamps stay."""
        return replaced(example, *values)


class Insert(ByNeighbour):
    """Puts a correlated item before events, at most one per event, as a denser history would have it."""

    name = "insert"
    parameters = ("positions", "items")

    rate_range: Rates = (0.1, 0.4)
    """Inserted events as a share of the history's."""
    min_length: int = Field(1, ge=1)
    """Histories with fewer events are left alone."""

    def sample(self, example: HistoryExample, rng: Stream, strength: float) -> tuple[Any, ...] | None:
        """Draw anchors and items; anchors without a usable neighbour are passed over."""
        size = len(example.history)
        count = count_of(size, self.rate_range, rng, strength, size)
        drawn = with_neighbour(example, rng.sample(size, count) if count else [], self.top, rng, self.by)
        return drawn if drawn[0] else None

    def edit(self, example: HistoryExample, values: tuple[Any, ...]) -> HistoryExample:
        """Insert each item before its anchor, with the anchor's event type and timestamp."""
        history, events, times = list(example.history), list(example.event_types), list(example.timestamps)
        positions, items = values
        for i in range(len(positions) - 1, -1, -1):  # from the end, so that the positions still hold
            at = positions[i]
            history.insert(at, items[i])
            events.insert(at, events[at])
            times.insert(at, times[at])
        return with_events(example, tuple(history), tuple(events), tuple(times))


def kept_count(size: int, keep_range: tuple[float, float], rng: Stream, strength: float, fewest: int) -> int:
    """A drawn number of events to keep; strength pulls the kept share towards all."""
    share = 1.0 - (1.0 - rng.uniform(*keep_range)) * strength
    return max(int(share * size + 0.5), fewest)


def count_of(size: int, rates: Rates, rng: Stream, strength: float, most: int) -> int:
    """How many events a rate comes to, at most `most`."""
    low, high = rates
    count = int((low + (high - low) * rng.random()) * strength * size + 0.5)
    count = count if count < most else most
    return count if count > 0 else 0


def take(example: HistoryExample, keep: list[int]) -> HistoryExample:
    """The example with the events at these positions, in this order."""
    if len(keep) == 1:
        pick = slice(keep[0], keep[0] + 1)
        history, events, times = example.history[pick], example.event_types[pick], example.timestamps[pick]
    else:
        take = itemgetter(*keep)
        history, events, times = take(example.history), take(example.event_types), take(example.timestamps)
    return with_events(example, history, events, times)


def part_of(example: HistoryExample, start: int, stop: int) -> HistoryExample:
    """The example with the events from `start` to before `stop`."""
    _, history, events, times, *_ = example
    return with_events(example, history[start:stop], events[start:stop], times[start:stop])


def replaced(example: HistoryExample, positions: tuple[int, ...], items: tuple[Item, ...]) -> HistoryExample:
    """The example with other items at these positions; event types and timestamps stay."""
    _, history, events, times, *_ = example
    changed = list(history)
    for position, item in zip(positions, items, strict=True):
        changed[position] = item
    return with_events(example, tuple(changed), events, times)


def with_events(
    example: HistoryExample, history: tuple[Item, ...], events: tuple[Any, ...], times: tuple[int, ...]
) -> HistoryExample:
    """The example with another history: items, event types and timestamps."""
    return HistoryExample._make((example[0], history, events, times, *example[4:]))


def with_neighbour(
    example: HistoryExample, positions: list[int], top: int, rng: Stream, by: By = "covisitation"
) -> tuple[tuple[int, ...], tuple[Item, ...]]:
    """Each position with a neighbour of its item that is neither in the history nor a target."""
    history = example.history
    taken = {*history, *example.targets}
    kept: list[int] = []
    items: list[Item] = []
    near = example.text_neighbours if by == "text" else example.neighbours
    for position in positions:
        nearest = near.get(history[position], ())[:top]
        if by == "both":
            more = example.text_neighbours.get(history[position], ())[:top]
            nearest += tuple([item for item in more if item not in nearest])
        usable = [item for item in nearest if item not in taken]
        if usable:
            item = usable[rng.below(len(usable))]
            taken.add(item)
            kept.append(position)
            items.append(item)
    return tuple(kept), tuple(items)
