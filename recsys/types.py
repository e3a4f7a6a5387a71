"""The words that every room shares: a history, a query, a ranked list, and what a source or a store does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from recsys.terms import NO_RULES, Explanation, Rules

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
"""Item rows: positions in the run's catalogue, 0-based. Users' rows are never needed outside training."""

POSITIVE_DEFAULT = "interaction"
"""The event type of a row that names none."""
NEGATIVE_EVENTS = frozenset({"return"})
"""Event types that are negative feedback: they enter features, never targets, never positive history."""


@dataclass(frozen=True, slots=True)
class History:
    """A user's positive interactions before a moment, oldest first; the three tuples have one length.

    `timestamps` are Unix seconds.
    """

    item_ids: tuple[str, ...] = ()
    event_types: tuple[str, ...] = ()
    timestamps: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.item_ids) == len(self.event_types) == len(self.timestamps):
            raise ValueError("item_ids, event_types and timestamps must have one length")

    def __len__(self) -> int:
        return len(self.item_ids)


@dataclass(frozen=True, slots=True)
class Owned:
    """Every distinct item a user has a positive event on, however long ago; the tuples have one length."""

    item_ids: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    last_timestamps: tuple[int, ...] = ()
    """Unix seconds of the newest event on the item."""


@dataclass(frozen=True, slots=True)
class UserFeatures:
    """What the feature store knows of one user at one moment.

    `history` is capped to the most recent events; `num_events` is the uncapped count of positive ones.
    `numbers` holds the scalar features by their view's field names (absent means unknown, not zero).
    """

    user_id: str
    history: History
    num_events: int
    owned: Owned = Owned()
    numbers: dict[str, float] = field(default_factory=dict)
    as_of: int | None = None
    """Unix seconds of the newest event behind these features: the reader judges staleness by it."""


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What online augmentation did for one request, and why where it did nothing."""

    policy_id: str | None = None
    """None where no policy stands behind the run."""
    ops: tuple[str, ...] = ()
    """Names of the ops that made the views, in order of their first use."""
    views: int = 0
    """Views that took part; 0 is the answer without augmentation."""
    ms: float = 0.0
    """Milliseconds that making the views took."""
    reason: str | None = None
    """Why nothing was done, one of `recsys.augment.online.REASONS`; None where views took part."""


@dataclass(frozen=True, slots=True)
class Views:
    """Augmented variants of a query's history: they move the user's vector and nothing else.

    What a view holds is no event of the user's: it is neither owned, nor repeated, nor excluded.
    """

    histories: tuple[History, ...] = ()
    weight: float = 0.0
    """Share of the user's vector that is the mean of the views' vectors, in [0, 1]."""
    note: Augmentation = Augmentation()
    """What the answer says of it."""


@dataclass(frozen=True, slots=True)
class Query:
    """One request: who asks (or which history), at what moment, and what may not be answered."""

    k: int
    moment: int
    user_id: str | None = None
    features: UserFeatures | None = None
    """None for a user nobody knows: the answer is then a flagged fallback."""
    exclude_seen: bool = False
    exclude: frozenset[str] = frozenset()
    available_at: int | None = None
    """Unix seconds at which an item must be for sale; None means at the moment.

    Batch lists are made from data that ends before today, for use today.
    """
    degraded: tuple[str, ...] = ()
    """What already went wrong on the way here (a store down, stale features); the answer repeats it."""
    views: Views | None = None
    """What online augmentation made of the history; None where nobody asked it."""
    rules: Rules = NO_RULES
    """What this request asks of its list; what it does not say the run's rules decide."""
    explain: bool = False
    """Whether each place comes with an explanation."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One place of a ranked list."""

    item_id: str
    score: float
    rank: int
    """1 is best."""
    sources: tuple[str, ...]
    """Which retrieval sources proposed it, by name; never empty."""
    explanation: Explanation | None = None
    """Why it stands there, where the query asks."""


@dataclass(frozen=True, slots=True)
class RankedList:
    """An answer: exactly k places (or the whole allowed catalogue where that is smaller), best first.

    Scores are the ranker's; they fall from place to place unless rules have arranged the list.
    """

    items: tuple[Recommendation, ...]
    fallback: str | None = None
    """Why the list is not personal: `unknown_user`, `no_history`, `unknown_items`; None when it is.

    `nothing_allowed` is the one empty answer: every item of the catalogue is barred.
    """
    degraded: tuple[str, ...] = ()
    augmentation: Augmentation | None = None
    """What online augmentation did; None where nobody asked it."""
    notes: tuple[str, ...] = ()
    """What became of the rules, from `recsys.rules`: `filled`, `caps_relaxed`, `pin_not_allowed`."""


class Augmenter(Protocol):
    """What makes views of a query's history."""

    @property
    def policy_id(self) -> str | None:
        """The policy behind it; None where there is none."""
        ...

    @property
    def skipped(self) -> Mapping[str, str]:
        """Ops and gates of the policy that a request cannot run, with the reason."""
        ...

    def augment(self, query: Query, *, limited: bool = True) -> Query:
        """The same query with `views`; never raises.

        Args:
            query: Its features and its user are read.
            limited: Keep to the time budget; without it a batch gives what an idle service would.
        """
        ...


class FeatureSource(Protocol):
    """Where a user's features come from: the online store when serving, the run's snapshot in batch."""

    def fetch(self, user_ids: Sequence[str]) -> list[UserFeatures | None]:
        """Features per user, in order; None for a user the store has never seen."""
        ...


class UserEncoder(Protocol):
    """The user tower over item vectors."""

    def encode(self, histories: Sequence[EncodedHistory], moments: Sequence[int]) -> Floats:
        """User vectors of unit norm, (batch, dim); a history without rows gives the zero vector."""
        ...


@runtime_checkable
class PooledEncoder(Protocol):
    """A user tower whose vector is a weighted sum of what it reads of each event, so that it comes apart."""

    def parts(self, history: EncodedHistory, moment: int) -> Floats | None:
        """(events, dim), oldest first as in the history: they add up to the user's vector.

        None where they would not: the tower is then no weighted sum.
        """
        ...


@dataclass(frozen=True, slots=True)
class EncodedHistory:
    """A history in rows of the run's catalogue, oldest first; events on unknown items are left out."""

    rows: Rows
    event_codes: NDArray[np.int64]
    timestamps: NDArray[np.int64]


class Index(Protocol):
    """Nearest neighbours by inner product over the item vectors."""

    def search(
        self, queries: Floats, k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[Floats, Rows]:
        """Scores and item rows, each (batch, k), best first; places beyond the catalogue have row -1.

        With `allowed`, (num_items,), beyond what it leaves.
        """
        ...


class Scorer(Protocol):
    """The ranker: one number per candidate."""

    def score(self, features: Floats) -> Floats:
        """(num_candidates, num_features) to (num_candidates,); higher is better."""
        ...
