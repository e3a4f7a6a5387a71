"""An expansion on disk: the expanded texts and histories, their provenance, and the policy that made them.

    OUT/
      policy.toml          what made them
      counts.json          {"history": COUNTS, "text": COUNTS, "ops": {"history": OPS, "text": OPS}}
      texts.parquet        row_id, parent_id (null for originals), item_id, text, fields (JSON, of originals)
      histories.parquet    row_id, parent_id, user_id, moment, item_ids (null where masked), event_types,
                           timestamps
      provenance.parquet   one row per augmented row
      run.json             the run's key, what it was made of, and the files' digests; written last
      timing.json          {"workers": n, "seconds": {"side": s, "text": s, "history": s, "total": s, …}}

COUNTS are `rows`, `accepted`, `left_alone`, `language:<code>`, `rejected:<reason>`, `skipped:<gate or op>`.
OPS are, by chain of ops (`item_dropout>crop`), `accepted` and one count per reason of refusal, whoever
refused: acceptance, a gate, the cap (`over_max_expansion`), drift (`drift:<what>`); they add up to COUNTS.
`text` and `history` of the seconds are summed over workers. Only `timing.json` differs between equal runs.

The folder stands alone: originals are in it, so that each augmented row can be explained and made again.
What a run keeps beside these files while it is unfinished, `recsys.augment.bulk_state` says.
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

from recsys.augment.example import Example, HistoryExample, TextExample
from recsys.augment.policy import Policy, load_policy
from recsys.contexts import Contexts, Vocabulary, event_code
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
