"""What a user did, as features: pure pandas and NumPy, no feature store.

Everything in the `user_behavior` view is a function of the user's newest `history_length` positive events
(and of how many there were before them), so that the offline rows, the run's snapshot and a pushed update
compute one thing in one place. Counts therefore saturate at `history_length`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.artifacts import replacing
from recsys.config import FeaturesConfig
from recsys.data.feature_arrow import BEHAVIOUR_SCHEMA, ITEMS_OWNED_SCHEMA, lists, times
from recsys.data.log import CREATED, DAY, Ints, Log, build_log, grain_seconds, moment_ends
from recsys.snapshot import user_features
from recsys.types import UserFeatures

TOP = 3
"""How many leading categories and brands are kept."""
_ENTRIES_PER_BATCH = 2_000_000
_PRICE_UNIT = 10_000  # prices are added up as integers, so that every path rounds alike


def behaviour_batches(
    interactions: pd.DataFrame, items: pd.DataFrame, config: FeaturesConfig, seconds: int
) -> Iterator[pa.Table]:
    """Tables of one row per (user, moment), users ascending, a bounded number of events in each.

    A row holds the state after the events at its moment. `event_timestamp` is the newest of them: for a
    coarse grain that is later than the floored moment, so no reader as of some time ever sees an event
    after that time. Events that came late (`created` after `timestamp`) give rows of their own, created
    when the event was, beside the rows that stood before.
    """
    logs = [build_log(interactions)]
    late = logs[0].created > logs[0].timestamps
    if late.any():
        touched = logs[0].users[np.unique(logs[0].user_codes[late])]
        on_time = interactions[CREATED].to_numpy(np.int64) <= interactions["timestamp"].to_numpy(np.int64)
        logs.append(build_log(interactions[on_time & interactions["user_id"].isin(touched).to_numpy()]))
    facts = ItemFacts.of(items)
    for log in logs:
        ends = moment_ends(log, seconds)
        sizes = np.minimum(ends, config.history_length)
        for rows in np.split(ends, _cuts(sizes, _ENTRIES_PER_BATCH)):
            if len(rows):
                yield behaviour_at(log, facts, rows, config.history_length)


def behaviour_rows(interactions: pd.DataFrame, items: pd.DataFrame, config: FeaturesConfig) -> pa.Table:
    """All rows of `user_behavior` in one table (see `behaviour_batches`, which needs less memory)."""
    seconds = grain_seconds(interactions, config.grain)
    tables = list(behaviour_batches(interactions, items, config, seconds))
    return pa.concat_tables(tables) if tables else BEHAVIOUR_SCHEMA.empty_table()


@dataclass(frozen=True, slots=True)
class ItemFacts:
    """What behaviour features need of items: price (-1 where unknown, in 1/10000), category, brand."""

    ids: pd.Index[Any]
    prices: Ints
    categories: NDArray[Any]
    brands: NDArray[Any]

    @classmethod
    def of(cls, items: pd.DataFrame) -> ItemFacts:
        """From a catalogue with `item_id`, `price`, `category` and `brand`."""
        prices = items["price"].to_numpy(np.float64, na_value=np.nan)
        return cls(
            pd.Index(items["item_id"].astype(object)),
            np.where(np.isfinite(prices), np.round(np.nan_to_num(prices) * _PRICE_UNIT), -1).astype(np.int64),
            items["category"].fillna("").to_numpy(object),
            items["brand"].fillna("").to_numpy(object),
        )


def behaviour_at(log: Log, facts: ItemFacts, ends: Ints, history_length: int) -> pa.Table:
    """Rows of `user_behavior`: for each end, the user's newest events before that position in the log."""
    users = log.user_codes[ends - 1]
    first = log.user_starts[users]
    starts = np.maximum(first, ends - history_length)
    offsets = np.r_[0, np.cumsum(ends - starts)]
    row = np.repeat(np.arange(len(ends)), ends - starts)
    at = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - starts, ends - starts)
    last = log.timestamps[ends - 1]
    ages = last[row] - log.timestamps[at]
    places = facts.ids.get_indexer(pd.Index(log.items))
    rows_of_items = places[log.item_codes[at]]
    columns: dict[str, Any] = {
        "user_id": pa.array(log.users[users], pa.string()),
        "event_timestamp": times(last),
        "created": times(_newest_created(log, ends)),
        "item_ids": lists(offsets, pa.array(log.items, pa.string()).take(pa.array(log.item_codes[at]))),
        "event_types": lists(
            offsets, pa.array(log.event_types, pa.string()).take(pa.array(log.event_codes[at]))
        ),
        "timestamps": lists(offsets, pa.array(log.timestamps[at])),
        "num_events": pa.array(ends - first),
        **{
            f"count_{days}d": pa.array(np.bincount(row[ages < days * DAY], minlength=len(ends)))
            for days in (1, 7, 30)
        },
        "mean_price": _mean_prices(facts, rows_of_items, row, len(ends)),
        "top_categories": _leading(facts.categories, rows_of_items, row, len(ends)),
        "top_brands": _leading(facts.brands, rows_of_items, row, len(ends)),
        "last_timestamp": pa.array(last),
    }
    return pa.table(columns, schema=BEHAVIOUR_SCHEMA)


