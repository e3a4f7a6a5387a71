"""Why an item stands where it does: who proposed it, which of the user's items spoke for it, what ranked it.

The user's vector is a weighted sum over the history and the match is a product with it, so the match comes
apart exactly; so do the scores of item-to-item sources. The ranker does not: a feature's contribution is how
much the score falls when the feature alone is set to its mean (single-feature ablation).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from recsys.contexts import Vocabulary
from recsys.listing import Listing, Scored
from recsys.rank_features import RANK_FEATURES, SOURCES
from recsys.retrieve import OwnedRows, Source
from recsys.terms import Contribution, Evidence, Explanation
from recsys.types import EncodedHistory, Floats, PooledEncoder, Rows, Scorer, UserEncoder

MOST_ITEMS = 5
"""Items of the history that are named."""
MOST_FEATURES = 5
"""Features that are named."""
MATCH = "match"


@runtime_checkable
class Decomposed(Protocol):
    """A source whose scores are sums over what the user had."""

    name: str

    def evidence(self, history: EncodedHistory, owned: OwnedRows, items: Rows) -> tuple[Rows, Floats]:
        """The user's rows, and (rows, items) what each puts into the scores."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What explanations are made of, the same for every query."""

    vocabulary: Vocabulary
    item_vectors: Floats
    encoder: UserEncoder
    sources: Sequence[Source]
    scorer: Scorer | None
    means: Floats | None
    """(num_features,) Over the candidates that the ranker learned from; None takes those of the query."""


@dataclass(frozen=True, slots=True)
class Asker:
    """What the path knew of one query's user."""

    history: EncodedHistory
    owned: OwnedRows
    moment: int
    vector: Floats
    """(dim,) As it was used, augmented views included."""
    views: Sequence[EncodedHistory]
    """Augmented views of the history that took part."""
    weight: float
    """Of the views together."""


def explain(
    parts: Parts, asker: Asker, found: Scored, features: Floats, listing: Listing
) -> list[Explanation]:
    """One explanation per place.

    Args:
        parts: The run's.
        asker: The user's side.
        found: The query's candidates.
        features: (c, num_features) of the candidates.
        listing: The list.
    """
    ranked = np.flatnonzero(listing.candidates >= 0)
    picked = listing.candidates[ranked]
    rows = listing.rows[ranked]
    out = [_filled(listing, place) for place in range(len(listing.rows))]
    if not len(ranked):
        return out
    match = parts.item_vectors[rows] @ asker.vector
    history, augmented = _match_parts(parts, asker, rows)
    tables = {MATCH: (asker.history.rows, history)}
    for source in parts.sources:
        if isinstance(source, Decomposed):
            tables[source.name] = source.evidence(asker.history, asker.owned, rows)
    mine, grouped = _by_item(tables, len(rows))
    contributions = _ablated(parts, features, picked)
    for i, place in enumerate(ranked.tolist()):
        columns = {name: table[:, i] for name, table in grouped.items()}
        named, others = _history(parts.vocabulary, mine, columns, float(match[i] - augmented[i]))
        out[place] = replace(
            out[place],
            proposed=_proposed(found.source_ranks[picked[i]]),
            match=float(match[i]) if asker.vector.any() else None,
            source_scores={name: float(column.sum()) for name, column in columns.items() if name != MATCH},
            history=named,
            others=others,
            augmented=float(augmented[i]),
            features=_strongest(features[picked[i]], contributions[i]),
        )
    return out


