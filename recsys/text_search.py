"""Search: a text query against the item index, its spelling forgiven, in the user's own order where wanted.

The query's vector lives in the space of `text_vectors.npy`. The index, which holds what clicks have made of
the items and is lifted for cold ones, proposes candidates; their texts' vectors judge them, since that is
what the query can be compared with. Beside them stands the lexical index. The two meet in a convex
combination (Bruch, Gai and Ingber, "An Analysis of Fusion Functions for Hybrid Retrieval", TOIS 2023), which
keeps how well an item matches and not only its rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recsys.config import SearchConfig
from recsys.lexical import MAX_QUERY, LexicalIndex
from recsys.recommend import NOTHING_ALLOWED, Recommender
from recsys.retrieve import DECIMALS, top_rows
from recsys.types import Floats, Index, Query, RankedList, Recommendation, Rows

BY_VECTOR, BY_LETTERS = "text_vectors", "letters"
"""What proposed an item: the nearness of its text's vector, or the letters it shares with the query."""
_FEW = 5_000
"""As many allowed items are compared one by one instead of asking the index around the excluded ones."""


class QueryEncoder(Protocol):
    """Texts to vectors in the space of `text_vectors.npy`."""

    def encode(self, texts: Sequence[str]) -> Floats:
        """(len(texts), dim) of unit norm, zero for a text without words."""
        ...


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """One search: its words, and who asks with what filters."""

    text: str
    """Cut to `lexical.MAX_QUERY` characters."""
    query: Query
    """`k`, exclusions and filters hold; with known features the order is personal."""


@dataclass(frozen=True, slots=True)
class Found:
    """A search's answer."""

    items: RankedList
    personal: bool
    """Whether the user's own ranking took part in the order."""


def relevance_of(shares: Floats, cosines: NDArray[Any], letters: float) -> NDArray[np.float64]:
    """How well items answer a query: the convex combination of letters in common and nearness, rounded.

    Args:
        shares: (n,) of the query's letters that each item's text holds.
        cosines: (n,) between the query's vector and the texts'.
        letters: Weight of the first.
    """
    combined: NDArray[np.float64] = (letters * shares + (1 - letters) * cosines).round(DECIMALS)
    return combined


class TextSearch:
    """Finds items by text. Thread-safe: nothing in it changes after construction."""

    def __init__(
        self,
        recommender: Recommender,
        index: Index,
        encoder: QueryEncoder,
        lexical: LexicalIndex | None,
        config: SearchConfig,
    ) -> None:
        """Args: the run's parts; without a lexical index vectors alone decide."""
        self._recommender, self._index, self._encoder = recommender, index, encoder
        self._lexical, self._config = lexical, config
        self._texts = recommender.shelf.text_vectors

    def search(self, asked: Sequence[SearchQuery]) -> list[Found]:
        """One answer per query, in order, of `k` places (fewer where the allowed catalogue is smaller)."""
        texts = [one.text[:MAX_QUERY] for one in asked]
        vectors = self._encoder.encode(texts)
        return [
            self._one(text, vector, one.query)
            for text, vector, one in zip(texts, vectors, asked, strict=True)
        ]

    def _one(self, text: str, vector: Floats, query: Query) -> Found:
        excluded = self._recommender.excluded_rows(query)
        near = self._near(vector, excluded, max(self._config.depth, query.k))
        shares = None if self._lexical is None else self._lexical.scores(text)
        alike = self._alike(shares, excluded, max(self._config.depth, query.k))
        rows = np.union1d(near, alike)
        cosines = (self._texts[rows] @ vector).astype(np.float64)
        relevance = cosines.round(DECIMALS)
        if shares is not None:
            relevance = relevance_of(shares[rows], cosines, self._config.letters)
        known = query.features is not None and len(query.features.history) > 0
        personal = known and self._config.personal > 0 and len(rows) > 1
        if personal:
            rows, relevance = self._personal(query, rows, relevance, excluded)
        order = np.lexsort((rows, -relevance))[: query.k]
        places = self._places(rows[order], relevance[order], near, alike)
        fallback = None if places else NOTHING_ALLOWED
        return Found(RankedList(places, fallback, query.degraded), personal)

    def _near(self, vector: Floats, excluded: Rows, depth: int) -> Rows:
        """Rows nearest to the query among those allowed."""
        size = len(self._texts)
        if size - len(excluded) <= _FEW:
            allowed = np.setdiff1d(np.arange(size), excluded, assume_unique=True)
            best, _ = top_rows((self._texts[allowed] @ vector)[None, :].round(DECIMALS), depth)
            picked: Rows = allowed[best[0]]
            return picked
        answerable = np.ones(size, np.bool_)
        answerable[excluded] = False
        _, found = self._index.search(vector[None, :], depth, answerable)
        rows: Rows = found[0][found[0] >= 0]
        return rows

    def _alike(self, shares: Floats | None, excluded: Rows, depth: int) -> Rows:
        """Rows that share most with the query's letters."""
        if shares is None:
            return np.empty(0, np.int64)
        left = shares.copy()
        left[excluded] = 0
        best, found = top_rows(left[None, :], depth)
        rows: Rows = best[0][found[0] > 0]
        return rows

    def _personal(
        self, query: Query, rows: Rows, relevance: NDArray[np.float64], excluded: Rows
    ) -> tuple[Rows, NDArray[np.float64]]:
        """The most relevant rows, with the place that the user's own ranking gives them mixed in.

        Among the candidates the ranker's first gets 1, its last 0. An item overtakes another only where the
        two differ in relevance by less than the weight.
        """
        depth = max(self._config.depth, query.k)
        best = np.lexsort((rows, -relevance))[:depth]
        rows, relevance = np.sort(rows[best]), relevance[np.sort(best)]
        scores = self._recommender.scores(query, excluded, rows)
        place = np.empty(len(rows))
        place[np.lexsort((rows, -scores))] = np.linspace(1.0, 0.0, len(rows))
        return rows, (relevance + self._config.personal * place).round(DECIMALS)

    def _places(
        self, rows: Rows, scores: NDArray[np.float64], near: Rows, alike: Rows
    ) -> tuple[Recommendation, ...]:
        ids = self._recommender.vocabulary.item_ids
        by = ((BY_VECTOR, set(near.tolist())), (BY_LETTERS, set(alike.tolist())))
        return tuple(
            Recommendation(ids[row], score, rank, tuple(name for name, of in by if row in of))
            for rank, (row, score) in enumerate(zip(rows.tolist(), scores.tolist(), strict=True), start=1)
        )
