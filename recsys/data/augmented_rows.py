"""Augmented histories and texts as rows of feature views, and back as what training takes.

A row carries its provenance, its parent's time as event timestamp, and the moment at which it was made as
created timestamp. Rows lie in one file per batch: what one expansion made with one policy and one seed.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.contexts import EVENT_TYPES, MASKED, Contexts, Vocabulary, concatenate, event_code
from recsys.data.feature_arrow import AUGMENTED_HISTORIES_SCHEMA, AUGMENTED_TEXTS_SCHEMA, lists, spans, times
from recsys.errors import InputError, LeakageError
from recsys.types import Floats

HISTORIES, TEXTS = "augmented_histories", "augmented_texts"
SCORES = ("score_names", "score_values")
_MODIFICATION = "modification"
"""The score that says how much of its original a row lost; the others are gates'."""


class Batch(NamedTuple):
    """One stored file of augmented rows."""

    view: str
    policy_id: str
    seed: int
    created: int
    """Unix seconds at which the newest of its rows was made."""
    path: Path


@dataclass(frozen=True, slots=True)
class StoredHistories:
    """Originals first, then their stored children."""

    contexts: Contexts
    provenance: pa.Table
    """One row per child, in the children's order, with the columns of the view."""
    strengths: Floats
    """(len(contexts),) share of the original that a child lost; 0 for originals."""
    confidences: Floats
    """(len(contexts),) the lowest score that a gate gave, in [0, 1]; 1 for originals and without gates."""
    counts: dict[str, int]
    """`read`, and what was left out: `unseen` (later than the moment asked, or replaced by a newer batch),
    `no_parent` (not among the originals), `gone_items` (an item that the catalogue has not)."""


@dataclass(frozen=True, slots=True)
class StoredTexts:
    """Stored augmented texts of items that the catalogue has."""

    texts: list[str]
    parents: NDArray[np.int64]
    """(len(texts),) Rows of their items."""
    provenance: pa.Table
    counts: dict[str, int]
    """As those of `StoredHistories`; an item that is not in the catalogue is `no_parent`."""


def batch_name(policy_id: str, seed: int, created: int) -> str:
    """The file of a batch: writing the same batch again replaces it."""
    return f"{seed}-{created}-{urllib.parse.quote(policy_id, safe='')}.parquet"


def batches_in(folder: Path, view: str) -> list[Batch]:
    """The batches in a view's folder, oldest first."""
    found = []
    for path in folder.glob("[0-9]*.parquet"):
        seed, created, quoted = path.stem.split("-", 2)
        found.append(Batch(view, urllib.parse.unquote(quoted), int(seed), int(created), path))
    return sorted(found, key=lambda batch: (batch.created, batch.policy_id, batch.seed))


def child_table(contexts: Contexts, vocabulary: Vocabulary, row_ids: pa.ChunkedArray) -> pa.Table:
    """The children of expanded contexts as an expansion's `histories.parquet` has them."""
    contexts.require_fit()
    children = contexts.take(contexts.parents >= 0)
    hidden = children.history_rows == MASKED
    catalogue, names = pa.array(vocabulary.item_ids, pa.string()), pa.array(EVENT_TYPES)
    offsets = children.history_offsets
    return pa.table(
        {
            "row_id": row_ids,
            "user_id": pa.array(children.user_ids.tolist(), pa.string()),
            "moment": pa.array(children.moments),
            "item_ids": lists(offsets, catalogue.take(pa.array(children.history_rows, mask=hidden))),
            "event_types": lists(offsets, names.take(pa.array(children.history_events))),
            "timestamps": lists(offsets, pa.array(children.history_timestamps)),
        }
    )


def history_rows(children: pa.Table, provenance: pa.Table) -> pa.Table:
    """Rows of `augmented_histories`.

    Args:
        children: row_id, user_id, moment, item_ids, event_types, timestamps; others are not read.
        provenance: One row per child, perhaps in another order.

    Raises:
        InputError: a child without provenance, or of a held-out moment's future.
    """
    said = _aligned(children, provenance)
    made = _provenance_columns(said, times(_whole(children["moment"])))
    own = {name: children[name] for name in ("user_id", "item_ids", "event_types", "timestamps")}
    lenders = [lenders_in(plan) if "borrow" in op else [] for op, plan in _plans(said)]
    return (
        pa.table({**made, **own, "lenders": pa.array(lenders, pa.list_(pa.string()))})
        .select(AUGMENTED_HISTORIES_SCHEMA.names)
        .cast(AUGMENTED_HISTORIES_SCHEMA)
    )


