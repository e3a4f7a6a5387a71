"""What `recsys augment run` wrote, taken into the feature store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.data.augmented_rows import HISTORIES, TEXTS
from recsys.data.augmented_store import AugmentedViews
from recsys.errors import ArtifactError, InputError

_HISTORY = ["row_id", "user_id", "moment", "item_ids", "event_types", "timestamps"]
_TEXT = ["row_id", "item_id", "text"]


def store_expansion(room: AugmentedViews, folder: Path) -> dict[str, int]:
    """Store the augmented rows of an expansion's folder, a batch of each kind; rows by view.

    Args:
        room: The feature store; it must have been written from the dataset that was expanded.
        folder: What `recsys augment run` wrote: `histories.parquet`, `texts.parquet`, `provenance.parquet`.

    Raises:
        InputError: the folder is no expansion, or one of items that the store does not have.
    """
    for name in ("histories", "texts", "provenance"):
        if not (folder / f"{name}.parquet").is_file():
            hint = "Make one with 'recsys augment run'"
            raise InputError(f"not an expansion: {name}.parquet is missing", file=str(folder), hint=hint)
    child = pc.is_valid(pc.field("parent_id"))
    said = folder / "provenance.parquet"
    texts = _read(folder / "texts.parquet", _TEXT, child)
    room.write_texts(texts, _read(said, None, pc.field("kind") == "text"))
    histories = _read(folder / "histories.parquet", _HISTORY, child)
    room.write_histories(histories, _read(said, None, pc.field("kind") == "history"))
    return {HISTORIES: len(histories), TEXTS: len(texts)}


def _read(path: Path, columns: list[str] | None, rows: Any) -> pa.Table:
    try:
        return pq.read_table(path, columns=columns, filters=rows)
    except (OSError, pa.ArrowException) as error:
        raise ArtifactError(f"{path}: cannot be read ({error})") from error
