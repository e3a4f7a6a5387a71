"""Serving's side: the same features online as in the snapshot, pushes, one quick read, no torch."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from features_shop import DAY, START, Shop, events_frame, items_frame, random_shop

from recsys.config import DataConfig, FeaturesConfig
from recsys.contexts import Vocabulary
from recsys.data.behaviour import user_features_at, write_snapshot
from recsys.data.features import FeatureStoreRoom
from recsys.errors import DependencyError
from recsys.snapshot import SnapshotSource
from serving.features import OnlineFeatureSource

WEIGHTS = DataConfig().event_weights
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def live(shop: Shop, config: FeaturesConfig, tmp_path: Path) -> FeatureStoreRoom:
    """A store of its own, for tests that push; it holds the first 40 days."""
    room = FeatureStoreRoom(tmp_path / "features")
    early = shop.interactions[shop.interactions.timestamp < START + 40 * DAY]
    room.write(Shop(early, shop.items), config)
    room.apply()
    room.materialize()
    return room


@pytest.mark.parametrize("moment", [START + 20 * DAY, START + 33 * DAY + 3_600, START + 90 * DAY])
def test_snapshot_and_online_store_agree(
    moment: int, shop: Shop, config: FeaturesConfig, tmp_path: Path
) -> None:
    room = FeatureStoreRoom(tmp_path / "features")
    room.write(Shop(shop.interactions[shop.interactions.timestamp < moment], shop.items), config)
    room.apply()
    room.materialize(moment)
    write_snapshot(tmp_path / "users.parquet", shop.interactions, shop.items, moment, config)
    users = [*sorted(shop.interactions.user_id.unique()), "nobody"]
    snapshot = SnapshotSource(tmp_path / "users.parquet").fetch(users)
    assert snapshot == OnlineFeatureSource(room.folder, 1).fetch(users)
    assert snapshot == room.online(users)
    assert sum(features is not None for features in snapshot) == len(users) - 1


def test_materialising_as_of_an_earlier_moment_hides_the_rest(
    shop: Shop, config: FeaturesConfig, tmp_path: Path
) -> None:
    room = FeatureStoreRoom(tmp_path / "features")
    room.write(shop, config)
    room.apply()
    moment = START + 20 * DAY
    room.materialize(moment)
    users = sorted(shop.interactions.user_id.unique())
    expected = user_features_at(shop.interactions, shop.items, users, moment, config)
    for found, wanted in zip(room.online(users), expected, strict=True):
        assert found is not None
        assert wanted is not None
        assert (found.history, found.num_events, found.numbers) == (
            wanted.history,
            wanted.num_events,
            wanted.numbers,
        )


@pytest.mark.parametrize("batches", [1, 7])
def test_pushing_equals_computing_from_the_longer_log(
    batches: int, live: FeatureStoreRoom, shop: Shop, config: FeaturesConfig
) -> None:
    later = shop.interactions[shop.interactions.timestamp >= START + 40 * DAY]
    newcomer = events_frame([("newcomer", "i3", START + 61 * DAY, "view")])
    for part in np.array_split(np.arange(len(later)), batches):
        live.push_events(later.iloc[part], now=START + 60 * DAY)
    assert live.push_events(newcomer, now=START + 61 * DAY) == 1
    everything = pd.concat([shop.interactions, newcomer])
    users = sorted(everything.user_id.unique())
    expected = user_features_at(everything, shop.items, users, START + 100 * DAY, config)
    assert live.online(users) == expected


def test_pushing_twice_is_pushing_once(live: FeatureStoreRoom) -> None:
    events = events_frame([("u1", "i2", START + 50 * DAY, "view"), ("u1", "i2", START + 50 * DAY, "view")])
    live.push_events(events, now=START + 51 * DAY)
    once = live.online(["u1"])
    live.push_events(events, now=START + 52 * DAY)
    assert live.online(["u1"]) == once
    assert len(live.files.pushed_events()) == 1


def test_materialising_again_keeps_what_was_pushed(live: FeatureStoreRoom) -> None:
    live.push_events(events_frame([("u1", "i2", START + 50 * DAY, "view")]), now=START + 51 * DAY)
    pushed = live.online(["u1"])
    live.materialize()
    assert live.online(["u1"]) == pushed


def test_returns_change_no_user(live: FeatureStoreRoom) -> None:
    before = live.online(["u1"])
    assert live.push_events(events_frame([("u1", "i2", START + 50 * DAY, "return")])) == 0
    assert live.online(["u1"]) == before


def test_the_next_training_sees_what_serving_saw_when_it_saw_it(
    live: FeatureStoreRoom, shop: Shop, vocabulary: Vocabulary, config: FeaturesConfig
) -> None:
    happened, came = START + 50 * DAY + 7, START + 52 * DAY
    live.push_events(events_frame([("u1", "i2", happened, "view")]), now=came)

    def last_seen(moment: int, *, honour_created: bool = True) -> int:
        table = live.features_as_known(["u1"], np.array([moment]), honour_created=honour_created)
        return int(table["timestamps"].to_pylist()[0][-1])

    def check() -> None:
        assert last_seen(came + 1) == happened
        assert last_seen(happened + DAY) < happened
        assert last_seen(happened + DAY, honour_created=False) == happened, "without the guard it would leak"

    check()
    early = Shop(shop.interactions[shop.interactions.timestamp < START + 40 * DAY], shop.items)
    live.write(early, config)
    assert not list(live.files.view("user_behavior").glob("pushed-*")), "now part of the base"
    check()
    log = live.files.with_pushed(early.interactions)
    contexts = live.training_contexts(log, vocabulary, config, WEIGHTS)
    assert happened in contexts.moments[contexts.user_ids == "u1"]
    live.materialize()
    found = live.online(["u1"])[0]
    assert found is not None
    assert found.as_of == happened


def test_a_broken_store_is_a_dependency_error_and_heals(
    live: FeatureStoreRoom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DependencyError, match="no feature store"):
        OnlineFeatureSource(tmp_path / "nowhere", 1).fetch(["u1"])
    source = OnlineFeatureSource(live.folder, 1)
    assert source.fetch([]) == []

    def locked(*_: Any, **__: Any) -> None:
        raise sqlite3.OperationalError("database is locked")

    with monkeypatch.context() as broken:
        broken.setattr(type(live.store), "get_online_features", locked)
        with pytest.raises(DependencyError, match=r"cannot be read .*locked"):
            source.fetch(["u1"])
    assert source.fetch(["u1"])[0] is not None


def test_staleness_is_judged_by_the_newest_event(filled: FeatureStoreRoom) -> None:
    source = OnlineFeatureSource(filled.folder, ttl_days=2)
    features = source.fetch(["u1"])[0]
    assert features is not None
    assert features.as_of is not None
    assert not source.is_stale(features, features.as_of + 2 * DAY)
    assert source.is_stale(features, features.as_of + 2 * DAY + 1)


def test_one_feast_read_per_request(filled: FeatureStoreRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    source = OnlineFeatureSource(filled.folder, 1)
    source.open()
    store: Any = type(filled.store)
    calls: list[int] = []
    read = store.get_online_features

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return read(self, *args, **kwargs)

    monkeypatch.setattr(store, "get_online_features", counted)
    assert len(source.fetch(["u1", "nobody", "u2"])) == 3
    assert len(calls) == 1


def test_threads_share_one_source(filled: FeatureStoreRoom) -> None:
    source = OnlineFeatureSource(filled.folder, 1)
    users = [f"u{code}" for code in range(12)]
    expected = [source.fetch([user])[0] for user in users]
    fresh = OnlineFeatureSource(filled.folder, 1)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda user: fresh.fetch([user])[0], users * 20))
    assert found == expected * 20


def test_a_read_is_quick(tmp_path: Path) -> None:
    """About 0.3 ms for a full history on one core; the bound leaves room for a busy machine."""
    shop = random_shop(3, num_users=20, num_items=500, num_events=4_000)
    room = FeatureStoreRoom(tmp_path)
    room.write(shop, FeaturesConfig())
    room.apply()
    room.materialize()
    source = OnlineFeatureSource(tmp_path, 1)
    source.open()
    seconds = []
    for turn in range(100):
        began = time.perf_counter()
        found = source.fetch([f"u{turn % 20}"])[0]
        seconds.append(time.perf_counter() - began)
        assert found is not None
        assert len(found.history) == 50
    assert np.median(seconds) < 0.005


@pytest.mark.parametrize("blocked", [pytest.param("absent", marks=pytest.mark.slow), "installed"])
def test_serving_features_need_no_torch(blocked: str, filled: FeatureStoreRoom) -> None:
    """Where torch is absent a read works; where it is installed it is not loaded."""
    guard = "import sys\nsys.modules['torch'] = sys.modules['transformers'] = None\n"
    script = f"""
