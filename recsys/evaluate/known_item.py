"""Known-item search: queries made from titles, and how high the item they were made from is found.

A search engine has no log at the start, but it has titles: whoever types one, half of one, or a misspelled
one wants that item. Queries are drawn once by a seed, the same for every system.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.evaluate.bootstrap import REPLICATES, Figure, intervals
from recsys.evaluate.tables import Grid
from recsys.randomness import Stream, generator, stream
from recsys.types import Floats, Rows

KINDS = {
    "title": "the title as it is",
    "half": "a random half of its words",
    "typo": "the title with one word mistyped",
    "half_typo": "a random half of its words, one mistyped",
}
"""Kinds of queries, and how each is made."""
METRICS = ("mrr@20", "recall@1", "recall@10")
DEPTH = 50
"""Places that a system is asked for."""
WORST = 20
"""The last place that counts."""
_CELLS = 50_000_000
"""Scores held at a time."""
MIN_LETTERS = 5
"""Shorter words are not mistyped, as in the augmentation op `typo`."""

Misspell = Callable[[str, Stream], str]
System = Callable[[Sequence[str]], Rows]
"""Queries to item rows, (queries, at least 1), best first, -1 beyond what was found."""


@dataclass(frozen=True, slots=True)
class KnownItems:
    """Queries by kind, each a row of its own; None where a title does not allow the kind."""

    queries: dict[str, list[str | None]]
    answers: list[frozenset[int]]
    """Per title drawn, the rows of all items that bear it: they cannot be told apart."""

    def __len__(self) -> int:
        return len(self.answers)


@dataclass(frozen=True, slots=True)
class SearchFigures:
    """What one system found, by kind of query and metric."""

    name: str
    sizes: dict[str, int]
    figures: dict[str, dict[str, Figure]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values; NaN becomes None."""

        def plain(figure: Figure) -> dict[str, float | None]:
            values = {"mean": figure.mean, "low": figure.low, "high": figure.high}
            return {name: None if math.isnan(value) else value for name, value in values.items()}

        return {
            "name": self.name,
            "queries": self.sizes,
            "figures": {
                kind: {name: plain(one) for name, one in found.items()}
                for kind, found in self.figures.items()
            },
        }


