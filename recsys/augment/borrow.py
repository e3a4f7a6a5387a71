"""History ops that borrow events: from users alike, from friends, from the same user in another domain.

What is lent lies strictly before the row's own moment, and comes from training rows. A plan names the lender
of each event, so that whoever asks to be forgotten is found in other users' rows too.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any, ClassVar

from pydantic import Field

from recsys.augment.example import HistoryExample
from recsys.augment.history import HistoryOp, with_events
from recsys.augment.op import Counts
from recsys.randomness import Stream


class BorrowOp(HistoryOp):
    """Shared draw and edit: lent events come in at their own time."""

    parameters = ("items", "event_types", "timestamps", "lenders")
    lender: ClassVar[str]

    count_range: Counts = (1, 3)
    """How many events are borrowed; strength scales it."""
    max_length: int = Field(10, ge=0)
    """Longer histories are left alone."""
    min_length: int = Field(0, ge=0)
    """Histories with fewer events are left alone; 0 fills empty ones too."""

    def sample(self, example: HistoryExample, rng: Stream, strength: float) -> tuple[Any, ...] | None:
        """Draw among the lent events on items that are neither in the history nor targets."""
        if len(example.history) > self.max_length:
            return None
        taken = {*example.history, *example.targets}
        usable = []
        for event in example.lent.get(self.lender, ()):
            if event.item not in taken:
                taken.add(event.item)
                usable.append(event)
        low, high = self.count_range
        count = min(int((low + rng.below(high - low + 1)) * strength + 0.5), len(usable))
        if count < 1:
            return None
        chosen = [usable[i] for i in rng.sample(len(usable), count)]
        return tuple(zip(*chosen, strict=True))

    def edit(self, example: HistoryExample, values: tuple[Any, ...]) -> HistoryExample:
        """Merge the events by time; what the user did comes after what is borrowed at the same second."""
        history, events, times = list(example.history), list(example.event_types), list(example.timestamps)
        items, kinds, lent = values[:3]
        own = example.timestamps
        for i in sorted(range(len(lent)), key=lent.__getitem__)[::-1]:  # from the end: earlier places hold
            at = bisect_left(own, lent[i])
            history.insert(at, items[i])
            events.insert(at, kinds[i])
            times.insert(at, lent[i])
        return with_events(example, tuple(history), tuple(events), tuple(times))


class Borrow(BorrowOp):
    """Borrows events from the users whose histories are most alike."""

    name = "borrow"
    lender = "similar"
    needs = frozenset({"similar"})

    min_length: int = Field(1, ge=1)
    """Histories with fewer events are left alone: nobody is like an empty one."""


class SocialBorrow(BorrowOp):
    """Borrows events from friends, where the dataset has relations; fills empty histories too."""

    name = "social_borrow"
    lender = "friends"
    needs = frozenset({"friends"})


class CrossDomainBorrow(BorrowOp):
    """Borrows what the same user did in another domain, in terms of this catalogue's items."""

    name = "cross_domain_borrow"
    lender = "elsewhere"
    needs = frozenset({"elsewhere"})
