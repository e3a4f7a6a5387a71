"""The newest row of each user (or item) in a view's files: found by the keys alone, read in small parts.

Feast finds them by reading every row of a view into memory, wide ones too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.data.feature_arrow import SCHEMAS
from recsys.data.feature_files import FeatureFiles

ROWS_AT_ONCE = 5_000
"""Rows of one part, which bounds memory: Feast holds a row as messages, several kilobytes each."""


class NewestRows:
    """Where the newest rows lie that were there at a moment, by event time, then by when they became known.

    Args:
        paths: Files of one view; of rows alike in both times a later file's is newer.
        key: Column of the user or item.
        end: Rows with a later event timestamp do not count.
    """

    def __init__(self, paths: Sequence[Path], key: str, end: datetime) -> None:
        self._paths = list(paths)
        parts = [_newest_in(path, number, key, end) for number, path in enumerate(self._paths)]
        table = pa.concat_tables(parts)
        kept = _last_by_key(table, key, ["event_timestamp", "created", "file"])
        self._files = table["file"].to_numpy()[kept]
        self._rows = table["row"].to_numpy()[kept]

    def __len__(self) -> int:
        return len(self._rows)

    def parts(self) -> Iterator[pa.Table]:
        """The rows, at most `ROWS_AT_ONCE` at a time, in the order of the files."""
        for number in np.unique(self._files).tolist():
            wanted = np.sort(self._rows[self._files == number])
            with pq.ParquetFile(self._paths[number]) as opened:
                first = 0
                for group in range(opened.num_row_groups):
                    size = opened.metadata.row_group(group).num_rows
                    inside = wanted[(wanted >= first) & (wanted < first + size)] - first
                    first += size
                    if len(inside):
                        table = opened.read_row_group(group).take(pa.array(inside))
                        for start in range(0, len(table), ROWS_AT_ONCE):
                            yield table.slice(start, ROWS_AT_ONCE)


def copy_newest(store: Any, files: FeatureFiles, views: Sequence[str], end: datetime) -> dict[str, int]:
    """Write the newest rows of some views at a moment to an online store, in parts; how many, by view.

    Args:
        store: Feast's client.
        files: The feature folder's.
        views: Whose rows.
        end: The moment.
    """
    numbers = {}
    for view in views:
        rows = NewestRows(files.view_paths(view), SCHEMAS[view].names[0], end)
        for part in rows.parts():
            store.write_to_online_store(view, df=part.to_pandas())
        numbers[view] = len(rows)
    return numbers


def _newest_in(path: Path, number: int, key: str, end: datetime) -> pa.Table:
    table = pq.read_table(path, columns=[key, "event_timestamp", "created"])
    table = table.append_column("row", pa.array(np.arange(len(table))))
    table = table.filter(
        pc.less_equal(table["event_timestamp"], pa.scalar(end, table["event_timestamp"].type))
    )
    kept = _last_by_key(table, key, ["event_timestamp", "created"])
    return table.take(pa.array(kept)).append_column("file", pa.array(np.full(len(kept), number)))


def _last_by_key(table: pa.Table, key: str, order: Sequence[str]) -> NDArray[np.int64]:
    """Positions of the last row of each key by some columns, the first weighing most."""
    codes = pc.dictionary_encode(table[key].combine_chunks()).indices.to_numpy(zero_copy_only=False)
    columns = [table[name].cast(pa.int64()).to_numpy() for name in order]
    places = np.lexsort((*reversed(columns), codes))
    last = np.append(codes[places][1:] != codes[places][:-1], True) if len(places) else places
    kept: NDArray[np.int64] = places[last.astype(bool)].astype(np.int64)
    return kept
