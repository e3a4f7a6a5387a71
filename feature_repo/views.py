"""The feature views. No view has a time to live.

Feast applies a time to live to training joins and not to online reads, so one would make training and
serving differ; the reader of the online store judges staleness by `last_timestamp` instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from feast import Entity, FeatureView, Field
from feast.types import Array, FeastType, Float32, Float64, Int64, String

from feature_repo.sources import file_source, push_source

_Fields = Mapping[str, FeastType]
_FOREVER = timedelta(0)
_STRINGS, _NUMBERS = Array(String), Array(Int64)
_PROVENANCE: dict[str, FeastType] = {
    "policy_id": String,
    "seed": Int64,
    "row_id": String,
    "parent_id": String,
    "op": String,
    "plan": String,
    "score_names": _STRINGS,
    "score_values": Array(Float32),
    "created_at": Int64,
    "batch": Int64,
}
"""What every augmented row says of itself; the first three are its join keys."""


def user_behavior(folder: Path, user: Entity) -> FeatureView:
    """A user's newest positive events, oldest first, and what follows from them."""
    fields: _Fields = {
        "user_id": String,
        "item_ids": _STRINGS,
        "event_types": _STRINGS,
        "timestamps": _NUMBERS,
        "num_events": Int64,
        "count_1d": Int64,
        "count_7d": Int64,
        "count_30d": Int64,
        "mean_price": Float64,
        "top_categories": _STRINGS,
        "top_brands": _STRINGS,
        "last_timestamp": Int64,
    }
    return _pushed(folder, "user_behavior", user, fields)


def user_state(folder: Path, user: Entity) -> FeatureView:
    """Where each row of `user_behavior` lies: what training joins, since lists are dear in a join.

    `state_file` names a file of `user_behavior` (0: the base; else the number in a pushed file's name) and
    `state_row` a row of it. Never online.
    """
    fields: _Fields = {"user_id": String, "state_file": Int64, "state_row": Int64}
    return _filed(folder, "user_state", [user], fields, online=False)


def user_items(folder: Path, user: Entity) -> FeatureView:
    """Every distinct item a user has a positive event on; the newest state only."""
    fields: _Fields = {
        "user_id": String,
        "owned_item_ids": _STRINGS,
        "owned_counts": _NUMBERS,
        "owned_last_timestamps": _NUMBERS,
    }
    return _pushed(folder, "user_items", user, fields)


def item_text(folder: Path, item: Entity) -> FeatureView:
    """What an item says of itself."""
    words = dict.fromkeys(("item_id", "title", "description", "brand", "category", "tags"), String)
    return _filed(folder, "item_text", [item], {**words, "price": Float64})


def item_stats(folder: Path, item: Entity) -> FeatureView:
    """How an item sold, by the days on which it did."""
    fields: _Fields = {
        "item_id": String,
        "popularity_1d": Int64,
        "popularity_7d": Int64,
        "popularity_30d": Int64,
        "return_rate": Float64,
        "first_seen": Int64,
        "last_seen": Int64,
        "age_days": Float64,
    }
    return _filed(folder, "item_stats", [item], fields)


def augmented_histories(folder: Path, keys: list[Entity]) -> FeatureView:
    """Augmented histories of all policies, each row at its parent's time, known since it was made.

    An item that an op has hidden is null in `item_ids`; `lenders` are the users whose events it borrowed.
    """
    fields: _Fields = {
        **_PROVENANCE,
        "user_id": String,
        "item_ids": _STRINGS,
        "event_types": _STRINGS,
        "timestamps": _NUMBERS,
        "lenders": _STRINGS,
    }
    return _filed(folder, "augmented_histories", keys, fields, online=False)


def augmented_texts(folder: Path, keys: list[Entity]) -> FeatureView:
    """Augmented item texts of all policies, known since they were made."""
    fields: _Fields = {**_PROVENANCE, "item_id": String, "text": String}
    return _filed(folder, "augmented_texts", keys, fields, online=False)


def _filed(
    folder: Path, name: str, keys: list[Entity], fields: _Fields, *, online: bool = True
) -> FeatureView:
    """A view over its files, which only this project writes."""
    return FeatureView(
        name=name,
        entities=keys,
        ttl=_FOREVER,
        online=online,
        source=file_source(folder, name),
        schema=_schema(fields),
    )


def _pushed(folder: Path, name: str, key: Entity, fields: _Fields) -> FeatureView:
    """A view over its files that takes pushed rows too."""
    return FeatureView(
        name=name, entities=[key], ttl=_FOREVER, source=push_source(folder, name), schema=_schema(fields)
    )


def _schema(fields: _Fields) -> list[Field]:
    return [Field(name=name, dtype=kind) for name, kind in fields.items()]