import sys
from pathlib import Path
from serving.features import OnlineFeatureSource
assert not sys.modules.get("torch") and "feast" not in sys.modules, "the client is built lazily"
source = OnlineFeatureSource(Path({str(filled.folder)!r}), 1)
assert source.fetch(["u1", "nobody"])[0].num_events > 0
assert sys.modules.get("torch") is None and sys.modules.get("transformers") is None
print("fine")
"""
    done = subprocess.run(
        [sys.executable, "-c", (guard if blocked == "absent" else "") + script],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.stdout.strip() == "fine", done.stderr


def test_request_time_facts_through_the_ranking_service(tmp_path: Path, config: FeaturesConfig) -> None:
    room = FeatureStoreRoom(tmp_path)
    events = events_frame([("a", "i1", START, "view"), ("b", "i2", START + 60, "view")])
    room.write(Shop(events, items_frame(5)), config)
    room.apply()
    room.materialize(items=True)
    moment = START + DAY + 3 * 3_600
    answer = room.store.get_online_features(
        features=room.store.get_feature_service("ranking_v1"),
        entity_rows=[
            {"user_id": "a", "item_id": "i2", "moment": moment},
            {"user_id": "nobody", "item_id": "i4", "moment": moment},
        ],
    ).to_dict()
    assert answer["seconds_since_last"] == [moment - START, None]
    assert answer["hour_of_day"] == [3, 3]
    assert answer["day_of_week"] == [(START // DAY + 1 + 3) % 7] * 2
    assert answer["popularity_1d"] == [1, None]
    assert answer["brand"] == ["b2", "b0"]
