"""A dataset whose log stays on disk: the catalogue in memory, the events in parts of whole users."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.artifacts import file_digest
from recsys.config import DataConfig
from recsys.data.event_parts import event_parts
from recsys.data.interactions import load_relations, required_file
from recsys.data.items import load_items
from recsys.data.reading import find_file, parquet_errors, require_folder
from recsys.data.report import Notes


@dataclass(frozen=True, slots=True)
class StreamedDataset:
    """What `load_dataset` gives, but for the log, of which one part at a time is in memory."""

    items: pd.DataFrame
    digests: dict[str, str]
    """SHA-256 by file name."""
    events: int
    """Rows of the file, usable or not."""
    folder: Path
    config: DataConfig
    now: int
    """Unix seconds that count as the present."""

    def parts(self, work: Path, rows: int) -> Iterator[pd.DataFrame]:
        """The usable events, users ascending, about so many rows at a time; see `event_parts`.

        Args:
            work: Empty folder for parts that wait.
            rows: Rows of the file per part.

        Raises:
            InputError: the log cannot be used.
            ReadWhole: it has to be read at once.
        """
        known = self.items["item_id"].to_numpy(dtype=object)
        path = required_file(self.folder, "interactions")
        return event_parts(path, known, self.config, self.now, work, rows)

    def relations(self, users: NDArray[np.object_]) -> pd.DataFrame | None:
        """Who knows whom, None without such a file.

        Args:
            users: Ids whose spelling counts.

        Raises:
            InputError: the file cannot be used.
        """
        path = find_file(self.folder, "relations")
        return None if path is None else load_relations(path, users, Notes(path.name))


def stream_dataset(folder: Path, config: DataConfig, now: int | None = None) -> StreamedDataset | None:
    """Open a dataset whose interactions are a Parquet file; None where they are not, and must be read whole.

    Args:
        folder: As for `load_dataset`.
        config: As for `load_dataset`.
        now: Unix seconds that count as the present; the clock's when None.

    Raises:
        InputError: a file is missing, or the catalogue cannot be used.
    """
    require_folder(folder)
    paths = [required_file(folder, stem) for stem in ("items", "interactions")]
    if paths[1].suffix != ".parquet" or paths[1].stat().st_size == 0:
        return None
    with parquet_errors(Notes(paths[1].name)):
        events = pq.ParquetFile(paths[1]).metadata.num_rows
    items = load_items(paths[0], config, Notes(paths[0].name))
    paths += [path for path in (find_file(folder, "relations"),) if path is not None]
    digests = {path.name: file_digest(path) for path in paths}
    return StreamedDataset(items, digests, events, folder, config, int(time.time()) if now is None else now)
