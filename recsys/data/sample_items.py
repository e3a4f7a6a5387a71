"""The made-up shop's catalogue: attributes drawn first, texts composed from them, in English or Chinese."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.data.sample_words import (
    BRANDS,
    BRANDS_PER_DEPARTMENT,
    COLOURS,
    DEPARTMENTS,
    KINDS,
    STYLES,
    THEMES,
    Pair,
)
from recsys.randomness import generator

DAY = 86_400
END = 1_751_241_600
"""The shop's last day begins here (2025-06-30, UTC): fixed, so that a seed always gives the same shop."""
DAYS = 730
_CHUNK = 100_000
_LATE_SHARE = 0.2
_SHELVES = 2 * len(KINDS)
_KIND_ROW = {kind.name[0]: row for row, kind in enumerate(KINDS)}
THEME_KINDS = np.array([[_KIND_ROW[name] for name in names] for _, names in THEMES])
"""(themes, 6): the types of product that a theme brings together."""
_HOME_THEME = np.array([next(t for t, row in enumerate(THEME_KINDS) if k in row) for k in range(len(KINDS))])


@dataclass(frozen=True, slots=True)
class Items:
    """Attributes of n items; arrays of one length."""

    market: NDArray[np.int8]
    """0 English, 1 Chinese."""
    kind: NDArray[np.int16]
    brand: NDArray[np.int8]
    """Within the department."""
    style: NDArray[np.int8]
    price: NDArray[np.float32]
    available: NDArray[np.int64]
    """Unix seconds of the first day on sale."""

    def __len__(self) -> int:
        return len(self.kind)


def draw_items(count: int, seed: int) -> Items:
    """Attributes of a catalogue; every type of product exists in both markets."""
    rng = generator(seed, "sample", "items")
    place = np.arange(count)
    # The first pass fills every shelf; the rest follows the markets' sizes, three items of ten in Chinese.
    market = np.where(place < _SHELVES, place % _SHELVES // len(KINDS), rng.random(count) < 0.3)
    order = rng.permutation(count)
    kind, market = (place % len(KINDS)).astype(np.int16)[order], market.astype(np.int8)[order]
    brand = (rng.random(count) ** 1.4 * BRANDS_PER_DEPARTMENT).astype(np.int8)
    base = np.array([k.price for k in KINDS], np.float32)[kind]
    price = base * (0.75 + 0.15 * brand) * np.exp(rng.normal(0, 0.18, count)).astype(np.float32)
    # The first of every shelf is sold from the first day on: there is always something to sell.
    late = ((rng.random(count) < _LATE_SHARE) & (place >= _SHELVES))[order]
    recent = rng.random(count) < 0.35
    entry = np.where(recent, rng.integers(DAYS - 60, DAYS - 5, count), rng.integers(60, DAYS - 60, count))
    day = np.where(late, entry, 0)
    return Items(
        market=market,
        kind=kind,
        brand=brand,
        style=rng.integers(0, len(STYLES), count).astype(np.int8),
        price=np.where(market == 1, np.round(price * 7), np.round(price) - 0.01).astype(np.float32),
        available=END - (DAYS - day) * DAY,
    )


def item_ids(rows: NDArray[np.int64]) -> pa.Array:
    """Ids of items by their row."""
    return pc.binary_join_element_wise("p", pc.utf8_lpad(pa.array(rows).cast(pa.string()), 7, "0"), "")


def item_tables(items: Items, seed: int) -> Iterator[pa.Table]:
    """The catalogue in the contract's form, in chunks."""
    for start in range(0, len(items), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(items)))
        yield _table(items, rows, generator(seed, "sample", "text", start))


def _table(items: Items, rows: NDArray[np.int64], rng: np.random.Generator) -> pa.Table:
    size = len(rows)
    market, kind = items.market[rows].astype(np.int64), items.kind[rows].astype(np.int64)
    department = np.array([k.department for k in KINDS])[kind]
    words = _Words(market)
    brand = words.of_brand(department, items.brand[rows].astype(np.int64))
    style = words.of(STYLES, items.style[rows].astype(np.int64))
    noun = words.of([k.name for k in KINDS], kind)
    material = words.of([m for k in KINDS for m in k.materials], kind * 3 + rng.integers(0, 3, size))
    colour = words.of(COLOURS, rng.integers(0, len(COLOURS), size))
    measure = words.of([s for k in KINDS for s in k.sizes], kind * 3 + rng.integers(0, 3, size))
    theme = words.of([name for name, _ in THEMES], _HOME_THEME[kind])
    partner_kind = THEME_KINDS[_HOME_THEME[kind], rng.integers(0, THEME_KINDS.shape[1], size)]
    partner = words.of([k.name for k in KINDS], partner_kind)
    short = rng.random(size) < 0.35
    english = _join(brand, " ", style, " ", material, " ", noun, ", ", colour, ", ", measure)
    chinese = _join(brand, style, material, noun, " ", colour, " ", measure)
    title = words.either(
        _pick(short, _join(brand, " ", style, " ", noun), english),
        _pick(short, _join(brand, style, noun), chinese),
    )
    choice = rng.choice(5, size, p=[0.34, 0.24, 0.22, 0.08, 0.12])
    long = words.either(
        _join(pc.utf8_capitalize(style), " ", noun, " in ", material, ", made for ", theme, "."),
        _join(style, material, noun, "，适合", theme, "。"),
    )
    paired = words.either(
        _join(pc.utf8_capitalize(noun), " by ", brand, " for ", theme, ". Goes well with our ", partner, "."),
        _join(brand, noun, "，", theme, "好帮手，可与", partner, "搭配使用。"),
    )
    plain = words.either(
        _join(
            pc.utf8_capitalize(material), " ", noun, " with a ", style, " look, ", colour, ", ", measure, "."
        ),
        _join(material, noun, "，", style, "风格，", colour, "，", measure, "。"),
    )
    nothing = pa.nulls(size, pa.string())
    description = pc.choose(pa.array(choice), long, paired, plain, noun, nothing)
    return pa.table(
        {
            "item_id": item_ids(rows),
            "title": title,
            "description": description,
            "category": _join(words.of(DEPARTMENTS, department), " > ", noun),
            "brand": brand,
            "price": pa.array(items.price[rows].astype(np.float64).round(2)),
            "tags": _join(style, ", ", theme),
            "in_stock": pa.array(rng.random(size) < 0.96),
            "available_from": pa.array(items.available[rows]),
            "language": pa.array(np.array(["en", "zh"])[market]),
        }
    )


class _Words:
    """Looks words up in the language of each item's market."""

    def __init__(self, market: NDArray[np.int64]) -> None:
        self._market = market

    def of(self, pairs: Sequence[Pair], rows: NDArray[np.int64]) -> pa.Array:
        flat = pa.array([word for pair in pairs for word in pair])
        return flat.take(pa.array(rows * 2 + self._market))

    def of_brand(self, department: NDArray[np.int64], brand: NDArray[np.int64]) -> pa.Array:
        pairs = list(zip(*BRANDS, strict=True))
        return self.of(pairs, department * BRANDS_PER_DEPARTMENT + brand)

    def either(self, english: pa.Array, chinese: pa.Array) -> pa.Array:
        return _pick(self._market == 0, english, chinese)


def _pick(condition: NDArray[np.bool_], yes: pa.Array, no: pa.Array) -> pa.Array:
    return pc.if_else(pa.array(condition), yes, no)


def _join(*parts: pa.Array | str) -> pa.Array:
    return pc.binary_join_element_wise(*parts, "")
