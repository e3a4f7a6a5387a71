"""The wire types: every input is bounded, every output named."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from recsys.types import POSITIVE_DEFAULT

MAX_K = 100
MAX_ID = 256
MAX_HISTORY = 500
MAX_EXCLUDE = 1000
MAX_TIME = 4_102_444_800  # the year 2100: milliseconds do not pass for seconds

Id = Annotated[str, Field(min_length=1, max_length=MAX_ID)]
Seconds = Annotated[int, Field(ge=0, le=MAX_TIME)]
Places = Annotated[int, Field(ge=1, le=MAX_K)]


class Wire(BaseModel):
    """A closed wire type: an unknown field is an error, not a silent nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Event(Wire):
    """Something the user did."""

    item_id: Id
    event_type: Annotated[str, Field(min_length=1, max_length=64)] = POSITIVE_DEFAULT
    """`view`, `click`, `cart`, `purchase`, `review`, `share`, `interaction`; a `return` is left out."""
    timestamp: Seconds | None = None
    """Unix seconds; without one the event counts as just now, in the order given (oldest first)."""


class RecommendationRequest(Wire):
    """Who asks: a known user, a history in the request, both (the history is added), or nobody."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user_id": "u42", "k": 5},
                {"history": [{"item_id": "i7", "event_type": "purchase"}, {"item_id": "i9"}], "k": 10},
                {"user_id": "u42", "k": 20, "exclude_seen": True, "exclude": ["i3"], "at": 1700000000},
                {"history": [{"item_id": "i7"}], "augment": False},
                {},
            ]
        }
    )

    user_id: Id | None = None
    """A user of the feature store; an unknown one gets the popular list, marked as a fallback."""
    history: Annotated[tuple[Event, ...], Field(max_length=MAX_HISTORY)] = ()
    """What the user did, oldest first; events of unknown items are left out."""
    k: Places = 20
    """How many items."""
    exclude_seen: bool = False
    """Leave out what the user already had."""
    exclude: Annotated[tuple[Id, ...], Field(max_length=MAX_EXCLUDE)] = ()
    """Items that may not be answered."""
    at: Seconds | None = None
    """Answer as of this moment (Unix seconds); now when not given."""
    augment: bool = True
    """Whether a short history may be augmented; what was done stands in the answer's `augmentation`."""


class RecommendedItem(Wire):
    """One place of the list."""

    item_id: str
    rank: int
    """1 is best."""
    score: float
    title: str | None
    sources: tuple[str, ...]
    """Which retrieval sources proposed it."""


class AugmentationNote(Wire):
    """What online augmentation did for this answer."""

    policy_id: str | None
    """The policy: its name and a hash of what it does; null where the run has none to use."""
    ops: tuple[str, ...]
    """Ops that made the views."""
    views: int
    """Views of the history that moved the user's vector; 0 is the answer without augmentation."""
    ms: float
    """Milliseconds that making them took."""
    reason: str | None
    """Why nothing was done, null where views took part: `switched_off`, `no_policy`, `no_side_data`,
    `not_better`, `no_history`, `rich_user`, `left_alone`, `budget_spent`, `failed`."""


class RecommendationResponse(Wire):
    """The list, and how it came about."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "run_id": "20261123-201502-1f3a9c",
                    "items": [
                        {
                            "item_id": "i9",
                            "rank": 1,
                            "score": 2.31,
                            "title": "Oak desk lamp",
                            "sources": ["two_tower", "covisit_recent"],
                        }
                    ],
                    "fallback": None,
                    "degraded": [],
                    "augmentation": {
                        "policy_id": "online-c0ffee123456",
                        "ops": ["insert"],
                        "views": 4,
                        "ms": 0.12,
                        "reason": None,
                    },
                    "timings_ms": {"features": 0.4, "augment": 0.2, "recommend": 3.1, "total": 3.9},
                }
            ]
        }
    )

    run_id: str
    items: tuple[RecommendedItem, ...]
    fallback: str | None
    """Why the list is not personal: `unknown_user`, `no_history`, `unknown_items`, `features_unavailable`."""
    degraded: tuple[str, ...]
    """What went wrong on the way: `features_unavailable`, `stale_features`, `stale_run`,
    `augmentation_failed`."""
    augmentation: AugmentationNote
    timings_ms: dict[str, float]


class SimilarResponse(Wire):
    """The nearest items to an item, itself left out."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "run_id": "20261123-201502-1f3a9c",
                    "item_id": "i7",
                    "items": [
                        {
                            "item_id": "i9",
                            "rank": 1,
                            "score": 0.87,
                            "title": "Oak desk lamp",
                            "sources": ["similar"],
                        }
                    ],
                }
            ]
        }
    )

    run_id: str
    item_id: str
    items: tuple[RecommendedItem, ...]


class Readiness(Wire):
    """Whether requests can be answered, and from what."""

    ready: bool
    run_id: str | None = None
    num_items: int | None = None
    problem: str | None = None
    """Why the service is not ready, or why the newest run was not taken."""


class Problem(BaseModel):
    """An error, after RFC 9457 (`application/problem+json`)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Not Found",
                    "status": 404,
                    "code": "unknown_item",
                    "detail": "the catalogue has no item 'i0'",
                }
            ]
        }
    )

    type: str = "about:blank"
    title: str
    status: int
    code: str
    """Stable, for programs: `unknown_item`, `invalid_request`, `overloaded`, `not_ready`, …"""
    detail: str
    errors: list[dict[str, Any]] | None = None
    """For an invalid request: where and why, one entry each, ten at most."""
