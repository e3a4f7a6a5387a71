"""From a query's ranked candidates to its list: rules, places that the popular list fills, and notes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recsys.contexts import Vocabulary
from recsys.placement import FIRST, keep_places
from recsys.rank_features import SOURCES
from recsys.rules import DIVERSE, FILLED, PIN_NOT_ALLOWED, Arranged, Labels, Named, Pool, arrange, barred
from recsys.terms import Rules
from recsys.types import Floats, Rows

NEW_ITEMS = "new_items"
"""What an answer says when places from the eleventh on were kept for new items."""
POPULAR, PINNED = "popular", "pinned"
"""Marks places filled from the popular list, and pinned items that no source had proposed."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One query's candidates, in any order."""

    rows: Rows
    scores: Floats
    source_ranks: Floats
    """(c, len(SOURCES)) 0 where the source did not propose it."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A list before it gets its words; arrays of one length, best first."""

    rows: Rows
    scores: Floats
    sources: list[tuple[str, ...]]
    candidates: NDArray[np.int64]
    """Which of the scored candidates each place is; -1 for one that was filled in."""
    notes: tuple[str, ...]
    moves: NDArray[np.int64]
    """(places, 4): the place (1 is best) by score alone, then how many places boosts, diversity, and pins
    with caps moved it up; the last three add up to that place minus the final one."""


class Lists:
    """What lists are made of beside candidates: the same for every query."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        labels: Labels,
        popular: Rows,
        share: NDArray[np.floating],
        vectors: Floats,
        new_places: int = 0,
    ) -> None:
        """Args: the catalogue; its labels; rows by popularity; each row's share of events; item vectors.

        `new_places` of the first twenty are kept for new items.
        """
        self._vocabulary, self._labels, self._vectors = vocabulary, labels, vectors
        self._popular, self._share, self._new_places = popular, share, new_places

    def barred_rows(self, rules: Rules) -> Rows:
        """Rows that the rules' blocks and filters leave out, ascending."""
        blocked = self._vocabulary.rows(sorted(rules.block))
        filtered = barred(rules, self._labels)
        if filtered is None:
            return np.unique(blocked[blocked >= 0])
        filtered[blocked[blocked >= 0]] = True
        return np.flatnonzero(filtered)

    def pinned_rows(self, rules: Rules, k: int, excluded: Rows) -> dict[int, int]:
        """Row by place (0 is best) of the pins that stand within k places and may be answered."""
        items = {place: item for item, place in (rules.pins or {}).items() if place <= k}
        found = zip(items, self._vocabulary.rows(list(items.values())).tolist(), strict=True)
        allowed = {place - 1: row for place, row in found if row >= 0}
        barred = set(excluded[np.isin(excluded, list(allowed.values()))].tolist()) if allowed else set()
        return {place: row for place, row in allowed.items() if row not in barred}

    def make(self, found: Scored, k: int, rules: Rules, excluded: Rows, *, personal: bool) -> Listing:
        """The list of k places, fewer only where no more may be answered.

        Args:
            found: The candidates; excluded items are not among them.
            k: Places.
            rules: What is asked of the order.
            excluded: Rows that may not be answered, ascending.
            personal: Without, candidates do not count: the list is the popular one.
        """
        order = np.lexsort((found.rows, -found.scores)) if personal else np.empty(0, np.int64)
        notes: tuple[str, ...] = ()
        if self._new_places:
            ranks = found.source_ranks[:, SOURCES.index("fresh")]
            order, scores, moved = keep_places(order, found.scores, ranks, self._new_places)
            found = replace(found, scores=scores)
            notes = (NEW_ITEMS,) if moved and k > FIRST else ()
        if not rules.arrange:
            order = order[:k]
            rows, scores = self._filled(found.rows[order], found.scores[order], excluded, k - len(order))
            return _listing(found, rows, scores, order, None, notes)
        pins = self.pinned_rows(rules, k, excluded)
        asked = sum(place <= k for place in (rules.pins or {}).values())
        lost = (PIN_NOT_ALLOWED,) if len(pins) < asked else ()
        boosts = rules.boosts.items if rules.boosts else {}
        named_rows = self._vocabulary.rows(list(boosts)).tolist()
        named = Named(pins, dict(zip(named_rows, boosts.values(), strict=True)))
        head = max(DIVERSE, 2 * k)
        # The popular list as a whole is asked only where its head leaves the caps unmet.
        for spare in (k + len(pins) if personal else head, len(self._vocabulary)):
            rows, scores = self._filled(
                found.rows[order], found.scores[order], excluded, spare, tuple(pins.values())
            )
            pool = Pool(rows, scores, len(order) if personal else min(head, len(rows)))
            arranged = arrange(pool, k, rules, self._labels, named, self._vectors)
            if not arranged.notes:
                break
        listing = _listing(found, rows, scores, order, arranged, (*notes, *lost, *arranged.notes))
        return _marked(listing, pins.values())

    def _filled(
        self, rows: Rows, scores: Floats, excluded: Rows, spare: int, pins: Sequence[int] = ()
    ) -> tuple[Rows, Floats]:
        """Ranked rows, then the best of the popular list, then pins that neither has."""
        if spare <= 0 and not pins:
            return rows, scores
        window = self._popular[: max(spare, 0) + len(rows) + len(excluded)]
        extra = window[~np.isin(window, excluded) & ~np.isin(window, rows)][: max(spare, 0)]
        missing = [row for row in pins if row not in extra and row not in rows]
        extra = np.concatenate([extra, np.array(missing, np.int64)])
        # Filled places stand below every ranked one; among themselves they keep their share of events.
        floor = float(scores.min()) - 1.0 if len(scores) else 0.0
        share = self._share[extra] if len(extra) else np.empty(0)
        filled = floor + np.minimum.accumulate(share) if len(extra) else share
        return np.concatenate([rows, extra]), np.concatenate([scores, filled]).astype(np.float32)


def _listing(
    found: Scored,
    rows: Rows,
    scores: Floats,
    order: NDArray[np.int64],
    arranged: Arranged | None,
    notes: tuple[str, ...],
) -> Listing:
    places = np.arange(len(rows)) if arranged is None else arranged.places
    candidates = np.full(len(rows), -1, np.int64)
    candidates[: len(order)] = order
    picked = candidates[places]
    sources = [_sources(found.source_ranks[one]) if one >= 0 else (POPULAR,) for one in picked.tolist()]
    if len(order) and (picked < 0).any():
        notes = (*notes, FILLED)
    boosted = places if arranged is None else arranged.boosted[places]
    spread = places if arranged is None else arranged.spread[places]
    steps = (places + 1, places - boosted, boosted - spread, spread - np.arange(len(places)))
    return Listing(rows[places], scores[places], sources, picked, notes, np.stack(steps, axis=1))


def _marked(listing: Listing, pins: Collection[int]) -> Listing:
    """Pinned items that only the popular list had are marked as pinned."""
    for place, row in enumerate(listing.rows.tolist()):
        if row in pins and listing.candidates[place] < 0:
            listing.sources[place] = (PINNED,)
    return listing


def _sources(ranks: Floats) -> tuple[str, ...]:
    return tuple(SOURCES[j] for j in np.flatnonzero(ranks > 0)) or (PINNED,)
