"""Retrieval: several sources each propose candidates, and each candidate remembers who proposed it.

A source sees a `Batch` and answers with `Proposals`. Sources know nothing of exclusion or ranking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.types import EncodedHistory, Floats, Index, Rows

DECIMALS = 5
"""Scores that agree so far are equal: their last bits depend on how much was computed together."""
TEXT_DECAY = 0.7
"""Weight of each step back where the text of a history is summed up."""
CATEGORY_DECAY = 0.9
"""Weight of each step back where the categories of a history are summed up."""
TEXT_HISTORY = 20
"""How many of the newest history items their text is taken from."""
WEIGHED = {
    "covisit_recent": ("covisitation", 0.8), "covisit_all": ("covisitation", None),
    "follow": ("following", 0.5), "ease_recent": ("ease", 0.7), "ease_all": ("ease", None),
}  # fmt: skip
"""Sources over item-to-item weights: whose weights, and the weight of each step back in the history; None
weighs everything a user owns alike."""


@dataclass(frozen=True, slots=True)
class OwnedRows:
    """The distinct items a user has had, in rows of the catalogue; three arrays of one length."""

    rows: Rows
    counts: Floats
    last_timestamps: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """What the sources and the ranker know of b users at their moments."""

    moments: NDArray[np.int64]
    """(b,) Unix seconds."""
    histories: Sequence[EncodedHistory]
    """Oldest first, all before the moment."""
    owned: Sequence[OwnedRows]
    num_events: Floats
    """(b,) Positive events ever, also beyond the history's cap."""
    user_vectors: Floats
    """(b, dim) from the user tower; zero where the history is empty."""
    spare: int = 0
    """How many more than asked a source should give, because that many may be excluded."""
    allowed: NDArray[np.bool_] | None = None
    """(num_items,) False for what nobody of the batch may be answered with; None where that is not much."""
    spare_allowed: int = 0
    """How many more than asked a source should give that keeps to `allowed`."""

    def __len__(self) -> int:
        return len(self.moments)


@dataclass(frozen=True, slots=True)
class Proposals:
    """A source's candidates for a batch."""

    rows: Rows
    """(b, m), best first, -1 where a source has fewer."""
    scores: Floats
    """(b, m), descending; its scale is the source's own."""
    quota: int
    """How many of them may become candidates once the excluded ones are gone."""
    dense: Floats | None = None
    """(b, num_items) where the source can score every item, so that other sources' candidates get a score."""


class Source(Protocol):
    """One way to propose candidates."""

    @property
    def name(self) -> str:
        """Marks the candidates; stable, since the ranker's features are named after it."""
        ...

    def propose(self, batch: Batch) -> Proposals:
        """Candidates for every user of the batch."""
        ...


class TwoTowerSource:
    """Nearest items to the user vector."""

    name = "two_tower"

    def __init__(self, index: Index, num: int) -> None:
        self._index, self._num = index, num

    def propose(self, batch: Batch) -> Proposals:
        """Search the index; users without a vector get nothing."""
        spare = batch.spare if batch.allowed is None else batch.spare_allowed
        scores, rows = self._index.search(batch.user_vectors, self._num + spare, batch.allowed)
        # A last bit that depends on the size of the batch must not decide between equal items.
        scores = scores.round(DECIMALS)
        order = np.lexsort((rows, -scores), axis=-1)
        scores, rows = np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)
        rows[~batch.user_vectors.any(axis=1)] = -1
        return Proposals(rows, scores, self._num)


class ItemToItemSource:
    """Items that those of the user speak for: the sum of item-to-item weights over what the user had."""

    def __init__(self, name: str, matrix: sparse.csr_matrix, num: int) -> None:
        """Args: one of `WEIGHED`; (n, n), row i holds what item i speaks for; candidates."""
        self.name = name
        self._matrix, self._num, self._decay = matrix, num, WEIGHED[name][1]

    def propose(self, batch: Batch) -> Proposals:
        """Score every item and take the best."""
        rows: list[Rows] = []
        weights: list[Floats] = []
        for history, owned in zip(batch.histories, batch.owned, strict=True):
            mine, weight = self._have(history, owned)
            rows.append(mine)
            weights.append(weight)
        offsets = np.concatenate([[0], np.cumsum([len(part) for part in rows])])
        have = sparse.csr_matrix(
            (np.concatenate(weights), np.concatenate(rows), offsets), (len(batch), self._matrix.shape[0])
        )
        dense = np.asarray((have @ self._matrix).toarray(), np.float32)
        found, scores = _best(dense, batch, self._num)
        found[scores <= 0] = -1
        return Proposals(found, scores, self._num, dense)

    def evidence(self, history: EncodedHistory, owned: OwnedRows, items: Rows) -> tuple[Rows, Floats]:
        """What the scores of some items are made of.

        Returns:
            (m,) the user's rows, and (m, len(items)) what each puts in: columns add up to the `dense` scores.
        """
        rows, weights = self._have(history, owned)
        return rows, weights[:, None] * self._matrix[rows][:, items].toarray()

    def _have(self, history: EncodedHistory, owned: OwnedRows) -> tuple[Rows, Floats]:
        """What the user had that this source looks at, and the weight of each."""
        if self._decay is not None:
            back = np.arange(len(history.rows) - 1, -1, -1, dtype=np.float32)
            return history.rows, np.asarray(self._decay**back, np.float32)
        return owned.rows, np.full(len(owned.rows), max(len(owned.rows), 1) ** -0.5, np.float32)


class RepeatsSource:
    """The user's own items: most often bought first, then the newest."""

    name = "repeats"

    def __init__(self, num: int) -> None:
        self._num = num

    def propose(self, batch: Batch) -> Proposals:
        """Rank what each user owns."""
        longest = max((len(owned.rows) for owned in batch.owned), default=0)
        length = min(longest, self._num + batch.spare)
        rows = np.full((len(batch), length), -1, np.int64)
        scores = np.zeros((len(batch), length), np.float32)
        for i, owned in enumerate(batch.owned):
            order = np.lexsort((-owned.last_timestamps, -owned.counts))[:length]
            rows[i, : len(order)] = owned.rows[order]
            scores[i, : len(order)] = owned.counts[order]
        return Proposals(rows, scores, self._num)


class TrendingSource:
    """What sold most in the newest 30 days, the same for everybody."""

    name = "trending"

    def __init__(self, popularity: Floats, num: int) -> None:
        sold = int((popularity > 0).sum())
        self._rows, self._scores = top_rows(popularity[None, :], sold)
        self._num = num

    def propose(self, batch: Batch) -> Proposals:
        """The same list for each user, long enough to survive exclusion."""
        length = min(self._num + batch.spare, self._rows.shape[1])
        size = (len(batch), length)
        rows = np.broadcast_to(self._rows[:, :length], size)
        return Proposals(rows, np.broadcast_to(self._scores[:, :length], size), self._num)


class CategorySource:
    """What sold most in the newest 30 days in the categories of the user's history."""

    name = "category"

    def __init__(self, popularity: Floats, categories: NDArray[np.int32], num: int) -> None:
        """Args: (n,) recent events of each item; (n,) its category's code, -1 for none; candidates."""
        self._rows: Rows = np.flatnonzero((popularity > 0) & (categories >= 0)).astype(np.int64)
        self._codes, self._category = categories, np.asarray(categories[self._rows])
        self._popularity: Floats = np.log1p(popularity[self._rows]).astype(np.float32)
        self._width, self._num = int(categories.max(initial=-1)) + 1, num

    def propose(self, batch: Batch) -> Proposals:
        """By the category's share of the history, the newest weighing most, times the logarithm of sales."""
        share = np.zeros((len(batch), self._width), np.float32)
        for i, history in enumerate(batch.histories):
            recent = history.rows[::-1][:TEXT_HISTORY]
            codes, weight = self._codes[recent], CATEGORY_DECAY ** np.arange(len(recent), dtype=np.float32)
            np.add.at(share[i], codes[codes >= 0], weight[codes >= 0] / max(float(weight.sum()), 1e-6))
        places, scores = _best(share[:, self._category] * self._popularity, batch, self._num, self._rows)
        rows = self._rows[places]
        rows[scores <= 0] = -1
        return Proposals(rows, scores, self._num)


NEW_USER_COLUMNS = ("text", "text_last", "category", "brand", "price_gap")
"""What an item that nobody has had is to a user: cosine to the history's text and to its newest item's, the
shares of the history with its category and brand, and how far its price is from the usual one."""


@dataclass(frozen=True, slots=True)
class NewItemProfile:
    """A history as far as it says something about new items."""

    text: Floats
    """(2, dim) the recency-weighted text, of unit norm, and the newest item's."""
    categories: Floats
    """Share of each category, by code; the last entry is for items without one."""
    brands: Floats
    log_price: float
    """The mean; NaN where no price is known."""

    def columns(self, text: Floats, facts: NDArray[np.void]) -> Floats:
        """(n, len(NEW_USER_COLUMNS)) for items with the text vectors (n, dim) and the facts (n,)."""
        cosines = text @ self.text.T
        gap = np.nan_to_num(np.abs(facts["log_price"] - self.log_price))
        shares = [self.categories[facts["category"]], self.brands[facts["brand"]]]
        return np.stack([cosines[:, 0], cosines[:, 1], *shares, gap], axis=1).astype(np.float32)

    def scores(self, text: Floats, facts: NDArray[np.void], weights: Floats) -> Floats:
        """(n,) The weighted sum of `columns`, with one product over the text instead of two."""
        gap = np.nan_to_num(np.abs(facts["log_price"] - self.log_price))
        total = text @ (weights[:2] @ self.text)
        total += weights[2] * self.categories[facts["category"]] + weights[3] * self.brands[facts["brand"]]
        found: Floats = (total + weights[4] * gap).astype(np.float32)
        return found


