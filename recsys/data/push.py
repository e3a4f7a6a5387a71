"""New events merged into what the online store knows of their users: pure, so that it can be tested alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from recsys.data.behaviour import ItemFacts, behaviour_at, owned_of
from recsys.data.feature_arrow import ITEMS_OWNED_SCHEMA, lists, times
from recsys.data.log import CREATED, build_log, positives
from recsys.snapshot import OWNED_FIELDS
from recsys.types import UserFeatures

EVENT_KEY = ["user_id", "item_id", "timestamp", "event_type"]


def merged_states(
    known: Sequence[UserFeatures | None],
    events: pd.DataFrame,
    facts: ItemFacts,
    history_length: int,
    now: int,
) -> tuple[pa.Table, pa.Table]:
    """Rows of `user_behavior` and of `user_items` after some events, created `now`.

    An event that the kept history already holds changes nothing, so pushing twice is pushing once; for a
    repeat older than the kept history that cannot be known, and it counts again.

    Args:
        known: What the store has of users, None for who is new; events of other users are left out.
        events: `user_id`, `item_id`, `timestamp`, `event_type`; negative feedback is no history.
        facts: Prices, categories and brands.
        history_length: Events kept.
        now: Unix seconds at which the events became known.
    """
    held = [features for features in known if features is not None]
    before = _as_events(held)
    fresh = positives(events)[EVENT_KEY].drop_duplicates()
    again = pd.MultiIndex.from_frame(fresh).isin(pd.MultiIndex.from_frame(before))
    fresh = fresh[~again]
    both = pd.concat([before, fresh], ignore_index=True).assign(**{CREATED: now})
    log = build_log(both)
    behaviour = behaviour_at(log, facts, log.user_starts[1:], history_length)
    dropped = {features.user_id: features.num_events - len(features.history) for features in held}
    earlier = np.array([dropped.get(user, 0) for user in log.users], np.int64)
    total = pa.array(behaviour["num_events"].to_numpy() + earlier)
    behaviour = behaviour.set_column(behaviour.schema.get_field_index("num_events"), "num_events", total)
    return behaviour, _merged_owned(held, owned_of(build_log(fresh)), now)


def _as_events(known: Iterable[UserFeatures]) -> pd.DataFrame:
    rows = [
        (features.user_id, item, stamp, event)
        for features in known
        for item, event, stamp in zip(
            features.history.item_ids,
            features.history.event_types,
            features.history.timestamps,
            strict=True,
        )
    ]
    frame = pd.DataFrame(rows, columns=EVENT_KEY)
    return frame.astype({"timestamp": np.int64})


def _merged_owned(known: Iterable[UserFeatures], fresh: pa.Table, now: int) -> pa.Table:
    """Counts add up and the newest time wins, item by item; items by id."""
    shelves: dict[str, dict[str, tuple[int, int]]] = {}
    for features in known:
        owned = features.owned
        entries = zip(owned.item_ids, zip(owned.counts, owned.last_timestamps, strict=True), strict=True)
        shelves[features.user_id] = dict(entries)
    for row in fresh.to_pylist():
        shelf = shelves.setdefault(row["user_id"], {})
        for item, count, stamp in zip(*(row[name] for name in OWNED_FIELDS), strict=True):
            old = shelf.get(item, (0, 0))
            shelf[item] = (old[0] + count, max(old[1], stamp))
    users = sorted(user for user, shelf in shelves.items() if shelf)
    entries_by_user = [sorted(shelves[user].items()) for user in users]
    offsets = np.r_[0, np.cumsum([len(entries) for entries in entries_by_user])]
    flat = [entry for entries in entries_by_user for entry in entries]
    newest = [max(stamp for _, (_, stamp) in entries) for entries in entries_by_user]
    columns: dict[str, Any] = {
        "user_id": pa.array(users, pa.string()),
        "event_timestamp": times(np.array(newest, np.int64)),
        "created": times(np.full(len(users), now, np.int64)),
        "owned_item_ids": lists(offsets, pa.array([item for item, _ in flat], pa.string())),
        "owned_counts": lists(offsets, pa.array([count for _, (count, _) in flat], pa.int64())),
        "owned_last_timestamps": lists(offsets, pa.array([stamp for _, (_, stamp) in flat], pa.int64())),
    }
    return pa.table(columns, schema=ITEMS_OWNED_SCHEMA)
