"""The table `[rules]`: what a shop asks of every list, in a run's configuration or in a file of its own."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from recsys.errors import ConfigError
from recsys.section import Section
from recsys.terms import CAPPED_PLACES, LARGEST_BOOST, MOST_PINS, Boosts, Rules

Boost = Annotated[float, Field(ge=-LARGEST_BOOST, le=LARGEST_BOOST)]
Place = Annotated[int, Field(ge=1, le=MOST_PINS)]
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class RulesConfig(Section):
    """Rules after ranking: what may be answered at all, and how the ranked candidates become a list."""

    block: tuple[str, ...] = ()
    """Items that are never answered."""
    categories: tuple[str, ...] = ()
    """Only items of these categories, whatever their case; empty allows all."""
    brands: tuple[str, ...] = ()
    """Only items of these brands, whatever their case; empty allows all."""
    min_price: Price | None = None
    """Only items that cost at least this; an item without a price is left out."""
    max_price: Price | None = None
    """Only items that cost at most this; an item without a price is left out."""
    in_stock_only: bool = True
    """Leave out what is not in stock or not yet for sale."""
    pins: dict[str, Place] = Field({})
    """Place (1 is best) by item: it stands there whatever it scores, as long as it may be answered."""
    boost_items: dict[str, Boost] = Field({})
    """Added to an item's score, in standard deviations of the scores of a list's candidates."""
    boost_categories: dict[str, Boost] = Field({})
    """The same for every item of a category."""
    boost_brands: dict[str, Boost] = Field({})
    """The same for every item of a brand."""
    diversity: float = Field(1.0, ge=0, le=1)
    """Lambda of maximal marginal relevance: 1 ranks by score alone, lower spreads the list more."""
    max_per_category: int | None = Field(None, ge=1)
    """Items of one category within the first `within` places."""
    max_per_brand: int | None = Field(None, ge=1)
    """Items of one brand within the first `within` places."""
    within: int = Field(CAPPED_PLACES, ge=1, le=1000)
    """Places within which the caps hold."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        self.to_rules()  # refuses what contradicts itself
        return self

    def to_rules(self, said: frozenset[str] | None = None) -> Rules:
        """The rules of this table.

        Args:
            said: Only these settings; the others stay unsaid, so that other rules decide them.
        """
        boosts = Boosts(self.boost_items, self.boost_categories, self.boost_brands)
        values: dict[str, Any] = {
            "categories": frozenset(self.categories),
            "brands": frozenset(self.brands),
            "min_price": self.min_price,
            "max_price": self.max_price,
            "in_stock_only": self.in_stock_only,
            "pins": self.pins,
            "diversity": self.diversity,
            "max_per_category": self.max_per_category,
            "max_per_brand": self.max_per_brand,
            "within": self.within,
        }
        if said is not None:
            values = {name: value for name, value in values.items() if name in said}
        if said is None or any(name.startswith("boost_") for name in said):
            values["boosts"] = boosts
        return Rules(block=frozenset(self.block), **values)


def load_rules(path: Path | None, settings: Sequence[str] = ()) -> Rules:
    """Rules from a TOML file with the settings of `[rules]`, then `key=value` settings; the rest is not said.

    Raises:
        ConfigError: unreadable, an unknown setting, or a value out of its bounds.
    """
    tree: dict[str, Any] = {}
    if path is not None:
        try:
            tree = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: not valid TOML: {error}") from error
        inner = tree.get("rules")
        tree = dict(inner) if isinstance(inner, dict) and len(tree) == 1 else tree
    for setting in settings:
        name, separator, text = setting.partition("=")
        if not separator or not name.strip():
            raise ConfigError(f"--rule {setting}: expected key=value")
        try:
            tree[name.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            tree[name.strip()] = text.strip()  # an unquoted word is a string
    try:
        table = RulesConfig.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "rules"
        source = str(path) if path is not None else "--rule"
        if first["type"] == "extra_forbidden":
            known = ", ".join(sorted(RulesConfig.model_fields))
            raise ConfigError(f"{source}: there is no rule '{name}'. Known: {known}") from error
        raise ConfigError(f"{source}: {name}: {first['msg']} (got {first['input']!r})") from error
    return table.to_rules(frozenset(tree))
