"""A log that does not fit into memory, read in parts of whole users, users ascending from part to part.

One pass over the ids draws the bounds between parts, a second writes each row into its user's part on disk,
and each part is then checked and repaired by `recsys.data.events` as a whole log would be. What is decided
over a whole file (is this the right column, is the clock right) is decided over the sum of the parts.
"""

from __future__ import annotations

import bisect
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.config import DataConfig
from recsys.data.columns import id_column
from recsys.data.events import Whole, load_events
from recsys.data.moments import CALENDAR, is_calendar
from recsys.data.reading import column_names, parquet_errors
from recsys.data.report import Notes
from recsys.data.schema import INTERACTIONS, require_columns

logger = logging.getLogger(__name__)

_BATCH = 65_536
"""Rows that are read at one time."""
_SAMPLE = 200_000
"""Rows whose users decide where parts end, at most."""
MOST_PARTS = 256
"""Files that are written at one time; a larger log has larger parts."""
_DAY_AS_TEXT = r"^\s*\d{8}(\.0*)?\s*$"


class ReadWhole(Exception):
    """What the times mean cannot be told from a part; the message says why."""


def event_parts(
    path: Path, item_ids: NDArray[np.object_], config: DataConfig, now: int, folder: Path, rows: int
) -> Iterator[pd.DataFrame]:
    """The usable events of a Parquet file, part by part: together they are what `load_events` gives.

    Every user is in one part, in which the rows are sorted by time, then file order.

    Args:
        path: A Parquet file of interactions.
        item_ids: The catalogue's.
        config: As for `load_events`.
        now: Unix seconds that count as the present.
        folder: Empty; parts lie here until they are read.
        rows: Rows per part, about; a single user's rows are never parted.

    Raises:
        InputError: as `load_events`.
        ReadWhole: the file has to be read at once; nothing was given yet.
    """
    notes = Notes(path.name)
    with parquet_errors(notes):
        source = pq.ParquetFile(path)
        names = column_names(source.schema_arrow.names, notes)
        require_columns(names, INTERACTIONS[:3], notes)
        number = min(-(-source.metadata.num_rows // rows), MOST_PARTS)
        bounds = _bounds(source, names.index("user_id"), number, notes)
        split = _Split(folder, names, bounds, notes)
        with split:
            for batch in source.iter_batches(_BATCH):
                split.put(pa.Table.from_batches([batch]).rename_columns(names))
    split.clock.check(path)
    whole = Whole(source.metadata.num_rows)
    whole.add(notes, "id_missing", "user_id", split.missing, "(empty)", "id_mostly_missing")
    given = 0
    for part in split.paths():
        frame = load_events(part, item_ids, config, now, notes, whole)
        part.unlink()
        given += len(frame)
        if len(frame):
            yield frame
    if not given:
        raise notes.refuse("nothing_left")


@dataclass(slots=True)
class _Clock:
    """What the times of a file have in common, and of each part."""

    low: dict[int, float] = field(default_factory=dict)
    high: dict[int, float] = field(default_factory=dict)
    days: bool = True
    """Whether all numbers so far read as days."""
    text_days: bool = False

    def look(self, part: int, column: pa.ChunkedArray) -> None:
        kind = column.type
        if pa.types.is_dictionary(kind):
            column, kind = column.cast(kind.value_type), kind.value_type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            self.text_days |= bool(pc.any(pc.match_substring_regex(column, _DAY_AS_TEXT)).as_py())
        elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
            numbers = column.drop_null().to_numpy().astype(np.float64)
            numbers = numbers[np.isfinite(numbers)]
            if len(numbers):
                self.low[part] = min(float(numbers.min()), self.low.get(part, np.inf))
                self.high[part] = max(float(numbers.max()), self.high.get(part, -np.inf))
                self.days = self.days and is_calendar(numbers)

    def check(self, path: Path) -> None:
        """Raise where a part could take for days (20240531) what the whole file does not."""
        odd = any(CALENDAR[0] <= low and self.high[part] <= CALENDAR[1] for part, low in self.low.items())
        if self.text_days or (odd and not self.days):
            raise ReadWhole(f"{path.name}: whether its times are days is seen in the whole column alone")


class _Split:
    """Writes rows into their users' parts."""

    def __init__(self, folder: Path, names: list[str], bounds: list[str], notes: Notes) -> None:
        self._folder, self._names, self._bounds, self._notes = folder, names, bounds, notes
        self._writers: dict[int, pq.ParquetWriter] = {}
        self._waiting: dict[int, list[pa.Table]] = {}
        self._rows = 0
        self.missing, self.clock = 0, _Clock()

    def __enter__(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._flush()
        for writer in self._writers.values():
            writer.close()

    def put(self, table: pa.Table) -> None:
        """Sort a batch's rows into parts; those without a user are counted and left out."""
        ids = id_column(table.column("user_id"), "user_id", Notes(self._notes.file))
        part_of = [bisect.bisect_right(self._bounds, text) for text in ids.texts]
        parts = np.array([*part_of, -1])[ids.codes]
        self.missing += int((parts < 0).sum())
        order = np.argsort(parts, kind="stable")
        edges = np.searchsorted(parts[order], np.arange(len(self._bounds) + 2))
        for part in np.unique(parts[parts >= 0]).tolist():
            rows = table.take(pa.array(order[edges[part] : edges[part + 1]]))
            self.clock.look(part, rows.column("timestamp"))
            self._waiting.setdefault(part, []).append(rows)
        self._rows += len(table)
        if self._rows >= 4 * _BATCH:
            self._flush()

    def paths(self) -> list[Path]:
        """The parts that have rows, in the order of their users."""
        return [self._path(part) for part in sorted(self._writers)]

    def _flush(self) -> None:
        for part, tables in self._waiting.items():
            table = pa.concat_tables(tables).combine_chunks()
            if part not in self._writers:
                self._writers[part] = pq.ParquetWriter(self._path(part), table.schema, compression="lz4")
            self._writers[part].write_table(table)
        self._waiting, self._rows = {}, 0

    def _path(self, part: int) -> Path:
        return self._folder / f"part-{part:05d}.parquet"


def _bounds(source: pq.ParquetFile, column: int, number: int, notes: Notes) -> list[str]:
    """The users with whom parts but the first begin, by a sample of the rows."""
    stride = max(source.metadata.num_rows // _SAMPLE, 1)
    sample: list[str] = []
    start = 0
    for batch in source.iter_batches(_BATCH, columns=[source.schema_arrow.names[column]]):
        picked = batch.column(0).take(pa.array(np.arange(-start % stride, len(batch), stride)))
        start += len(batch)
        ids = id_column(pa.chunked_array([picked]), "user_id", Notes(notes.file))
        sample.extend(str(ids.texts[code]) for code in ids.codes.tolist() if code >= 0)
    sample.sort()
    places = (len(sample) * i // number for i in range(1, number))
    return sorted({sample[place] for place in places}) if sample else []
