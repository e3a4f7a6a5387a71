"""Misspelled queries: titles with one word mistyped, sought among an arm's vectors of the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recsys.arm_texts import ArmTexts
from recsys.arms import Trials
from recsys.augment.noise import mistyped
from recsys.evaluate.contrast import Part
from recsys.evaluate.known_item import known_items
from recsys.types import Floats

MISSPELLED = "misspelled"
QUERIES = 4000
"""Titles drawn, or all where there are fewer: arms differ in a few per cent of the queries."""
_WORST = 20
_CELLS = 50_000_000
"""Scores held at a time."""


class Misspelled:
    """Queries of the kind `typo` of known-item search, the same for every arm.

    Args:
        trials: The dataset.
    """

    def __init__(self, trials: Trials) -> None:
        self._trials = trials

    @cached_property
    def _asked(self) -> tuple[list[str], list[frozenset[int]]]:
        titles = self._trials.shop.dataset.items["title"].fillna("").tolist()
        known = known_items(titles, QUERIES, mistyped)
        pairs = zip(known.queries["typo"], known.answers, strict=True)
        kept = [(text, rows) for text, rows in pairs if text is not None]
        return [text for text, _ in kept], [rows for _, rows in kept]

    @cached_property
    def _vectors(self) -> Floats:
        return self._trials.texts.encode(self._asked[0])

    def ranks(self, item_vectors: Floats, tuned: ArmTexts | None = None) -> list[int]:
        """The place (1 is best) of the item that each query was made from, by cosine to the items.

        Args:
            item_vectors: (num_items, dim) among which it is sought.
            tuned: What encodes the queries, if not the published encoder.
        """
        texts, wanted = self._asked
        if not texts:
            return []
        queries = self._vectors if tuned is None else tuned.encode(texts)
        lengths = np.linalg.norm(item_vectors, axis=1, keepdims=True)
        items = (item_vectors / np.maximum(lengths, 1e-12)).T
        block = max(1, _CELLS // max(items.shape[1], 1))
        ranks = []
        for start in range(0, len(texts), block):
            scores = (queries[start : start + block] @ items).round(5)
            for row, rows in zip(scores, wanted[start : start + block], strict=True):
                ranks.append(1 + int((row > row[sorted(rows)].max()).sum()))
        return ranks

    def part(self, by_seed: Sequence[Sequence[int]]) -> Part:
        """An arm's ranks, one list of each seed, as a part of a comparison; queries stand for users."""
        texts, _ = self._asked
        ranks: NDArray[np.float64] = np.asarray(by_seed, np.float64)
        figures = {
            "mrr@20": np.where(ranks <= _WORST, 1.0 / ranks, 0.0),
            "recall@20": (ranks <= _WORST).astype(np.float64),
        }
        users = np.array([f"{i} {text}" for i, text in enumerate(texts)], object)
        return Part("search", MISSPELLED, "mrr@20", users, figures)
