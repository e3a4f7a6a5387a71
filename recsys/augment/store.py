"""An expansion on disk: the expanded texts and histories, their provenance, and the policy that made them.

    OUT/
      policy.toml  counts.json
      texts.parquet        row_id, parent_id (null for originals), item_id, text, fields (JSON, of originals)
      histories.parquet    row_id, parent_id, user_id, moment, item_ids (null where masked), event_types,
                           timestamps
      provenance.parquet   one row per augmented row

The folder stands alone: originals are in it, so that each augmented row can be explained and made again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.artifacts import replacing, write_atomically
from recsys.augment.example import Example, HistoryExample, TextExample
from recsys.augment.expand import ExpandedContexts, ExpandedTexts
from recsys.augment.fields import item_fields
from recsys.augment.policy import Policy, load_policy
from recsys.contexts import EVENT_TYPES, MASKED, Contexts, Vocabulary, event_code
from recsys.errors import ArtifactError, InputError
from recsys.types import NEGATIVE_EVENTS

if TYPE_CHECKING:
    import pandas as pd

_FILES = ("texts.parquet", "histories.parquet", "provenance.parquet")


@dataclass(frozen=True, slots=True)
class StoredRow:
    """One augmented row of an expansion: its provenance, its original, and the row itself."""

    provenance: dict[str, Any]
    original: Example
    """A history's items are catalogue rows and its event types codes, as the ops saw them."""
    row: Example
    item_ids: tuple[str, ...] = ()
    """The catalogue, for showing a history's items by id."""


def user_contexts(interactions: pd.DataFrame, vocabulary: Vocabulary, history_length: int) -> Contexts:
    """One fit row per user: the newest moment's items as targets, what came strictly before as history.

    Args:
        interactions: As `Dataset.interactions`: sorted by time.
        vocabulary: The catalogue; events on other items are left out.
        history_length: Newest events kept.
    """
    positive = interactions[~interactions["event_type"].isin(NEGATIVE_EVENTS)]
    rows = vocabulary.rows(positive["item_id"].tolist())
    positive, rows = positive[rows >= 0], rows[rows >= 0]
    users, codes = np.unique(positive["user_id"].to_numpy(dtype=str), return_inverse=True)
    times = positive["timestamp"].to_numpy(dtype=np.int64)
    names, name_of = np.unique(positive["event_type"].to_numpy(dtype=str), return_inverse=True)
    events = np.array([event_code(str(name)) for name in names], np.int64)[name_of]
    order = np.lexsort((np.arange(len(codes)), times, codes))
    codes, times, rows, events = codes[order], times[order], rows[order], events[order]
    ends = np.searchsorted(codes, np.arange(len(users)), side="right")
    moments = times[ends - 1]
    past = times < moments[codes]
    history_ends = np.searchsorted(codes[past], np.arange(len(users) + 1))
    place = np.arange(past.sum())
    kept = place >= history_ends[codes[past] + 1] - history_length
    sizes = np.minimum(np.diff(history_ends), history_length)
    return Contexts(
        user_ids=users,
        moments=moments,
        history_offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        history_rows=rows[past][kept],
        history_events=events[past][kept],
        history_timestamps=times[past][kept],
        target_offsets=np.searchsorted(codes[~past], np.arange(len(users) + 1)).astype(np.int64),
        target_rows=rows[~past],
        target_weights=np.ones((~past).sum(), np.float32),
        weights=np.ones(len(users), np.float32),
        parents=np.full(len(users), -1, np.int64),
    )


def friends_of(relations: pd.DataFrame | None) -> dict[str, list[str]]:
    """Friends by user id, in the table's order; empty where a dataset has no relations."""
    friends: dict[str, list[str]] = {}
    if relations is not None:
        pairs = zip(relations["user_id"].tolist(), relations["friend_id"].tolist(), strict=True)
        for user, friend in pairs:
            friends.setdefault(user, []).append(friend)
    return friends


def write_expansion(
    out: Path,
    policy: Policy,
    items: pd.DataFrame,
    vocabulary: Vocabulary,
    texts: ExpandedTexts,
    contexts: ExpandedContexts,
) -> None:
    """Persist an expansion into a folder; each file is replaced whole."""
    _write(out / "texts.parquet", _text_table(items, texts))
    _write(out / "histories.parquet", _history_table(vocabulary, contexts))
    _write(out / "provenance.parquet", pa.concat_tables([texts.provenance, contexts.provenance]))
    counts = {"history": contexts.counts, "text": texts.counts}
    write_atomically(out / "counts.json", json.dumps(counts, indent=1, ensure_ascii=False))
    write_atomically(out / "policy.toml", policy.to_toml())


def load_row(folder: Path, row_id: str) -> tuple[StoredRow, Policy]:
    """One augmented row of an expansion, and the policy that made it.

    Raises:
        ArtifactError: the folder is not an expansion.
        InputError: there is no such row, or it is an original.
    """
    for name in (*_FILES, "policy.toml"):
        if not (folder / name).is_file():
            raise ArtifactError(
                f"{folder}: not an expansion ({name} is missing). Make one with 'recsys augment run'"
            )
    found = _rows(folder / "provenance.parquet", "row_id", [row_id])
    if not found:
        raise InputError(
            f"there is no augmented row {row_id!r}",
            file=str(folder / "provenance.parquet"),
            column="row_id",
            hint="Row ids are in that column; originals have no provenance",
        )
    provenance = found[0]
    is_text = provenance["kind"] == "text"
    stored = _rows(
        folder / ("texts.parquet" if is_text else "histories.parquet"),
        "row_id",
        [provenance["parent_id"], row_id],
    )
    by_id = {row["row_id"]: row for row in stored}
    if len(by_id) != 2:
        raise ArtifactError(
            f"{folder}: the row {row_id!r} or its parent is missing; make the expansion again"
        )
    parent, child = by_id[provenance["parent_id"]], by_id[row_id]
    policy = load_policy(folder / "policy.toml")
    if is_text:
        return StoredRow(provenance, _text_example(parent), _text_example(child)), policy
    catalogue = Vocabulary(_item_ids(folder / "texts.parquet"))
    original, row = _history_example(parent, catalogue), _history_example(child, catalogue)
    return StoredRow(provenance, original, row, catalogue.item_ids), policy


def _text_table(items: pd.DataFrame, texts: ExpandedTexts) -> pa.Table:
    item_ids = [str(item_id) for item_id in items["item_id"].tolist()]
    count = len(item_ids)
    parents = texts.parents[count:].tolist()
    fields = [json.dumps(values, ensure_ascii=False) for values in item_fields(items)]
    row_ids = [f"item:{item_id}" for item_id in item_ids]
    return pa.table(
        {
            "row_id": row_ids + texts.provenance["row_id"].to_pylist(),
            "parent_id": pa.array([None] * count + [row_ids[i] for i in parents], pa.string()),
            "item_id": item_ids + [item_ids[i] for i in parents],
            "text": pa.array(texts.texts, pa.string()),
            "fields": pa.array(fields + [None] * len(parents), pa.string()),
        }
    )


def _history_table(vocabulary: Vocabulary, expanded: ExpandedContexts) -> pa.Table:
    contexts = expanded.contexts
    originals = int((contexts.parents < 0).sum())
    users, moments = contexts.user_ids.tolist(), contexts.moments.tolist()
    row_ids = [f"user:{user}@{moment}" for user, moment in zip(users, moments, strict=True)][:originals]
    catalogue, event_types = pa.array(vocabulary.item_ids, pa.string()), pa.array(EVENT_TYPES)
    offsets = pa.array(contexts.history_offsets.astype(np.int32))
    lists = {
        "item_ids": catalogue.take(pa.array(contexts.history_rows, mask=contexts.history_rows == MASKED)),
        "event_types": event_types.take(pa.array(contexts.history_events)),
        "timestamps": pa.array(contexts.history_timestamps),
    }
    parents = contexts.parents[originals:].tolist()
    return pa.table(
        {
            "row_id": row_ids + expanded.provenance["row_id"].to_pylist(),
            "parent_id": pa.array([None] * originals + [row_ids[i] for i in parents], pa.string()),
            "user_id": pa.array(users, pa.string()),
            "moment": pa.array(moments, pa.int64()),
            **{name: pa.ListArray.from_arrays(offsets, values) for name, values in lists.items()},
        }
    )


def _text_example(row: dict[str, Any]) -> TextExample:
    return TextExample(row["row_id"], row["text"], json.loads(row["fields"] or "{}"))


def _history_example(row: dict[str, Any], catalogue: Vocabulary) -> HistoryExample:
    return HistoryExample(
        row["row_id"],
        tuple(catalogue.rows(row["item_ids"]).tolist()),
        tuple(event_code(name) for name in row["event_types"]),
        tuple(row["timestamps"]),
    )


def _item_ids(path: Path) -> list[str]:
    """The catalogue in its order: the originals' item ids."""
    table = pq.read_table(path, columns=["item_id", "parent_id"])
    ids: list[str] = table.filter(pc.is_null(table["parent_id"]))["item_id"].to_pylist()
    return ids


def _rows(path: Path, column: str, values: Sequence[str]) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = pq.read_table(path, filters=[(column, "in", set(values))]).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise ArtifactError(f"{path}: cannot be read ({error})") from error
    return rows


def _write(path: Path, table: pa.Table) -> None:
    with replacing(path) as temporary:
        pq.write_table(table, temporary)
