"""What an answer may be asked to keep to and can say of itself: plain values that every room shares."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

MOST_PINS = 100
"""Pinned items of one answer, and the last place that one can be pinned to."""
LARGEST_BOOST = 10.0
"""Standard deviations that an item may be moved by: beyond it a boost is a pin."""
CAPPED_PLACES = 10
"""Places within which the caps hold, where nobody says otherwise."""


@dataclass(frozen=True, slots=True)
class Boosts:
    """What is added to scores, in standard deviations of the scores of one answer's candidates.

    An item gets the sum of what its id, its category and its brand get. Below zero moves it down. The scale
    is the same for every scorer, since no scorer's own scale matters to it.
    """

    items: Mapping[str, float]
    categories: Mapping[str, float]
    brands: Mapping[str, float]

    def __post_init__(self) -> None:
        for value in (*self.items.values(), *self.categories.values(), *self.brands.values()):
            if not math.isfinite(value) or abs(value) > LARGEST_BOOST:
                raise ValueError(
                    f"a boost lies between -{LARGEST_BOOST:g} and {LARGEST_BOOST:g}, got {value}"
                )

    def __bool__(self) -> bool:
        return bool(self.items or self.categories or self.brands)


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules over an answer; None is "not said", which the rules of the run then decide.

    What may be answered at all (blocks, stock, filters) is settled before candidates are cut to the list.
    Then, over the ranked candidates: boosts, diversity, and while places are given out, pins and caps.
    """

    block: frozenset[str] = frozenset()
    """Items that are never answered; the run's blocks hold as well."""
    categories: frozenset[str] | None = None
    """Only items of these, whatever their case; empty allows every category."""
    brands: frozenset[str] | None = None
    """Only items of these, likewise."""
    min_price: float | None = None
    """Only items that cost at least this; an item without a price costs nothing that could be compared."""
    max_price: float | None = None
    """Only items that cost at most this."""
    in_stock_only: bool | None = None
    """Leave out what is not in stock or not yet for sale."""
    pins: Mapping[str, int] | None = None
    """Places (1 is best) of items that stand there whatever they score, as long as they may be answered."""
    boosts: Boosts | None = None
    diversity: float | None = None
    """Lambda of maximal marginal relevance, in [0, 1]: 1 ranks by score alone, lower spreads more."""
    max_per_category: int | None = None
    """Items of one category within the first `within` places; those without a category are not counted."""
    max_per_brand: int | None = None
    """Items of one brand, likewise."""
    within: int | None = None
    """Places within which the caps hold."""

    def __post_init__(self) -> None:
        places = list((self.pins or {}).values())
        if len(set(places)) != len(places):
            raise ValueError("two items are pinned to one place")
        if len(places) > MOST_PINS or any(not 1 <= place <= MOST_PINS for place in places):
            raise ValueError(f"pins have places from 1 to {MOST_PINS}")
        if self.diversity is not None and not 0 <= self.diversity <= 1:
            raise ValueError(f"diversity lies between 0 and 1, got {self.diversity}")
        if any(
            cap is not None and cap < 1 for cap in (self.max_per_category, self.max_per_brand, self.within)
        ):
            raise ValueError("caps and the places they hold within are at least 1")
        if self.min_price is not None and self.max_price is not None and self.min_price > self.max_price:
            raise ValueError(f"min_price {self.min_price:g} is over max_price {self.max_price:g}")

    def over(self, other: Rules) -> Rules:
        """These rules, and where they say nothing those of `other`; the blocks of both."""
        if self is NO_RULES:
            return other
        said = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}
        # Half a range of prices cannot be met with the other half of somebody else's.
        if self.min_price is not None or self.max_price is not None:
            said |= {"min_price": self.min_price, "max_price": self.max_price}
        return replace(other, **{**said, "block": self.block | other.block})

    @property
    def arrange(self) -> bool:
        """Whether anything is asked of the order; without it the ranked list stays as it is."""
        spread = self.diversity is not None and self.diversity < 1
        return bool(self.pins or self.boosts or spread or self.max_per_category or self.max_per_brand)

    @property
    def filters(self) -> bool:
        """Whether items are left out by what they are."""
        prices = self.min_price is not None or self.max_price is not None
        return bool(self.categories or self.brands or prices)


NO_RULES = Rules()
"""Nothing is asked."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one item of the user's, or several together, put into an item's scores."""

    item_id: str | None
    """None for several together."""
    match: float
    """Part of the match: the user's vector times the item's."""
    sources: Mapping[str, float]
    """Part of the score of each item-to-item source, by its name."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """One feature of the ranker: its value, and how much the score falls when it has its usual value."""

    feature: str
    value: float
    contribution: float
    """Score minus the score with this feature at its mean; these do not add up to anything."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an item stands where it does.

    `match` is the sum over `history`, `others` and `augmented`; `source_scores[s]` is the sum of
    `sources[s]` over `history` and `others`; `place_by_score - rank` is the sum of `moves`.
    """

    proposed: Mapping[str, int]
    """Place (1 is best) in each source that proposed the item, excluded ones not counted."""
    score: float
    """The ranker's."""
    match: float | None
    """None where the place was filled in, or the user has no vector."""
    source_scores: Mapping[str, float]
    """Score by each item-to-item source that scored the item."""
    history: tuple[Evidence, ...]
    """The user's items that contributed most, most first."""
    others: Evidence
    """What the user's other items put in together; of the match all, where the tower is no weighted sum."""
    augmented: float
    """Part of the match that comes from augmented views of the history; 0 where none took part."""
    features: tuple[Contribution, ...]
    """The strongest, by size of the contribution."""
    place_by_score: int
    """Place before rules."""
    moves: Mapping[str, int]
    """Places gained (lost, below zero) by `boosts`, by `diversity`, and by `places` (pins and caps)."""
