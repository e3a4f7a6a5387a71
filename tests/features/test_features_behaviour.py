"""Behaviour rows against a second, plain formulation, and hand-computed cases."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest
from features_shop import DAY, START, Shop, events_frame, items_frame, random_shop
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.config import FeaturesConfig
from recsys.data.behaviour import behaviour_rows, owned_rows, user_features_at, write_snapshot
from recsys.data.item_rows import item_stats_rows, item_text_rows
from recsys.data.log import CREATED, grain_seconds, moments
from recsys.errors import ArtifactError
from recsys.snapshot import SnapshotSource, is_stale


def plain_state(events: pd.DataFrame, items: pd.DataFrame, length: int) -> dict[str, Any]:
    """One user's state after the given positive events, written as a person would."""
    facts = items.set_index("item_id")
    rows = sorted(zip(events.timestamp, events.item_id, events.event_type, strict=True))
    kept = rows[-length:]
    last = kept[-1][0]
    prices = [facts.price[item] for _, item, _ in kept if item in facts.index]
    known = [price for price in prices if not np.isnan(price)]

    def leading(column: str) -> list[str]:
        names = [facts[column][item] if item in facts.index else "" for _, item, _ in kept]
        count = Counter(name for name in names if name)
        newest = {name: place for place, name in enumerate(names)}
        return sorted(count, key=lambda name: (-count[name], -newest[name]))[:3]

    return {
        "item_ids": [item for _, item, _ in kept],
        "event_types": [event for _, _, event in kept],
        "timestamps": [stamp for stamp, _, _ in kept],
        "num_events": len(rows),
        **{f"count_{d}d": sum(last - stamp < d * DAY for stamp, _, _ in kept) for d in (1, 7, 30)},
        "mean_price": float(np.mean(known)) if known else None,
        "top_categories": leading("category"),
        "top_brands": leading("brand"),
        "last_timestamp": last,
    }


