"""Bulk expansion: training contexts and item texts, each with provenance; off is the identity."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.augment.corpus import text_side
from recsys.augment.example import NO_NEIGHBOURS, HistoryExample, Item, TextExample
from recsys.augment.examples import context_examples, text_examples, with_side
from recsys.augment.grow import Grown, extend, grow, within_cap
from recsys.augment.neighbours import covisitation_neighbours
from recsys.augment.policy import Policy
from recsys.augment.provenance import SCHEMA, provenance_table
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
) -> ExpandedContexts:
    """Training contexts with augmented children behind them.

    A child has its parent's user, moment, targets and weight; its history is earlier than its moment as its
    parent's is.

    Args:
        contexts: Fit rows, none of them augmented already.
        vocabulary: The catalogue of the contexts' rows.
        policy: Its `history` branch is run.
        seed: The run's seed.
        max_expansion: Children per original at most; above it, children are left out by a keyed draw.
        created: Unix seconds to note as the time of making; the clock's when None.
        neighbours: Correlated item rows, nearest first; fitted on these contexts when an op needs them.

    Raises:
        LeakageError: the contexts are held out.
    """
    contexts.require_fit()
    if (contexts.parents >= 0).any():
        raise ValueError("these contexts were augmented already")
    policy_id = policy.policy_id
    if not policy.history.ops.ops:
        return ExpandedContexts(
            contexts, SCHEMA.empty_table(), np.zeros(len(contexts), np.float32), {}, policy_id
        )
    if neighbours is None:
        needed = "neighbours" in policy.history.needs
        neighbours = covisitation_neighbours(contexts, len(vocabulary)) if needed else NO_NEIGHBOURS
    grown: Grown[HistoryExample] = Grown()
    lengths: list[int] = []
    columns: list[list[NDArray[np.int64]]] = [[], [], []]
    for start in range(0, len(contexts), _CHUNK):
        stop = min(start + _CHUNK, len(contexts))
        examples = context_examples(contexts, start, stop, neighbours)
        part = grow(examples, policy.history, seed, "history", policy_id, start)
        lengths.extend(len(child.history) for child in part.children)
        for column, name in zip(columns, ("history", "event_types", "timestamps"), strict=True):
            column.append(np.array([v for child in part.children for v in getattr(child, name)], np.int64))
        part.children.clear()
        extend(grown, part)
    parents = np.array(grown.parents, np.int64)
    offsets = np.concatenate([[0], np.cumsum(np.array(lengths, np.int64))]).astype(np.int64)
    rows, events, timestamps = (np.concatenate(column) for column in columns)
    children = replace(
        contexts.take(parents),
        history_offsets=offsets,
        history_rows=rows,
        history_events=events,
        history_timestamps=timestamps,
        parents=parents,
    )
    kept = within_cap(grown, int(max_expansion * len(contexts)), seed)
    table = _provenance(grown, "history", policy_id, seed, created)
    if kept is not None:
        children, table = children.take(kept), table.take(pa.array(kept))
    strengths = np.asarray(grown.modification, np.float32)[slice(None) if kept is None else kept]
    return ExpandedContexts(
        concatenate([contexts, children]),
        table,
        np.concatenate([np.zeros(len(contexts), np.float32), strengths]),
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
) -> ExpandedTexts:
    """Item texts with augmented ones behind them.

    Args:
        items: The catalogue: `item_id`, and whatever there is of brand, category, tags and price.
        texts: One text per item, in catalogue order.
        policy: Its `text` branch is run.
        seed: The run's seed.
        max_expansion: Augmented texts per item at most.
        created: Unix seconds to note as the time of making; the clock's when None.
        contexts: Fit rows, for ops that read what is bought together; without them those ops read nothing.

    Raises:
        LeakageError: the contexts are held out or augmented.
    """
    if len(items) != len(texts):
        raise ValueError(f"{len(items)} items but {len(texts)} texts")
    policy_id = policy.policy_id
    originals = np.full(len(texts), -1, np.int64)
    if not policy.text.ops.ops:
        zeros = np.zeros(len(texts), np.float32)
        return ExpandedTexts(list(texts), originals, SCHEMA.empty_table(), zeros, {}, policy_id)
    languages: Counter[str] = Counter()
    originals_cut = list(text_examples(items, texts, policy))
    needs = policy.text.needs
    near = covisitation_neighbours(contexts, len(texts)) if needs and contexts is not None else NO_NEIGHBOURS
    side = text_side(originals_cut, needs, near)
    examples = _counted(with_side(originals_cut, side), languages)
    grown = grow(examples, policy.text, seed, "text", policy_id)
    grown.counts.update({f"language:{name}": count for name, count in languages.items()})
    kept = within_cap(grown, int(max_expansion * len(texts)), seed)
    table = _provenance(grown, "text", policy_id, seed, created)
    order = np.arange(len(grown.children)) if kept is None else kept
    strengths = np.asarray(grown.modification, np.float32)[order]
    return ExpandedTexts(
        [*texts, *(grown.children[i].text for i in order.tolist())],
        np.concatenate([originals, np.array(grown.parents, np.int64)[order]]),
        table if kept is None else table.take(pa.array(kept)),
        np.concatenate([np.zeros(len(texts), np.float32), strengths]),
        dict(sorted(grown.counts.items())),
        policy_id,
    )


def _counted(examples: Iterable[TextExample], languages: Counter[str]) -> Iterator[TextExample]:
    for example in examples:
        languages[example.tokens.language if example.tokens else "none"] += 1
        yield example


def _provenance(grown: Grown[Any], kind: str, policy_id: str, seed: int, created: int | None) -> pa.Table:
    return provenance_table(
        kind=kind,
        row_ids=grown.row_ids,
        parent_ids=grown.parent_ids,
        policy_id=policy_id,
        plans=grown.plans,
        seed=seed,
        scores={"modification": grown.modification},
        created=int(time.time()) if created is None else created,
    )
