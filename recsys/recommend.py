"""The one recommendation path: retrieve, exclude, score, rank, rules. Evaluation, batch and HTTP all call it.

It does no I/O: what it works over (encoder, index, sources, scorer, arrays) is handed to it by
`recsys.loading` or by the pipeline. An answer is never empty and never made up: a user nobody knows gets
the popular list, flagged as a fallback, and a list that runs short is filled from it, marked `popular`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.contexts import Vocabulary
from recsys.errors import UnknownItemError
from recsys.explain import Asker, Parts, explain
from recsys.listing import POPULAR, Listing, Lists, Scored
from recsys.rank_features import SOURCES, Candidates, candidate_features
from recsys.retrieve import DECIMALS, Batch, OwnedRows, Proposals, Source, TwoTowerSource
from recsys.rules import Labels
from recsys.terms import NO_RULES, Rules
from recsys.types import (
    EncodedHistory,
    Floats,
    History,
    Index,
    Query,
    RankedList,
    Recommendation,
    Rows,
    Scorer,
    UserEncoder,
    UserFeatures,
)

__all__ = ["NOTHING_ALLOWED", "POPULAR", "Ranked", "Recommender", "Shelf", "merge"]

NOTHING_ALLOWED = "nothing_allowed"
"""Why an answer is empty: every item of the catalogue is barred."""
_MANY = 1_000
"""As many excluded items are kept out of the index's search, instead of asking it for as many more."""
_CELLS = 8_000_000
"""Users x items scored at once: bounds the memory of the dense sources to about 32 MB each."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """The item side of a run: one record per row of the catalogue, in memory or memory-mapped."""

    vocabulary: Vocabulary
    item_vectors: Floats
    text_vectors: Floats
    facts: NDArray[np.void]
    """`rank_features.FACTS`."""
    details: Sequence[dict[str, Any]]
    """What a person is shown of each item: title, category, brand, price."""
    biased: bool = False
    """Whether item vectors end in a bias, which says how wanted an item is and not what it is."""

    @property
    def contents(self) -> Floats:
        """(n, dim or dim - 1) item vectors without their bias: what likeness of items is measured on."""
        return self.item_vectors[:, :-1] if self.biased else self.item_vectors


@dataclass(frozen=True, slots=True)
class Ranked:
    """A batch's scored candidates before the cut to k: the ranker is trained on them, too."""

    batch: Batch
    candidates: Candidates
    features: Floats
    scores: Floats
    """(c,)"""


