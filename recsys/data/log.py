"""The log of positive events in one order, and the moments at which a user acted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.types import NEGATIVE_EVENTS

Ints = NDArray[np.int64]
DAY = 86_400
CREATED = "_created"
"""Column of Unix seconds at which an event became known; without it, at its own timestamp."""
GRAINS = {"second": 1, "hour": 3_600, "day": DAY}
MOST_MOMENTS = 400
"""Most moments of one user: what `auto` grain aims at, since a point-in-time join costs their square."""


@dataclass(frozen=True, slots=True)
class Log:
    """Positive events in the one order everything relies on: user, time, item, event type.

    `users`, `items` and `event_types` are sorted ids; the codes point into them.
    """

    users: NDArray[Any]
    items: NDArray[Any]
    event_types: NDArray[Any]
    user_codes: Ints
    item_codes: Ints
    event_codes: Ints
    timestamps: Ints
    created: Ints
    """When each event became known; its own timestamp unless it came late."""

    def __len__(self) -> int:
        return len(self.timestamps)

    @property
    def user_starts(self) -> Ints:
        """(num_users + 1,) Positions at which users begin."""
        return np.searchsorted(self.user_codes, np.arange(len(self.users) + 1)).astype(np.int64)


def positives(interactions: pd.DataFrame) -> pd.DataFrame:
    """The events that are not negative feedback."""
    return interactions[~interactions["event_type"].isin(NEGATIVE_EVENTS)]


def build_log(interactions: pd.DataFrame) -> Log:
    """Sort the positive events; when they became known (`CREATED`) is honoured where it is given."""
    kept = positives(interactions)
    user_codes, users = _codes(kept["user_id"])
    item_codes, items = _codes(kept["item_id"])
    event_codes, event_types = _codes(kept["event_type"])
    stamps = kept["timestamp"].to_numpy(np.int64)
    created = kept[CREATED].to_numpy(np.int64) if CREATED in kept.columns else stamps
    order = np.lexsort((event_codes, item_codes, stamps, user_codes))
    return Log(
        users, items, event_types,
        user_codes[order], item_codes[order], event_codes[order], stamps[order],
        np.maximum(created, stamps)[order],
    )  # fmt: skip


def grain_seconds(interactions: pd.DataFrame, grain: str) -> int:
    """Seconds of a grain; `auto` is the finest at which no user has more than 400 distinct moments."""
    if grain != "auto":
        return GRAINS[grain]
    kept = positives(interactions)
    codes, _ = _codes(kept["user_id"])
    stamps = kept["timestamp"].to_numpy(np.int64)
    if not len(stamps):
        return GRAINS["second"]
    for seconds in GRAINS.values():
        floored = stamps // seconds - stamps.min() // seconds
        stride = int(floored.max()) + 1
        users = np.unique(codes * stride + floored) // stride
        if np.bincount(users).max() <= MOST_MOMENTS:
            return seconds
    return DAY


def moments(interactions: pd.DataFrame, grain: str) -> Ints:
    """Timestamps floored to the grain (`second`, `hour`, `day` or `auto`), in the given row order."""
    seconds = grain_seconds(interactions, grain)
    stamps = interactions["timestamp"].to_numpy(np.int64)
    return stamps // seconds * seconds


def moment_ends(log: Log, seconds: int) -> Ints:
    """Positions just after the last event of each (user, moment), ascending."""
    if not len(log):
        return np.empty(0, np.int64)
    floored = log.timestamps // seconds
    last = np.r_[(np.diff(log.user_codes) != 0) | (np.diff(floored) != 0), True]
    return np.flatnonzero(last).astype(np.int64) + 1


def _codes(values: pd.Series[Any]) -> tuple[Ints, NDArray[Any]]:
    codes, ids = pd.factorize(values.astype(object), sort=True)
    return codes.astype(np.int64), np.asarray(ids, object)
