"""Fusion: how augmented rows meet the originals in training, by name, with the number of steps held equal.

Whatever the strategy, an epoch has as many rows as there are originals: an arm with augmentation takes as
many optimiser steps as the arm without, so that a comparison does not measure longer training.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.config import AugmentConfig
from recsys.randomness import generator
from recsys.types import Floats

RAMP = 0.3
"""Share of the epochs over which `curriculum` rises from nothing to everything."""


def in_force(epoch: int, num_epochs: int, config: AugmentConfig) -> float:
    """Share of the augmented rows and texts that is in force in an epoch, 0-based: one schedule for both.

    0 in the last `config.clean_tail` of the epochs, else as `rising`.
    """
    share = rising(epoch, num_epochs, config)
    return 0.0 if epoch + 0.5 > num_epochs * (1.0 - config.clean_tail) else share


def rising(epoch: int, num_epochs: int, config: AugmentConfig) -> float:
    """Share of the ops on vectors that is in force in an epoch: 1, or less at first under `curriculum`.

    They have no clean tail: their inputs are the originals, and where they keep towers from overfitting, a
    few epochs without them would overfit after all.
    """
    if not 0 <= epoch < num_epochs:
        raise ValueError(f"epoch {epoch} of {num_epochs}")
    if not config.enabled:
        return 0.0
    if config.fusion == "curriculum":
        return min((epoch + 1) / max(RAMP * num_epochs, 1.0), 1.0)
    return 1.0


def tail_start(num_epochs: int, config: AugmentConfig) -> int:
    """The first of the epochs at the end that see originals only; `num_epochs` where there is none."""
    start = num_epochs
    while start and not in_force(start - 1, num_epochs, config):
        start -= 1
    return start


class Selection(NamedTuple):
    """What one epoch trains on, in no particular order: the trainer shuffles."""

    rows: NDArray[np.int64]
    """(num_originals,) positions in the table of originals and augmented rows."""
    weights: Floats
    """(num_originals,) factors for the rows' own loss weights."""


