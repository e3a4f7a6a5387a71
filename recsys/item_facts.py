"""What is known of every item at a fit's cut: one record each, for the sources and the ranker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.item_weights import DAY, Events

FACTS = np.dtype(
    [
        ("count", "f4"), ("count_90d", "f4"), ("count_30d", "f4"), ("count_7d", "f4"), ("heat", "f4"),
        ("first_seen", "f8"), ("last_seen", "f8"), ("available_from", "f8"), ("came_out", "f8"),
        ("repeat_rate", "f4"), ("repeat_days", "f4"), ("log_price", "f4"), ("category", "i4"),
        ("brand", "i4"), ("in_stock", "?"),
    ]
)  # fmt: skip
"""One record per item: positive events before the cut (all, 90, 30 and 7 days; `heat` halves an event
every ten days), Unix seconds of the first, the last, the availability and the day it came out (NaN: never,
unknown), the share of its users who came back for it (shrunk towards the shop's), the median days until they
did (the shop's where few have), the logarithm of the price (NaN: unknown), codes of category and brand (-1:
none)."""
HEAT_DAYS = 10.0
"""Days in which an event loses half of its weight in `heat`."""
_SHRINK = 20.0
"""Users that an item's rate of coming back must outweigh."""


@dataclass(frozen=True, slots=True)
class ItemColumns:
    """The catalogue's side of the facts: one entry per item."""

    prices: NDArray[np.float64]
    """NaN or not positive where unknown."""
    categories: Sequence[str]
    """Empty where unknown."""
    brands: Sequence[str]
    in_stock: NDArray[np.bool_]
    available_from: NDArray[np.float64]
    """Unix seconds, NaN where unknown."""
    came_out: NDArray[np.float64]
    """Unix seconds, NaN where unknown: `available_from` where that is known, else another of its dates."""


def item_facts(events: Events, moment: int, items: ItemColumns) -> NDArray[np.void]:
    """Facts of every item from positive events before `moment`, (num_items,) of `FACTS`.

    Raises:
        ValueError: an event is not before the moment.
    """
    times, rows = events.timestamps, events.rows
    if len(times) and int(times.max()) >= moment:
        raise ValueError("item facts may only know events before their moment")
    num_items = len(items.prices)
    facts = np.zeros(num_items, FACTS)
    facts["count"] = np.bincount(rows, minlength=num_items)
    for days in (90, 30, 7):
        facts[f"count_{days}d"] = np.bincount(rows[times >= moment - days * DAY], minlength=num_items)
    facts["heat"] = np.bincount(rows, 0.5 ** ((moment - times) / (HEAT_DAYS * DAY)), num_items)
    first, last = np.full(num_items, np.inf), np.full(num_items, -np.inf)
    np.minimum.at(first, rows, times)
    np.maximum.at(last, rows, times)
    facts["first_seen"] = np.where(np.isfinite(first), first, np.nan)
    facts["last_seen"] = np.where(np.isfinite(last), last, np.nan)
    # What has sold is there, whatever day its catalogue gives; what nobody has had waits for that day.
    facts["available_from"] = np.where(facts["count"] > 0, items.available_from, items.came_out)
    facts["came_out"] = items.came_out
    facts["repeat_rate"], facts["repeat_days"] = _repeats(events, num_items)
    with np.errstate(invalid="ignore", divide="ignore"):
        facts["log_price"] = np.where(items.prices > 0, np.log(items.prices), np.nan)
    for name, values in (("category", items.categories), ("brand", items.brands)):
        names = {value: code for code, value in enumerate(sorted(set(values) - {""}))}
        facts[name] = [names.get(value, -1) for value in values]
    facts["in_stock"] = items.in_stock
    return facts


def _repeats(events: Events, num_items: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The share of an item's users who took it at a later moment, and the median days until they did."""
    order = np.lexsort((events.timestamps, events.rows, events.users))
    key = (events.users * num_items + events.rows)[order]
    times, rows = events.timestamps[order], events.rows[order]
    again = (key[1:] == key[:-1]) & (times[1:] > times[:-1])
    users = np.bincount(np.unique(key) % num_items, minlength=num_items)
    back = np.bincount(np.unique(key[1:][again]) % num_items, minlength=num_items)
    overall = back.sum() / max(int(users.sum()), 1)
    rate = (back + _SHRINK * overall) / (users + _SHRINK)
    days, of = ((times[1:] - times[:-1])[again]) / DAY, rows[1:][again]
    usual = float(np.median(days)) if len(days) else 30.0
    medians = np.full(num_items, usual)
    by_item = np.lexsort((days, of))
    days, of = days[by_item], of[by_item]
    starts, sizes = np.searchsorted(of, np.arange(num_items)), np.bincount(of, minlength=num_items)
    enough = sizes >= 3
    medians[enough] = days[(starts + sizes // 2)[enough]]
    return rate, medians
