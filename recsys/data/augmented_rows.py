"""Augmented histories and texts as rows of feature views.

A row carries its provenance, its parent's time as event timestamp, and the moment at which it was made as
created timestamp. Rows lie in one file per batch: what one expansion made with one policy and one seed.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.contexts import EVENT_TYPES, MASKED, Contexts, Vocabulary
from recsys.data.feature_arrow import AUGMENTED_HISTORIES_SCHEMA, AUGMENTED_TEXTS_SCHEMA, lists, times
from recsys.errors import InputError

HISTORIES, TEXTS = "augmented_histories", "augmented_texts"
SCORES = ("score_names", "score_values")


class Batch(NamedTuple):
    """One stored file of augmented rows."""

    view: str
    policy_id: str
    seed: int
    created: int
    """Unix seconds at which the newest of its rows was made."""
    path: Path

    @property
    def num_rows(self) -> int:
        """Rows of the file."""
        return int(pq.read_metadata(self.path).num_rows)


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


def lenders_in(plan: str) -> list[str | None]:
    """The other users whose events a plan borrowed, each once, sorted; None last where one is not named.

    A plan is `[op, [value, ...]]`, and a composite's values hold plans. Ops that borrow end in `borrow`, and
    their fourth value names the lender of each event, `""` where it is the row's own user in another domain.
    """
    found: set[str] = set()
    unnamed = False

    def walk(value: Any) -> None:
        nonlocal unnamed
        if not isinstance(value, list):
            return
        if len(value) == 2 and isinstance(value[0], str) and value[0].endswith("borrow"):
            named = len(value[1]) > 3
            found.update(value[1][3] if named else ())
            unnamed |= not named and value[0] != "cross_domain_borrow"
            return
        for part in value:
            walk(part)

    walk(json.loads(plan))
    return [*sorted(found - {""}), *([None] if unnamed else [])]


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