class Recommender:
    """Ranks the catalogue for users. Thread-safe: nothing in it changes after construction."""

    def __init__(
        self,
        shelf: Shelf,
        encoder: UserEncoder,
        index: Index,
        sources: Sequence[Source],
        scorer: Scorer | None,
        history_length: int,
        rules: Rules = NO_RULES,
        feature_means: Floats | None = None,
        new_places: int = 0,
    ) -> None:
        """Args: the parts; without a scorer candidates are ranked by match score, then by source rank.

        `rules` hold for every answer, as far as a query says nothing else. `feature_means` are what
        explanations compare features with. `new_places` of the first twenty are kept for new items
        (`recsys.placement`).
        """
        unknown = {source.name for source in sources} - set(SOURCES)
        if unknown:
            raise ValueError(f"the ranker has no place for the sources {sorted(unknown)}")
        self.shelf = shelf
        self.vocabulary = shelf.vocabulary
        self._encoder, self._index, self._scorer = encoder, index, scorer
        self._sources, self._history_length = sources, history_length
        facts = shelf.facts
        popular: Rows = np.lexsort((-facts["count"], -facts["count_30d"], ~facts["in_stock"]))
        share = facts["count"] / max(float(facts["count"].sum()), 1.0)
        self._lists = Lists(
            self.vocabulary, Labels.of(shelf.details), popular, share, shelf.contents, new_places
        )
        self._rules = rules
        self._parts = Parts(self.vocabulary, shelf.item_vectors, encoder, sources, scorer, feature_means)

    def by_towers_alone(self) -> Recommender | None:
        """The nearest items of the index by match, with no other source, ranker or kept place.

        For measurements: what the rest adds. None where the towers are no source.
        """
        towers = [source for source in self._sources if isinstance(source, TwoTowerSource)]
        if not towers:
            return None
        length, rules = self._history_length, self._rules
        return Recommender(self.shelf, self._encoder, self._index, towers, None, length, rules)

    def recommend(self, queries: Sequence[Query]) -> list[RankedList]:
        """One list per query, in order, each of `k` places (fewer where the allowed catalogue is smaller)."""
        answers: list[RankedList] = []
        step = max(1, min(512, _CELLS // max(len(self.vocabulary), 1)))
        for start in range(0, len(queries), step):
            answers.extend(self._recommend_chunk(queries[start : start + step]))
        return answers

    def similar(self, item_id: str, k: int) -> RankedList:
        """The k nearest items to an item, itself and what the run's rules bar left out.

        Raises:
            UnknownItemError: the catalogue has no such item.
        """
        row = self._row(item_id)
        barred = self._lists.barred_rows(self._rules)
        # The index holds lifted vectors, which favour cold items: fetch more and order by cosine.
        allowed = np.ones(len(self.vocabulary), np.bool_)
        allowed[barred] = False
        asked = np.zeros((1, self.shelf.item_vectors.shape[1]), np.float32)
        asked[:, : self.shelf.contents.shape[1]] = self.shelf.contents[row]
        _, found = self._index.search(asked, 4 * k + 50, allowed if len(barred) else None)
        rows = found[0][(found[0] >= 0) & (found[0] != row)]
        vectors = _unit(self.shelf.contents[rows])
        cosines = (vectors @ _unit(self.shelf.contents[row : row + 1])[0]).round(DECIMALS)
        order = np.lexsort((rows, -cosines))[:k]
        return RankedList(self._places(rows[order], cosines[order], [("similar",)] * k))

    def item(self, item_id: str) -> dict[str, Any]:
        """What a person is shown of an item.

        Raises:
            UnknownItemError: the catalogue has no such item.
        """
        return self.shelf.details[self._row(item_id)]

    def rank(self, queries: Sequence[Query], excluded: Sequence[Rows], pinned: Sequence[Rows] = ()) -> Ranked:
        """Candidates of a chunk of queries with their features and scores; exclusion is already done.

        Args:
            queries: The chunk.
            excluded: Rows that may not be answered, per query.
            pinned: Rows, per query, that are candidates whoever proposes them; none is excluded.
        """
        batch = self._batch(queries, excluded)
        proposals = {source.name: source.propose(batch) for source in self._sources}
        candidates = merge(proposals, excluded, len(self.vocabulary), pinned)
        features = candidate_features(
            batch, candidates, proposals, self.shelf.facts, self.shelf.item_vectors, self.shelf.text_vectors
        )
        if self._scorer is None:
            best = np.where(candidates.source_ranks > 0, candidates.source_ranks, np.inf).min(axis=1)
            scores = (features[:, 0] - 1e-4 * np.minimum(best, 1e3)).astype(np.float32)
        else:
            scores = self._scorer.score(features)
        return Ranked(batch, candidates, features, scores)

    def scores(self, query: Query, excluded: Rows, rows: Rows) -> Floats:
        """What the ranker says of some items for one query, whoever proposes them.

        Args:
            query: Who asks.
            excluded: Rows that may not be answered.
            rows: Distinct, ascending, none of them excluded.
        """
        ranked = self.rank([query], [excluded], [rows])
        scores: Floats = ranked.scores[np.searchsorted(ranked.candidates.rows, rows)].round(DECIMALS)
        return scores

    def _recommend_chunk(self, queries: Sequence[Query]) -> list[RankedList]:
        rules = [query.rules.over(self._rules) for query in queries]
        excluded = [self.excluded_rows(query) for query in queries]
        pinned = [
            np.array(sorted(self._lists.pinned_rows(rule, query.k, out).values()), np.int64)
            for query, rule, out in zip(queries, rules, excluded, strict=True)
        ]
        ranked = self.rank(queries, excluded, pinned)
        bounds = np.searchsorted(ranked.candidates.users, np.arange(len(queries) + 1))
        answers = []
        for i, query in enumerate(queries):
            span = slice(bounds[i], bounds[i + 1])
            found = Scored(
                ranked.candidates.rows[span],
                ranked.scores[span].round(DECIMALS),
                ranked.candidates.source_ranks[span],
            )
            fallback = self._fallback_reason(query)
            listing = self._lists.make(found, query.k, rules[i], excluded[i], personal=fallback is None)
            answer = self._answer(query, listing, fallback)
            if query.explain:
                asker = self._asker(query, ranked.batch, i)
                reasons = explain(self._parts, asker, found, ranked.features[span], listing)
                places = zip(answer.items, reasons, strict=True)
                answer = replace(answer, items=tuple(replace(p, explanation=why) for p, why in places))
            answers.append(answer)
        return answers

    def _answer(self, query: Query, listing: Listing, fallback: str | None) -> RankedList:
        if not len(listing.rows):
            fallback = NOTHING_ALLOWED
        note = None if query.views is None else query.views.note
        places = self._places(listing.rows, listing.scores, listing.sources)
        return RankedList(places, fallback, query.degraded, note, listing.notes)

    def _asker(self, query: Query, batch: Batch, i: int) -> Asker:
        views = [] if query.views is None else [self._newest(view) for view in query.views.histories]
        return Asker(
            batch.histories[i], batch.owned[i], query.moment, batch.user_vectors[i], views, _weight(query)
        )

    def excluded_rows(self, query: Query) -> Rows:
        """Rows that a query may not be answered with, ascending and distinct.

        Its own list, what the user has had when asked to, what is out of stock or not yet for sale, and what
        the rules block or filter out.
        """
        facts = self.shelf.facts
        rules = query.rules.over(self._rules)
        day = query.moment if query.available_at is None else query.available_at
        parts = [self._lists.barred_rows(rules), self.vocabulary.rows(sorted(query.exclude))]
        if rules.in_stock_only is not False:
            parts.append(np.flatnonzero(~facts["in_stock"] | (facts["available_from"] > day)))
        if query.exclude_seen and query.features is not None:
            seen = (*query.features.owned.item_ids, *query.features.history.item_ids)
            parts.append(self.vocabulary.rows(seen))
        out = np.zeros(len(self.vocabulary), np.bool_)
        for rows in parts:
            out[rows[rows >= 0]] = True
        return np.flatnonzero(out)

    def _batch(self, queries: Sequence[Query], excluded: Sequence[Rows]) -> Batch:
        moments = np.array([query.moment for query in queries], np.int64)
        histories = [self._history(query) for query in queries]
        most = max((len(rows) for rows in excluded), default=0)
        allowed, common = self._allowed(excluded)
        # Views move the user's vector alone: every other part of the batch is what the user did.
        return Batch(
            moments=moments,
            histories=histories,
            owned=[self._owned(query.features) for query in queries],
            num_events=np.array([q.features.num_events if q.features else 0 for q in queries], np.float32),
            user_vectors=self._user_vectors(queries, histories, moments.tolist()),
            spare=most,
            allowed=allowed,
            spare_allowed=most - common,
        )

    def _allowed(self, excluded: Sequence[Rows]) -> tuple[NDArray[np.bool_] | None, int]:
        """What the index may answer anybody of the batch, and how many it may not; None where few."""
        if not excluded or min(map(len, excluded)) < _MANY:
            return None, 0
        counts = np.bincount(np.concatenate(excluded), minlength=len(self.vocabulary))
        allowed = counts < len(excluded)
        return allowed, int((~allowed).sum())

    def _user_vectors(
        self, queries: Sequence[Query], histories: list[EncodedHistory], moments: list[int]
    ) -> Floats:
        """(b, dim): the tower's vectors, moved towards the mean of a query's views where it has any."""
        views, owners = [], []
        for i, query in enumerate(queries):
            if query.views is not None and query.views.weight > 0:
                views += [self._newest(view) for view in query.views.histories]
                owners += [i] * len(query.views.histories)
        vectors = self._encoder.encode([*histories, *views], [*moments, *(moments[i] for i in owners)])
        if not views:
            return vectors
        own, seen = vectors[: len(queries)].copy(), vectors[len(queries) :]
        augmented, starts = np.unique(owners, return_index=True)
        means = _unit(np.add.reduceat(seen, starts, axis=0))
        weights = np.array([_weight(queries[i]) for i in augmented.tolist()], np.float32)[:, None]
        known = own[augmented].any(axis=1, keepdims=True)  # a user without a vector stays without one
        own[augmented] = np.where(known, _unit((1 - weights) * own[augmented] + weights * means), 0)
        return own

    def _history(self, query: Query) -> EncodedHistory:
        if query.features is None:
            empty = np.empty(0, np.int64)
            return EncodedHistory(empty, empty, empty)
        return self._newest(query.features.history)

    def _newest(self, history: History) -> EncodedHistory:
        whole = self.vocabulary.encode(history)
        newest = slice(-self._history_length, None)
        return EncodedHistory(whole.rows[newest], whole.event_codes[newest], whole.timestamps[newest])

    def _owned(self, features: UserFeatures | None) -> OwnedRows:
        if features is None:
            return OwnedRows(np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.int64))
        rows = self.vocabulary.rows(features.owned.item_ids)
        known = rows >= 0
        counts = np.asarray(features.owned.counts, np.float32)[known]
        return OwnedRows(rows[known], counts, np.asarray(features.owned.last_timestamps, np.int64)[known])

    def _fallback_reason(self, query: Query) -> str | None:
        if query.features is None:
            return "unknown_user" if query.user_id is not None else "no_history"
        if not len(query.features.history):
            return "no_history"
        if (self.vocabulary.rows(query.features.history.item_ids) < 0).all():
            return "unknown_items"
        return None

    def _places(
        self, rows: Rows, scores: Floats, sources: Sequence[tuple[str, ...]]
    ) -> tuple[Recommendation, ...]:
        ids = self.vocabulary.item_ids
        return tuple(
            Recommendation(ids[row], score, rank, source)
            for rank, (row, score, source) in enumerate(
                zip(rows.tolist(), scores.tolist(), sources, strict=False), start=1
            )
        )

    def _row(self, item_id: str) -> int:
        row = self.vocabulary.row(item_id)
        if row < 0:
            raise UnknownItemError(f"the catalogue has no item {item_id!r}")
        return row


def _weight(query: Query) -> float:
    return query.views.weight if query.views is not None else 0.0


def _unit(vectors: Floats) -> Floats:
    unit: Floats = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit


def merge(
    proposals: dict[str, Proposals], excluded: Sequence[Rows], num_items: int, pinned: Sequence[Rows] = ()
) -> Candidates:
    """All sources' candidates once each, exclusions dropped, each with its rank in every source.

    Pinned rows (per user, not excluded) are candidates too, with no rank where no source has them.
    """
    keys, places, columns = [], [], []
    banned = np.zeros((len(excluded), num_items), np.bool_)
    for i, out in enumerate(excluded):
        banned[i, out] = True
    for column, name in enumerate(SOURCES):
        if name not in proposals:
            continue
        rows = proposals[name].rows
        users = np.arange(len(rows))[:, None]
        allowed = (rows >= 0) & ~banned[users, rows]
        rank = np.cumsum(allowed, axis=1)  # ranks and quotas count what is left after exclusion
        allowed &= rank <= proposals[name].quota
        keys.append((rows + users * num_items)[allowed])
        places.append(rank[allowed])
        columns.append(np.full(int(allowed.sum()), column))
    flat = np.concatenate([*keys, np.empty(0, np.int64)])
    forced = [rows + i * num_items for i, rows in enumerate(pinned)]
    distinct, inverse = np.unique(np.concatenate([flat, *forced]), return_inverse=True)
    ranks = np.zeros((len(distinct), len(SOURCES)), np.float32)
    if len(flat):
        ranks[inverse[: len(flat)], np.concatenate(columns)] = np.concatenate(places)
    return Candidates(distinct // num_items, distinct % num_items, ranks)
