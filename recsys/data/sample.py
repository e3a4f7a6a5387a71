"""A made-up shop whose right answer is known: people have themes and styles, and buy what fits both.

A user has two favourite themes (camping, coffee, a dog, …), a style, a market (English or Chinese), a
preferred brand and a level of spending. A visit follows one theme; what is bought fits the theme, the
season, the style and the purse, and is sometimes what was bought before, or sent back. Text says the type,
the style, the brand and the theme, so that a new item can be placed by its text alone.

Everything is drawn with NumPy in chunks keyed by the seed: the same seed gives the same bytes, and ten
million events need no more memory than half a million.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.artifacts import replacing
from recsys.data.sample_items import DAY, DAYS, END, THEME_KINDS, Items, draw_items, item_ids, item_tables
from recsys.data.sample_words import BRANDS_PER_DEPARTMENT, KINDS, STYLES, THEMES
from recsys.randomness import generator

_USERS_PER_CHUNK = 25_000
_MEDIAN_EVENTS = 2.6
_CANDIDATES = 16
_NEW_VISIT = 0.45
_RETURNS = 0.035
_EVENT_TYPES = ("purchase", "view", "cart", "review", "share", "return")
_EVENT_SHARES = (0.55, 0.29, 0.09, 0.05, 0.02)


@dataclass(frozen=True, slots=True)
class Size:
    """How large a shop is."""

    users: int
    items: int
    events: int


SIZES: dict[str, Size] = {
    "tiny": Size(400, 300, 2_000),
    "small": Size(4_000, 1_200, 25_000),
    "medium": Size(120_000, 60_000, 1_000_000),
    "large": Size(1_000_000, 1_000_000, 10_000_000),
}


@dataclass(frozen=True, slots=True)
class _Users:
    market: NDArray[np.int8]
    themes: NDArray[np.int8]
    """(users, 2), favourite first."""
    style: NDArray[np.int8]
    brand: NDArray[np.int8]
    spending: NDArray[np.float32]
    counts: NDArray[np.int64]
    """Events of each user; at least 1."""


@dataclass(frozen=True, slots=True)
class _Shelves:
    """Items by market and type: `rows[starts[s] : starts[s + 1]]` is shelf s, most popular first."""

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]


def write_sample(folder: Path, size: str, seed: int) -> Size:
    """Write items.parquet, interactions.parquet and relations.parquet of a made-up shop.

    Args:
        folder: Made when absent; files of these names in it are replaced.
        size: A key of `SIZES`.
        seed: The same seed gives the same bytes.
    """
    shop = SIZES[size]
    items = draw_items(shop.items, seed)
    users = _draw_users(shop, seed)
    shelves = _shelves(items, seed)
    _write(folder / "items.parquet", item_tables(items, seed))
    _write(folder / "interactions.parquet", _event_tables(users, items, shelves, seed))
    _write(folder / "relations.parquet", iter([_relations(users, seed)]))
    return shop


def _write(path: Path, tables: Iterator[pa.Table]) -> None:
    first = next(tables)
    with (
        replacing(path) as temporary,
        pq.ParquetWriter(temporary, first.schema, compression="zstd") as writer,
    ):
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)


def _draw_users(shop: Size, seed: int) -> _Users:
    rng = generator(seed, "sample", "users")
    size = shop.users
    first = rng.integers(0, len(THEMES), size)
    second = (first + 1 + rng.integers(0, len(THEMES) - 1, size)) % len(THEMES)
    return _Users(
        market=(rng.random(size) < 0.3).astype(np.int8),
        themes=np.stack([first, second], axis=1).astype(np.int8),
        style=rng.integers(0, len(STYLES), size).astype(np.int8),
        brand=rng.integers(0, BRANDS_PER_DEPARTMENT, size).astype(np.int8),
        spending=rng.normal(0, 0.35, size).astype(np.float32),
        counts=_event_counts(size, shop.events, rng),
    )


def _event_counts(users: int, events: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Heavy-tailed counts that sum to `events`: most users have few, a few have very many."""
    sigma = np.sqrt(2 * np.log(events / users / _MEDIAN_EVENTS))
    weights = np.minimum(np.exp(rng.normal(np.log(_MEDIAN_EVENTS), sigma, users)), 400.0)
    low, high = 0.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if np.maximum(1, np.rint(weights * middle)).sum() <= events else (low, middle)
        )
    counts = np.maximum(1, np.rint(weights * low)).astype(np.int64)
    counts[rng.permutation(users)[: events - int(counts.sum())]] += 1
    return counts


def _shelves(items: Items, seed: int) -> _Shelves:
    popularity = generator(seed, "sample", "popularity").random(len(items))
    shelf = items.market.astype(np.int64) * len(KINDS) + items.kind
    old_leader = np.lexsort((popularity, items.available, shelf))
    first = np.unique(shelf[old_leader], return_index=True)[1]
    popularity[old_leader[first]] = -1.0  # what leads a shelf was always on sale
    rows = np.lexsort((popularity, shelf))
    sizes = np.bincount(shelf, minlength=2 * len(KINDS))
    return _Shelves(rows, np.concatenate([[0], np.cumsum(sizes)]))


def _event_tables(users: _Users, items: Items, shelves: _Shelves, seed: int) -> Iterator[pa.Table]:
    for start in range(0, len(users.counts), _USERS_PER_CHUNK):
        chunk = np.arange(start, min(start + _USERS_PER_CHUNK, len(users.counts)))
        yield _events(chunk, users, items, shelves, generator(seed, "sample", "events", start))


def _events(
    chunk: NDArray[np.int64], users: _Users, items: Items, shelves: _Shelves, rng: np.random.Generator
) -> pa.Table:
    counts = users.counts[chunk]
    who = np.repeat(chunk, counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    place = np.arange(len(who)) - first
    visit = np.cumsum((place == 0) | (rng.random(len(who)) < _NEW_VISIT)) - 1
    seconds = _times(first, place, visit, rng)
    rows = _choose(who, visit, seconds, users, items, shelves, rng)
    kinds = rng.choice(len(_EVENT_SHARES), len(who), p=_EVENT_SHARES)
    rows, kinds = _repeat_and_return(rows, kinds, first, place, items, rng)
    quantity = np.where(kinds == 0, 1 + rng.poisson(0.3, len(who)), 1).astype(np.float64)
    quantity[kinds == 3] = rng.integers(1, 6, int((kinds == 3).sum()))
    quantity[kinds == 5] = -1.0
    order = np.argsort(seconds, kind="stable")
    return pa.table(
        {
            "user_id": _user_ids(who[order]),
            "item_id": item_ids(rows[order]),
            "timestamp": pa.array(seconds[order]),
            "event_type": pa.array(_EVENT_TYPES).take(pa.array(kinds[order])),
            "value": pa.array(quantity[order]),
            "session_id": _session_ids(who[order], visit[order] - visit[first[order]]),
        }
    )


def _times(
    first: NDArray[np.int64], place: NDArray[np.int64], visit: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Minutes within a visit, days between visits; more users come as the shop grows."""
    size = len(place)
    new_visit = np.diff(visit, prepend=-1) > 0
    gaps = np.where(new_visit, rng.exponential(38 * DAY, size), 20 + rng.exponential(240, size))
    gaps[place == 0] = 0
    elapsed = np.cumsum(gaps)
    elapsed -= elapsed[first]
    joined = (rng.random(size) ** 0.8 * (DAYS - 2) * DAY)[first]
    left = (DAYS - 0.6) * DAY - joined
    lengths = np.zeros(size)
    np.maximum.at(lengths, first, elapsed)
    left *= (0.6 + 0.4 * rng.random(size))[first]
    shrink = np.minimum(1.0, left / np.maximum(lengths[first], 1.0))  # whoever came late shops faster
    # A second per event on top keeps a user's moments apart.
    whole: NDArray[np.int64] = np.floor(END - DAYS * DAY + joined + elapsed * shrink).astype(np.int64)
    return whole + place


def _choose(
    who: NDArray[np.int64],
    visit: NDArray[np.int64],
    seconds: NDArray[np.int64],
    users: _Users,
    items: Items,
    shelves: _Shelves,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """An item per event: theme of the visit, type by theme and season, item by popularity and taste."""
    shape = (len(who), _CANDIDATES)
    theme = _visit_themes(who, visit, users, rng)
    month = (seconds - (END - DAYS * DAY)) / (DAY * 30.44) + 6.0  # the shop opens at the end of June
    peaks = np.array([kind.peak for kind in KINDS])
    kinds = THEME_KINDS[theme]
    season = np.where(peaks[kinds] > 0, np.cos((month[:, None] + 0.5 - peaks[kinds]) * np.pi / 6), 0.0)
    kind = kinds[np.arange(len(who)), (0.8 * season + rng.gumbel(size=kinds.shape)).argmax(axis=1)]
    shelf = users.market[who].astype(np.int64) * len(KINDS) + kind
    low, width = shelves.starts[shelf], np.diff(shelves.starts)[shelf]
    drawn = (rng.random(shape) ** 1.6 * width[:, None]).astype(np.int64)
    rows = shelves.rows[low[:, None] + drawn]
    fit = 2.4 * (items.style[rows] == users.style[who][:, None])
    fit += 1.4 * (items.brand[rows] == users.brand[who][:, None])
    base = np.array([k.price for k in KINDS])[kind] * np.where(users.market[who] == 1, 7.0, 1.0)
    fit -= np.abs(np.log(items.price[rows] / base[:, None]) - users.spending[who][:, None])
    age = seconds[:, None] - items.available[rows]
    fit += 1.0 * ((age < 60 * DAY) & (items.available[rows] > END - DAYS * DAY))
    fit = np.where(age < 0, -np.inf, fit + 0.7 * rng.gumbel(size=shape))
    best = rows[np.arange(len(who)), fit.argmax(axis=1)]
    chosen: NDArray[np.int64] = np.where(np.isneginf(fit.max(axis=1)), shelves.rows[low], best)
    return chosen


def _visit_themes(
    who: NDArray[np.int64], visit: NDArray[np.int64], users: _Users, rng: np.random.Generator
) -> NDArray[np.int64]:
    draw = rng.random(len(who))[np.searchsorted(visit, visit)]  # one draw per visit
    anything = rng.integers(0, len(THEMES), len(who))[np.searchsorted(visit, visit)]
    favourite, other = users.themes[who, 0], users.themes[who, 1]
    theme = np.where(draw < 0.62, favourite, np.where(draw < 0.9, other, anything))
    return np.asarray(theme, dtype=np.int64)


def _repeat_and_return(
    rows: NDArray[np.int64],
    kinds: NDArray[np.int64],
    first: NDArray[np.int64],
    place: NDArray[np.int64],
    items: Items,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Some events point back at an earlier one of the user: the item again, or the item sent back."""
    size = len(rows)
    earlier = first + np.where(place > 0, (rng.random(size) * place).astype(np.int64), 0)
    consumable = np.array([kind.consumable for kind in KINDS])[items.kind[rows[earlier]]]
    draw = rng.random(size)
    again = (place > 0) & (draw < np.where(consumable, 0.4, 0.06))
    source = np.where(again, earlier, np.arange(size))
    deeper = source[source]
    while not np.array_equal(deeper, source):  # a repeat of a repeat leads back to the event that chose
        source, deeper = deeper, deeper[deeper]
    rows = rows[source]
    returned = (place > 0) & ~again & (draw > 1 - _RETURNS) & (kinds[earlier] == 0)
    rows = np.where(returned, rows[earlier], rows)
    return rows, np.where(returned, 5, kinds)


def _relations(users: _Users, seed: int) -> pa.Table:
    """Friends share a market and a favourite theme."""
    rng = generator(seed, "sample", "relations")
    group = users.market.astype(np.int64) * len(THEMES) + users.themes[:, 0]
    order = np.argsort(group, kind="stable")
    sizes = np.bincount(group, minlength=2 * len(THEMES))
    starts = np.cumsum(sizes) - sizes
    who = np.repeat(
        np.arange(len(group)), np.where(rng.random(len(group)) < 0.3, rng.integers(1, 4, len(group)), 0)
    )
    friend = order[starts[group[who]] + (rng.random(len(who)) * sizes[group[who]]).astype(np.int64)]
    links = np.unique(np.stack([who, friend], axis=1)[who != friend], axis=0)
    return pa.table({"user_id": _user_ids(links[:, 0]), "friend_id": _user_ids(links[:, 1])})


def _user_ids(rows: NDArray[np.int64]) -> pa.Array:
    return pc.binary_join_element_wise("u", pc.utf8_lpad(pa.array(rows).cast(pa.string()), 7, "0"), "")


def _session_ids(users: NDArray[np.int64], visits: NDArray[np.int64]) -> pa.Array:
    return pc.binary_join_element_wise(
        pa.array(users).cast(pa.string()), pa.array(visits).cast(pa.string()), "-"
    )