class Fusion:
    """Chooses each epoch's rows out of a table of originals and their augmented children.

    * `concatenate`: originals and children alike; epochs walk through shuffles of all of them, so that every
      row is seen equally often.
    * `weight`: as `concatenate`, a child's loss weighing `config.weight` times its confidence.
    * `mix`: each original is replaced by one of its children with probability `config.mix_probability`, drawn
      anew each epoch (TrivialAugment's random mixing, Müller and Hutter, arXiv:2103.10158).
    * `curriculum`: as `mix`, the probability rising over the first 30 % of the epochs, the gentlest children
      first (Bengio et al., ICML 2009).

    The last `config.clean_tail` of the epochs takes originals only.

    Args:
        parents: (n,) of the table: -1 for an original, else the original's position.
        config: The `[augment]` table.
        seed: Draws are keyed by (seed, "fuse", epoch).
        strengths: (n,) how much of its original a row changed; only `curriculum` reads it.
        confidences: (n,) in [0, 1]; only `weight` reads it.
    """

    def __init__(
        self,
        parents: NDArray[np.int64],
        config: AugmentConfig,
        seed: int,
        strengths: Floats | None = None,
        confidences: Floats | None = None,
    ) -> None:
        self._config, self._seed = config, seed
        self._parents = np.asarray(parents, np.int64)
        self.originals: NDArray[np.int64] = np.flatnonzero(self._parents < 0)
        children = np.flatnonzero(self._parents >= 0)
        if not config.enabled:
            children = children[:0]
        if len(children) and (
            self._parents[children].max() >= len(self._parents)
            or (self._parents[self._parents[children]] >= 0).any()
        ):
            raise ValueError("parents must be positions of originals in the same table")
        limit = int(config.max_expansion * len(self.originals))
        if len(children) > limit:
            raise ValueError(f"{len(children):,} augmented rows; max_expansion allows {limit:,}")
        # Children grouped by parent, the gentlest first where strengths are known.
        gentleness = np.zeros(len(children)) if strengths is None else np.asarray(strengths)[children]
        self._children = children[np.lexsort((gentleness, self._parents[children]))]
        self._strengths = _ranks(strengths, self._children)
        self._confidences = confidences

    @property
    def num_children(self) -> int:
        """Augmented rows that may be chosen."""
        return len(self._children)

    def select(self, epoch: int, num_epochs: int) -> Selection:
        """Rows and weights of one epoch, 0-based; always as many rows as there are originals."""
        level = in_force(epoch, num_epochs, self._config)
        if not level or not self.num_children:
            return Selection(self.originals, np.ones(len(self.originals), np.float32))
        match self._config.fusion:
            case "concatenate" | "weight":
                return self._pooled(epoch)
            case "mix":
                return self._mixed(epoch, self._config.mix_probability, 1.0)
            case "curriculum":
                return self._mixed(epoch, level * self._config.mix_probability, level)

    def _pooled(self, epoch: int) -> Selection:
        size, pool = len(self.originals), len(self.originals) + self.num_children
        start = epoch * size
        parts = []
        for turn in range(start // pool, (start + size - 1) // pool + 1):
            everything = np.concatenate([self.originals, self._children])
            shuffled = generator(self._seed, "fuse", "pool", turn).permutation(everything)
            parts.append(shuffled[max(start - turn * pool, 0) : start + size - turn * pool])
        rows = np.concatenate(parts)
        weights = np.ones(size, np.float32)
        if self._config.fusion == "weight":
            augmented = self._parents[rows] >= 0
            weights[augmented] = self._config.weight
            if self._confidences is not None:
                weights[augmented] *= self._confidences[rows[augmented]]
        return Selection(rows, weights)

    def _mixed(self, epoch: int, probability: float, hardest: float) -> Selection:
        draws = generator(self._seed, "fuse", epoch).random((len(self.originals), 2))
        eligible = self._children[self._strengths <= hardest]
        parents = self._parents[eligible]
        starts = np.searchsorted(parents, self.originals, side="left")
        counts = np.searchsorted(parents, self.originals, side="right") - starts
        replaced = (draws[:, 0] < probability) & (counts > 0)
        pick = starts + (draws[:, 1] * counts).astype(np.int64)
        rows = self.originals.copy()
        rows[replaced] = eligible[pick[replaced]]
        return Selection(rows, np.ones(len(rows), np.float32))


class EvenSteps:
    """A fusion whose epochs have as many rows to train on as the originals alone have, row for row.

    An op may give a history to a user who had none, or hide the only event of another: then one arm would
    take more optimiser steps than the other. Rows too many are left out at random, rows too few are made up
    for by originals.

    Args:
        fusion: What chooses the rows.
        usable: Positions of the rows that can be trained on.
        size: How many of the originals can.
        seed: Draws are keyed by (seed, "fuse", "even", epoch).
    """

    def __init__(self, fusion: Fusion, usable: NDArray[np.int64], size: int, seed: int) -> None:
        self._fusion, self._usable, self._size, self._seed = fusion, usable, size, seed

    def select(self, epoch: int, num_epochs: int) -> Selection:
        """Rows and weights of one epoch, 0-based."""
        rows, weights = whole = self._fusion.select(epoch, num_epochs)
        kept = np.isin(rows, self._usable)
        if kept.sum() == self._size:
            return whole
        rows, weights = rows[kept], weights[kept]
        rng = generator(self._seed, "fuse", "even", epoch)
        if len(rows) > self._size:
            chosen = np.sort(rng.permutation(len(rows))[: self._size])
            return Selection(rows[chosen], weights[chosen])
        originals = np.intersect1d(self._fusion.originals, self._usable)
        missing = rng.permutation(originals)[: self._size - len(rows)]
        ones: Floats = np.ones(len(missing), np.float32)
        return Selection(np.concatenate([rows, missing]), np.concatenate([weights, ones]))


def _ranks(strengths: Floats | None, children: NDArray[np.int64]) -> Floats:
    """Each child's strength as a quantile in (0, 1]; equal strengths share the lower one."""
    if strengths is None or not len(children):
        return np.zeros(len(children), np.float32)
    values = np.asarray(strengths, np.float32)[children]
    return (np.searchsorted(np.sort(values), values, side="left") / len(values)).astype(np.float32)