def _match_parts(parts: Parts, asker: Asker, rows: Rows) -> tuple[Floats, Floats]:
    """(events, items) what each event puts into the match, and (items,) what augmented views do.

    All zero where the tower does not come apart: the match then stands with the user's other items.
    """
    nothing = np.zeros((len(asker.history.rows), len(rows)), np.float32), np.zeros(len(rows), np.float32)
    if not asker.vector.any() or not isinstance(parts.encoder, PooledEncoder):
        return nothing
    summands = parts.encoder.parts(asker.history, asker.moment)
    if summands is None:
        return nothing
    vectors = parts.item_vectors[rows]
    own, views = summands.sum(axis=0), np.zeros_like(asker.vector)
    if asker.views and asker.weight > 0:
        seen = parts.encoder.encode(asker.views, [asker.moment] * len(asker.views)).sum(axis=0)
        views = asker.weight * seen / max(float(np.linalg.norm(seen)), 1e-12)
        own = (1 - asker.weight) * own
        summands = (1 - asker.weight) * summands
    length = max(float(np.linalg.norm(own + views)), 1e-12)
    history: Floats = (summands / length).astype(np.float32) @ vectors.T
    augmented: Floats = vectors @ (views / length).astype(np.float32)
    return history, augmented


def _by_item(
    tables: dict[str, tuple[Rows, Floats]], width: int
) -> tuple[Rows, dict[str, NDArray[np.float64]]]:
    """All tables over the same distinct rows of the user's."""
    mine = np.unique(np.concatenate([rows for rows, _ in tables.values()]))
    grouped: dict[str, NDArray[np.float64]] = {}
    for name, (rows, values) in tables.items():
        grouped[name] = np.zeros((len(mine), width), np.float64)
        np.add.at(grouped[name], np.searchsorted(mine, rows), values)
    return mine, grouped


def _history(
    vocabulary: Vocabulary, mine: Rows, columns: dict[str, NDArray[np.float64]], match: float
) -> tuple[tuple[Evidence, ...], Evidence]:
    """The user's items that spoke most for an item, by their shares of each score; and the rest together."""
    weight = np.zeros(len(mine))
    for column in columns.values():
        weight += np.abs(column) / max(float(np.abs(column).sum()), 1e-12)
    order = np.lexsort((mine, -weight.round(9)))[:MOST_ITEMS]
    best = order[weight[order] > 0]
    scores = {name: column for name, column in columns.items() if name != MATCH}
    named = tuple(
        Evidence(
            vocabulary.item_ids[mine[place]],
            float(columns[MATCH][place]),
            {name: float(column[place]) for name, column in scores.items()},
        )
        for place in best.tolist()
    )
    rest = {name: float(column.sum() - column[best].sum()) for name, column in scores.items()}
    return named, Evidence(None, match - sum(said.match for said in named), rest)


def _ablated(parts: Parts, features: Floats, picked: NDArray[np.int64]) -> Floats:
    """(items, num_features) how much the score falls with each feature at its mean, in one call."""
    width = features.shape[1]
    if parts.scorer is None or not len(picked):
        return np.zeros((len(picked), width), np.float32)
    means = features.mean(axis=0) if parts.means is None else parts.means
    chosen = features[picked]
    changed = np.repeat(chosen[:, None, :], width + 1, axis=1)  # the last of each is the item as it is
    places = np.arange(width)
    changed[:, places, places] = means
    scores = parts.scorer.score(changed.reshape(-1, width)).reshape(len(picked), width + 1)
    out: Floats = scores[:, -1:] - scores[:, :-1]
    return out


def _strongest(values: Floats, contributions: Floats) -> tuple[Contribution, ...]:
    order = np.argsort(-np.abs(contributions), kind="stable")[:MOST_FEATURES]
    return tuple(
        Contribution(RANK_FEATURES[i], float(values[i]), float(contributions[i]))
        for i in order.tolist()
        if contributions[i]
    )


def _proposed(ranks: Floats) -> dict[str, int]:
    return {SOURCES[i]: int(ranks[i]) for i in np.flatnonzero(ranks > 0).tolist()}


def _filled(listing: Listing, place: int) -> Explanation:
    """What can be said of a place that no ranking gave: one from the popular list, pinned or not."""
    before, boosts, diversity, places = listing.moves[place].tolist()
    return Explanation(
        proposed={},
        score=float(listing.scores[place]),
        match=None,
        source_scores={},
        history=(),
        others=Evidence(None, 0.0, {}),
        augmented=0.0,
        features=(),
        place_by_score=before,
        moves={"boosts": boosts, "diversity": diversity, "places": places},
    )
