"""Training rows through Feast: nothing from the future, nothing lost, one truth for three fits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from features_shop import DAY, SHARED, START, Shop, events_frame, items_frame

from recsys.config import DataConfig, FeaturesConfig
from recsys.contexts import Contexts, Vocabulary, event_code
from recsys.data import features as features_module
from recsys.data.contexts_from import contexts_before, contexts_of, labels_by_moment
from recsys.data.feature_arrow import times
from recsys.data.features import FeatureStoreRoom
from recsys.errors import ArtifactError, DependencyError, LeakageError

WEIGHTS = DataConfig().event_weights
FIELDS = ("rows", "event_codes", "timestamps")


def assert_same(one: Contexts, other: Contexts) -> None:
    for name in Contexts.__slots__:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def brute_force(
    shop: Shop, vocabulary: Vocabulary, length: int
) -> dict[tuple[str, int], tuple[list[int], ...]]:
    """Histories and targets by (user, moment) with plain loops."""
    positive = shop.interactions[shop.interactions.event_type != "return"]
    rows = {}
    for user, events in positive.groupby("user_id"):
        for moment, now in events.groupby("timestamp"):
            past = events[events.timestamp < moment].sort_values(["timestamp", "item_id", "event_type"])
            past = past.tail(length)
            rows[str(user), int(moment)] = (
                vocabulary.rows(past.item_id.tolist()).tolist(),
                [event_code(name) for name in past.event_type],
                past.timestamp.tolist(),
                sorted(vocabulary.rows(now.item_id.unique().tolist()).tolist()),
            )
    return rows


def test_contexts_equal_brute_force(
    filled: FeatureStoreRoom, shop: Shop, vocabulary: Vocabulary, config: FeaturesConfig
) -> None:
    contexts = filled.training_contexts(shop.interactions, vocabulary, config, WEIGHTS)
    expected = brute_force(shop, vocabulary, config.history_length)
    assert len(contexts) == len(expected)
    assert contexts.role == "fit"
    for row in range(len(contexts)):
        history = contexts.history(row)
        found = (
            history.rows.tolist(),
            history.event_codes.tolist(),
            history.timestamps.tolist(),
            contexts.targets(row).tolist(),
        )
        assert found == expected[str(contexts.user_ids[row]), int(contexts.moments[row])]
    assert (np.diff(contexts.history_offsets) == 0).sum() == contexts.user_ids.size - sum(
        bool(history) for history, *_ in expected.values()
    ), "a user's first context is kept, with an empty history"


def test_a_target_weighs_what_its_heaviest_event_weighs(tmp_path: Path) -> None:
    events = events_frame(
        [("a", "i1", START, "view"), ("a", "i1", START, "purchase"), ("a", "i2", START, "view")]
    )
    labels = labels_by_moment(events, Vocabulary(["i2", "i1"]), WEIGHTS, 1)
    assert labels.target_rows.tolist() == [0, 1]
    assert labels.target_weights.tolist() == pytest.approx([0.2, 1.0])


def test_joining_in_parts_changes_nothing(
    filled: FeatureStoreRoom,
    shop: Shop,
    vocabulary: Vocabulary,
    config: FeaturesConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = filled.training_contexts(shop.interactions, vocabulary, config, WEIGHTS)
    monkeypatch.setattr(features_module, "MOST_PAIRS", 500)
    asked: list[int] = []
    join = FeatureStoreRoom.features_as_known

    def counted(self: FeatureStoreRoom, users: object, moments: np.ndarray) -> pa.Table:  # type: ignore[type-arg]
        asked.append(len(moments))
        return join(self, users, moments)

    monkeypatch.setattr(FeatureStoreRoom, "features_as_known", counted)
    assert_same(whole, filled.training_contexts(shop.interactions, vocabulary, config, WEIGHTS))
    assert len(asked) > 3


@pytest.mark.parametrize("grain", ["second", "day"])
def test_three_fits_from_one_store(grain: str, vocabulary: Vocabulary, shop: Shop, tmp_path: Path) -> None:
    """Contexts of the whole log, cut, are those of a store that never saw the rest."""
    config = FeaturesConfig(history_length=6, grain=grain)
    cut = START + 30 * DAY + 7 * 3_600  # inside a day
    early = Shop(shop.interactions[shop.interactions.timestamp < cut], shop.items)
    tables = []
    for name, known in (("whole", shop), ("early", early)):
        room = FeatureStoreRoom(tmp_path / name)
        room.write(known, config)
        room.apply()
        contexts = room.training_contexts(known.interactions, vocabulary, config, WEIGHTS)
        tables.append(contexts_before(contexts, cut, room.grain))
    assert len(tables[0]) > 20
    assert_same(*tables)


@pytest.mark.parametrize("grain", ["second", "day"])
def test_held_out_rows_see_nothing_after_the_cut(
    grain: str, vocabulary: Vocabulary, shop: Shop, tmp_path: Path
) -> None:
    config = FeaturesConfig(history_length=6, grain=grain)
    cut = START + 30 * DAY + 7 * 3_600
    room = FeatureStoreRoom(tmp_path)
    newcomer = events_frame([("newcomer", "i3", cut + 5, "view")])
    events = pd.concat([shop.interactions, newcomer], ignore_index=True)
    room.write(Shop(events, shop.items), config)
    room.apply()
    held_out = room.held_out_contexts(events, cut, vocabulary, config, WEIGHTS)
    later = events[(events.timestamp >= cut) & (events.event_type != "return")]
    assert held_out.user_ids.tolist() == sorted(later.user_id.unique())
    assert held_out.role == "held_out"
    assert set(held_out.moments) == {cut}
    assert (held_out.history_timestamps < cut).all()
    newcomer_row = held_out.user_ids.tolist().index("newcomer")
    assert len(held_out.history(newcomer_row).rows) == 0
    for row, user in enumerate(held_out.user_ids):
        wanted = later[later.user_id == user].item_id.unique().tolist()
        assert sorted(held_out.targets(row)) == sorted(vocabulary.rows(wanted))
    with pytest.raises(LeakageError):
        held_out.require_fit()


def test_held_out_rows_tell_all_that_a_user_had(
    filled: FeatureStoreRoom, shop: Shop, vocabulary: Vocabulary, config: FeaturesConfig
) -> None:
    """What the kept history has forgotten comes once, before it; what the towers read does not change."""
    cut = START + 45 * DAY
    later = shop.interactions[shop.interactions.timestamp >= cut]
    told = filled.held_out_contexts(shop.interactions, cut, vocabulary, config, WEIGHTS)
    kept = filled.held_out_contexts(later, cut, vocabulary, config, WEIGHTS)
    positive = shop.interactions[shop.interactions.event_type != "return"]
    past = positive[positive.timestamp < cut].sort_values(["timestamp", "item_id", "event_type"])
    grown = 0
    for row, user in enumerate(told.user_ids):
        whole, short = told.history(row), kept.history(row)
        mine = past[past.user_id == user].assign(row=lambda events: vocabulary.rows(events.item_id.tolist()))
        assert set(whole.rows) == set(mine.row)
        assert (np.diff(whole.timestamps) >= 0).all()
        number = len(whole.rows) - len(short.rows)
        older = mine.drop_duplicates("row", keep="last")
        older = older[~older.row.isin(short.rows)]
        expected = [
            (a, event_code(b), c)
            for a, b, c in zip(older.row, older.event_type, older.timestamp, strict=True)
        ]
        found = zip(*(getattr(whole, name).tolist() for name in FIELDS), strict=True)
        assert list(found)[:number] == expected
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(whole, name)[number:], getattr(short, name))
        grown += number > 0
    assert grown > 5, "users with more events than are kept"
    np.testing.assert_array_equal(told.target_rows, kept.target_rows)


def test_what_became_known_after_the_cut_was_not_had(
    vocabulary: Vocabulary, shop: Shop, tmp_path: Path
) -> None:
    config, cut = FeaturesConfig(history_length=2), START + 30 * DAY
    rows = [("a", f"i{place}", START + place * DAY, "view") for place in range(5)] + [
        ("a", "i9", cut, "view")
    ]
    events = events_frame(rows)
    events["_created"] = events.timestamp.where(events.item_id != "i1", cut + DAY)
    room = FeatureStoreRoom(tmp_path)
    room.write(Shop(events, shop.items), config)
    room.apply()
    held_out = room.held_out_contexts(events, cut, vocabulary, config, WEIGHTS)
    assert held_out.history(0).rows.tolist() == vocabulary.rows(["i0", "i2", "i3", "i4"]).tolist()


@pytest.fixture
def planted(tmp_path: Path, config: FeaturesConfig) -> FeatureStoreRoom:
    """One user with an event on each of ten days, in a store of his own."""
    events = events_frame([("a", f"i{day}", START + day * DAY, "view") for day in range(10)])
    room = FeatureStoreRoom(tmp_path)
    room.write(Shop(events, items_frame(20)), config)
    room.apply()
    return room


def plant(room: FeatureStoreRoom, item: str, event_timestamp: int, created: int) -> None:
    """Add a feature row by hand, whatever it claims."""
    base = room.files.view("user_behavior") / "base.parquet"
    row = pa.parquet.read_table(base).slice(0, 1)
    changes = {
        "event_timestamp": times(np.array([event_timestamp])),
        "created": times(np.array([created])),
        "item_ids": pa.array([[item]]),
        "event_types": pa.array([["view"]]),
        "timestamps": pa.array([[START]]),
    }
    for name, column in changes.items():
        row = row.set_column(row.schema.get_field_index(name), row.schema.field(name), column)
    room.files.add_pushed("user_behavior", row)


def items_known(room: FeatureStoreRoom, moment: int, *, honour_created: bool = True) -> list[str]:
    table = room.features_as_known(["a"], np.array([moment]), honour_created=honour_created)
    found: list[str] = table["item_ids"].to_pylist()[0]
    return found


def test_a_feature_from_the_future_does_not_leak(planted: FeatureStoreRoom) -> None:
    moment = START + 5 * DAY + 100
    before = items_known(planted, moment)
    assert before == ["i0", "i1", "i2", "i3", "i4", "i5"]
    plant(planted, "i18", event_timestamp=moment, created=moment)  # the moment itself is future too
    plant(planted, "i19", event_timestamp=moment + 50, created=moment + 50)
    assert items_known(planted, moment) == before
    assert items_known(planted, moment + 1) == ["i18"], "the row is there for who may see it"
    assert items_known(planted, moment + 51) == ["i19"]


def test_a_late_correction_does_not_leak(planted: FeatureStoreRoom) -> None:
    moment = START + 5 * DAY
    before = items_known(planted, moment)
    plant(planted, "i19", event_timestamp=START + 4 * DAY, created=moment + 3 * DAY)
    assert items_known(planted, moment) == before
    assert items_known(planted, moment, honour_created=False) == ["i19"], "without the guard it would leak"
    later = START + 4 * DAY + 1
    assert items_known(planted, later) == before
    assert items_known(planted, later, honour_created=False) == ["i19"]


def test_a_join_that_returned_the_future_would_be_refused(
    planted: FeatureStoreRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second guard: whatever row the store names, its times are compared with what was asked."""
    moment = START + 5 * DAY
    asked = {"user_id": ["a"], "event_timestamp": times(np.array([moment])), "place": [0]}
    plant(planted, "i19", event_timestamp=START + 4 * DAY, created=moment + 1)
    pushed = max(planted.files.behaviour_paths())
    named: dict[str, list[int]] = {}

    class Job:
        def to_arrow(self) -> pa.Table:
            return pa.table({**asked, **named})

    monkeypatch.setattr(type(planted.store), "get_historical_features", lambda *_, **__: Job())
    named.update(state_file=[0], state_row=[4])
    assert items_known(planted, moment) == ["i0", "i1", "i2", "i3", "i4"]
    for file, row in ((0, 6), (pushed, 0)):
        named.update(state_file=[file], state_row=[row])
        with pytest.raises(DependencyError, match="1 of 1 rows are of another user or time"):
            items_known(planted, moment)
    assert items_known(planted, moment, honour_created=False) == ["i19"], "without the guard it would leak"
    named.update(state_file=[0], state_row=[10])
    with pytest.raises(DependencyError, match="has no row 10"):
        items_known(planted, moment)
    named.update(state_file=[7], state_row=[0])
    with pytest.raises(DependencyError, match="file 7"):
        items_known(planted, moment)


