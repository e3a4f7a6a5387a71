"""What a step of fine-tuning takes: some texts, their items, contexts, and who the candidates are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.config import FinetuneConfig
from recsys.contexts import Contexts
from recsys.model.batching import Candidates, drawn_candidates, target_pairs, trainable
from recsys.randomness import generator
from recsys.types import Rows


class ItemDraws:
    """The draws of one fine-tuning, keyed by its seed and the step.

    Args:
        contexts: The rows that are trained on.
        seen: Items seen in training, ascending.
        places: (n,) place of each item's text among the distinct ones, -1 for none.
        config: Sizes and candidates of a step.
        seed: Of the run.
    """

    def __init__(
        self, contexts: Contexts, seen: Rows, places: NDArray[np.int64], config: FinetuneConfig, seed: int
    ) -> None:
        self._seen, self._places, self._config, self._seed = seen, places, config, seed
        self._num_texts = int(places.max(initial=-1)) + 1
        positions = trainable(contexts)
        pairs = target_pairs(contexts, positions)
        self._pair_contexts, self._pair_items = positions[pairs.users], pairs.items

    @property
    def num_pairs(self) -> int:
        """(context, target) pairs in all."""
        return len(self._pair_contexts)

    def texts_of(self, step: int) -> NDArray[np.int64]:
        """Places of a step's texts, ascending: a keyed permutation of all of them, read in turn."""
        size = min(self._config.items_per_step, self._num_texts)
        per_pass = math.ceil(self._num_texts / size)
        rng = generator(self._seed, "finetune", "order", step // per_pass)
        start = (step % per_pass) * size
        return np.sort(rng.permutation(self._num_texts)[start : start + size])

    def items_with(self, chosen: NDArray[np.int64]) -> Rows:
        """The seen items that have one of some texts, ascending."""
        wanted = np.zeros(self._num_texts + 1, bool)  # the last place serves -1: no text
        wanted[chosen] = True
        return self._seen[wanted[self._places[self._seen]]]

    def held_against(self, items: Rows, rng: np.random.Generator) -> tuple[NDArray[np.int64], Candidates]:
        """The contexts of a step and their candidates.

        Under `drawn` the contexts are chosen by the step's items, so these alone may be candidates. Under
        `all` everybody's target counts and every seen item is a candidate, those outside the step with the
        vector of the newest refresh: then contexts are drawn whatever their targets are, and an item of the
        step is pushed away by as many as would push it in the whole softmax.
        """
        if self._config.candidates == "all":
            whole = Candidates(self._seen, np.zeros(len(self._seen), np.float32), len(self._seen))
            return self._some(np.unique(self._pair_contexts), rng), whole
        wanted = np.zeros(len(self._places), bool)
        wanted[items] = True
        positions = np.unique(self._pair_contexts[wanted[self._pair_items]])
        return self._some(positions, rng), drawn_candidates(items, len(self._seen))

    def _some(self, positions: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        limit = self._config.contexts_per_step
        if len(positions) > limit:
            positions = np.sort(rng.choice(positions, limit, replace=False))
        return positions


def distinct_texts(texts: Sequence[str], seen: Rows) -> tuple[NDArray[np.int64], list[str]]:
    """Each item's place among the distinct texts of seen items (-1: unseen or blank), and those texts."""
    places = np.full(len(texts), -1, np.int64)
    distinct: dict[str, int] = {}
    for row in seen.tolist():
        if texts[row].strip():
            places[row] = distinct.setdefault(texts[row], len(distinct))
    return places, list(distinct)
