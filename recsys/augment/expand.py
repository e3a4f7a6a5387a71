"""Bulk expansion: training contexts and item texts, each with provenance; off is the identity."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.augment.asking import Oracle
from recsys.augment.choose import Batch, chosen
from recsys.augment.columns.lazy import Numbers, Strings, taken
from recsys.augment.example import Event, HistoryExample, Item
from recsys.augment.examples import history_samples, put_pairs, text_samples
from recsys.augment.gates.drift import Drift, Sample
from recsys.augment.gates.gate import Encode
from recsys.augment.grow import Grown, confidences, texts_of
from recsys.augment.policy import Policy
from recsys.augment.provenance import SCHEMA, provenance_table
from recsys.augment.shards import HistoryShards, TextShards, child_contexts, flat_histories
from recsys.contexts import Contexts, Vocabulary, concatenate
from recsys.types import Floats

if TYPE_CHECKING:
    import pandas as pd

_CHUNK = 65_536
"""Contexts that are worked on at one time."""
_EVENTS = 2_000_000
"""Events that are worked on at one time, some 200 bytes each."""


@dataclass(frozen=True, slots=True)
class ExpandedContexts:
    """Originals first, then their augmented children."""

    contexts: Contexts
    """`parents` is -1 for originals, else the original's position."""
    provenance: pa.Table
    """One row per child, in the children's order; see `recsys.augment.provenance.SCHEMA`."""
    strengths: Floats
    """(len(contexts),) share of the original that a child lost; 0 for originals."""
    confidences: Floats
    """(len(contexts),) the lowest score that a gate gave, in [0, 1]; 1 for originals and without gates."""
    counts: dict[str, int]
    policy_id: str


@dataclass(frozen=True, slots=True)
class ExpandedTexts:
    """Originals first, one per item row, then augmented texts."""

    texts: list[str]
    parents: NDArray[np.int64]
    """(len(texts),) -1 for originals, else the item's row."""
    provenance: pa.Table
    """One row per augmented text, in their order."""
    strengths: Floats
    """(len(texts),) share of the original's words that is gone; 0 for originals."""
    counts: dict[str, int]
    policy_id: str


def expand_contexts(
    contexts: Contexts,
    vocabulary: Vocabulary,
    policy: Policy,
    seed: int,
    *,
    max_expansion: float = 1.0,
    created: int | None = None,
    neighbours: Mapping[Item, tuple[Item, ...]] | None = None,
    friends: Mapping[str, Sequence[str]] | None = None,
    elsewhere: Mapping[str, Sequence[Event]] | None = None,
    text_vectors: Floats | None = None,
) -> ExpandedContexts:
    """Training contexts with augmented children behind them.

    A child has its parent's user, moment, targets and weight; its history is earlier than its moment as its
    parent's is. What a gate of the policy refuses is left out and counted.

    Args:
        contexts: Fit rows, none of them augmented already.
        vocabulary: The catalogue of the contexts' rows.
        policy: Its `history` branch is run.
        seed: The run's seed.
        max_expansion: Children per original at most; above it, children are left out by a keyed draw.
        created: Unix seconds to note as the time of making; the clock's when None.
        neighbours: Correlated item rows, nearest first; fitted on these contexts when an op needs them.
        friends: User ids by user id, for `social_borrow`.
        elsewhere: Events of another domain by user id, for `cross_domain_borrow`; see
            `recsys.augment.domains.translated`.
        text_vectors: (num_items, dim) whitened, of the catalogue's texts, for ops that look for similar
            ones; without them those ops leave every row alone, which is counted.

    Raises:
        LeakageError: the contexts are held out.
    """
    contexts.require_fit()
    policy_id, branch = policy.policy_id, policy.history
    if not branch.ops.ops:
        zeros = np.zeros(len(contexts), np.float32)
        return ExpandedContexts(contexts, SCHEMA.empty_table(), zeros, zeros + 1, {}, policy_id)
    shards = HistoryShards(
        contexts,
        len(vocabulary),
        policy,
        seed,
        neighbours=neighbours,
        friends=friends,
        elsewhere=elsewhere,
        text_vectors=text_vectors,
    )
    grown, children, provenance = _grown_histories(shards, policy_id, seed, created)
    samples = history_samples(contexts, children, len(vocabulary)) if branch.drift else None
    kept = _chosen(grown, int(max_expansion * len(contexts)), branch.drift, samples, seed)
    everyone = len(kept) == len(children)
    strengths = np.asarray(grown.modification, np.float32)[kept]
    return ExpandedContexts(
        concatenate([contexts, children if everyone else children.take(kept)]),
        provenance if everyone else provenance.take(pa.array(kept)),
        np.concatenate([np.zeros(len(contexts), np.float32), strengths]),
        np.concatenate([np.ones(len(contexts), np.float32), confidences(grown)[kept]]),
        dict(sorted(grown.counts.items())),
        policy_id,
    )


