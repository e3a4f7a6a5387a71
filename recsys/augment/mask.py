"""Masking a history: events stay in their places, and what they were about is not told.

As in BERT4Rec (Sun et al., arXiv:1904.06690) and CL4SRec (Xie et al., arXiv:2010.14395), where a learned
`[mask]` stands in for the item. Here a user is a pool over item vectors, so a masked event has none: it
contributes nothing, and the events before it keep their lags and times. That is what tells it from
`item_dropout`, which closes the gap.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from recsys.augment.example import HistoryExample
from recsys.augment.history import HistoryOp, count_of, replaced
from recsys.augment.op import Rates
from recsys.contexts import MASKED
from recsys.randomness import Stream


class Mask(HistoryOp):
    """Hides which items events were about; the events keep their places, types and times."""

    name = "mask"
    parameters = ("positions",)

    rate_range: Rates = (0.1, 0.4)
    """Share of the events that is masked."""
    min_keep: int = Field(2, ge=1)
    """Events on known items that are left at least."""
    keep_newest: int = Field(1, ge=0)
    """How many of the newest events are never masked."""

    def sample(self, example: HistoryExample, rng: Stream, strength: float) -> tuple[Any, ...] | None:
        """Draw the masked positions among those that are not masked yet."""
        history = example.history
        size = len(history)
        known = [i for i, item in enumerate(history) if item != MASKED] if MASKED in history else range(size)
        last = size - self.keep_newest
        eligible = [i for i in known if i < last]
        most = min(len(eligible), len(known) - self.min_keep)
        count = count_of(size, self.rate_range, rng, strength, most)
        return (tuple([eligible[i] for i in rng.sample(len(eligible), count)]),) if count else None

    def edit(self, example: HistoryExample, values: tuple[Any, ...]) -> HistoryExample:
        """Mask the positions; everything else stays."""
        return replaced(example, values[0], (MASKED,) * len(values[0]))