def text_rows(children: pa.Table, provenance: pa.Table, known: pa.Table) -> pa.Table:
    """Rows of `augmented_texts`.

    Args:
        children: row_id, item_id, text; others are not read.
        provenance: One row per child, perhaps in another order.
        known: item_id and event_timestamp of the parents: rows of `item_text`.

    Raises:
        InputError: a child without provenance, or of an item that the store has not.
    """
    said = _aligned(children, provenance)
    places = pc.index_in(children["item_id"], value_set=known["item_id"].combine_chunks())
    if places.null_count:
        gone = children["item_id"].filter(pc.is_null(places))
        raise InputError(
            "augmented texts of items that the feature store does not have",
            column="item_id",
            count=len(gone),
            example=gone[0].as_py(),
            hint="Write the features of the same dataset first: 'recsys features apply --data DIR'",
        )
    made = _provenance_columns(said, known["event_timestamp"].take(places))
    own = {name: children[name] for name in ("item_id", "text")}
    return pa.table({**made, **own}).select(AUGMENTED_TEXTS_SCHEMA.names).cast(AUGMENTED_TEXTS_SCHEMA)


def lenders_in(plan: str) -> list[str]:
    """The users whose events a plan borrowed, each once, sorted; `""` where one is not named.

    A plan is `[op, [value, ...]]`, and a composite's values hold plans. Ops that borrow end in `borrow`, and
    their fourth value names the lender of each event.
    """
    found: set[str] = set()

    def walk(value: Any) -> None:
        if not isinstance(value, list):
            return
        if len(value) == 2 and isinstance(value[0], str) and value[0].endswith("borrow"):
            found.update(value[1][3] if len(value[1]) > 3 else [""])
            return
        for part in value:
            walk(part)

    walk(json.loads(plan))
    return sorted(found)


def stored_histories(
    known: pa.Table, unseen: int, originals: Contexts, vocabulary: Vocabulary
) -> StoredHistories:
    """Children for training from rows that the store gave.

    Args:
        known: Rows of `augmented_histories`, as the store saw them at the moment asked.
        unseen: Rows that it did not see, to be counted.
        originals: The contexts to train on; a child has its parent's targets and weight.
        vocabulary: The catalogue of their rows.

    Raises:
        LeakageError: the originals are held out or augmented, or a child's event reaches its moment.
    """
    originals.require_fit()
    originals.require_original()
    users, moments = originals.user_ids.tolist(), originals.moments.tolist()
    names = pa.array(
        [f"user:{user}@{moment}" for user, moment in zip(users, moments, strict=True)], pa.string()
    )
    parents = pc.index_in(known["parent_id"], value_set=names)
    counts = {"read": 0, "unseen": unseen, "no_parent": parents.null_count, "gone_items": 0}
    known, parents = known.filter(pc.is_valid(parents)), _whole(pc.drop_null(parents))
    whole = _whole_rows(known, vocabulary)
    counts["gone_items"] = int((~whole).sum())
    order = np.flatnonzero(whole)[np.argsort(parents[whole], kind="stable")]
    known, parents = known.take(pa.array(order)), parents[order]
    children = _children(known, parents, originals, vocabulary)
    counts["read"] = len(children)
    modification, confidence = _scores(known)
    ones = np.ones(len(originals), np.float32)
    return StoredHistories(
        concatenate([originals, children]),
        known,
        np.concatenate([ones * 0, modification]),
        np.concatenate([ones, confidence]),
        counts,
    )


def stored_texts(known: pa.Table, unseen: int, vocabulary: Vocabulary) -> StoredTexts:
    """Augmented texts from rows that the store gave, by their items' rows."""
    rows = vocabulary.rows(known["item_id"].to_pylist())
    order = np.flatnonzero(rows >= 0)
    order = order[np.argsort(rows[order], kind="stable")]
    found = known.take(pa.array(order))
    counts = {"read": len(order), "unseen": unseen, "no_parent": len(rows) - len(order)}
    return StoredTexts(found["text"].to_pylist(), rows[order], found, counts)


