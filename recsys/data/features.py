"""The offline side of the feature store: files in, registry, materialisation, point-in-time joins out.

The only module under `recsys` that imports Feast.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast import FeatureStore

from feature_repo.client import open_store, settle
from feature_repo.definitions import define
from feature_repo.services import TRAINING
from feature_repo.sources import OFFLINE
from recsys.artifacts import replacing, write_atomically
from recsys.config import FeaturesConfig
from recsys.contexts import Contexts, Role, Vocabulary, concatenate
from recsys.data.behaviour import behaviour_batches, owned_rows
from recsys.data.contexts_from import Labels, contexts_of, labels_at, labels_by_moment, no_contexts
from recsys.data.feature_arrow import SCHEMAS
from recsys.data.item_rows import item_stats_rows, item_text_rows
from recsys.data.log import grain_seconds
from recsys.errors import ArtifactError, DependencyError

BASE = "base.parquet"
ABOUT = "features.json"
USER_VIEWS = ("user_behavior", "user_items")
ITEM_VIEWS = ("item_text", "item_stats")
MOST_PAIRS = 400_000
"""Label-feature pairs per join: what bounds its memory."""
_ROWS_PER_GROUP = 16_384
_JUST_BEFORE = np.timedelta64(1, "us")


class Tables(Protocol):
    """What a dataset must have; `recsys.data.interactions.Dataset` does."""

    interactions: pd.DataFrame
    items: pd.DataFrame


class FeatureStoreRoom:
    """The feature store over one folder (RUNS/features), shared by all runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._opened: FeatureStore | None = None

    @property
    def store(self) -> FeatureStore:
        """The Feast client, opened on first use."""
        if self._opened is None:
            self._opened = open_store(self.folder)
        return self._opened

    @property
    def grain(self) -> int:
        """Seconds that the moments of the written rows were floored to."""
        return int(self.about()["grain_seconds"])

    def about(self) -> dict[str, Any]:
        """What `write` wrote: grain, history length, rows by view, newest event.

        Raises:
            ArtifactError: nothing was written yet.
        """
        try:
            found: dict[str, Any] = json.loads((self.folder / ABOUT).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ArtifactError(
                f"{self.folder}: no features here ({error}). Write them with 'recsys features apply --data DIR'."
            ) from error
        return found

    def write(self, dataset: Tables, config: FeaturesConfig) -> dict[str, int]:
        """Write the offline files of all views from a dataset, in bounded memory; rows by view."""
        log = dataset.interactions
        seconds = grain_seconds(log, config.grain)
        batches = behaviour_batches(log, dataset.items, config, seconds)
        rows = {
            "user_behavior": self._write("user_behavior", batches),
            "user_items": self._write("user_items", [owned_rows(log)]),
            "item_text": self._write("item_text", [item_text_rows(dataset.items)]),
            "item_stats": self._write("item_stats", [item_stats_rows(log, dataset.items)]),
        }
        newest = int(log["timestamp"].max()) if len(log) else 0
        about = {
            "grain_seconds": seconds,
            "history_length": config.history_length,
            "newest": newest,
            "rows": rows,
        }
        write_atomically(self.folder / ABOUT, json.dumps(about, indent=1))
        return rows

    def apply(self) -> None:
        """Register entities, views and services; safe to repeat."""
        settle(self.folder)
        with _store_errors("register the features"):
            self.store.apply(list(define(self.folder.absolute()).values()))
            self.store.refresh_registry()
        _allow_reading_while_writing(self.folder / "online.db")

    def materialize(self, as_of: int | None = None, *, items: bool = False) -> None:
        """Copy the newest state strictly before `as_of` (Unix seconds; None: all) to the online store.

        Item views are copied only on request: serving reads item features from the run itself.
        """
        moment = self.about()["newest"] + 1 if as_of is None else as_of
        end = datetime.fromtimestamp(moment, UTC) - timedelta(microseconds=1)
        views = [*USER_VIEWS, *(ITEM_VIEWS if items else ())]
        with _store_errors("materialise the features"):
            self.store.materialize(
                datetime(1970, 1, 1, tzinfo=UTC), end, feature_views=views, disable_event_timestamp=False
            )

    def training_contexts(
        self,
        interactions_fit: pd.DataFrame,
        vocabulary: Vocabulary,
        config: FeaturesConfig,
        event_weights: Mapping[str, float],
    ) -> Contexts:
        """One row per (user, moment) of the given events, its history joined as known just before the moment.

        The feature rows may come from a longer log than the events: each context sees strictly earlier
        state alone, so contexts of the whole log may be computed once and cut for each fit with
        `contexts_before`, which gives what computing them from the cut log would give.

        Raises:
            LeakageError: rows out differ from rows in, or a history reaches its row's moment.
            DependencyError: the store failed.
        """
        self._same_history_length(config)
        labels = labels_by_moment(interactions_fit, vocabulary, event_weights, self.grain)
        return self._join(labels, vocabulary, "fit")

    def held_out_contexts(
        self,
        held_out: pd.DataFrame,
        cut: int,
        vocabulary: Vocabulary,
        config: FeaturesConfig,
        event_weights: Mapping[str, float],
    ) -> Contexts:
        """One row per user with positives among the given later events, features as known just before `cut`."""
        self._same_history_length(config)
        later = held_out[held_out["timestamp"] >= cut]
        return self._join(labels_at(later, vocabulary, event_weights, cut), vocabulary, "held_out")

    def features_as_known(
        self, users: Any, moments: np.ndarray[Any, np.dtype[np.int64]], *, honour_created: bool = True
    ) -> pa.Table:
        """The training service's features for (user, moment) pairs, strictly before the moments, in order.

        `honour_created=False` would let corrections that came later into the past: for tests that show it.
        """
        asked = moments.astype("datetime64[s]").astype("datetime64[us]") - _JUST_BEFORE
        entities = pd.DataFrame(
            {
                "user_id": pd.Series(users, dtype=object),
                "event_timestamp": pd.DatetimeIndex(asked).tz_localize("UTC"),
                "place": np.arange(len(moments)),
            }
        )
        with _store_errors("join features to contexts"):
            job = self.store.get_historical_features(
                entity_df=entities,
                features=self.store.get_feature_service(TRAINING, allow_cache=True),
                filter_by_created_timestamp=honour_created,
            )
            joined = job.to_arrow()
        places = joined["place"].to_numpy()
        if joined.num_rows != len(moments) or not np.array_equal(np.sort(places), np.arange(len(moments))):
            raise DependencyError(
                f"the feature store's join lost or repeated rows: {joined.num_rows:,} out, {len(moments):,} in"
            )
        return joined.take(pa.array(np.argsort(places, kind="stable")))

    def _join(self, labels: Labels, vocabulary: Vocabulary, role: Role) -> Contexts:
        parts = [
            contexts_of(part, self.features_as_known(part.user_ids, part.moments), vocabulary, role)
            for part in labels.parts(MOST_PAIRS)
        ]
        return concatenate(parts) if parts else no_contexts(role)

    def _same_history_length(self, config: FeaturesConfig) -> None:
        written = int(self.about()["history_length"])
        if written != config.history_length:
            raise ArtifactError(
                f"{self.folder}: features hold {written} events per user, features.history_length is "
                f"{config.history_length}. Write the features again."
            )

    def _write(self, view: str, tables: Any) -> int:
        """Replace a view's base file and drop what was pushed before it; the number of rows."""
        folder = self.folder / OFFLINE / view
        number = 0
        with replacing(folder / BASE) as temporary:
            # Users ascend and groups are small, so that a join of some users skips the other groups.
            with pq.ParquetWriter(temporary, SCHEMAS[view], compression="zstd") as writer:
                for table in tables:
                    writer.write_table(table, row_group_size=_ROWS_PER_GROUP)
                    number += table.num_rows
        return number


@contextlib.contextmanager
def _store_errors(doing: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - Feast raises its backends' errors unwrapped
        raise DependencyError(f"the feature store could not {doing}: {error}") from error


def _allow_reading_while_writing(path: Path) -> None:
    """Let SQLite readers go on during a write; the setting stays with the file."""
    if path.is_file():
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
