"""Rows of `user_behavior` by where they lie: narrow rows are joined, the wide ones gathered after.

A point-in-time join weighs every earlier row of a user against every moment asked, so it carries two integers
per row instead of three lists; the lists are read once, for the rows that the join chose.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.data.feature_arrow import BEHAVIOUR_SCHEMA, STATE_SCHEMA
from recsys.data.log import Ints
from recsys.errors import DependencyError
from recsys.snapshot import HISTORY_FIELDS

BASE_FILE = 0
"""`state_file` of the base; a pushed file's is the number in its name."""
NOWHERE = -1
"""`state_file` of a context before which nothing was known."""
STATE_KEYS = ["user_id", "event_timestamp", "created"]
"""What a row of `user_state` has of its row of `user_behavior`."""
_WIDE = [*STATE_KEYS, *HISTORY_FIELDS]


def states_of(table: pa.Table, file: int, first: int = 0) -> pa.Table:
    """The rows of `user_state` for consecutive rows of `user_behavior`, of which the first is `first`."""
    rows = np.arange(first, first + table.num_rows)
    columns = [table[name] for name in STATE_KEYS]
    return pa.table([*columns, np.full(len(rows), file, np.int64), rows], schema=STATE_SCHEMA)


def states_in(path: Path) -> Iterator[pa.Table]:
    """The rows of `user_state` for a whole file of `user_behavior`, the base, one row group at a time."""
    with pq.ParquetFile(path) as opened:
        first = 0
        for group in range(opened.num_row_groups):
            table = opened.read_row_group(group, columns=STATE_KEYS)
            yield states_of(table, BASE_FILE, first)
            first += table.num_rows


def states_at(paths: dict[int, Path], files: Ints, rows: Ints) -> pa.Table:
    """The user, the times and the history of the rows asked, in that order; null where a file is `NOWHERE`.

    Args:
        paths: Files of `user_behavior` by `state_file`.
        files: (n,) `state_file` of each.
        rows: (n,) `state_row` of each.

    Raises:
        DependencyError: a file or a row is not there, so `user_state` belongs to other files.
    """
    index = np.full(len(files), NOWHERE, np.int64)
    found, size = [], 0
    for file in np.unique(files[files != NOWHERE]).tolist():
        mine = np.flatnonzero(files == file)
        wanted, places = np.unique(rows[mine], return_inverse=True)
        if file not in paths:
            raise _mismatch(f"file {file} of user_behavior is missing")
        found.append(_rows_of(paths[file], wanted))
        index[mine] = size + places
        size += len(wanted)
    table = pa.concat_tables(found) if found else _narrowed().empty_table()
    return table.take(pa.array(index, mask=index == NOWHERE))


def require_known(table: pa.Table, users: pa.Array, asked: pa.Array, *, honour_created: bool) -> None:
    """Check each gathered row against what was asked: the same user, known by then.

    Raises:
        DependencyError: `user_state` and `user_behavior` do not belong together.
    """
    right = pc.and_(pc.equal(table["user_id"], users), pc.less_equal(table["event_timestamp"], asked))
    if honour_created:
        right = pc.and_(right, pc.less_equal(table["created"], asked))
    wrong = pc.sum(pc.invert(right)).as_py() or 0
    if wrong:
        raise _mismatch(f"{wrong:,} of {table.num_rows:,} rows are of another user or time")


def _rows_of(path: Path, wanted: NDArray[np.int64]) -> pa.Table:
    """Ascending rows of a file; only the row groups that hold them are read."""
    with pq.ParquetFile(path) as opened:
        sizes = [opened.metadata.row_group(group).num_rows for group in range(opened.num_row_groups)]
        ends = np.cumsum(sizes, dtype=np.int64)
        if not len(ends) or wanted[-1] >= ends[-1]:
            raise _mismatch(f"{path.name} has no row {wanted[-1]:,}")
        groups = np.searchsorted(ends, wanted, side="right")
        tables = []
        for group in np.unique(groups).tolist():
            begin = ends[group] - sizes[group]
            part = opened.read_row_group(group, columns=_WIDE)
            tables.append(part.take(pa.array(wanted[groups == group] - begin)))
    return pa.concat_tables(tables).cast(_narrowed())


def _narrowed() -> pa.Schema:
    return pa.schema([BEHAVIOUR_SCHEMA.field(name) for name in _WIDE])


def _mismatch(what: str) -> DependencyError:
    return DependencyError(f"the feature files do not belong together: {what}. Write the features again.")
