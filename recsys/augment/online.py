"""Augmentation while a user waits: views of one short history, or one thin text, inside a time budget.

A view is the history as it might have been seen: an event fewer, or one more that goes with it. The user's
vector becomes the tower's vector of the history, moved towards the mean of its vectors of the views
(test-time augmentation for sequences: arXiv:2504.04843, arXiv:2604.16121). When the budget is spent, or an op
fails, nothing is done at all: an answer has all of its views or none.
"""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from recsys.augment.constraints import Protection
from recsys.augment.example import NOTHING, HistoryExample, TextExample
from recsys.augment.gates.gate import Evidence
from recsys.augment.one_row import BudgetSpent, OneRow
from recsys.augment.online_side import NO_SIDE, OnlineSide
from recsys.augment.policy import Policy
from recsys.augment.servable import servable
from recsys.config import OnlineConfig
from recsys.contexts import MASKED, Vocabulary
from recsys.randomness import row_streams
from recsys.types import Augmentation, History, Query, Views

REASONS = (
    "switched_off", "no_policy", "no_side_data", "not_better", "no_history", "rich_user", "left_alone",
    "budget_spent", "failed",
)  # fmt: skip
"""Why nothing was done: switched off by request, service or run; no policy, or not what its ops read; no gain
on validation; nothing known of the user; a user with enough events; ops and acceptance rules that left every
view alone; the time budget; an op that raised."""
FAILED = "augmentation_failed"
"""In an answer's `degraded`."""
_LOGGED_FAILURES = 3

log = logging.getLogger(__name__)


class Expanded(NamedTuple):
    """A text, and what was done to it."""

    text: str
    note: Augmentation


class NoAugmenter:
    """An augmenter that does nothing, and says why."""

    policy_id: str | None = None

    def __init__(self, reason: str) -> None:
        self.skipped: Mapping[str, str] = {}
        self._views = Views(note=Augmentation(reason=reason))

    def augment(self, query: Query, *, limited: bool = True) -> Query:
        """The same query with no views and the reason."""
        return replace(query, views=self._views)


