"""From rows of `Contexts` to the arrays of one optimiser step, every draw keyed by (seed, stage, step)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recsys.contexts import MASKED, Contexts
from recsys.types import Floats, Rows

LogQ = Literal["negatives", "all", "off"]


SMALLEST_BATCH = 16
"""Contexts of a step below which no batch is made smaller for the sake of more steps."""


def batch_for(num_rows: int, most: int, min_steps: int) -> int:
    """Contexts per optimiser step: `most`, or fewer where that gave an epoch under `min_steps` steps."""
    return min(most, max(math.ceil(num_rows / min_steps), SMALLEST_BATCH))


@dataclass(frozen=True, slots=True)
class PaddedHistories:
    """Histories of a batch, newest first, padded at the end; every array is (batch, length)."""

    rows: Rows
    """Item rows; 0 where padded or masked."""
    events: NDArray[np.int64]
    gaps: Floats
    """Seconds from the event to the context's moment."""
    mask: NDArray[np.bool_]
    """False where padded, and where the item is not told: those after it keep their lags."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """The columns of one step's softmax: distinct items with their log corrections."""

    rows: Rows
    """(num_candidates,) the batch's distinct targets, ascending, then the sampled negatives."""
    log_corrections: Floats
    """(num_candidates,)"""
    num_targets: int
    target_corrections: Floats | None = None
    """(num_targets,) added to the targets' own logits; None adds nothing."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """(context, target) pairs of some rows of a batch."""

    users: NDArray[np.int64]
    """(num_pairs,) place of the context among the given positions."""
    items: Rows
    """(num_pairs,) item rows."""
    weights: Floats
    """(num_pairs,) weight of the context times weight of the target."""


def trainable(contexts: Contexts) -> NDArray[np.int64]:
    """Positions of the rows that teach the towers something: those with an event on a known item."""
    known = np.concatenate([[0], np.cumsum(contexts.history_rows != MASKED)])
    return np.flatnonzero(np.diff(known[contexts.history_offsets]) > 0)


def pad_histories(contexts: Contexts, positions: NDArray[np.int64], length: int) -> PaddedHistories:
    """The newest `length` events of each row; the width is the longest history among them (at least 1)."""
    starts, ends = contexts.history_offsets[positions], contexts.history_offsets[positions + 1]
    width = int(np.clip((ends - starts).max(initial=1), 1, length))
    places = ends[:, None] - 1 - np.arange(width)  # newest first
    mask = places >= starts[:, None]
    places = np.where(mask, places, 0)
    if not len(contexts.history_rows):
        zeros = np.zeros(mask.shape, np.int64)
        return PaddedHistories(zeros, zeros, zeros.astype(np.float32), mask)
    gaps = contexts.moments[positions][:, None] - contexts.history_timestamps[places]
    mask &= contexts.history_rows[places] != MASKED
    return PaddedHistories(
        rows=np.where(mask, contexts.history_rows[places], 0),
        events=np.where(mask, contexts.history_events[places], 0),
        gaps=np.where(mask, gaps, 0).astype(np.float32),
        mask=mask,
    )


def target_pairs(
    contexts: Contexts, positions: NDArray[np.int64], row_weights: Floats | None = None
) -> Pairs:
    """All targets of the given rows, each once per row (repeats inside a basket keep the largest weight).

    A row's pairs share its weight as 1 / sqrt(number of targets): a basket of a hundred counts as ten,
    not as a hundred, single purchases.
    """
    starts, ends = contexts.target_offsets[positions], contexts.target_offsets[positions + 1]
    sizes = ends - starts
    users = np.repeat(np.arange(len(positions)), sizes)
    places = np.arange(len(users)) - np.repeat(np.cumsum(sizes) - sizes, sizes) + np.repeat(starts, sizes)
    items, weights = contexts.target_rows[places], contexts.target_weights[places]
    order = np.lexsort((-weights, items, users))
    users, items, weights = users[order], items[order], weights[order]
    first = np.ones(len(users), bool)
    first[1:] = (users[1:] != users[:-1]) | (items[1:] != items[:-1])
    users, items, weights = users[first], items[first], weights[first]
    share = 1 / np.sqrt(np.bincount(users, minlength=len(positions)).clip(min=1))
    rows = contexts.weights[positions] if row_weights is None else contexts.weights[positions] * row_weights
    return Pairs(users, items, (weights * (rows * share)[users]).astype(np.float32))


def uniform_candidates(seen: Rows, targets: Rows, num_negatives: int, rng: np.random.Generator) -> Candidates:
    """Distinct targets and uniform negatives from the other seen items, with `log(|rest| / n)`.

    All seen items where that is no more than was asked for: the full softmax. Items unseen in training
    are never negatives.
    """
    positives = np.unique(targets)
    rest = np.setdiff1d(seen, positives, assume_unique=True)
    if len(rest) > num_negatives:
        drawn = np.sort(rng.choice(rest, num_negatives, replace=False))
        correction = np.log(len(rest) / num_negatives)
    else:
        drawn, correction = rest, 0.0
    corrections = np.concatenate([np.zeros(len(positives)), np.full(len(drawn), correction)])
    return Candidates(np.concatenate([positives, drawn]), corrections.astype(np.float32), len(positives))


def drawn_candidates(items: Rows, num_seen: int) -> Candidates:
    """Items drawn uniformly from those seen in training, as the candidates of their own interactions.

    Every non-target carries `log((num_seen - 1) / (number - 1))`, so that the sum estimates the full softmax.

    Args:
        items: Distinct, ascending.
        num_seen: How many they were drawn from.
    """
    correction = np.log(max(num_seen - 1, 1) / max(len(items) - 1, 1))
    return Candidates(items, np.full(len(items), correction, np.float32), len(items))


def pairs_among(pairs: Pairs, items: Rows) -> Pairs:
    """The pairs whose targets are among some items."""
    wanted = np.isin(pairs.items, items)
    return Pairs(pairs.users[wanted], pairs.items[wanted], pairs.weights[wanted])


def in_batch_candidates(targets: Rows, log_shares: Floats, logq: LogQ = "negatives") -> Candidates:
    """The batch's targets alone, with the logQ correction: count in the batch over its expectation.

    Args:
        targets: (num_pairs,) targets of the whole batch, with repeats.
        log_shares: (n,) log of each item's share among all training targets.
        logq: `negatives` leaves the target at hand as it is, since it is not sampled (arXiv:2507.09331);
            `all` corrects it too (Yi et al., RecSys 2019); `off` corrects nobody.
    """
    positives, counts = np.unique(targets, return_counts=True)
    expected = np.log(len(targets)) + log_shares[positives]
    if logq == "off":
        return Candidates(positives, np.log(counts).astype(np.float32), len(positives))
    corrections = (np.log(counts) - expected).astype(np.float32)
    own = -expected.astype(np.float32) if logq == "all" else None
    return Candidates(positives, corrections, len(positives), own)


def seen_items(contexts: Contexts, item_counts: NDArray[np.int64]) -> Rows:
    """Items with a training event, ascending: the only ones that may be negatives."""
    seen = np.asarray(item_counts) > 0
    seen[contexts.target_rows] = True
    return np.flatnonzero(seen)


def target_log_shares(contexts: Contexts, num_items: int) -> Floats:
    """Log of each item's share among all training targets, (n,); -inf for an item that is none."""
    counts = np.bincount(contexts.target_rows, minlength=num_items)
    with np.errstate(divide="ignore"):
        shares: Floats = np.log(counts / max(counts.sum(), 1)).astype(np.float32)
    return shares
