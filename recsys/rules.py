"""Rules over ranked candidates, as pure functions: what is barred, boosts, diversity, pins and caps.

Each step has a guarantee of its own, and the order of the steps is fixed, so that none breaks another's:
what is barred never comes back; a pinned item that may be answered stands at its place; caps hold for the
places that pins leave; diversity and boosts only reorder. Where caps cannot be met with what the catalogue
has, the list is filled all the same and says so: a list is never shorter for a wish about its order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.terms import CAPPED_PLACES, Boosts, Rules
from recsys.types import Floats, Rows

CAPS_RELAXED, PIN_NOT_ALLOWED, FILLED = "caps_relaxed", "pin_not_allowed", "filled"
"""What an answer says of its rules: caps that the catalogue cannot meet, a pin that is barred or unknown, and
places that the popular list had to fill."""
DIVERSE = 100
"""How many of the best candidates diversity reorders, or twice the list where that is more."""

Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Labels:
    """What rules look at of every item; names are compared without their case."""

    categories: Codes
    """(n,) -1 for none."""
    brands: Codes
    """(n,) -1 for none."""
    prices: NDArray[np.float64]
    """(n,) NaN where unknown."""
    category_codes: Mapping[str, int]
    brand_codes: Mapping[str, int]

    @classmethod
    def of(cls, details: Sequence[Mapping[str, Any]]) -> Labels:
        """From what a person is shown of each item."""
        categories, category_codes = _coded([detail.get("category") for detail in details])
        brands, brand_codes = _coded([detail.get("brand") for detail in details])
        prices = [detail.get("price") for detail in details]
        return cls(
            categories,
            brands,
            np.array([np.nan if price is None else price for price in prices], np.float64),
            category_codes,
            brand_codes,
        )


@dataclass(frozen=True, slots=True)
class Named:
    """The items that rules name, as rows of the catalogue; only what may be answered."""

    pins: Mapping[int, int]
    """Row by place (0 is best)."""
    boosts: Mapping[int, float]
    """Boost by row."""


@dataclass(frozen=True, slots=True)
class Pool:
    """What a list is made of: distinct items that may be answered, best first."""

    rows: Rows
    scores: Floats
    ranked: int
    """The first so many are candidates, which boosts and diversity reorder; the rest only fills."""


@dataclass(frozen=True, slots=True)
class Arranged:
    """A list: positions in the pool, and how it came about."""

    places: NDArray[np.int64]
    notes: tuple[str, ...]
    boosted: NDArray[np.int64]
    """(pool,) Each pool position's place (0 is best) after boosts."""
    spread: NDArray[np.int64]
    """(pool,) Each one's place after diversity."""


def barred(rules: Rules, labels: Labels) -> NDArray[np.bool_] | None:
    """(n,) True for items that the filters leave out; None where there are no filters."""
    if not rules.filters:
        return None
    out = np.zeros(len(labels.prices), np.bool_)
    for wanted, codes, names in (
        (rules.categories, labels.categories, labels.category_codes),
        (rules.brands, labels.brands, labels.brand_codes),
    ):
        if wanted:
            known = [names[key] for name in wanted if (key := _key(name)) in names]
            out |= ~np.isin(codes, np.array(known, np.int64))
    with np.errstate(invalid="ignore"):  # a comparison with NaN is False: no price, not within the range
        if rules.min_price is not None:
            out |= ~(labels.prices >= rules.min_price)
        if rules.max_price is not None:
            out |= ~(labels.prices <= rules.max_price)
    return out


def arrange(pool: Pool, k: int, rules: Rules, labels: Labels, named: Named, vectors: Floats) -> Arranged:
    """The list of k places (fewer where the pool is smaller).

    Args:
        pool: What there is; pinned items are in it.
        k: Places.
        rules: `boosts`, `diversity` and caps are read.
        labels: Of the whole catalogue.
        named: The items that pins and boosts name.
        vectors: (n, dim) of the whole catalogue; diversity compares their directions.
    """
    size = len(pool.rows)
    order = boosted(pool, rules.boosts, labels, named.boosts)
    after_boosts = _places_of(order)
    if rules.diversity is not None and rules.diversity < 1:
        order = diversified(order, pool, rules.diversity, k, vectors)
    after_spread = _places_of(order)
    positions = {row: position for position, row in enumerate(pool.rows.tolist())} if named.pins else {}
    pins = {place: positions[row] for place, row in named.pins.items()}
    caps = _caps(pool, rules, labels)
    within = CAPPED_PLACES if rules.within is None else rules.within
    places, relaxed = placed(order, min(k, size), pins, caps, within)
    return Arranged(places, (CAPS_RELAXED,) if relaxed else (), after_boosts, after_spread)


def boosted(
    pool: Pool, boosts: Boosts | None, labels: Labels, items: Mapping[int, float]
) -> NDArray[np.int64]:
    """Pool positions by score plus boost; equal ones keep their order, and what only fills stays behind."""
    order = np.arange(len(pool.rows))
    if not boosts:
        return order
    rows, scores = pool.rows[: pool.ranked], pool.scores[: pool.ranked].astype(np.float64)
    spread = float(scores.std()) if len(scores) else 0.0
    added = np.zeros(len(rows))
    for given, codes, names in (
        (boosts.categories, labels.categories, labels.category_codes),
        (boosts.brands, labels.brands, labels.brand_codes),
    ):
        for name, by in given.items():
            if (key := _key(name)) in names:
                added += by * (codes[rows] == names[key])
    for row, by in items.items():
        added += by * (rows == row)
    order[: pool.ranked] = np.argsort(-(scores + added * (spread or 1.0)), kind="stable")
    return order


