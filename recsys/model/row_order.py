"""Which rows an epoch reads, and in which order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from recsys.randomness import generator, turn_of_shuffles
from recsys.types import Floats


class Fusion(Protocol):
    """Which rows of a table with augmented rows train in an epoch, and with what weight."""

    def select(self, epoch: int, num_epochs: int) -> tuple[NDArray[np.int64], Floats]:
        """Row positions and their weights."""
        ...


@dataclass(frozen=True)
class RowOrder:
    """The rows of each epoch, shuffled; of many, each epoch reads some and the next one goes on."""

    trainable: NDArray[np.int64]
    """Positions that teach anything: no other is read."""
    fusion: Fusion | None
    """Chooses the rows of each epoch; None takes all that are trainable."""
    most: int
    """Rows of an epoch at most."""
    seed: int
    stage: str

    def of(self, epoch: int, num_epochs: int) -> tuple[NDArray[np.int64], Floats]:
        """Row positions and their weights in an epoch, 0-based, of a fit that has so many."""
        positions, weights = self.trainable, np.ones(len(self.trainable), np.float32)
        if self.fusion is not None:
            chosen, chosen_weights = self.fusion.select(epoch, num_epochs)
            usable = np.isin(chosen, self.trainable)
            positions, weights = chosen[usable], chosen_weights[usable]
        if len(positions) <= self.most:
            order = generator(self.seed, "towers", self.stage, "order", epoch).permutation(len(positions))
        else:
            names = ("towers", self.stage, "pass")
            order = turn_of_shuffles(len(positions), self.most, epoch, self.seed, *names)
        return positions[order], weights[order]