def expand_texts(
    items: pd.DataFrame,
    texts: Sequence[str],
    policy: Policy,
    seed: int,
    *,
    max_expansion: float = 1.0,
    created: int | None = None,
    contexts: Contexts | None = None,
    encode: Encode | None = None,
    oracle: Oracle | None = None,
) -> ExpandedTexts:
    """Item texts with augmented ones behind them. What a gate of the policy refuses is left out and counted.

    Args:
        items: The catalogue: `item_id`, and whatever there is of brand, category, tags and price.
        texts: One text per item, in catalogue order.
        policy: Its `text` branch is run.
        seed: The run's seed.
        max_expansion: Augmented texts per item at most.
        created: Unix seconds to note as the time of making; the clock's when None.
        contexts: Fit rows, for ops that read what is bought together; without them those ops read nothing.
        encode: Texts to unit vectors, for the gate `meaning` and for drift of vectors; without it the first
            is skipped and counted, the second does not ask.
        oracle: Answers the ops that ask a model; without it they leave every row alone, which is counted.

    Raises:
        LeakageError: the contexts are held out or augmented.
    """
    if len(items) != len(texts):
        raise ValueError(f"{len(items)} items but {len(texts)} texts")
    policy_id, branch = policy.policy_id, policy.text
    originals = np.full(len(texts), -1, np.int64)
    if not branch.ops.ops:
        zeros = np.zeros(len(texts), np.float32)
        return ExpandedTexts(list(texts), originals, SCHEMA.empty_table(), zeros, {}, policy_id)
    shards = TextShards(items, texts, policy, seed, encode=encode, oracle=oracle)
    if shards.learns and contexts is not None:
        tokens = shards.cut(0, len(shards))
        shards.learn(contexts, lambda start, stop: tokens[start:stop], _CHUNK)
    grown = shards.grown(0, len(shards))
    samples = None
    if branch.drift is not None:
        samples = text_samples(items, texts, grown, shards.evidence, branch.drift.min_p > 0)
        if branch.drift.asks_variety:
            put_pairs(*samples, texts, texts_of(grown.children))
    kept = _chosen(grown, int(max_expansion * len(texts)), branch.drift, samples, seed)
    strengths = np.asarray(grown.modification, np.float32)[kept]
    return ExpandedTexts(
        [*texts, *taken(texts_of(grown.children), kept.tolist())],
        np.concatenate([originals, np.asarray(grown.parents, np.int64)[kept]]),
        _provenance(grown, "text", policy_id, seed, created).take(pa.array(kept)),
        np.concatenate([np.zeros(len(texts), np.float32), strengths]),
        dict(sorted(grown.counts.items())),
        policy_id,
    )


def _grown_histories(
    shards: HistoryShards, policy_id: str, seed: int, created: int | None
) -> tuple[Grown[HistoryExample], Contexts, pa.Table]:
    """Accepted children, chunk by chunk: light columns without examples and plans, arrays, provenance."""
    created = int(time.time()) if created is None else created
    nothing = np.empty(0, np.int64)
    columns: tuple[list[NDArray[Any]], ...] = tuple([nothing] for _ in range(6))
    scores: dict[str, list[Any]] = {}
    tables = [SCHEMA.empty_table()]
    counts: Counter[str] = Counter()
    refusals: Counter[tuple[str, str]] = Counter()
    for start, stop in _ranges(shards):
        part = shards.grown(start, stop)
        sizes, arrays = flat_histories(part.children)
        said = (np.asarray(part.parents, np.int64), np.asarray(part.modification), sizes, *arrays)
        for column, values in zip(columns, said, strict=True):
            column.append(values)
        for name, given in part.scores.items():
            scores.setdefault(name, []).append(np.asarray(given))
        tables.append(_provenance(part, "history", policy_id, seed, created))
        counts.update(part.counts)
        refusals.update(part.refusals)
    provenance = pa.concat_tables(tables)
    parents, modification, lengths, rows, events, timestamps = (np.concatenate(column) for column in columns)
    ids = (Strings(provenance[name].combine_chunks()) for name in ("row_id", "parent_id", "op"))
    row_ids, parent_ids, chains = ids
    grown: Grown[HistoryExample] = Grown(
        Numbers(parents), row_ids, parent_ids, chains=chains, modification=Numbers(modification),
        scores={name: Numbers(np.concatenate(given)) for name, given in scores.items()},
        counts=counts, refusals=refusals,
    )  # fmt: skip
    return grown, child_contexts(shards.contexts, parents, lengths, (rows, events, timestamps)), provenance


def _ranges(shards: HistoryShards) -> Iterator[tuple[int, int]]:
    """From and to, so that a range has so many rows and, copies included, so many events at most."""
    offsets, most = shards.contexts.history_offsets, _EVENTS // shards.branch.copies
    start = 0
    while start < len(shards):
        fits = int(np.searchsorted(offsets, offsets[start] + most, side="right")) - 1
        stop = min(max(fits, start + 1), start + _CHUNK, len(shards))
        yield start, stop
        start = stop


def _chosen(
    grown: Grown[Any], cap: int, drift: Drift | None, samples: tuple[Sample, Sample] | None, seed: int
) -> NDArray[np.int64]:
    """Positions of the children that stay."""
    batch = Batch(grown.row_ids, grown.chains, np.array(grown.parents, np.int64))
    return chosen(batch, cap, drift, samples, seed, grown.refuse)


def _provenance(grown: Grown[Any], kind: str, policy_id: str, seed: int, created: int | None) -> pa.Table:
    return provenance_table(
        kind=kind,
        row_ids=grown.row_ids,
        parent_ids=grown.parent_ids,
        policy_id=policy_id,
        plans=grown.plans,
        seed=seed,
        scores={"modification": grown.modification, **grown.scores},
        chains=grown.chains,
        created=int(time.time()) if created is None else created,
    )
