"""A run's own copy of the user features: one Parquet file, read into columns, looked up by user.

Batch recommendation and evaluation read this instead of the online store, so that a run is complete in
itself. The columns are those of the views `user_behavior` and `user_items`, and `user_features` turns a row
of either source into what the recommender takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.errors import ArtifactError
from recsys.types import History, Owned, UserFeatures

HISTORY_FIELDS = ("item_ids", "event_types", "timestamps")
OWNED_FIELDS = ("owned_item_ids", "owned_counts", "owned_last_timestamps")
NUMBER_FIELDS = ("count_1d", "count_7d", "count_30d", "mean_price", "last_timestamp")
"""What lands in `UserFeatures.numbers`."""
USER_FIELDS = (*HISTORY_FIELDS, "num_events", *NUMBER_FIELDS, *OWNED_FIELDS)
DAY_SECONDS = 86_400


def user_features(row: Mapping[str, Any]) -> UserFeatures:
    """One row (`user_id` and `USER_FIELDS` by name, None for what is missing) as user features."""
    numbers = {name: float(row[name]) for name in NUMBER_FIELDS if row.get(name) is not None}
    last = row.get("last_timestamp")
    return UserFeatures(
        user_id=row["user_id"],
        history=History(*(tuple(row.get(name) or ()) for name in HISTORY_FIELDS)),
        num_events=int(row.get("num_events") or 0),
        owned=Owned(*(tuple(row.get(name) or ()) for name in OWNED_FIELDS)),
        numbers=numbers,
        as_of=None if last is None else int(last),
    )


def is_stale(features: UserFeatures, moment: int, ttl_days: float) -> bool:
    """Whether the newest event behind the features is older than the time to live.

    Judged here because the feature store applies no time to live to online reads.
    """
    return features.as_of is not None and moment - features.as_of > ttl_days * DAY_SECONDS


class SnapshotSource:
    """Features from the file that `recsys.data.features.write_snapshot` wrote.

    Raises:
        ArtifactError: the file is missing, unreadable, or lacks a column.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._table: pa.Table = pq.read_table(path, columns=["user_id", *USER_FIELDS]).combine_chunks()
        except (OSError, pa.ArrowInvalid, KeyError) as error:
            raise ArtifactError(f"{path}: not a readable snapshot of user features ({error})") from error
        if missing := {"user_id", *USER_FIELDS} - set(self._table.column_names):
            raise ArtifactError(f"{path}: the snapshot lacks {', '.join(sorted(missing))}. Train a new run.")
        self._rows = {user: row for row, user in enumerate(self._table["user_id"].to_pylist())}

    def __len__(self) -> int:
        return len(self._rows)

    def fetch(self, user_ids: Sequence[str]) -> list[UserFeatures | None]:
        """Features per user, in order; None for a user the snapshot has not."""
        rows = [self._rows.get(user) for user in user_ids]
        known = [row for row in rows if row is not None]
        found = iter(self._table.take(pa.array(known, pa.int64())).to_pylist())
        return [None if row is None else user_features(next(found)) for row in rows]
