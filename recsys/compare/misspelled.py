"""Misspelled queries: titles and halves of titles with a word mistyped, sought among an arm's vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recsys.arms import Trials
from recsys.augment.noise import mistyped
from recsys.evaluate.contrast import Part
from recsys.evaluate.known_item import WORST, known_items, ranks_by_vector, reciprocals
from recsys.text_search import QueryEncoder
from recsys.types import Floats

MISSPELLED = {"misspelled": "typo", "half, misspelled": "half_typo"}
"""Segments, and the kinds of queries of known-item search that they ask."""
QUERIES = 4000
"""Titles drawn, or all where there are fewer: arms differ in a few per cent of the queries."""

Ranks = Mapping[str, Sequence[int]]
"""By segment, the place (1 is best) of what each query was made from."""


class Misspelled:
    """Queries of the kinds `typo` and `half_typo` of known-item search, the same for every arm.

    Args:
        trials: The dataset.
    """

    def __init__(self, trials: Trials) -> None:
        self._trials = trials

    @cached_property
    def _asked(self) -> dict[str, tuple[list[str], list[frozenset[int]]]]:
        titles = self._trials.shop.dataset.items["title"].fillna("").tolist()
        known = known_items(titles, QUERIES, mistyped)
        asked = {}
        for segment, kind in MISSPELLED.items():
            pairs = zip(known.queries[kind], known.answers, strict=True)
            kept = [(text, rows) for text, rows in pairs if text is not None]
            asked[segment] = ([text for text, _ in kept], [rows for _, rows in kept])
        return asked

    @cached_property
    def _vectors(self) -> dict[str, Floats]:
        return {name: self._trials.texts.encode(texts) for name, (texts, _) in self._asked.items() if texts}

    def ranks(self, item_vectors: Floats, reader: QueryEncoder | None = None) -> dict[str, list[int]]:
        """The place of the item that each query was made from, by cosine to the items.

        Args:
            item_vectors: (num_items, dim) among which it is sought.
            reader: What encodes the queries, if not the published encoder.
        """
        ranks = {}
        for name, (texts, wanted) in self._asked.items():
            if texts:
                queries = self._vectors[name] if reader is None else reader.encode(texts)
                ranks[name] = ranks_by_vector(queries, item_vectors, wanted)
        return ranks

    def parts(self, by_seed: Sequence[Ranks]) -> list[Part]:
        """An arm's ranks, those of each seed, as parts of a comparison; queries stand for users."""
        parts = []
        for name, (texts, _) in self._asked.items():
            if texts:
                ranks: NDArray[np.float64] = np.asarray([found[name] for found in by_seed], np.float64)
                figures = {"mrr@20": reciprocals(ranks), "recall@20": (ranks <= WORST).astype(np.float64)}
                users = np.array([f"{i} {text}" for i, text in enumerate(texts)], object)
                parts.append(Part("search", name, "mrr@20", users, figures))
        return parts
