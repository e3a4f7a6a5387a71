"""Rows of the item views: what an item says of itself, and how it sold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from recsys.data.feature_arrow import ITEM_STATS_SCHEMA, ITEM_TEXT_SCHEMA, times
from recsys.data.log import DAY, Ints
from recsys.types import NEGATIVE_EVENTS


def item_text_rows(items: pd.DataFrame) -> pa.Table:
    """Rows of `item_text`: one per item, known since it was available (since ever where that is unknown)."""
    since = items["available_from"].to_numpy(np.float64, na_value=np.nan)
    known = times(np.where(np.isfinite(since), np.nan_to_num(since), 0).astype(np.int64))
    prices = items["price"].to_numpy(np.float64, na_value=np.nan)
    columns: dict[str, Any] = {
        "item_id": pa.array(items["item_id"], pa.string()),
        "event_timestamp": known,
        "created": known,
        **{
            name: pa.array(items[name].fillna(""), pa.string())
            for name in ("title", "description", "brand", "category", "tags")
        },
        "price": pa.array(prices, mask=~np.isfinite(prices)),
    }
    return pa.table(columns, schema=ITEM_TEXT_SCHEMA)


def item_stats_rows(interactions: pd.DataFrame, items: pd.DataFrame) -> pa.Table:
    """Rows of `item_stats`: one per item and day on which it had an event, items ascending.

    Popularity counts positive events of the 1, 7 and 30 days up to that moment; returns only enter
    `return_rate`, which is returns per positive event so far. `age_days` counts from `available_from`, or
    from the first event. `event_timestamp` is the newest event of the day, so that nothing in a row is
    later than the row. Items without events have no row.
    """
    codes, ids = pd.factorize(interactions["item_id"].astype(object), sort=True)
    stamps = interactions["timestamp"].to_numpy(np.int64)
    order = np.lexsort((stamps, codes))
    codes, stamps = codes[order].astype(np.int64), stamps[order]
    if not len(codes):
        return ITEM_STATS_SCHEMA.empty_table()
    negative = interactions["event_type"].isin(NEGATIVE_EVENTS).to_numpy(bool)[order]
    ends = np.flatnonzero(np.r_[(np.diff(codes) != 0) | (np.diff(stamps // DAY) != 0), True]) + 1
    item, last = codes[ends - 1], stamps[ends - 1]
    begin = np.searchsorted(codes, np.arange(len(ids)))
    sold = np.r_[0, np.cumsum(~negative)]
    returned = np.r_[0, np.cumsum(negative)]
    num_sold, num_returned = (total[ends] - total[begin[item]] for total in (sold, returned))
    first = stamps[begin[item]]
    since = items.set_index("item_id")["available_from"].reindex(ids).to_numpy(np.float64)[item]
    columns: dict[str, Any] = {
        "item_id": pa.array(ids[item], pa.string()),
        "event_timestamp": times(last),
        "created": times(last),
        **{
            f"popularity_{days}d": pa.array(sold[ends] - sold[_window_begin(codes, stamps, item, last, days)])
            for days in (1, 7, 30)
        },
        "return_rate": pa.array(num_returned / np.maximum(num_sold, 1)),
        "first_seen": pa.array(first),
        "last_seen": pa.array(last),
        "age_days": pa.array(np.maximum(last - np.where(np.isfinite(since), since, first), 0) / DAY),
    }
    return pa.table(columns, schema=ITEM_STATS_SCHEMA)


def _window_begin(codes: Ints, stamps: Ints, item: Ints, last: Ints, days: int) -> Ints:
    """Positions of the first event later than `days` before `last`, of the same item."""
    base = int(stamps.min())
    stride = int(stamps.max()) - base + 1
    line = codes * stride + (stamps - base)  # ascending: items one after the other on one axis of time
    floor = np.maximum(last - days * DAY, base - 1)
    begin: Ints = np.searchsorted(line, item * stride + (floor - base), side="right").astype(np.int64)
    return begin
