"""A folder of two files becomes a `Dataset`: checked, repaired where that is safe, and counted.

Three rules decide between repair and refusal. What can be read without guessing is converted. What cannot
be used row by row is set aside and counted, unless it is most of the file. What would have to be guessed
(an encoding, a day/month order, a missing column) is refused, with the place and an example.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.artifacts import file_digest
from recsys.config import DataConfig
from recsys.data.columns import Coded, id_column, reconcile_ids
from recsys.data.events import load_events
from recsys.data.items import load_items
from recsys.data.reading import find_file, read_table, require_folder
from recsys.data.report import DataReport, Notes, refusal
from recsys.data.schema import RELATIONS, require_columns
from recsys.types import NEGATIVE_EVENTS


@dataclass(frozen=True, slots=True)
class Dataset:
    """What came out of a folder; treat the frames as read-only.

    `interactions`: user_id, item_id (str), timestamp (int64, Unix seconds), event_type (str), value (float64,
    NaN when absent), session_id (str) when given, then other columns; sorted by timestamp, then file order.
    `items`: item_id (str, unique), title, description, category, brand, tags (str, '' when absent), price
    (float64 or NaN), in_stock (bool), available_from (float64 Unix seconds or NaN), then other columns.
    `relations`: user_id, friend_id (str), distinct; None when there is no such file.
    """

    interactions: pd.DataFrame
    items: pd.DataFrame
    relations: pd.DataFrame | None
    report: DataReport
    digests: dict[str, str]
    """SHA-256 by file name."""


def load_dataset(folder: Path, config: DataConfig, now: int | None = None) -> Dataset:
    """Read and check a dataset.

    Args:
        folder: Holds `interactions` and `items` (and perhaps `relations`) as .parquet, .csv or .jsonl.
        config: How much text is kept, how much future is tolerated, what happens to duplicates.
        now: Unix seconds that count as the present; the clock's when None.

    Raises:
        InputError: the data cannot be used; the message says where, how many rows, and what to do.
    """
    require_folder(folder)
    paths = {stem: required_file(folder, stem) for stem in ("items", "interactions")}
    about_items, about_events = Notes(paths["items"].name), Notes(paths["interactions"].name)
    items = load_items(paths["items"], config, about_items)
    present = int(time.time()) if now is None else now
    interactions = load_events(
        paths["interactions"], items["item_id"].to_numpy(dtype=object), config, present, about_events
    )
    notes = [about_items, about_events]
    relations = None
    if (path := find_file(folder, "relations")) is not None:
        paths["relations"] = path
        notes.append(Notes(path.name))
        relations = load_relations(path, interactions["user_id"].unique(), notes[-1])
    return Dataset(
        interactions=interactions,
        items=items,
        relations=relations,
        report=DataReport(
            tuple(finding for note in notes for finding in note.findings),
            _summary(interactions, items, relations),
        ),
        digests={path.name: file_digest(path) for path in paths.values()},
    )


def id_strings(values: Sequence[Any] | pd.Series[Any], file: str, column: str = "user_id") -> list[str]:
    """Ids from another file (the users to recommend for), spelled as `load_dataset` spells them.

    Raises:
        InputError: an id is missing, or the column cannot hold ids.
    """
    import pyarrow as pa

    notes = Notes(file)
    coded = id_column(pa.chunked_array([pa.array(values)]), column, notes)
    missing = coded.codes < 0
    if missing.any():
        raise notes.refuse("id_missing_here", column, int(missing.sum()), f"row {int(missing.argmax()) + 1}")
    return [str(value) for value in coded.to_objects()]


def required_file(folder: Path, stem: str) -> Path:
    """The file of a table that a dataset must have.

    Raises:
        InputError: it is missing.
    """
    path = find_file(folder, stem)
    if path is None:
        there = sorted(entry.name for entry in folder.iterdir())
        shown = ", ".join(there[:8]) + ("…" if len(there) > 8 else "") if there else "nothing"
        raise refusal("file_missing", str(folder), stem=stem, there=shown)
    return path


def load_relations(path: Path, users: NDArray[np.object_], notes: Notes) -> pd.DataFrame:
    """Who knows whom, each pair once; ids spelled as those of `users`.

    Raises:
        InputError: a column is missing, or most ids are.
    """
    table = read_table(path, notes)
    require_columns(table.column_names, RELATIONS, notes)
    columns: dict[str, Coded] = {}
    keep = np.ones(table.num_rows, bool)
    for name in RELATIONS:
        ids = id_column(table.column(name), name, notes)
        missing = ids.codes < 0
        if missing.sum() * 2 > len(missing):
            raise notes.refuse("id_mostly_missing", name, int(missing.sum()))
        notes.add("id_missing", name, int((missing & keep).sum()), f"row {int(missing.argmax()) + 1}")
        keep &= ~missing
        columns[name] = reconcile_ids(ids, users, name, notes)
    links = pd.DataFrame({name: ids.take(keep).to_objects() for name, ids in columns.items()})
    for code, drop in (
        ("relation_self", links["user_id"] == links["friend_id"]),
        ("relation_duplicate", links.duplicated()),
    ):
        drop = drop[links.index]
        notes.add(code, "friend_id", int(drop.sum()), links["user_id"][drop].iloc[0] if drop.any() else None)
        links = links[~drop]
    known = links.isin(set(users))
    for name in RELATIONS:
        strange = links[name][~known[name]]
        notes.add("relation_unknown_user", name, len(strange), strange.iloc[0] if len(strange) else None)
    return links.reset_index(drop=True)


def _summary(
    interactions: pd.DataFrame, items: pd.DataFrame, relations: pd.DataFrame | None
) -> dict[str, Any]:
    positive = ~interactions["event_type"].isin(NEGATIVE_EVENTS).to_numpy()
    sold = pd.unique(interactions["item_id"].to_numpy()[positive])
    per_user = interactions["user_id"].value_counts()
    times = interactions["timestamp"].to_numpy()
    first, last = (pd.Timestamp(int(times[i]), unit="s", tz="UTC") for i in (0, -1))
    summary: dict[str, Any] = {
        "events": len(interactions),
        "users": len(per_user),
        "items": len(items),
        "items_without_positive_events": len(items) - len(sold),
        "users_with_at_most_5_events": f"{float((per_user <= 5).mean()):.1%}",
        "event_types": {str(k): int(v) for k, v in interactions["event_type"].value_counts().items()},
        "first_event": first.isoformat(),
        "last_event": last.isoformat(),
        "distinct_moments": int(np.count_nonzero(np.diff(times))) + 1,
    }
    if relations is not None:
        summary["relations"] = len(relations)
    return summary
