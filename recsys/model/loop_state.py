"""The counters of the towers' loop: all that its checkpoint needs beside tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from recsys.augment.representation import Passes


@dataclass(slots=True)
class LoopState:
    """Where a fit stands."""

    epoch: int = 0
    step: int = 0
    """Optimiser steps done in this epoch."""
    loss: float = 0.0
    """Sum over this epoch's steps."""
    losses: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    finished: bool = False
    chosen: int = 0
    """Epochs that early stopping chose, once their clean tail is being walked; 0 before."""
    forward: float = 0.0
    """Passes forward through the towers, over all optimiser steps."""
    backward: float = 0.0
    """Passes back."""
    steps: int = 0
    """Optimiser steps behind these passes."""
    rate: float = 0.0
    """Rows per second of the newest epoch."""

    @property
    def best_epoch(self) -> int:
        """Epochs (1-based) up to the best validation figure; 0 while there is none."""
        return int(np.argmax(self.validation)) + 1 if self.validation else 0

    def count(self, passes: Passes) -> None:
        """One more optimiser step that took so many passes."""
        self.steps += 1
        self.forward += passes.forward
        self.backward += passes.backward

    @property
    def passes_per_step(self) -> Passes:
        """Mean passes per optimiser step; one each before the first."""
        if not self.steps:
            return Passes(1, 1)
        return Passes(round(self.forward / self.steps, 3), round(self.backward / self.steps, 3))

    def to_plain(self) -> dict[str, Any]:
        """Plain values; `LoopState(**plain)` reads them."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> LoopState:
        """The inverse of `to_plain`."""
        return cls(**plain)