def test_rows_lost_by_the_store_are_noticed(
    planted: FeatureStoreRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    lossy = pa.table({"user_id": ["a"], "place": [0]})

    class Job:
        def to_arrow(self) -> pa.Table:
            return lossy

    monkeypatch.setattr(type(planted.store), "get_historical_features", lambda *_, **__: Job())
    with pytest.raises(DependencyError, match="1 out, 2 in"):
        planted.features_as_known(["a", "a"], np.array([START, START + 1]))


def test_a_history_that_reaches_its_moment_is_refused(vocabulary: Vocabulary) -> None:
    labels = labels_by_moment(events_frame([("a", "i1", START, "view")]), vocabulary, WEIGHTS, 1)
    joined = pa.table(
        {"user_id": ["a"], "item_ids": [["i2"]], "event_types": [["view"]], "timestamps": [[START]]}
    )
    with pytest.raises(LeakageError, match=r"1 events at or after.*'a'"):
        contexts_of(labels, joined, vocabulary, "fit")
    with pytest.raises(LeakageError, match="do not match"):
        contexts_of(labels, joined.slice(0, 0), vocabulary, "fit")


def test_a_store_of_another_history_length_is_refused(
    filled: FeatureStoreRoom, shop: Shop, vocabulary: Vocabulary
) -> None:
    with pytest.raises(ArtifactError, match="history_length"):
        filled.training_contexts(shop.interactions, vocabulary, FeaturesConfig(history_length=7), WEIGHTS)


def test_nothing_asked_nothing_given(
    filled: FeatureStoreRoom, vocabulary: Vocabulary, config: FeaturesConfig
) -> None:
    empty = filled.training_contexts(events_frame([]), vocabulary, config, WEIGHTS)
    assert len(empty) == 0
    assert empty.history_offsets.tolist() == [0]


def test_items_outside_the_catalogue_leave_history_and_targets(
    tmp_path: Path, config: FeaturesConfig
) -> None:
    rows = [("a", item, START + at, "view") for at, item in enumerate(["x", "i1", "x", "i2"])]
    events = events_frame(rows)
    room = FeatureStoreRoom(tmp_path)
    room.write(Shop(events, items_frame(5)), config)
    room.apply()
    contexts = room.training_contexts(events, Vocabulary(["i1", "i2"]), config, WEIGHTS)
    assert contexts.moments.tolist() == [START + 1, START + 3]
    assert contexts.history_rows.tolist() == [0]
    assert contexts.target_rows.tolist() == [0, 1]


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the public datasets are not beside the project")
def test_a_real_shop_agrees_with_merge_asof(tmp_path: Path) -> None:
    folder = SHARED / "online_retail"
    items = pd.read_parquet(folder / "items.parquet").assign(tags="", available_from=np.nan)
    log = pd.read_parquet(folder / "interactions.parquet")
    log = log[log.user_id.isin(sorted(log.user_id.unique())[:300])]
    room = FeatureStoreRoom(tmp_path)
    room.write(Shop(log, items), FeaturesConfig())
    room.apply()
    vocabulary = Vocabulary(items.item_id.tolist())
    contexts = room.training_contexts(log, vocabulary, FeaturesConfig(), WEIGHTS)
    base = pd.read_parquet(room.files.view("user_behavior") / "base.parquet")
    base["at"] = base.last_timestamp
    asked = pd.DataFrame({"user_id": contexts.user_ids.astype(object), "at": contexts.moments})
    merged = pd.merge_asof(
        asked.reset_index().sort_values("at"),
        base.sort_values("at")[["user_id", "at", "timestamps"]],
        on="at",
        by="user_id",
        allow_exact_matches=False,
    ).sort_values("index")
    sizes = [0 if isinstance(stamps, float) else len(stamps) for stamps in merged.timestamps]
    assert np.diff(contexts.history_offsets).tolist() == sizes
    flat = [stamp for stamps in merged.timestamps if not isinstance(stamps, float) for stamp in stamps]
    assert contexts.history_timestamps.tolist() == flat
