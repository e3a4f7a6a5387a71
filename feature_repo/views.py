"""The feature views. No view has a time to live.

Feast applies a time to live to training joins and not to online reads, so one would make training and
serving differ; the reader of the online store judges staleness by `last_timestamp` instead.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from feast import Entity, FeatureView, Field
from feast.types import Array, Float64, Int64, String

from feature_repo.sources import file_source, push_source

_FOREVER = timedelta(0)


def user_behavior(folder: Path, user: Entity) -> FeatureView:
    """A user's newest positive events, oldest first, and what follows from them."""
    return FeatureView(
        name="user_behavior",
        entities=[user],
        ttl=_FOREVER,
        source=push_source(folder, "user_behavior"),
        schema=[
            Field(name="user_id", dtype=String),
            Field(name="item_ids", dtype=Array(String)),
            Field(name="event_types", dtype=Array(String)),
            Field(name="timestamps", dtype=Array(Int64)),
            Field(name="num_events", dtype=Int64),
            Field(name="count_1d", dtype=Int64),
            Field(name="count_7d", dtype=Int64),
            Field(name="count_30d", dtype=Int64),
            Field(name="mean_price", dtype=Float64),
            Field(name="top_categories", dtype=Array(String)),
            Field(name="top_brands", dtype=Array(String)),
            Field(name="last_timestamp", dtype=Int64),
        ],
    )


def user_state(folder: Path, user: Entity) -> FeatureView:
    """Where each row of `user_behavior` lies: what training joins, since lists are dear in a join.

    `state_file` names a file of `user_behavior` (0: the base; else the number in a pushed file's name) and
    `state_row` a row of it. Never online.
    """
    return FeatureView(
        name="user_state",
        entities=[user],
        ttl=_FOREVER,
        online=False,
        source=file_source(folder, "user_state"),
        schema=[
            Field(name="user_id", dtype=String),
            Field(name="state_file", dtype=Int64),
            Field(name="state_row", dtype=Int64),
        ],
    )


def user_items(folder: Path, user: Entity) -> FeatureView:
    """Every distinct item a user has a positive event on; the newest state only."""
    return FeatureView(
        name="user_items",
        entities=[user],
        ttl=_FOREVER,
        source=push_source(folder, "user_items"),
        schema=[
            Field(name="user_id", dtype=String),
            Field(name="owned_item_ids", dtype=Array(String)),
            Field(name="owned_counts", dtype=Array(Int64)),
            Field(name="owned_last_timestamps", dtype=Array(Int64)),
        ],
    )


def item_text(folder: Path, item: Entity) -> FeatureView:
    """What an item says of itself."""
    return FeatureView(
        name="item_text",
        entities=[item],
        ttl=_FOREVER,
        source=file_source(folder, "item_text"),
        schema=[
            Field(name="item_id", dtype=String),
            *(
                Field(name=name, dtype=String)
                for name in ("title", "description", "brand", "category", "tags")
            ),
            Field(name="price", dtype=Float64),
        ],
    )


def item_stats(folder: Path, item: Entity) -> FeatureView:
    """How an item sold, by the days on which it did."""
    return FeatureView(
        name="item_stats",
        entities=[item],
        ttl=_FOREVER,
        source=file_source(folder, "item_stats"),
        schema=[
            Field(name="item_id", dtype=String),
            Field(name="popularity_1d", dtype=Int64),
            Field(name="popularity_7d", dtype=Int64),
            Field(name="popularity_30d", dtype=Int64),
            Field(name="return_rate", dtype=Float64),
            Field(name="first_seen", dtype=Int64),
            Field(name="last_seen", dtype=Int64),
            Field(name="age_days", dtype=Float64),
        ],
    )