def diversified(
    order: NDArray[np.int64], pool: Pool, trade: float, k: int, vectors: Floats
) -> NDArray[np.int64]:
    """Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998) over the best candidates.

    The next item is the one with the largest λ · relevance − (1 − λ) · (largest cosine to those taken),
    relevance being 1 for the first of the candidates that take part and 0 for the last, in even steps of the
    boosted order: so scales of scores do not matter, and boosts count. λ is `trade`.
    """
    depth = min(pool.ranked, max(DIVERSE, 2 * k))
    head = order[:depth]
    if depth < 3:
        return order
    worth = trade * np.linspace(1.0, 0.0, depth)
    chosen = np.asarray(vectors[pool.rows[head]], np.float64)
    chosen /= np.maximum(np.linalg.norm(chosen, axis=1, keepdims=True), 1e-12)
    cosines = (1 - trade) * (chosen @ chosen.T).round(5)  # a last bit must not decide between equal items
    nearest = np.zeros(depth)
    taken: list[int] = []
    for _ in range(min(depth, 2 * k)):  # nobody looks further; the rest keeps its order
        best = int((worth - nearest).argmax())
        nearest = np.maximum(nearest, cosines[best]) if taken else cosines[best]
        worth[best] = -np.inf
        taken.append(best)
    left = np.flatnonzero(worth > -np.inf)
    return np.concatenate([head[taken], head[left], order[depth:]])


def placed(
    order: NDArray[np.int64],
    k: int,
    pins: Mapping[int, int],
    caps: Sequence[tuple[Codes, int]],
    within: int,
) -> tuple[NDArray[np.int64], bool]:
    """Give out k places: pins at theirs, the others in order as far as the caps leave room.

    An item without room waits for the first place behind `within`. Pinned items count towards the caps
    first, since they cannot move.

    Args:
        order: Pool positions, best first, each once.
        k: Places, at most as many as there are positions.
        pins: Position by place (0 is best); a place behind k is not given out.
        caps: Codes by pool position (-1 is not counted) and how many of one code may stand within.
        within: Places within which the caps hold.

    Returns:
        Positions by place, and whether a cap had to give way because nothing else was left.
    """
    pins = {place: position for place, position in pins.items() if place < k}
    counts: list[dict[int, int]] = [{} for _ in caps]
    for place, pinned in pins.items():
        if place < within:
            _count(pinned, caps, counts)
    fixed = set(pins.values())
    coming = (one for one in order.tolist() if one not in fixed)
    waiting: list[int] = []
    out: list[int] = []
    relaxed = False
    position: int | None
    for place in range(k):
        if place in pins:
            out.append(pins[place])
            continue
        if place >= within:
            position = waiting.pop(0) if waiting else next(coming, None)
        else:
            position = _with_room(coming, waiting, caps, counts)
            if position is None and waiting:
                position, relaxed = waiting.pop(0), True
            if position is not None:
                _count(position, caps, counts)
        if position is None:  # pinned behind the end of what there is: the rest moves up
            out.extend(pins[later] for later in sorted(pins) if later > place)
            break
        out.append(position)
    return np.array(out, np.int64), relaxed


def _with_room(
    coming: Iterator[int],
    waiting: list[int],
    caps: Sequence[tuple[Codes, int]],
    counts: Sequence[dict[int, int]],
) -> int | None:
    """The next position that the caps leave room for; those without go to `waiting`."""
    for position in coming:
        if all(
            counted.get(int(codes[position]), 0) < cap
            for (codes, cap), counted in zip(caps, counts, strict=True)
        ):
            return position
        waiting.append(position)
    return None


def _count(position: int, caps: Sequence[tuple[Codes, int]], counts: Sequence[dict[int, int]]) -> None:
    for (codes, _), counted in zip(caps, counts, strict=True):
        code = int(codes[position])
        if code >= 0:
            counted[code] = counted.get(code, 0) + 1


def _caps(pool: Pool, rules: Rules, labels: Labels) -> list[tuple[Codes, int]]:
    caps = []
    if rules.max_per_category is not None:
        caps.append((labels.categories[pool.rows], rules.max_per_category))
    if rules.max_per_brand is not None:
        caps.append((labels.brands[pool.rows], rules.max_per_brand))
    return caps


def _places_of(order: NDArray[np.int64]) -> NDArray[np.int64]:
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    return places


def _coded(names: Sequence[object]) -> tuple[Codes, dict[str, int]]:
    codes: dict[str, int] = {}
    out = np.full(len(names), -1, np.int64)
    for row, name in enumerate(names):
        if isinstance(name, str) and (key := _key(name)):
            out[row] = codes.setdefault(key, len(codes))
    return out, codes


def _key(name: str) -> str:
    return name.strip().casefold()
