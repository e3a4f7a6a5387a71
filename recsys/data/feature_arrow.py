"""The columns of the views' files, as Arrow schemas, and how arrays become columns of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_TIME = pa.timestamp("us", tz="UTC")
_KEYS = [("event_timestamp", _TIME), ("created", _TIME)]
_STRINGS = pa.list_(pa.string())
_NUMBERS = pa.list_(pa.int64())

BEHAVIOUR_SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        *_KEYS,
        ("item_ids", _STRINGS),
        ("event_types", _STRINGS),
        ("timestamps", _NUMBERS),
        ("num_events", pa.int64()),
        ("count_1d", pa.int64()),
        ("count_7d", pa.int64()),
        ("count_30d", pa.int64()),
        ("mean_price", pa.float64()),
        ("top_categories", _STRINGS),
        ("top_brands", _STRINGS),
        ("last_timestamp", pa.int64()),
    ]
)
STATE_SCHEMA = pa.schema(
    [("user_id", pa.string()), *_KEYS, ("state_file", pa.int64()), ("state_row", pa.int64())]
)
ITEMS_OWNED_SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        *_KEYS,
        ("owned_item_ids", _STRINGS),
        ("owned_counts", _NUMBERS),
        ("owned_last_timestamps", _NUMBERS),
    ]
)
ITEM_TEXT_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        *_KEYS,
        ("title", pa.string()),
        ("description", pa.string()),
        ("brand", pa.string()),
        ("category", pa.string()),
        ("tags", pa.string()),
        ("price", pa.float64()),
    ]
)
ITEM_STATS_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        *_KEYS,
        ("popularity_1d", pa.int64()),
        ("popularity_7d", pa.int64()),
        ("popularity_30d", pa.int64()),
        ("return_rate", pa.float64()),
        ("first_seen", pa.int64()),
        ("last_seen", pa.int64()),
        ("age_days", pa.float64()),
    ]
)
_PROVENANCE = [
    ("parent_id", pa.string()),
    ("op", pa.string()),
    ("plan", pa.string()),
    ("score_names", _STRINGS),
    ("score_values", pa.list_(pa.float32())),
    ("created_at", pa.int64()),
    ("batch", pa.int64()),
]
_AUGMENTED = [("policy_id", pa.string()), ("seed", pa.int64()), ("row_id", pa.string()), *_KEYS, *_PROVENANCE]
AUGMENTED_HISTORIES_SCHEMA = pa.schema(
    [
        *_AUGMENTED,
        ("user_id", pa.string()),
        ("item_ids", _STRINGS),
        ("event_types", _STRINGS),
        ("timestamps", _NUMBERS),
        ("lenders", _STRINGS),
    ]
)
AUGMENTED_TEXTS_SCHEMA = pa.schema([*_AUGMENTED, ("item_id", pa.string()), ("text", pa.string())])
SCHEMAS = {
    "user_behavior": BEHAVIOUR_SCHEMA,
    "user_state": STATE_SCHEMA,
    "user_items": ITEMS_OWNED_SCHEMA,
    "item_text": ITEM_TEXT_SCHEMA,
    "item_stats": ITEM_STATS_SCHEMA,
    "augmented_histories": AUGMENTED_HISTORIES_SCHEMA,
    "augmented_texts": AUGMENTED_TEXTS_SCHEMA,
}
"""By view; the feature repository declares the same fields, and a test holds the two together."""


def times(seconds: NDArray[np.int64]) -> pa.Array:
    """Unix seconds as UTC timestamps."""
    return pa.array(seconds.astype("datetime64[s]").astype("datetime64[us]")).cast(_TIME)


def lists(offsets: NDArray[Any], values: pa.Array) -> pa.Array:
    """A column of lists from CSR arrays."""
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)


def spans(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], pa.Array]:
    """The CSR arrays of a column of lists; a missing list is an empty one."""
    array = column.combine_chunks()
    sizes = array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    return np.r_[0, np.cumsum(sizes)].astype(np.int64), array.flatten()
