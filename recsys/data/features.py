"""The offline side of the feature store: files in, registry, materialisation, point-in-time joins out.

The only module under `recsys` that imports Feast.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast import FeatureStore
from feast.data_source import PushMode

from feature_repo.client import SETTINGS, empty_tables, online_file, open_store, settle, user_keys
from feature_repo.definitions import define
from feature_repo.services import RETRIEVAL, TRAINING
from recsys.config import FeaturesConfig
from recsys.contexts import Contexts, Role, Vocabulary, concatenate
from recsys.data import online_tables
from recsys.data.augmented_store import AugmentedViews, stored_batches
from recsys.data.behaviour import ItemFacts, behaviour_batches, owned_rows
from recsys.data.contexts_from import (
    Labels,
    contexts_of,
    labels_at,
    labels_by_moment,
    no_contexts,
    with_older,
)
from recsys.data.erasing import erase_from_files
from recsys.data.feast_calls import feast, offline
from recsys.data.feature_files import BASE, FeatureFiles
from recsys.data.item_rows import item_stats_rows, item_text_rows
from recsys.data.log import build_log, grain_seconds, positives
from recsys.data.newest import copy_newest
from recsys.data.push import merged_states
from recsys.data.same_shop import event_hashes, same_shop, sketch_of
from recsys.data.states import NOWHERE, require_known, states_at
from recsys.errors import ArtifactError, DependencyError
from recsys.snapshot import USER_FIELDS, user_features
from recsys.types import UserFeatures

_log = logging.getLogger(__name__)

USER_VIEWS = ("user_behavior", "user_items")
ITEM_VIEWS = ("item_text", "item_stats")
MOST_PAIRS = 2_000_000
"""Cost of one join (see `Labels.parts`): with the limit of DuckDB, what bounds its memory."""
_JUST_BEFORE = np.timedelta64(1, "us")


class Tables(Protocol):
    """What a dataset must have; `recsys.data.interactions.Dataset` does."""

    @property
    def interactions(self) -> pd.DataFrame:
        """Events: user_id, item_id, timestamp (int64 Unix seconds), event_type."""
        ...

    @property
    def items(self) -> pd.DataFrame:
        """Catalogue: item_id, title, description, category, brand, tags, price, available_from."""
        ...


class FeatureStoreRoom(AugmentedViews):
    """The feature store over one folder (RUNS/features), shared by all runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = FeatureFiles(folder)
        self._opened: FeatureStore | None = None
        self._pushing = threading.Lock()

    @property
    def store(self) -> FeatureStore:
        """The Feast client, opened on first use."""
        if self._opened is None:
            self._opened = open_store(self.folder)
        return self._opened

    @property
    def grain(self) -> int:
        """Seconds that the moments of the written rows were floored to."""
        return int(self.files.about()["grain_seconds"])

    def write(self, dataset: Tables, config: FeaturesConfig) -> dict[str, int]:
        """Write the offline files of all views, in bounded memory; rows by view.

        They come from the dataset and from what was pushed meanwhile, so the next training sees what
        serving saw. Another shop's rows (see `same_shop`) are forgotten, online too, and what was pushed to
        it is set aside.
        """
        hashes = event_hashes(dataset.interactions)
        with self._pushing:
            if not self._of_shop(hashes):
                self._forget()
            log = self.files.with_pushed(dataset.interactions)
            seconds = grain_seconds(log, config.grain)
            batches = behaviour_batches(log, dataset.items, config, seconds)
            rows = {
                "user_behavior": self.files.write_behaviour(batches),
                "user_items": self.files.write_base("user_items", [owned_rows(log)]),
                "item_text": self.files.write_base("item_text", [item_text_rows(dataset.items)]),
                "item_stats": self.files.write_base("item_stats", [item_stats_rows(log, dataset.items)]),
            }
            self.files.write_about(
                {
                    "grain_seconds": seconds,
                    "history_length": config.history_length,
                    "newest": int(log["timestamp"].max()) if len(log) else 0,
                    "rows": rows,
                    "fingerprint": sketch_of(hashes),
                }
            )
        return rows

    def apply(self) -> None:
        """Register entities, views and services; safe to repeat."""
        settle(self.folder)
        with offline("register the features"):
            self.store.apply(list(define(self.folder.absolute()).values()))
            self.store.registry.refresh(self.store.project)
        if (path := online_file(self.store)) is not None:
            online_tables.allow_reading_while_writing(path)

    def materialize(self, as_of: int | None = None, *, items: bool = False) -> None:
        """Copy the newest state strictly before `as_of` (Unix seconds; None: all) to the online store.

        In SQLite the copied views hold exactly these rows afterwards, and readers see the rows before until
        all are there; on another store nothing is removed.

        Item views are copied only on request: serving reads item features from the run itself.
        """
        moment = self.files.about()["newest"] + 1 if as_of is None else as_of
        end = datetime.fromtimestamp(moment, UTC) - timedelta(microseconds=1)
        views = [*USER_VIEWS, *(ITEM_VIEWS if items else ())]
        with self._pushing, offline("materialise the features"):
            path = online_file(self.store)
            if path is None:
                copy_newest(self.store, self.files, views, end)
            else:
                self._rebuild(path, end, views)

    def _rebuild(self, path: Path, end: datetime, views: Sequence[str]) -> None:
        tables = [f"{self.store.project}_{view}" for view in views]
        beside = online_tables.empty_beside(path, tables)
        try:
            copied = copy_newest(open_store(self.folder, online=beside), self.files, views, end)
            for view, table in zip(views, tables, strict=True):
                written = online_tables.number_of_keys(beside, table)
                if written != copied[view]:
                    what = f"{written:,} users or items were copied of {copied[view]:,}"
                    raise DependencyError(f"{view}: {what}; the rows before stay")
            online_tables.exchange(path, beside, tables)
        finally:
            online_tables.drop(beside)
        self.store.registry.refresh(self.store.project)

    def _of_shop(self, hashes: np.ndarray[Any, np.dtype[np.uint64]]) -> bool:
        """Whether events are of the shop whose rows lie here, or none do."""
        if not self.files.written():
            return True
        return same_shop(self.files.about().get("fingerprint", [0]), hashes)

    def _forget(self) -> None:
        """Another shop's users leave the online store, and its pushes this folder's sight."""
        aside = self.files.set_aside_events()
        if aside is not None:
            _log.warning("the features were another shop's; events pushed to it now lie in %s", aside)
        for batch in stored_batches(self.files):
            batch.path.unlink()
        if not (self.folder / SETTINGS).is_file():
            return
        with offline("forget another shop's users"):
            path = online_file(self.store)
            if path is None:
                empty_tables(self.store)
            elif path.is_file():
                online_tables.clear(path)

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
        events: pd.DataFrame,
        cut: int,
        vocabulary: Vocabulary,
        config: FeaturesConfig,
        event_weights: Mapping[str, float],
    ) -> Contexts:
        """One row per user with positives among the events from `cut` on, as known just before it.

        The events before it say what a user had that the store's history no longer holds: each such item
        comes once, in front of the history (see `with_older`).
        """
        self._same_history_length(config)
        before = events["timestamp"] < cut
        labels = labels_at(events[~before], vocabulary, event_weights, cut)
        kept = self._join(labels, vocabulary, "held_out")
        return with_older(kept, build_log(events[before]), vocabulary)

    def online(self, users: Sequence[str]) -> list[UserFeatures | None]:
        """What the online store has of some users now; None for who is unknown."""
        if not users:
            return []
        with feast("read the online store"):
            columns = self.store.get_online_features(
                features=self.store.get_feature_service(RETRIEVAL, allow_cache=True),
                entity_rows={"user_id": list(users)},
            ).to_dict()
        rows = ({"user_id": u, **{f: columns[f][at] for f in USER_FIELDS}} for at, u in enumerate(users))
        return [None if row["num_events"] is None else user_features(row) for row in rows]

    def push_events(self, events: pd.DataFrame, now: int | None = None) -> int:
        """Add events to the online store at once and to the offline files; the number of users changed.

        Args:
            events: `user_id`, `item_id`, `timestamp`, `event_type`, perhaps `value`. Returns are kept for
                the next `write` and change no user.
            now: Unix seconds at which they became known; the clock's when None. Later training asks what
                was known at a moment, so it does not see them before.

        One process may push at a time (reading, merging and writing are not one transaction).
        """
        came = int(time.time()) if now is None else now
        users = sorted(set(positives(events)["user_id"]))
        with self._pushing:
            self.files.require_whole()
            self.files.add_events(events, came)
            if not users:
                return 0
            length = int(self.files.about()["history_length"])
            behaviour, owned = merged_states(self.online(users), events, self._facts(), length, came)
            with feast("push events"):
                for view, table in zip(USER_VIEWS, (behaviour, owned), strict=True):
                    self.store.push(f"{view}_push", table.to_pandas(), to=PushMode.ONLINE)
            for view, table in zip(USER_VIEWS, (behaviour, owned), strict=True):
                self.files.add_pushed(view, table)
            self.files.reach(int(events["timestamp"].max()))
        return len(users)

    def erase(self, users: Collection[str]) -> dict[str, int]:
        """Take users out of the store; rows taken, by place. To repeat it changes nothing.

        Their rows leave the offline files, the pushed events and the online store, their augmented children
        leave every policy's rows, and so do children of others that borrowed events from them. Users of an
        erasure that was stopped are erased too. Item views, sums over users, stay until the next `write`.

        Nothing else may write to the folder meanwhile.
        """
        before = self.files.being_erased()
        everyone = sorted({*users, *before})
        with self._pushing:
            if not self.files.about_path.is_file():
                raise ArtifactError(f"{self.folder}: no features here, so nobody to erase")
            self.files.begin_erasing(everyone)
            taken = erase_from_files(self.files, everyone, resumed=bool(before))
            taken["online"] += self._erase_online(everyone)
            self.files.end_erasing()
        return dict(+taken)

    def _erase_online(self, users: Sequence[str]) -> int:
        if not (self.folder / SETTINGS).is_file():
            return 0
        path = online_file(self.store)
        if path is None:
            known = sum(features is not None for features in self.online(users))
            if known:
                with offline("erase users"):
                    empty_tables(self.store)
                    newest = int(self.files.read_about()["newest"]) + 1
                    copy_newest(self.store, self.files, USER_VIEWS, datetime.fromtimestamp(newest, UTC))
            return known
        online_tables.drop(path.with_name(f"{path.name}.new"))
        if not path.is_file():
            return 0
        tables = [f"{self.store.project}_{view}" for view in USER_VIEWS]
        return online_tables.delete_keys(path, tables, user_keys(self.store, users))

    def _facts(self) -> ItemFacts:
        columns = ["item_id", "price", "category", "brand"]
        return ItemFacts.of(pq.read_table(self.files.view("item_text") / BASE, columns=columns).to_pandas())

    def features_as_known(
        self, users: Any, moments: np.ndarray[Any, np.dtype[np.int64]], *, honour_created: bool = True
    ) -> pa.Table:
        """Histories for (user, moment) pairs as known strictly before the moments, in order.

        Feast joins where each state lies (the training service); the histories are read from there.
        `honour_created=False` would let corrections that came later into the past: for tests that show it.
        """
        self.files.require_whole()
        asked = moments.astype("datetime64[s]").astype("datetime64[us]") - _JUST_BEFORE
        entities = pd.DataFrame(
            {
                "user_id": pd.Series(users, dtype=object),
                "event_timestamp": pd.DatetimeIndex(asked).tz_localize("UTC"),
                "place": np.arange(len(moments)),
            }
        )
        with offline("join features to contexts"):
            job = self.store.get_historical_features(
                entity_df=entities,
                features=self.store.get_feature_service(TRAINING, allow_cache=True),
                filter_by_created_timestamp=honour_created,
            )
            joined = job.to_arrow()
        places = joined["place"].to_numpy()
        if joined.num_rows != len(moments) or not np.array_equal(np.sort(places), np.arange(len(moments))):
            raise DependencyError(
                f"the store's join lost or repeated rows: {joined.num_rows:,} out, {len(moments):,} in"
            )
        joined = joined.take(pa.array(np.argsort(places, kind="stable")))
        files, rows = (_whole(joined[name]) for name in ("state_file", "state_row"))
        known = states_at(self.files.behaviour_paths(), files, rows)
        require_known(
            known, pa.array(users, pa.string()), joined["event_timestamp"], honour_created=honour_created
        )
        return known.set_column(0, "user_id", joined["user_id"])

    def _join(self, labels: Labels, vocabulary: Vocabulary, role: Role) -> Contexts:
        parts = [
            contexts_of(part, self.features_as_known(part.user_ids, part.moments), vocabulary, role)
            for part in labels.parts(MOST_PAIRS)
        ]
        return concatenate(parts) if parts else no_contexts(role)

    def _same_history_length(self, config: FeaturesConfig) -> None:
        written = int(self.files.about()["history_length"])
        if written != config.history_length:
            raise ArtifactError(
                f"{self.folder}: features hold {written} events per user, features.history_length is "
                f"{config.history_length}. Write the features again."
            )


def _whole(column: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.int64]]:
    whole: np.ndarray[Any, np.dtype[np.int64]] = column.fill_null(NOWHERE).to_numpy().astype(np.int64)
    return whole
