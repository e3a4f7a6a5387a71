"""Features of many users, each as known just before a moment of their own: successive targets ask for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from recsys.config import FeaturesConfig
from recsys.data.behaviour import ItemFacts, behaviour_at
from recsys.data.log import Ints, Log, build_log
from recsys.snapshot import user_features
from recsys.types import UserFeatures

_CHUNK = 4096


def features_as_known(
    interactions: pd.DataFrame,
    items: pd.DataFrame,
    users: Sequence[str],
    moments: Ints,
    config: FeaturesConfig,
) -> list[UserFeatures | None]:
    """Features per (user, moment) from the events strictly before it; None where there are none.

    One entry is what `user_features_at` says of that user at that moment; here the log is sorted once.

    Args:
        interactions: The log, before the moments and after.
        items: The catalogue.
        users: (n,) ids, which may repeat.
        moments: (n,) Unix seconds.
        config: How long a history is.
    """
    log = build_log(interactions)
    facts = ItemFacts.of(items)
    codes = pd.Index(log.users).get_indexer(pd.Index(list(users), dtype=object))
    starts = log.user_starts
    ends = np.array(
        [
            starts[code] + np.searchsorted(log.timestamps[starts[code] : starts[code + 1]], moment)
            if code >= 0
            else -1
            for code, moment in zip(codes.tolist(), moments.tolist(), strict=True)
        ],
        np.int64,
    )
    known = np.flatnonzero((codes >= 0) & (ends > starts[codes]))
    found: list[UserFeatures | None] = [None] * len(moments)
    for start in range(0, len(known), _CHUNK):
        part = known[start : start + _CHUNK]
        table = behaviour_at(log, facts, ends[part], config.history_length)
        for case, row in zip(part.tolist(), table.to_pylist(), strict=True):
            found[case] = user_features({**row, **_owned(log, int(starts[codes[case]]), int(ends[case]))})
    return found


def _owned(log: Log, start: int, end: int) -> dict[str, list[str] | list[int]]:
    """Columns of `user_items` from one user's events in log positions [start, end)."""
    # Newest first, so that the first place of an item is its newest event.
    codes, first, counts = np.unique(log.item_codes[start:end][::-1], return_index=True, return_counts=True)
    return {
        "owned_item_ids": [str(item) for item in log.items[codes]],
        "owned_counts": counts.tolist(),
        "owned_last_timestamps": log.timestamps[start:end][::-1][first].tolist(),
    }