@given(
    seed=st.integers(0, 10_000), length=st.integers(1, 9), grain=st.sampled_from(["second", "hour", "day"])
)
@settings(max_examples=15, deadline=None)
def test_rows_equal_the_plain_formulation(seed: int, length: int, grain: str) -> None:
    shop = random_shop(seed, num_users=4, num_items=12, num_events=80)
    found = behaviour_rows(
        shop.interactions, shop.items.iloc[:-2], FeaturesConfig(history_length=length, grain=grain)
    ).to_pylist()
    seconds = {"second": 1, "hour": 3_600, "day": DAY}[grain]
    positive = shop.interactions[shop.interactions.event_type != "return"]
    expected = {
        (user, moment): plain_state(
            events[events.timestamp // seconds <= moment], shop.items.iloc[:-2], length
        )
        for user, events in positive.groupby("user_id")
        for moment in (events.timestamp // seconds).unique()
    }
    assert len(found) == len(expected)
    for row in found:
        state = expected[row["user_id"], row["last_timestamp"] // seconds]
        assert row["event_timestamp"].timestamp() == row["created"].timestamp() == state["last_timestamp"]
        for name, value in state.items():
            assert row[name] == (pytest.approx(value) if name == "mean_price" else value), name


def test_rows_do_not_depend_on_the_order_of_the_file(shop: Shop, config: FeaturesConfig) -> None:
    shuffled = shop.interactions.sample(frac=1, random_state=0)
    assert behaviour_rows(shuffled, shop.items, config) == behaviour_rows(
        shop.interactions, shop.items, config
    )


def test_auto_grain_is_the_finest_with_few_moments() -> None:
    every_minute = [("a", "i1", START + 60 * n, "view") for n in range(401)]
    assert grain_seconds(events_frame(every_minute[:400]), "auto") == 1
    assert grain_seconds(events_frame(every_minute), "auto") == 3_600
    every_hour = [("a", "i1", START + 3_600 * n, "view") for n in range(401)]
    assert grain_seconds(events_frame(every_hour), "auto") == DAY
    assert grain_seconds(events_frame([]), "auto") == 1
    assert moments(events_frame(every_hour[:30]), "day").tolist() == [START] * 24 + [START + DAY] * 6


def test_no_events_and_returns_alone_give_no_rows(config: FeaturesConfig) -> None:
    items = items_frame(3)
    for events in (events_frame([]), events_frame([("a", "i1", START, "return")])):
        assert behaviour_rows(events, items, config).num_rows == 0
        assert owned_rows(events).num_rows == 0
        assert user_features_at(events, items, ["a"], START + 1, config) == [None]


def test_owned_items_count_every_positive_event(shop: Shop) -> None:
    moment = START + 30 * DAY
    for row in owned_rows(shop.interactions, moment).to_pylist():
        mine = shop.interactions[
            (shop.interactions.user_id == row["user_id"])
            & (shop.interactions.event_type != "return")
            & (shop.interactions.timestamp < moment)
        ]
        grouped = mine.groupby("item_id").timestamp.agg(["size", "max"]).sort_index()
        assert row["owned_item_ids"] == grouped.index.tolist()
        assert row["owned_counts"] == grouped["size"].tolist()
        assert row["owned_last_timestamps"] == grouped["max"].tolist()


def test_late_events_give_rows_created_late_beside_the_old_ones(config: FeaturesConfig) -> None:
    events = events_frame([("a", "i1", START, "view"), ("a", "i2", START + 100, "view")])
    events[CREATED] = [START + 500, START + 100]
    rows = behaviour_rows(events, items_frame(3), config).to_pylist()
    seen = [
        (r["item_ids"], int(r["event_timestamp"].timestamp()), int(r["created"].timestamp())) for r in rows
    ]
    assert sorted(seen) == [
        (["i1"], START, START + 500),
        (["i1", "i2"], START + 100, START + 500),
        (["i2"], START + 100, START + 100),
    ]


def test_item_stats_count_windows_and_returns() -> None:
    events = events_frame(
        [
            ("a", "i1", START, "purchase"),
            ("a", "i1", START + 5, "return"),
            ("b", "i1", START + 3 * DAY, "purchase"),
            ("b", "i1", START + 3 * DAY + 10, "view"),
            ("c", "i1", START + 40 * DAY, "return"),
            ("c", "i2", START, "purchase"),
        ]
    )
    rows = [r for r in item_stats_rows(events, items_frame(3)).to_pylist() if r["item_id"] == "i1"]
    assert [r["popularity_1d"] for r in rows] == [1, 2, 0]
    assert [r["popularity_7d"] for r in rows] == [1, 3, 0]
    assert [r["popularity_30d"] for r in rows] == [1, 3, 0]
    assert [r["return_rate"] for r in rows] == [1.0, pytest.approx(1 / 3), pytest.approx(2 / 3)]
    assert [r["first_seen"] for r in rows] == [START] * 3
    assert rows[1]["age_days"] == pytest.approx(3 + 10 / DAY)


def test_item_text_is_known_since_it_was_available() -> None:
    items = items_frame(2).assign(available_from=[np.nan, float(START)])
    rows = item_text_rows(items).to_pylist()
    assert [r["event_timestamp"].timestamp() for r in rows] == [0, START]
    assert rows[0]["price"] is None
    assert rows[1]["price"] == 1.25


def test_snapshot_returns_what_was_written(shop: Shop, config: FeaturesConfig, tmp_path: Any) -> None:
    moment = START + 30 * DAY
    path = tmp_path / "users.parquet"
    write_snapshot(path, shop.interactions, shop.items, moment, config)
    source = SnapshotSource(path)
    asked = ["u3", "nobody", "u0"]
    assert source.fetch(asked) == user_features_at(shop.interactions, shop.items, asked, moment, config)
    known = source.fetch(["u3"])[0]
    assert known is not None
    assert known.as_of is not None
    assert known.as_of < moment
    assert not is_stale(known, known.as_of + DAY, ttl_days=1)
    assert is_stale(known, known.as_of + DAY + 1, ttl_days=1)


def test_a_damaged_snapshot_says_so(tmp_path: Any) -> None:
    with pytest.raises(ArtifactError, match="snapshot"):
        SnapshotSource(tmp_path / "none.parquet")
    pd.DataFrame({"user_id": ["a"]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(ArtifactError, match=r"snapshot"):
        SnapshotSource(tmp_path / "other.parquet")