class OnlineAugmenter:
    """Expands one history or one text. Thread-safe: nothing that decides an answer ever changes.

    Args:
        policy: As configured; what a request cannot run is left out, see `skipped`.
        vocabulary: The catalogue.
        settings: Threshold, number and weight of views, budget.
        seed: The run's seed. Draws are keyed by it, the view's number and the user's id (for nobody's history
            and for a text its content), so that equal requests get equal views.
        side: What the run stores for the ops.
        brands: The catalogue's brands, which no text op touches.
        clock: Monotonic seconds; tests bring their own.
    """

    def __init__(
        self,
        policy: Policy,
        vocabulary: Vocabulary,
        settings: OnlineConfig,
        seed: int,
        *,
        side: OnlineSide = NO_SIDE,
        brands: Iterable[str] = (),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.policy, self.skipped = servable(policy, side.stored)
        self.policy_id: str | None = self.policy.policy_id
        self._protection = protection = Protection(policy.protect, brands)
        self._vocabulary, self._settings, self._side, self._clock = vocabulary, settings, side, clock
        self._history = OneRow[HistoryExample](self.policy.history, Evidence(protection), clock)
        self._text = OneRow[TextExample](self.policy.text, Evidence(protection), clock)
        self._streams = [row_streams(seed, "augment", "online", view) for view in range(settings.views)]
        self._idle = {reason: Augmentation(self.policy_id, reason=reason) for reason in REASONS}
        self._failures = 0
        has_ops = (bool(self.policy.history.ops.ops), bool(policy.history.ops.ops))
        self._without = None if has_ops[0] else "no_side_data" if has_ops[1] else "no_policy"

    def augment(self, query: Query, *, limited: bool = True) -> Query:
        """The same query with views of its history, or with the reason why it has none; never raises.

        Args:
            query: Its features and its user are read.
            limited: Keep to the time budget; without it a batch gives what an idle service would.
        """
        reason = self._without or self._spared(query)
        if reason is not None:
            return replace(query, views=Views(note=self._idle[reason]))
        started = self._clock()
        ops: dict[str, None] = {}
        degraded = query.degraded
        try:
            histories = self._views(query, self._deadline(started, limited), ops)
            reason = None if histories else "left_alone"
        except BudgetSpent:
            histories, reason = [], "budget_spent"
        except Exception as error:  # noqa: BLE001 - whatever an op raises, the request must still be answered
            self._log_failure(error)
            histories, reason, degraded = [], "failed", (*degraded, FAILED)
        # A view that the ops left alone is the history itself, which has its share already.
        weight = self._settings.weight * len(histories) / len(self._streams)
        note = self._note(started, reason, ops, len(histories))
        return replace(query, views=Views(tuple(histories), weight, note), degraded=degraded)

    def expand_text(
        self, text: str, fields: Mapping[str, str] = NOTHING, *, limited: bool = True
    ) -> Expanded:
        """A thin text with what its attributes and the policy's text ops add; never raises.

        Args:
            text: Of an item, in English or Chinese; others are left alone.
            fields: Its attributes: `brand`, `category`, `tags`, `price_band`; where its neighbours are known,
                `terms`, `nearby_category` and `nearby_brand` as well.
            limited: Keep to the time budget.
        """
        if not self.policy.text.ops.ops:
            return Expanded(text, self._idle["no_policy"])
        started = self._clock()
        ops: dict[str, None] = {}
        grown, reason = None, "left_alone"
        try:
            deadline = self._deadline(started, limited)
            example = self._protection.prepare(TextExample(f"text:{text}", text, fields))
            grown = self._text.grown(example, self._streams[0](example.row_id), deadline, ops)
        except BudgetSpent:
            reason = "budget_spent"
        except Exception as error:  # noqa: BLE001 - whatever an op raises, the text is there as it was
            self._log_failure(error)
            reason = "failed"
        if grown is None:
            return Expanded(text, self._note(started, reason))
        return Expanded(grown.text, self._note(started, None, ops, 1))

    def _spared(self, query: Query) -> str | None:
        """Why this query is left alone whatever the ops would do."""
        features = query.features
        if features is None or not any(item in self._vocabulary for item in features.history.item_ids):
            return "no_history"
        return "rich_user" if features.num_events >= self._settings.below else None

    def _views(self, query: Query, deadline: float, ops: dict[str, None]) -> list[History]:
        example = self._example(query)
        views = []
        for stream_of in self._streams:
            child = self._history.grown(example, stream_of(example.row_id), deadline, ops)
            if child is not None and (view := _told(child)) is not None:
                views.append(view)
        return views

    def _example(self, query: Query) -> HistoryExample:
        if query.features is None:
            raise ValueError("a query without features has no history")
        events = query.features.history
        known = [place for place, item in enumerate(events.item_ids) if item in self._vocabulary]
        items = tuple([events.item_ids[place] for place in known])
        types = tuple([events.event_types[place] for place in known])
        times = tuple([events.timestamps[place] for place in known])
        # Keyed by who asks and not by when: an answer changes because the user did something.
        named = query.user_id is not None
        name = f"user:{query.user_id}" if named else "history:" + json.dumps([items, types])
        return HistoryExample(
            name, items, types, times, neighbours=self._side.neighbours, earlier=self._side.earlier
        )

    def _deadline(self, started: float, limited: bool) -> float:
        return started + self._settings.budget_ms / 1000 if limited else float("inf")

    def _note(
        self, started: float, reason: str | None, ops: Iterable[str] = (), views: int = 0
    ) -> Augmentation:
        taken = round(1000 * (self._clock() - started), 3)
        return Augmentation(self.policy_id, tuple(ops) if views else (), views, taken, reason)

    def _log_failure(self, error: Exception) -> None:
        self._failures += 1  # a race between threads costs a line of the log
        if self._failures <= _LOGGED_FAILURES:
            # Where it happened, and not what it says: a message may repeat what the user did.
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(place.filename).name}:{place.lineno}"
            log.warning("an augmentation op failed: %s in %s", type(error).__name__, where)


def _told(example: HistoryExample) -> History | None:
    """An example as a history; None where it tells no item. What an op has hidden is left out."""
    places = [place for place, item in enumerate(example.history) if item != MASKED]
    if not places:
        return None
    return History(
        tuple([str(example.history[place]) for place in places]),
        tuple([str(example.event_types[place]) for place in places]),
        tuple([example.timestamps[place] for place in places]),
    )
