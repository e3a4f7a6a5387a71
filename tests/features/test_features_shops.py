"""One folder, one shop: strangers leave, a growing shop keeps its pushes, a failed copy changes nothing."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from features_shop import DAY, START, Shop, events_frame, random_shop
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.client import empty_tables
from recsys.config import FeaturesConfig
from recsys.data import features as features_module
from recsys.data.feature_files import replacing_rows
from recsys.data.features import FeatureStoreRoom
from recsys.data.same_shop import SKETCH, event_hashes, same_shop, sketch_of
from recsys.errors import DependencyError
from serving.features import OnlineFeatureSource


def other_shop() -> Shop:
    """Other people who buy other things at other times; `u1` is a customer of both."""
    shop = random_shop(77, num_users=3)
    stamps = shop.interactions["timestamp"] + 7
    return Shop(shop.interactions.assign(timestamp=stamps), shop.items)


def users_online(room: FeatureStoreRoom, view: str = "user_behavior") -> int:
    with sqlite3.connect(room.folder / "online.db") as connection:
        found = connection.execute(f"SELECT count(DISTINCT entity_key) FROM recsys_{view}").fetchone()
    return int(found[0])


def room_with(folder: Path, shop: Shop, config: FeaturesConfig, *, items: bool = False) -> FeatureStoreRoom:
    room = FeatureStoreRoom(folder)
    room.write(shop, config)
    room.apply()
    room.materialize(items=items)
    return room


def test_another_shops_users_leave_the_folder(shop: Shop, config: FeaturesConfig, tmp_path: Path) -> None:
    room = room_with(tmp_path / "one", shop, config, items=True)
    room.push_events(events_frame([("u1", "i2", START + 300 * DAY, "view")]), now=START + 300 * DAY)
    room.push_events(events_frame([("u_new", "i2", START + 300 * DAY, "view")]), now=START + 300 * DAY)
    source = OnlineFeatureSource(room.folder, 1)
    assert all(source.fetch(["u1", "u11", "u_new"]))
    other = other_shop()
    FeatureStoreRoom(room.folder).write(other, config)
    assert source.fetch(["u1", "u11", "u_new"]) == [None, None, None], "gone before the new ones come"
    room.apply()
    room.materialize()
    fresh = room_with(tmp_path / "two", other, config)
    users = ["u0", "u1", "u2", "u11", "u_new"]
    assert source.fetch(users) == fresh.online(users)
    assert [features is None for features in source.fetch(users)] == [False, False, False, True, True]
    assert users_online(room) == users_online(room, "user_items") == 3
    assert users_online(room, "item_text") == 0
    assert len(list(room.folder.glob("events-aside-*/pushed-*.parquet"))) == 2, "set aside, not destroyed"


def test_a_growing_shop_keeps_what_was_pushed(shop: Shop, config: FeaturesConfig, tmp_path: Path) -> None:
    cut = START + 40 * DAY
    early = shop.interactions[shop.interactions.timestamp < cut]
    room = room_with(tmp_path, Shop(early, shop.items), config)
    newcomer = events_frame([("newcomer", "i3", START + 90 * DAY, "view")])
    room.push_events(newcomer, now=START + 90 * DAY)
    room.write(shop, config)
    assert room.online(["newcomer"])[0] is not None, "still the same shop"
    room.materialize()
    users = shop.interactions[shop.interactions.event_type != "return"].user_id.nunique()
    assert users_online(room) == users + 1
    after = [("u1", "i1", START + 91 * DAY, "view")]
    later = pd.concat([shop.interactions, events_frame(after)])
    room.write(Shop(later, shop.items), config)
    room.materialize()
    assert room.online(["newcomer"]) == [None], "the log has passed that time and does not know them"


def test_users_that_the_shop_took_out_leave(shop: Shop, config: FeaturesConfig, tmp_path: Path) -> None:
    room = room_with(tmp_path, shop, config)
    room.push_events(events_frame([("u3", "i2", START + 5 * DAY + 9, "view")]), now=START + 6 * DAY)
    remaining = shop.interactions[shop.interactions.user_id != "u3"]
    room.write(Shop(remaining, shop.items), config)
    room.materialize()
    assert room.online(["u3"]) == [None]
    assert room.online(["u1"])[0] is not None


def test_an_earlier_moment_leaves_no_later_user(config: FeaturesConfig, tmp_path: Path) -> None:
    events = events_frame([("a", "i1", START, "view"), ("b", "i2", START + DAY, "view")])
    room = room_with(tmp_path, Shop(events, random_shop(1).items), config)
    room.materialize(START + 1)
    assert [features is None for features in room.online(["a", "b"])] == [False, True]


@pytest.mark.parametrize("failure", ["interrupted", "incomplete"])
def test_a_failed_copy_leaves_the_rows_before(
    failure: str, shop: Shop, config: FeaturesConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = room_with(tmp_path, shop, config)
    before = room.online(["u1", "u2"])
    copy = features_module.copy_newest

    def failing(*arguments: object) -> dict[str, int]:
        numbers = copy(*arguments)  # type: ignore[arg-type]
        if failure == "interrupted":
            raise sqlite3.OperationalError("disk full")
        with sqlite3.connect(tmp_path / "online.db.new") as connection:
            connection.execute("DELETE FROM recsys_user_items WHERE rowid < 10")
        return numbers

    monkeypatch.setattr(features_module, "copy_newest", failing)
    with pytest.raises(DependencyError, match="disk full" if failure == "interrupted" else "were copied of"):
        room.materialize()
    assert room.online(["u1", "u2"]) == before
    assert not list(tmp_path.glob("online.db.new*"))


def test_a_store_of_another_kind_is_emptied_by_its_own_means(
    shop: Shop, config: FeaturesConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = room_with(tmp_path, shop, config)
    empty_tables(room.store)
    assert room.online(["u1"]) == [None]
    monkeypatch.setattr(features_module, "online_file", lambda _: None)
    room.materialize()
    assert room.online(["u1"])[0] is not None
    room.write(other_shop(), config)
    assert room.online(["u1"]) == [None]


def test_rows_of_other_files_are_noticed(shop: Shop, config: FeaturesConfig, tmp_path: Path) -> None:
    """What an interrupted write leaves: new behaviour rows beside the places of the old ones."""
    room = FeatureStoreRoom(tmp_path)
    room.write(shop, config)
    room.apply()
    places = (room.files.view("user_state") / "base.parquet").read_bytes()
    users = ["u1", "u2", "u9"]
    asked = np.full(3, START + 50 * DAY)
    room.features_as_known(users, asked)
    fewer = shop.interactions[shop.interactions.user_id != "u0"]
    room.write(Shop(fewer, shop.items), config)
    (room.files.view("user_state") / "base.parquet").write_bytes(places)
    with pytest.raises(DependencyError, match="do not belong together"):
        room.features_as_known(users, asked)


@given(seed=st.integers(0, 1_000), share=st.floats(0.02, 1.0), oldest=st.floats(0.0, 0.3))
@settings(max_examples=25, deadline=None)
def test_a_log_that_grew_or_lost_its_oldest_events_is_the_same_shops(
    seed: int, share: float, oldest: float
) -> None:
    log = random_shop(seed, num_users=500, num_events=3_000).interactions
    before = log.iloc[: max(int(share * len(log)), 10)]
    now = log.iloc[int(oldest * len(before)) :]
    assert same_shop(sketch_of(event_hashes(before)), event_hashes(now))
    assert same_shop(sketch_of(event_hashes(now)), event_hashes(now.iloc[-len(now) // 4 :]))
    stranger = random_shop(seed + 1, num_users=500, num_events=3_000).interactions
    renamed = stranger.assign(user_id="x" + stranger.user_id)
    assert not same_shop(sketch_of(event_hashes(before)), event_hashes(renamed))


def test_a_fingerprint_is_small_fixed_and_blind_to_order() -> None:
    log = random_shop(4, num_events=2_000).interactions
    hashes = event_hashes(log)
    assert len(sketch_of(hashes)) == SKETCH
    assert hashes.tolist() == sorted(set(hashes.tolist()))
    assert hashes.tolist() == event_hashes(log.sample(frac=1, random_state=0)).tolist()
    one = events_frame([("a", "i1", START, "view")])
    assert event_hashes(one).tolist() == event_hashes(one.assign(event_type="purchase")).tolist() == [FIXED]
    assert event_hashes(one.assign(user_id="i1", item_id="a")).tolist() != [FIXED]
    nothing = event_hashes(events_frame([]))
    assert sketch_of(nothing) == []
    assert same_shop([], hashes)
    assert not same_shop(sketch_of(hashes), nothing)


FIXED = 7713559002399208838
"""The hash of one event: folders written earlier compare with it."""


def test_what_a_killed_writer_left_is_never_read(tmp_path: Path, shop: Shop) -> None:
    room = FeatureStoreRoom(tmp_path)
    room.write(shop, FeaturesConfig())
    room.apply()
    wanted = room.features_as_known(["u1"], np.array([START + 90 * DAY]))
    base = room.files.view("user_behavior") / "base.parquet"
    with replacing_rows(base) as temporary:
        name, whole = f".left-behind{temporary.suffix}", base.read_bytes()
        temporary.write_bytes(whole)
    (base.parent / name).write_bytes(b"half")
    base.with_name(f"{base.name}{temporary.suffix.removeprefix('.parquet')}").write_bytes(b"half")
    assert room.features_as_known(["u1"], np.array([START + 90 * DAY])).equals(wanted)
    room.materialize()