def owned_rows(interactions: pd.DataFrame, moment: int | None = None) -> pa.Table:
    """Rows of `user_items`: per user every distinct positive item before `moment` (None: ever)."""
    known = interactions if moment is None else interactions[interactions["timestamp"] < moment]
    return owned_of(build_log(known))


def owned_of(log: Log) -> pa.Table:
    """Rows of `user_items` from a log: items by id, with the count and the newest time of each."""
    order = np.lexsort((log.timestamps, log.item_codes, log.user_codes))
    users, items, stamps = log.user_codes[order], log.item_codes[order], log.timestamps[order]
    new = np.r_[True, (np.diff(users) != 0) | (np.diff(items) != 0)] if len(log) else np.empty(0, bool)
    begin = np.flatnonzero(new)
    end = np.r_[begin[1:], len(log)].astype(np.int64) if len(log) else begin
    offsets = np.searchsorted(users[begin], np.arange(len(log.users) + 1))
    ends = log.user_starts[1:]
    return pa.table(
        {
            "user_id": pa.array(log.users, pa.string()),
            "event_timestamp": times(log.timestamps[ends - 1]),
            "created": times(_newest_created(log, ends)),
            "owned_item_ids": lists(
                offsets, pa.array(log.items, pa.string()).take(pa.array(items[begin], pa.int64()))
            ),
            "owned_counts": lists(offsets, pa.array((end - begin).astype(np.int64))),
            "owned_last_timestamps": lists(offsets, pa.array(stamps[end - 1])),
        },
        schema=ITEMS_OWNED_SCHEMA,
    )


def user_features_at(
    interactions: pd.DataFrame,
    items: pd.DataFrame,
    users: Sequence[str],
    moment: int,
    config: FeaturesConfig,
) -> list[UserFeatures | None]:
    """Features of some users from the events strictly before `moment`; None for who has none.

    This is what the online store says when it was materialised as of `moment`, unless `moment` lies inside
    one of the user's own moments at a coarse grain (the store then answers with the moment before).
    """
    known = interactions[(interactions["timestamp"] < moment) & interactions["user_id"].isin(list(users))]
    table = latest_rows(known, items, config)
    by_user = {row["user_id"]: user_features(row) for row in table.to_pylist()}
    return [by_user.get(user) for user in users]


def latest_rows(interactions: pd.DataFrame, items: pd.DataFrame, config: FeaturesConfig) -> pa.Table:
    """The newest state of every user: columns of `user_behavior` and of `user_items`, users ascending."""
    log = build_log(interactions)
    state = behaviour_at(log, ItemFacts.of(items), log.user_starts[1:], config.history_length)
    owned = owned_of(log)
    for name in ("owned_item_ids", "owned_counts", "owned_last_timestamps"):
        state = state.append_column(name, owned[name])
    return state


def write_snapshot(
    path: Path, interactions: pd.DataFrame, items: pd.DataFrame, moment: int, config: FeaturesConfig
) -> None:
    """Write what is known of every user from the events strictly before `moment`, for `SnapshotSource`."""
    table = latest_rows(interactions[interactions["timestamp"] < moment], items, config)
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def _cuts(sizes: Ints, budget: int) -> Ints:
    """Where to split so that the sizes in each part add up to about the budget."""
    return np.flatnonzero(np.diff(np.cumsum(sizes) // budget)).astype(np.int64) + 1


def _newest_created(log: Log, ends: Ints) -> Ints:
    newest = pd.Series(log.created).groupby(log.user_codes).cummax().to_numpy(np.int64)
    return newest[ends - 1]


def _mean_prices(facts: ItemFacts, items: NDArray[Any], row: Ints, num_rows: int) -> pa.Array:
    if not len(facts.prices):
        return pa.nulls(num_rows, pa.float64())
    prices = np.where(items >= 0, facts.prices[items], -1)
    known = prices >= 0
    number = np.bincount(row[known], minlength=num_rows)
    # Exact: float64 holds integer sums up to 2^53, which is 9e11 in currency.
    total = np.bincount(row[known], weights=prices[known], minlength=num_rows)
    return pa.array(total / np.maximum(number, 1) / _PRICE_UNIT, mask=number == 0)


def _leading(names: NDArray[Any], items: NDArray[Any], row: Ints, num_rows: int) -> pa.Array:
    """Per row the most frequent names, ties to the one seen last; empty names do not count."""
    codes, values = pd.factorize(names, sort=True)
    label = np.where(items >= 0, codes[items], -1) if len(codes) else np.full(len(items), -1)
    unknown = np.flatnonzero(values == "") if len(values) else np.empty(0, np.int64)
    counted = (label >= 0) & ~np.isin(label, unknown)
    key = row[counted] * max(len(values), 1) + label[counted]
    groups, inverse, number = np.unique(key, return_inverse=True, return_counts=True)
    newest = np.zeros(len(groups), np.int64)
    np.maximum.at(newest, inverse, np.flatnonzero(counted))
    of_row, of_label = np.divmod(groups, max(len(values), 1))
    order = np.lexsort((-newest, -number, of_row))
    begin = np.searchsorted(of_row, np.arange(num_rows))  # np.unique sorts, so rows ascend
    place = np.arange(len(order)) - begin[of_row[order]]
    order = order[place < TOP]
    offsets = np.searchsorted(of_row[order], np.arange(num_rows + 1))
    return lists(offsets, pa.array(values, pa.string()).take(pa.array(of_label[order], pa.int64())))
