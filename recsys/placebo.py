"""Placebo arms: augmentation without what augmentation claims to bring, with the same rows, steps and fusion.

A gain that a placebo has as well is a gain of training on something else, not of the op. Duplicates say what
more of the same does, shuffled labels what noise costs, random insertion what any other item would have done
in a neighbour's place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recsys.augment.fuse import Fusion
from recsys.augmented import AugmentedRows
from recsys.config import AugmentConfig
from recsys.contexts import Contexts, concatenate
from recsys.randomness import generator
from recsys.types import Rows

Placebo = Literal["duplicate", "shuffled_labels", "random_insert"]
PLACEBOS: tuple[Placebo, ...] = ("duplicate", "shuffled_labels", "random_insert")
INSERTED = 0.2
"""Share of events before which a random item is put: the middle of what the op `insert` draws from."""


def placebo_rows(kind: Placebo, contexts: Contexts, config: AugmentConfig, seed: int) -> AugmentedRows:
    """One child per original, made by a placebo.

    Args:
        kind: `duplicate` copies the row; `shuffled_labels` gives it the targets of another row;
            `random_insert` puts items that were seen in training, drawn uniformly, before some of its events.
        contexts: Originals of role `fit`.
        config: How the children meet the originals.
        seed: Keys the draws.
    """
    contexts.require_fit()
    rng = generator(seed, "placebo", kind)
    everyone = np.arange(len(contexts))
    children = replace(contexts, parents=everyone)
    if kind == "shuffled_labels":
        children = _with_targets_of(children, rng.permutation(everyone))
    elif kind == "random_insert":
        children = _with_random_items(children, rng)
    both = concatenate([contexts, children])
    return AugmentedRows(both, Fusion(both.parents, config, seed), {"accepted": len(children)})


def placebo_texts(kind: Placebo, texts: Sequence[str], rows: Rows, seed: int) -> dict[int, tuple[str, ...]]:
    """Another wording of each text, made by a placebo: what fine-tuning reads instead of a policy's.

    Args:
        kind: `duplicate` is the text itself, so none is given; `shuffled_labels` gives an item the text of
            another; `random_insert` puts a word of another text somewhere into it.
        texts: The catalogue's.
        rows: Items whose text is read.
        seed: Keys the draws.
    """
    if kind == "duplicate":
        return {}
    rng = generator(seed, "placebo", kind, "texts")
    written = [row for row in rows.tolist() if texts[row].strip()]
    others = [texts[row] for row in rng.permutation(written).tolist()]
    if kind == "shuffled_labels":
        return {row: (other,) for row, other in zip(written, others, strict=True)}
    return {row: (_with_word_of(texts[row], other, rng),) for row, other in zip(written, others, strict=True)}


def _with_word_of(text: str, other: str, rng: np.random.Generator) -> str:
    words, donor = text.split(), other.split()
    words.insert(int(rng.integers(len(words) + 1)), donor[int(rng.integers(len(donor)))])
    return " ".join(words)


def _with_targets_of(contexts: Contexts, order: NDArray[np.int64]) -> Contexts:
    other = contexts.take(order)
    return replace(
        contexts,
        target_offsets=other.target_offsets,
        target_rows=other.target_rows,
        target_weights=other.target_weights,
    )


def _with_random_items(contexts: Contexts, rng: np.random.Generator) -> Contexts:
    seen = np.unique(np.concatenate([contexts.history_rows, contexts.target_rows]))
    size = len(contexts.history_rows)
    places = np.flatnonzero(rng.random(size) < INSERTED)
    owners = np.repeat(np.arange(len(contexts)), np.diff(contexts.history_offsets))
    added = np.bincount(owners[places], minlength=len(contexts))
    return replace(
        contexts,
        history_offsets=contexts.history_offsets + np.concatenate([[0], np.cumsum(added)]),
        history_rows=np.insert(contexts.history_rows, places, rng.choice(seen, len(places))),
        history_events=np.insert(contexts.history_events, places, contexts.history_events[places]),
        history_timestamps=np.insert(
            contexts.history_timestamps, places, contexts.history_timestamps[places]
        ),
    )