def rows_by_title(titles: Sequence[str]) -> dict[str, list[int]]:
    """The items that bear each title, which case and blanks do not tell apart; blank ones are left out."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, title in enumerate(titles):
        rows[" ".join(title.casefold().split())].append(row)
    rows.pop("", None)
    return dict(rows)


def known_items(titles: Sequence[str], count: int, misspell: Misspell, seed: int = 0) -> KnownItems:
    """Draw titles and make queries of them.

    Args:
        titles: Of the whole catalogue; empty ones are never drawn.
        count: How many items, or all of them where there are fewer.
        misspell: Makes one typing error in a word.
        seed: Draws the items, the words and the errors.
    """
    rows_of = rows_by_title(titles)
    distinct = sorted(rows_of)
    picked = generator(seed, "known_item").permutation(len(distinct))[:count]
    queries: dict[str, list[str | None]] = {kind: [] for kind in KINDS}
    answers = []
    for place in picked.tolist():
        rows = rows_of[distinct[place]]
        title = " ".join(titles[rows[0]].split())
        half = _half(title, stream(seed, "known_item", "half", title))
        queries["title"].append(title)
        queries["half"].append(half)
        queries["typo"].append(_typo(title, misspell, stream(seed, "known_item", "typo", title)))
        queries["half_typo"].append(_typo(half, misspell, stream(seed, "known_item", "half_typo", title)))
        answers.append(frozenset(rows))
    return KnownItems(queries, answers)


def ranks_by_vector(queries: Floats, items: Floats, wanted: Sequence[frozenset[int]]) -> list[int]:
    """The place (1 is best) of the best wanted item of each query, by cosine; of equals, the first place.

    Args:
        queries: (n, dim) of unit norm.
        items: (num_items, dim) of any length, among which they are sought.
        wanted: Item rows per query, one at least.
    """
    lengths = np.linalg.norm(items, axis=1, keepdims=True)
    unit = (items / np.maximum(lengths, 1e-12)).T
    block = max(1, _CELLS // max(unit.shape[1], 1))
    ranks = []
    for start in range(0, len(wanted), block):
        scores = (queries[start : start + block] @ unit).round(5)
        ranks += [rank_of(row, rows) for row, rows in zip(scores, wanted[start : start + block], strict=True)]
    return ranks


def rank_of(scores: NDArray[np.floating[Any]], wanted: frozenset[int]) -> int:
    """The place (1 is best) of the best wanted item by (num_items,) scores; of equals, the first place."""
    return 1 + int((scores > scores[sorted(wanted)].max()).sum())


def reciprocals(ranks: Sequence[int] | NDArray[np.float64]) -> NDArray[np.float64]:
    """The contribution of each place to mrr@20: 1 / place up to the twentieth, then 0."""
    places = np.asarray(ranks, np.float64)
    return np.where(places <= WORST, 1.0 / places, 0.0)


def measure_search(
    name: str, system: System, known: KnownItems, *, replicates: int = REPLICATES, seed: int = 0
) -> SearchFigures:
    """Ask a system every query; means with 95% bootstrap intervals over queries."""
    slices: list[tuple[Rows, NDArray[np.float64]]] = []
    for kind in KINDS:
        asked = [(i, text) for i, text in enumerate(known.queries[kind]) if text is not None]
        positions = np.array([i for i, _ in asked], np.int64)
        lists = system([text for _, text in asked]) if asked else np.empty((0, 1), np.int64)
        ranks = np.array([_rank(row, known.answers[i]) for row, (i, _) in zip(lists, asked, strict=True)])
        slices.append((positions, _values(ranks)))
    bounds = intervals(slices, np.arange(len(known)), replicates, seed)
    figures, sizes = {}, {}
    for kind, (positions, values), (low, high) in zip(KINDS, slices, bounds, strict=True):
        means = values.mean(axis=0) if len(values) else np.full(len(METRICS), np.nan)
        parts = zip(METRICS, means.tolist(), low.tolist(), high.tolist(), strict=True)
        figures[kind] = {metric: Figure(*rest) for metric, *rest in parts}
        sizes[kind] = len(positions)
    return SearchFigures(name, sizes, figures)


def search_grids(measured: Sequence[SearchFigures]) -> list[Grid]:
    """One table per kind of query: systems by metric."""
    return [
        Grid(
            f"Known-item search, {how}: {measured[0].sizes[kind]:,} queries, mean and 95% interval",
            ("system", *METRICS),
            tuple((one.name, *(_cell(one.figures[kind][metric]) for metric in METRICS)) for one in measured),
        )
        for kind, how in KINDS.items()
    ]


class Bm25:
    """BM25 over words (Robertson and Zaragoza, 2009; k1 1.2, b 0.75): what a plain search engine does."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._words: dict[str, int] = {}
        rows: list[int] = []
        columns: list[int] = []
        counts: list[int] = []
        lengths: list[int] = []
        for row, text in enumerate(texts):
            found = Counter(_tokens(text))
            lengths.append(sum(found.values()))
            rows += [row] * len(found)
            columns += [self._words.setdefault(word, len(self._words)) for word in found]
            counts += found.values()
        item, column = np.array(rows, np.int64), np.array(columns, np.int64)
        count, length = np.array(counts, np.float64), np.array(lengths, np.float64)
        with_word = np.bincount(column, minlength=len(self._words))
        rarity = np.log1p((len(texts) - with_word + 0.5) / (with_word + 0.5))
        norm = 0.25 + 0.75 * length[item] / max(float(length.mean()), 1.0)
        part = rarity[column] * count * 2.2 / (count + 1.2 * norm)
        self._weights = sparse.csr_matrix((part, (column, item)), (len(self._words), len(texts)))

    def __call__(self, queries: Sequence[str]) -> Rows:
        """The best `DEPTH` items of each query; only those that share a word."""
        lists = np.full((len(queries), DEPTH), -1, np.int64)
        for i, query in enumerate(queries):
            words = [self._words[word] for word in set(_tokens(query)) if word in self._words]
            scores = np.asarray(self._weights[words].sum(axis=0)).ravel()
            best = np.argsort(-scores, kind="stable")[:DEPTH]
            best = best[scores[best] > 0]
            lists[i, : len(best)] = best
        return lists


class NearestText:
    """Cosine between vectors of an encoder: queries against the same encoder's item texts."""

    def __init__(self, encode: Callable[[Sequence[str]], Floats], vectors: Floats) -> None:
        self._encode, self._vectors = encode, _unit(vectors)

    def __call__(self, queries: Sequence[str]) -> Rows:
        """The nearest `DEPTH` items of each query."""
        cosines = _unit(self._encode(queries)) @ self._vectors.T
        return np.argsort(-cosines.round(5), axis=1, kind="stable")[:, :DEPTH]


def _half(title: str, rng: Stream) -> str | None:
    words = title.split()
    if len(words) < 2:
        return None
    return " ".join(words[i] for i in rng.sample(len(words), (len(words) + 1) // 2))


def _typo(text: str | None, misspell: Misspell, rng: Stream) -> str | None:
    words = [] if text is None else text.split()
    long = [
        i for i, word in enumerate(words) if len(word) >= MIN_LETTERS and word.isascii() and word.isalpha()
    ]
    if not long:
        return None
    place = rng.choice(long)
    words[place] = misspell(words[place], rng)
    return " ".join(words)


def _rank(found: Rows, wanted: frozenset[int]) -> int:
    """The first place (1 is best) that holds a wanted item, 0 where none does."""
    return next((place for place, row in enumerate(found.tolist(), start=1) if row in wanted), 0)


def _values(ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    """`METRICS` of each query, (queries, metrics)."""
    ranks = ranks.astype(np.int64)
    found = ranks > 0
    reciprocal = np.where(found & (ranks <= 20), 1.0 / np.maximum(ranks, 1), 0.0)
    return np.stack([reciprocal, ranks == 1, found & (ranks <= 10)], axis=1).astype(np.float64)


def _cell(figure: Figure) -> str:
    if math.isnan(figure.mean):
        return "–"
    return f"{figure.mean:.3f} [{figure.low:.3f}, {figure.high:.3f}]"


def _tokens(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _unit(vectors: Floats) -> Floats:
    unit: Floats = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit
