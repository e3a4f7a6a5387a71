"""The files of an expansion, written from shards: originals first, then what stays of each shard."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.artifacts import replacing
from recsys.augment.fields import ItemFields
from recsys.augment.provenance import SCHEMA
from recsys.augment.shard_files import Shard, flat_lists, read_columns, read_provenance
from recsys.contexts import EVENT_TYPES, MASKED, Contexts, Vocabulary

if TYPE_CHECKING:
    import pandas as pd

_ROWS = 8192
"""Originals that are written at one time."""
_TEXTS = pa.schema([(name, pa.string()) for name in ("row_id", "parent_id", "item_id", "text", "fields")])
_HISTORIES = pa.schema(
    [
        ("row_id", pa.string()),
        ("parent_id", pa.string()),
        ("user_id", pa.string()),
        ("moment", pa.int64()),
        ("item_ids", pa.list_(pa.string())),
        ("event_types", pa.list_(pa.string())),
        ("timestamps", pa.list_(pa.int64())),
    ]
)

Kept = Mapping[Shard, NDArray[np.bool_]]
"""For each shard, in order, which of its rows stay."""


def write_texts(path: Path, items: pd.DataFrame, texts: Sequence[str], kept: Kept, work: Path) -> None:
    """Write `texts.parquet`."""
    item_ids = pa.array([str(item_id) for item_id in items["item_id"].tolist()], pa.string())
    fields = ItemFields(items)

    def parts() -> Iterator[pa.Table]:
        for start in range(0, len(texts), _ROWS):
            stop = min(start + _ROWS, len(texts))
            ids = item_ids.slice(start, stop - start)
            said = [json.dumps(row, ensure_ascii=False) for row in fields.rows(start, stop)]
            yield pa.table(
                [
                    pc.binary_join_element_wise("item:", ids, ""),
                    pa.nulls(stop - start, pa.string()),
                    ids,
                    pa.array(texts[start:stop], pa.string()),
                    pa.array(said, pa.string()),
                ],
                schema=_TEXTS,
            )
        for table in _children(kept, work, ("row_id", "parent_id", "parent", "text")):
            own = item_ids.take(table["parent"].combine_chunks())
            columns = [table["row_id"], table["parent_id"], own, table["text"]]
            yield pa.table([*columns, pa.nulls(len(table), pa.string())], schema=_TEXTS)

    _write(path, _TEXTS, parts())


def write_histories(path: Path, contexts: Contexts, vocabulary: Vocabulary, kept: Kept, work: Path) -> None:
    """Write `histories.parquet`."""
    list_columns = _list_columns(vocabulary)

    def parts() -> Iterator[pa.Table]:
        for start in range(0, len(contexts), _ROWS):
            rows = contexts.take(np.arange(start, min(start + _ROWS, len(contexts))))
            users, moments = rows.user_ids.tolist(), rows.moments.tolist()
            names = [f"user:{user}@{moment}" for user, moment in zip(users, moments, strict=True)]
            columns = [
                pa.array(names, pa.string()),
                pa.nulls(len(rows), pa.string()),
                pa.array(users, pa.string()),
            ]
            events = (rows.history_rows, rows.history_events, rows.history_timestamps)
            lists = list_columns(np.diff(rows.history_offsets), events)
            yield pa.table([*columns, pa.array(moments, pa.int64()), *lists], schema=_HISTORIES)
        lists_of = ("item_rows", "event_codes", "timestamps")
        for table in _children(kept, work, ("row_id", "parent_id", "parent", *lists_of)):
            parents = table["parent"].to_numpy()
            users = contexts.user_ids[parents].tolist()
            flat = [flat_lists(table[name]) for name in lists_of]
            lists = list_columns(flat[0][0], (flat[0][1], flat[1][1], flat[2][1]))
            moment = pa.array(contexts.moments[parents], pa.int64())
            columns = [table["row_id"], table["parent_id"], pa.array(users, pa.string()), moment]
            yield pa.table([*columns, *lists], schema=_HISTORIES)

    _write(path, _HISTORIES, parts())


def write_provenance(path: Path, kept: Iterable[Kept], work: Path) -> None:
    """Write `provenance.parquet`: one row per augmented row."""
    parts = (read_provenance(shard.path(work), rows) for one in kept for shard, rows in one.items())
    _write(path, SCHEMA, parts)


Events = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def _list_columns(vocabulary: Vocabulary) -> Callable[[NDArray[np.int64], Events], list[pa.ListArray]]:
    """From lengths and (item rows, event codes, timestamps) to the three columns of lists."""
    catalogue, event_types = pa.array(vocabulary.item_ids, pa.string()), pa.array(EVENT_TYPES)

    def columns(lengths: NDArray[np.int64], events: Events) -> list[pa.ListArray]:
        rows, codes, times = events
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
        values = (
            catalogue.take(pa.array(rows, mask=rows == MASKED)),
            event_types.take(pa.array(codes)),
            pa.array(times, pa.int64()),
        )
        return [pa.ListArray.from_arrays(offsets, part) for part in values]

    return columns


def _children(kept: Kept, work: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    for shard, rows in kept.items():
        yield read_columns(shard.path(work), columns).filter(pa.array(rows))


def _write(path: Path, schema: pa.Schema, parts: Iterable[pa.Table]) -> None:
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for part in parts:
            if len(part):
                writer.write_table(part)
