"""The wire types: every input is bounded, every output named."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from recsys.terms import LARGEST_BOOST, MOST_PINS, Boosts, Explanation, Rules
from recsys.types import POSITIVE_DEFAULT

MAX_K = 100
MAX_ID = 256
MAX_HISTORY = 500
MAX_EXCLUDE = 1000
MAX_NAMES = 200
MAX_QUERY_LENGTH = 1000
MAX_TIME = 4_102_444_800  # the year 2100: milliseconds do not pass for seconds

Id = Annotated[str, Field(min_length=1, max_length=MAX_ID)]
Seconds = Annotated[int, Field(ge=0, le=MAX_TIME)]
Places = Annotated[int, Field(ge=1, le=MAX_K)]
Names = Annotated[tuple[Id, ...], Field(max_length=MAX_NAMES)]
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]
By = Annotated[float, Field(ge=-LARGEST_BOOST, le=LARGEST_BOOST)]
ByName = Annotated[dict[Id, By], Field(max_length=MAX_NAMES)]
Pins = Annotated[dict[Id, Annotated[int, Field(ge=1, le=MOST_PINS)]], Field(max_length=MOST_PINS)]


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


class Filters(Wire):
    """Which items may be answered; what is left out here is as the service and the run have it."""

    categories: Names | None = None
    """Only items of these categories, whatever their case; an empty list allows all."""
    brands: Names | None = None
    """Only items of these brands, likewise."""
    min_price: Price | None = None
    """Only items that cost at least this; an item without a price is left out."""
    max_price: Price | None = None
    """Only items that cost at most this, likewise."""
    in_stock_only: bool | None = None
    """Leave out what is not in stock or not yet for sale."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        self.to_rules()  # refuses what contradicts itself
        return self

    def to_rules(self) -> Rules:
        """For the recommender."""
        return Rules(
            categories=None if self.categories is None else frozenset(self.categories),
            brands=None if self.brands is None else frozenset(self.brands),
            min_price=self.min_price,
            max_price=self.max_price,
            in_stock_only=self.in_stock_only,
        )


class ListRules(Filters):
    """What this request asks of its list; what it leaves out is as the service and the run have it."""

    pins: Pins | None = None
    """Place (1 is best) by item: it stands there whatever it scores, as long as it may be answered."""
    boost_items: ByName | None = None
    """Added to an item's score, in standard deviations of the scores of the list's candidates."""
    boost_categories: ByName | None = None
    """The same for every item of a category."""
    boost_brands: ByName | None = None
    """The same for every item of a brand."""
    diversity: Annotated[float, Field(ge=0, le=1)] | None = None
    """Lambda of maximal marginal relevance: 1 ranks by score alone, lower spreads the list more."""
    max_per_category: Places | None = None
    """Items of one category within the first `within` places."""
    max_per_brand: Places | None = None
    """Items of one brand, likewise."""
    within: Places | None = None
    """Places within which the caps hold; 10 when nobody says otherwise."""

    def to_rules(self) -> Rules:
        """For the recommender."""
        boosts = (self.boost_items, self.boost_categories, self.boost_brands)
        return replace(
            super().to_rules(),
            pins=self.pins,
            boosts=None if boosts == (None, None, None) else Boosts(*(given or {} for given in boosts)),
            diversity=self.diversity,
            max_per_category=self.max_per_category,
            max_per_brand=self.max_per_brand,
            within=self.within,
        )


class Asking(Wire):
    """Who asks: a known user, a history in the request, both (the history is added), or nobody."""

    user_id: Id | None = None
    """A user of the feature store; an unknown one gets what everybody gets."""
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


class RecommendationRequest(Asking):
    """Ranks the catalogue for whoever asks."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user_id": "u42", "k": 5},
                {"history": [{"item_id": "i7", "event_type": "purchase"}, {"item_id": "i9"}], "k": 10},
                {"user_id": "u42", "k": 20, "exclude_seen": True, "exclude": ["i3"], "at": 1700000000},
                {"history": [{"item_id": "i7"}], "augment": False},
                {"user_id": "u42", "rules": {"categories": ["lamps"], "max_price": 50, "diversity": 0.7}},
                {"user_id": "u42", "rules": {"pins": {"i9": 1}, "boost_brands": {"Oak & Co": 0.5}}},
                {"user_id": "u42", "k": 3, "explain": True},
                {"user_id": "u42", "rules": {"max_per_category": 3, "max_per_brand": 2, "within": 10}},
                {},
            ]
        }
    )

    augment: bool = True
    """Whether a short history may be augmented; what was done stands in the answer's `augmentation`."""
    rules: ListRules | None = None
    """Filters, pins, boosts, diversity and caps of this list."""
    explain: bool = False
    """Whether each item comes with an explanation; it costs a few milliseconds."""


class SearchRequest(Asking):
    """Finds items by text; where the user is known the order is personal."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"query": "oak desk lmap", "k": 5},
                {"query": "lamp", "user_id": "u42", "filters": {"categories": ["lamps"], "max_price": 50}},
                {"query": "gift", "history": [{"item_id": "i7"}], "exclude_seen": True, "exclude": ["i3"]},
            ]
        }
    )

    query: Annotated[str, Field(min_length=1, max_length=MAX_QUERY_LENGTH, pattern=r"\S")]
    """What to find, misspelled or not; the first 200 characters are read."""
    filters: Filters | None = None
    """Which items may be found."""


class RecommendedItem(Wire):
    """One place of the list."""

    item_id: str
    rank: int
    """1 is best."""
    score: float
    title: str | None
    sources: tuple[str, ...]
    """Which retrieval sources proposed it."""
    explanation: Explanation | None = None
    """Why it stands there, where the request asks: see the documentation for the fields."""


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
                    "notes": [],
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
    """Why the list is not personal: `unknown_user`, `no_history`, `unknown_items`, `features_unavailable`; or
    why it is empty: `nothing_allowed`."""
    degraded: tuple[str, ...]
    """What went wrong on the way: `features_unavailable`, `stale_features`, `stale_run`,
    `augmentation_failed`."""
    notes: tuple[str, ...]
    """What became of the rules: `filled`, `caps_relaxed`, `pin_not_allowed`; mostly empty."""
    augmentation: AugmentationNote
    timings_ms: dict[str, float]


class SearchResponse(Wire):
    """What was found, best first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "run_id": "20261123-201502-1f3a9c",
                    "items": [
                        {
                            "item_id": "i9",
                            "rank": 1,
                            "score": 0.94,
                            "title": "Oak desk lamp",
                            "sources": ["text_vectors", "letters"],
                        }
                    ],
                    "personal": False,
                    "fallback": None,
                    "degraded": [],
                    "timings_ms": {"features": 0.0, "search": 4.2, "total": 4.3},
                }
            ]
        }
    )

    run_id: str
    items: tuple[RecommendedItem, ...]
    personal: bool
    """Whether the user's own ranking took part in the order."""
    fallback: str | None
    """Why nothing was found: `nothing_allowed`; null otherwise."""
    degraded: tuple[str, ...]
    """What went wrong on the way: `features_unavailable`, `stale_features`, `stale_run`."""
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
