"""Bulk expansion: training contexts and item texts, each with provenance; off is the identity."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.augment.asking import Oracle
from recsys.augment.corpus import text_side
from recsys.augment.example import NO_NEIGHBOURS, Event, HistoryExample, Item
from recsys.augment.examples import (
    catalogue_protection,
    context_examples,
    history_samples,
    text_examples,
    text_samples,
    with_side,
)
from recsys.augment.gates.drift import Drift, Sample, consistent
from recsys.augment.gates.gate import Encode, Evidence
from recsys.augment.gates.panel import sift
from recsys.augment.grow import Grown, confidences, extend, grow, within_cap
from recsys.augment.lending import HistorySide, history_side
from recsys.augment.neighbours import covisitation_neighbours, fit_covisitation
from recsys.augment.policy import Branch, Policy
from recsys.augment.provenance import SCHEMA, provenance_table
from recsys.augment.rounds import gathered, with_answers
from recsys.contexts import Contexts, Vocabulary, concatenate
from recsys.types import Floats

if TYPE_CHECKING:
    import pandas as pd

_CHUNK = 65_536
"""Contexts that are Python objects at one time."""


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
        text_vectors: (num_items, dim) whitened, of the catalogue's texts, for ops that look for similar texts;
            without them those ops leave every row alone, which is counted.

    Raises:
        LeakageError: the contexts are held out.
    """
    contexts.require_fit()
    if (contexts.parents >= 0).any():
        raise ValueError("these contexts were augmented already")
    policy_id, branch = policy.policy_id, policy.history
    if not branch.ops.ops:
        zeros = np.zeros(len(contexts), np.float32)
        return ExpandedContexts(contexts, SCHEMA.empty_table(), zeros, zeros + 1, {}, policy_id)
    needs, evidence = branch.needs, Evidence()
    if "covisitation" in branch.evidence or ("neighbours" in needs and neighbours is None):
        evidence.covisitation = fit_covisitation(contexts, len(vocabulary))
        if neighbours is None:
            neighbours = evidence.covisitation.neighbours()
    near = neighbours or NO_NEIGHBOURS
    side = history_side(contexts, len(vocabulary), needs, near, friends, elsewhere, text_vectors)
    grown, children = _grown_histories(contexts, branch, side, evidence, seed, policy_id)
    if "text_neighbours" in needs and text_vectors is None:
        grown.counts["skipped:text_neighbours"] = len(contexts)
    samples = history_samples(contexts, children) if branch.drift else None
    kept = _chosen(grown, int(max_expansion * len(contexts)), branch.drift, samples, seed)
    strengths = np.asarray(grown.modification, np.float32)[kept]
    return ExpandedContexts(
        concatenate([contexts, children.take(kept)]),
        _provenance(grown, "history", policy_id, seed, created).take(pa.array(kept)),
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
    plain = list(text_examples(items, texts, policy))
    needs = branch.needs
    near = covisitation_neighbours(contexts, len(texts)) if needs and contexts is not None else NO_NEIGHBOURS
    examples = list(with_side(plain, text_side(plain, needs, near)))
    answers = gathered(examples, branch, seed, "text", oracle)
    grown = grow(with_answers(examples, answers), branch, seed, "text", policy_id)
    grown.counts.update(answers.counts)
    languages = Counter(example.tokens.language if example.tokens else "none" for example in examples)
    grown.counts.update({f"language:{name}": count for name, count in languages.items()})
    evidence = Evidence(
        catalogue_protection([example.fields for example in plain], policy),
        encode=encode,
        texts={example.row_id: example.text for example in plain},
    )
    sift(grown, branch.gates, evidence)
    samples = None
    if branch.drift is not None:
        samples = text_samples(items, texts, grown, evidence, branch.drift.min_p > 0)
    kept = _chosen(grown, int(max_expansion * len(texts)), branch.drift, samples, seed)
    strengths = np.asarray(grown.modification, np.float32)[kept]
    return ExpandedTexts(
        [*texts, *(grown.children[i].text for i in kept.tolist())],
        np.concatenate([originals, np.array(grown.parents, np.int64)[kept]]),
        _provenance(grown, "text", policy_id, seed, created).take(pa.array(kept)),
        np.concatenate([np.zeros(len(texts), np.float32), strengths]),
        dict(sorted(grown.counts.items())),
        policy_id,
    )


def _grown_histories(
    contexts: Contexts, branch: Branch, side: HistorySide, evidence: Evidence, seed: int, policy_id: str
) -> tuple[Grown[HistoryExample], Contexts]:
    """Accepted children, chunk by chunk, and their arrays."""
    grown: Grown[HistoryExample] = Grown()
    lengths: list[int] = []
    columns: list[list[NDArray[np.int64]]] = [[], [], []]
    for start in range(0, len(contexts), _CHUNK):
        stop = min(start + _CHUNK, len(contexts))
        examples = context_examples(contexts, start, stop, side)
        part = grow(examples, branch, seed, "history", policy_id, start)
        sift(part, branch.gates, evidence)
        lengths.extend(len(child.history) for child in part.children)
        for column, name in zip(columns, ("history", "event_types", "timestamps"), strict=True):
            column.append(np.array([v for child in part.children for v in getattr(child, name)], np.int64))
        extend(grown, part)
    parents = np.array(grown.parents, np.int64)
    rows, events, timestamps = (np.concatenate([np.empty(0, np.int64), *column]) for column in columns)
    children = replace(
        contexts.take(parents),
        history_offsets=np.concatenate([[0], np.cumsum(np.array(lengths, np.int64))]).astype(np.int64),
        history_rows=rows,
        history_events=events,
        history_timestamps=timestamps,
        parents=parents,
    )
    return grown, children


def _chosen(
    grown: Grown[Any], cap: int, drift: Drift | None, samples: tuple[Sample, Sample] | None, seed: int
) -> NDArray[np.int64]:
    """Positions of the children that stay: within the cap, and as a batch within the bounds of drift."""
    kept = within_cap(grown, cap, seed)
    if kept is None:
        kept = np.arange(len(grown.row_ids))
    if drift is None or not samples:
        return kept
    originals, children = samples
    ids, parents = [grown.row_ids[i] for i in kept.tolist()], np.array(grown.parents, np.int64)[kept]
    rows, counts = consistent(drift, originals, children.take(kept), parents, ids, seed)
    grown.counts.update(counts)
    grown.counts["accepted"] -= len(kept) - len(rows)
    return kept[rows]


def _provenance(grown: Grown[Any], kind: str, policy_id: str, seed: int, created: int | None) -> pa.Table:
    return provenance_table(
        kind=kind,
        row_ids=grown.row_ids,
        parent_ids=grown.parent_ids,
        policy_id=policy_id,
        plans=grown.plans,
        seed=seed,
        scores={"modification": grown.modification, **grown.scores},
        created=int(time.time()) if created is None else created,
    )
