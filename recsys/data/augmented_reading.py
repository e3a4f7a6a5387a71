"""Rows of the augmented views as what training takes: children behind their originals, texts by item."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.contexts import Contexts, Vocabulary, concatenate, event_code
from recsys.data.feature_arrow import spans
from recsys.errors import LeakageError
from recsys.types import Floats

_MODIFICATION = "modification"
"""The score that says how much of its original a row lost; the others are gates'."""


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
    known = known.filter(pc.is_valid(parents))
    parents = pc.drop_null(parents).to_numpy(zero_copy_only=False).astype(np.int64)
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