def _children(
    known: pa.Table, parents: NDArray[np.int64], originals: Contexts, vocabulary: Vocabulary
) -> Contexts:
    offsets, items = spans(known["item_ids"])
    stamps = spans(known["timestamps"])[1].to_numpy(zero_copy_only=False).astype(np.int64)
    names = spans(known["event_types"])[1].to_pylist()
    taken = originals.take(parents)
    late = np.flatnonzero(stamps >= np.repeat(taken.moments, np.diff(offsets)))
    if len(late):
        child = int(np.searchsorted(offsets, late[0], side="right")) - 1
        raise LeakageError(
            f"{len(late):,} events of stored augmented rows are not before their moment, for example in "
            f"{known['row_id'][child].as_py()!r}"
        )
    return replace(
        taken,
        history_offsets=offsets,
        history_rows=vocabulary.rows(items.to_pylist()),
        history_events=np.fromiter(map(event_code, names), np.int64, len(names)),
        history_timestamps=stamps,
        parents=parents,
    )


def _whole_rows(known: pa.Table, vocabulary: Vocabulary) -> NDArray[np.bool_]:
    """Rows all of whose items, but hidden ones, are in the catalogue."""
    offsets, items = spans(known["item_ids"])
    gone = pc.and_(
        pc.is_valid(items), pc.invert(pc.is_in(items, value_set=pa.array(vocabulary.item_ids, pa.string())))
    )
    before = np.concatenate([[0], np.cumsum(gone.to_numpy(zero_copy_only=False))])
    whole: NDArray[np.bool_] = before[offsets[1:]] == before[offsets[:-1]]
    return whole


def _scores(known: pa.Table) -> tuple[Floats, Floats]:
    """(rows,) The modification, and the lowest of the gates' scores."""
    modification, confidence = np.zeros(len(known), np.float32), np.ones(len(known), np.float32)
    offsets, names = spans(known["score_names"])
    values = spans(known["score_values"])[1].to_numpy(zero_copy_only=False).astype(np.float32)
    owners = np.repeat(np.arange(len(known)), np.diff(offsets))
    lost = pc.equal(names, _MODIFICATION).to_numpy(zero_copy_only=False).astype(bool)
    modification[owners[lost]] = values[lost]
    np.minimum.at(confidence, owners[~lost], np.clip(values[~lost], 0.0, 1.0))
    return modification, confidence


def _aligned(children: pa.Table, provenance: pa.Table) -> pa.Table:
    """The provenance of each child, in the children's order."""
    places = pc.index_in(children["row_id"], value_set=provenance["row_id"].combine_chunks())
    repeated = len(children) - len(pc.unique(children["row_id"]))
    if places.null_count or repeated:
        raise InputError(
            "augmented rows without provenance, or with the id of another row",
            column="row_id",
            count=places.null_count + repeated,
            hint="Make the expansion again",
        )
    return provenance.take(places)


def _provenance_columns(said: pa.Table, event_timestamps: Any) -> dict[str, Any]:
    created = _whole(said["created"].cast(pa.timestamp("s", tz="UTC")).cast(pa.int64()))
    scores = said["scores"].combine_chunks()
    plain = {name: said[name] for name in ("policy_id", "seed", "row_id", "parent_id", "op", "plan")}
    return {
        **plain,
        "event_timestamp": event_timestamps,
        "created": times(created),
        "score_names": pa.ListArray.from_arrays(scores.offsets, scores.keys),
        "score_values": pa.ListArray.from_arrays(scores.offsets, scores.items),
        "created_at": pa.array(created),
        "batch": pa.array(np.full(len(created), created.max(initial=0))),
    }


def _plans(said: pa.Table) -> Sequence[tuple[str, str]]:
    return list(zip(said["op"].to_pylist(), said["plan"].to_pylist(), strict=True))


def _whole(column: Any) -> NDArray[np.int64]:
    whole: NDArray[np.int64] = (
        column.to_numpy(zero_copy_only=False).astype(np.int64)
        if isinstance(column, pa.Array)
        else column.to_numpy().astype(np.int64)
    )
    return whole
