"""Where features lie offline, and the door by which events arrive between two materialisations."""

from __future__ import annotations

from pathlib import Path

from feast import FileSource, PushSource
from feast.data_format import ParquetFormat

OFFLINE = "offline"


def file_source(folder: Path, view: str) -> FileSource:
    """All Parquet files of a view: the base file, and one small file per push."""
    return FileSource(
        name=f"{view}_files",
        path=str(folder / OFFLINE / view / "*.parquet"),
        file_format=ParquetFormat(),
        timestamp_field="event_timestamp",
        created_timestamp_column="created",
    )


def push_source(folder: Path, view: str) -> PushSource:
    """Pushed rows of a view, over its files."""
    return PushSource(name=f"{view}_push", batch_source=file_source(folder, view))
