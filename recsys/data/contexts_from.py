"""Label rows, and joined rows as training contexts: arrays in, arrays out, no feature store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.contexts import Contexts, Role, Vocabulary, event_code
from recsys.data.feature_arrow import spans
from recsys.data.log import Ints, Log, build_log, moment_ends
from recsys.errors import LeakageError
from recsys.types import Floats

_GATHERED = 20


@dataclass(frozen=True, slots=True)
class Labels:
    """n contexts with their targets in CSR form, users ascending, each with one target at least."""

    user_ids: NDArray[Any]
    moments: Ints
    target_offsets: Ints
    target_rows: Ints
    target_weights: Floats

    def __len__(self) -> int:
        return len(self.moments)

    def parts(self, most_pairs: int) -> Iterator[Labels]:
        """Runs of whole users whose join costs about `most_pairs`.

        Each pair of a label and an earlier feature row costs one, each history gathered `_GATHERED` more.
        """
        change = np.r_[True, self.user_ids[1:] != self.user_ids[:-1]]
        begins = np.flatnonzero(change)
        sizes = np.diff(np.r_[begins, len(self)])
        pairs = np.cumsum(sizes * (sizes + 1) // 2 + sizes * _GATHERED)
        cuts = begins[np.flatnonzero(np.diff(pairs // most_pairs)) + 1]
        edges = np.r_[0, cuts, len(self)]
        for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            if high > low:
                yield self._span(low, high)

    def _span(self, low: int, high: int) -> Labels:
        targets = slice(self.target_offsets[low], self.target_offsets[high])
        return Labels(
            self.user_ids[low:high],
            self.moments[low:high],
            self.target_offsets[low : high + 1] - self.target_offsets[low],
            self.target_rows[targets],
            self.target_weights[targets],
        )


def labels_by_moment(
    interactions: pd.DataFrame, vocabulary: Vocabulary, weights: Mapping[str, float], seconds: int
) -> Labels:
    """One context per distinct (user, moment), with the distinct positive items of that moment as targets."""
    log = build_log(interactions)
    ends = moment_ends(log, seconds)
    context = np.repeat(np.arange(len(ends)), np.diff(np.r_[0, ends]))
    floored = log.timestamps[ends - 1] // seconds * seconds
    return _labels(log, context, floored, log.users[log.user_codes[ends - 1]], vocabulary, weights)


def labels_at(
    interactions: pd.DataFrame, vocabulary: Vocabulary, weights: Mapping[str, float], moment: int
) -> Labels:
    """One context per user, at `moment`, with all the distinct positive items given as targets."""
    log = build_log(interactions)
    floored = np.full(len(log.users), moment, np.int64)
    return _labels(log, log.user_codes, floored, log.users, vocabulary, weights)


def contexts_before(contexts: Contexts, cut: int, seconds: int = 1) -> Contexts:
    """The contexts whose events all lie before `cut`; `seconds` is the grain their moments were floored to.

    A context sees only earlier events, so contexts of the whole log cut here equal those of the log cut
    first. At a coarse grain the moment that `cut` divides is left out, since its targets lie on both sides.
    """
    return contexts.take(contexts.moments + seconds <= cut)


def contexts_of(labels: Labels, joined: pa.Table, vocabulary: Vocabulary, role: Role) -> Contexts:
    """Contexts from labels and their joined features (the same rows in the same order).

    Raises:
        LeakageError: the rows do not match, or a history holds an event at or after its row's moment.
    """
    if joined.num_rows != len(labels) or joined["user_id"].to_pylist() != labels.user_ids.tolist():
        raise LeakageError(
            f"{joined.num_rows:,} joined rows do not match {len(labels):,} contexts or their order"
        )
    offsets, items = spans(joined["item_ids"])
    _, names = spans(joined["event_types"])
    _, stamps = spans(joined["timestamps"])
    rows = _rows_of(items, vocabulary)
    times = stamps.to_numpy(zero_copy_only=False).astype(np.int64)
    context = np.repeat(np.arange(len(labels)), np.diff(offsets))
    leaked = np.flatnonzero(times >= labels.moments[context])
    if len(leaked):
        first = context[leaked[0]]
        raise LeakageError(
            f"{len(leaked):,} events at or after their row's moment reached a history, for example of user "
            f"{labels.user_ids[first]!r} at {labels.moments[first]}"
        )
    known = rows >= 0
    sizes = np.bincount(context[known], minlength=len(labels))
    return Contexts(
        user_ids=labels.user_ids.astype(np.str_),
        moments=labels.moments,
        history_offsets=np.r_[0, np.cumsum(sizes)].astype(np.int64),
        history_rows=rows[known],
        history_events=_event_codes(names)[known],
        history_timestamps=times[known],
        target_offsets=labels.target_offsets,
        target_rows=labels.target_rows,
        target_weights=labels.target_weights,
        weights=np.ones(len(labels), np.float32),
        parents=np.full(len(labels), -1, np.int64),
        role=role,
    )


def with_older(contexts: Contexts, log: Log, vocabulary: Vocabulary) -> Contexts:
    """Held-out rows that tell everything their users had: older items come before the history kept.

    A history is bounded, and what lies beyond it would pass for new to its user. Each item that the history
    does not hold is put in front of it once, at its newest event, oldest first. The newest events stay as
    they are, and the towers read no others: `model.history_length` is at most what the features keep.

    Args:
        contexts: One row per user, with the newest events of each.
        log: The events before the rows' moment.
        vocabulary: The catalogue.
    """
    rows = vocabulary.rows(log.items.tolist())[log.item_codes] if len(log) else np.empty(0, np.int64)
    codes = np.array([event_code(name) for name in log.event_types], np.int64)
    row_of = np.full(len(log.users), -1, np.int64)
    places = pd.Index(log.users).get_indexer(pd.Index(contexts.user_ids.astype(object)))
    row_of[places[places >= 0]] = np.flatnonzero(places >= 0)
    owners = row_of[log.user_codes]
    # Newest first, so that the first place of a pair is its newest event.
    usable = np.flatnonzero((owners >= 0) & (rows >= 0))[::-1]
    usable = usable[log.created[usable] < contexts.moments[owners[usable]]]
    pairs = owners[usable] * len(vocabulary) + rows[usable]
    _, first = np.unique(pairs, return_index=True)
    kept_owners = np.repeat(np.arange(len(contexts)), np.diff(contexts.history_offsets))
    kept = kept_owners * len(vocabulary) + contexts.history_rows
    older = usable[first[~np.isin(pairs[first], kept)]]
    older = older[np.argsort(older, kind="stable")]  # the log is sorted by user and time

    def in_front(mine: Ints, theirs: Ints) -> Ints:
        everybody = np.concatenate([owners[older], kept_owners])
        return np.concatenate([theirs, mine])[np.argsort(everybody, kind="stable")]

    sizes = np.diff(contexts.history_offsets) + np.bincount(owners[older], minlength=len(contexts))
    return replace(
        contexts,
        history_offsets=np.r_[0, np.cumsum(sizes)].astype(np.int64),
        history_rows=in_front(contexts.history_rows, rows[older]),
        history_events=in_front(contexts.history_events, codes[log.event_codes[older]]),
        history_timestamps=in_front(contexts.history_timestamps, log.timestamps[older]),
    )


def no_contexts(role: Role) -> Contexts:
    """A table without rows."""
    none, zero = np.empty(0, np.int64), np.zeros(1, np.int64)
    empty = Contexts(
        np.empty(0, np.str_), none, zero, none, none, none, zero, none,
        np.empty(0, np.float32), np.empty(0, np.float32), none,
    )  # fmt: skip
    return replace(empty, role=role)


def _labels(
    log: Log,
    context: Ints,
    moments: Ints,
    users: NDArray[Any],
    vocabulary: Vocabulary,
    weights: Mapping[str, float],
) -> Labels:
    rows = vocabulary.rows(log.items.tolist())[log.item_codes]
    by_type = np.array([weights.get(name, 1.0) for name in log.event_types], np.float32)
    weight = by_type[log.event_codes] if len(by_type) else np.empty(0, np.float32)
    order = np.lexsort((-weight, rows, context))  # the heaviest event of an item comes first
    order = order[rows[order] >= 0]
    first = np.r_[True, (np.diff(context[order]) != 0) | (np.diff(rows[order]) != 0)][: len(order)]
    order = order[first]
    sizes = np.bincount(context[order], minlength=len(moments))
    kept = sizes > 0
    return Labels(
        users[kept],
        moments[kept],
        np.r_[0, np.cumsum(sizes[kept])].astype(np.int64),
        rows[order],
        weight[order],
    )


def _rows_of(items: pa.Array, vocabulary: Vocabulary) -> Ints:
    encoded = pc.dictionary_encode(items)
    rows = vocabulary.rows(encoded.dictionary.to_pylist())
    found: Ints = rows[encoded.indices.to_numpy(zero_copy_only=False)] if len(rows) else rows
    return found


def _event_codes(names: pa.Array) -> Ints:
    encoded = pc.dictionary_encode(names)
    codes = np.array([event_code(name) for name in encoded.dictionary.to_pylist()], np.int64)
    return codes[encoded.indices.to_numpy(zero_copy_only=False)] if len(codes) else np.empty(0, np.int64)