def new_item_profile(history: Rows, text: Floats, facts: NDArray[np.void]) -> NewItemProfile:
    """The profile of a history that is not empty (item rows, oldest first)."""
    recent = history[::-1][:TEXT_HISTORY]
    profile = TEXT_DECAY ** np.arange(len(recent), dtype=np.float32) @ text[recent]
    profile /= max(float(np.linalg.norm(profile)), 1e-6)
    weight = CATEGORY_DECAY ** np.arange(len(recent), dtype=np.float32)
    weight /= weight.sum()
    shares = []
    for name in ("category", "brand"):
        share = np.zeros(int(facts[name].max(initial=-1)) + 2, np.float32)
        np.add.at(share, facts[name][recent], weight)
        share[-1] = 0  # code -1: no category is nobody's favourite
        shares.append(share)
    prices = facts["log_price"][recent]
    known = prices[~np.isnan(prices)]
    usual = float(known.mean()) if len(known) else float("nan")
    texts = np.stack([profile, text[recent[0]]]).astype(np.float32)
    return NewItemProfile(texts, shares[0], shares[1], usual)


class FreshSource:
    """Items that nobody has had yet, in an order learned from earlier ones: a new item's first chance."""

    name = "fresh"

    def __init__(
        self, text_vectors: Floats, facts: NDArray[np.void], weights: Floats, prior: Floats, num: int
    ) -> None:
        """Args: (n, dim); (n,) `FACTS`; what `newcomers.Newcomers` holds; candidates."""
        self._text, self._facts, self._num = text_vectors, facts, num
        self._rows: Rows = np.flatnonzero(facts["count"] == 0).astype(np.int64)
        self._fresh: Floats = np.asarray(text_vectors[self._rows])
        self._fresh_facts = np.asarray(facts[self._rows])
        self._weights, self._prior = np.asarray(weights), np.asarray(prior[self._rows])

    def propose(self, batch: Batch) -> Proposals:
        """The best by weighted columns plus prior; users without a history get nothing."""
        scores = np.full((len(batch), len(self._rows)), -np.inf, np.float32)
        for i, history in enumerate(batch.histories):
            if len(history.rows):
                profile = new_item_profile(history.rows, self._text, self._facts)
                scores[i] = profile.scores(self._fresh, self._fresh_facts, self._weights) + self._prior
        scores = scores.round(DECIMALS)
        places, best = _best(scores, batch, self._num, self._rows)
        rows = self._rows[places]
        rows[np.isneginf(best)] = -1
        dense = np.full((len(batch), len(self._facts)), -np.inf, np.float32)
        dense[:, self._rows] = scores
        return Proposals(rows, best, self._num, dense)


def _best(scores: Floats, batch: Batch, num: int, rows: Rows | None = None) -> tuple[Rows, Floats]:
    """The `num` best columns, which are all items or `rows`, and so many to spare that excluded ones may go.

    Where most of the batch's excluded items are the same ones, those score -inf instead.
    """
    if batch.allowed is None:
        return top_rows(scores, num + batch.spare)
    allowed = batch.allowed if rows is None else batch.allowed[rows]
    barred: Floats = np.where(allowed, scores, np.float32(-np.inf))
    return top_rows(barred, num + batch.spare_allowed)


def top_rows(scores: Floats, num: int) -> tuple[Rows, Floats]:
    """The `num` best columns of each row, best first, equal scores by column.

    Which of the equal ones make the cut must not depend on how many were asked for, or a batch would
    answer differently from a single request: so the partition is over distinct keys of score and column.
    """
    width = scores.shape[1]
    num = min(num, width)
    if num == 0:
        return np.empty((len(scores), 0), np.int64), np.empty((len(scores), 0), np.float32)
    bits = (np.asarray(scores, np.float32) + np.float32(0)).view(np.int32)
    ordered = (bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))).astype(np.int64)  # as the floats are ordered
    keys = (ordered << 32) + np.arange(width - 1, -1, -1)
    top = np.argpartition(keys, width - num, axis=1)[:, -num:]
    order = np.argsort(-np.take_along_axis(keys, top, 1), axis=1)
    rows = np.take_along_axis(top, order, 1)
    return rows, np.take_along_axis(scores, rows, 1)
