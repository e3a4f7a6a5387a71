"""The texts that fine-tuning reads: each item's own, and by chance another wording of it.

The encoder then learns that both name one item: what was bought with it is held against the other wording
too, whose vector is drawn to that of the item's own text, as in self-teaching for misspelled queries (Zhuang
and Zuccon, SIGIR 2022).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.types import Rows

WORDING_TEMPERATURE = 0.05
"""Of the cosines by which another wording finds its text (SimCSE's, Gao et al., EMNLP 2021)."""


@dataclass(frozen=True, slots=True)
class Wordings:
    """Distinct texts of a catalogue, then other wordings of them, grouped by the text they stand for."""

    texts: Sequence[str]
    num_own: int
    """So many of the texts are items' own; those behind them are other wordings."""
    offsets: NDArray[np.int64]
    """(num_own + 1,) text i has the wordings `texts[num_own + offsets[i]:num_own + offsets[i + 1]]`."""

    @property
    def num_others(self) -> int:
        """Other wordings in all."""
        return len(self.texts) - self.num_own

    @classmethod
    def of(
        cls, own: Sequence[str], places: NDArray[np.int64], others: Mapping[int, Sequence[str]]
    ) -> Wordings:
        """Of the distinct texts of seen items.

        Args:
            own: The texts.
            places: (num_items,) each item's place among them, -1 for none.
            others: Other wordings by item row; of items that share a text, those of all of them.
        """
        grouped: list[list[str]] = [[] for _ in own]
        for row, wordings in sorted(others.items()):
            if places[row] >= 0:
                grouped[places[row]].extend(wordings)
        behind = [text for group in grouped for text in group]
        offsets = np.concatenate([[0], np.cumsum([len(group) for group in grouped])]).astype(np.int64)
        return cls([*own, *behind], len(own), offsets)

    def read(self, chosen: Rows, chance: float, rng: np.random.Generator) -> Rows:
        """Which text is read in the place of each chosen one: by chance, one of its wordings at random.

        Args:
            chosen: Places below `num_own`.
            chance: That a text which has other wordings is read in one of them.
            rng: Read alike whatever is chosen.
        """
        counts = np.diff(self.offsets)
        changed = (rng.random(self.num_own) < chance) & (counts > 0)
        picked = self.offsets[:-1] + (rng.random(self.num_own) * counts).astype(np.int64)
        read: Rows = np.where(changed, self.num_own + picked, np.arange(self.num_own))[chosen]
        return read
