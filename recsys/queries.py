"""Teaching the encoder to read queries, and the rule that decides whether what it learned is kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recsys.augment.noise import mistyped
from recsys.config import Config
from recsys.evaluate.bootstrap import Values, intervals
from recsys.evaluate.known_item import KINDS, known_items, rank_of, reciprocals
from recsys.lexical import LexicalIndex
from recsys.model.encoder import TextEncoder
from recsys.model.gate import ONE_SIDED, weights_moved
from recsys.model.whitening import Whitening
from recsys.progress import Progress
from recsys.query_tuning import QueryTuning
from recsys.randomness import derive
from recsys.text_search import relevance_of
from recsys.types import Floats

logger = logging.getLogger(__name__)

ASKED = 500
"""Titles of which queries are made to judge by, or all where there are fewer."""


@dataclass(frozen=True)
class QueryResult:
    """What reads queries from now on."""

    encoder: TextEncoder
    report: dict[str, Any]
    """For the manifest: mrr@20 `before` and `after` by kind of query, `kept`, `why`, `weights_moved`."""


def teach_queries(
    encoder: TextEncoder,
    titles: Sequence[str],
    vectors: Floats,
    whitening: Whitening,
    lexical: LexicalIndex,
    config: Config,
    folder: Path,
    *,
    wordings: Mapping[int, Sequence[str]],
    on_step: Callable[[int], None] | None = None,
) -> QueryResult:
    """Teach a copy of the encoder other wordings of titles, and keep it where queries gain.

    Killed and called again with the same arguments it continues, bit for bit on CPU.

    Args:
        encoder: What made the items' vectors; it is left as it is.
        titles: Of the whole catalogue.
        vectors: (num_items, dim) whitened vectors of the items' texts.
        whitening: What made them.
        lexical: The letters of the items' texts, which search asks beside the vectors.
        config: Sections `queries`, `search`, `train`, `encoder` and the seed are read.
        folder: Where the checkpoint lives.
        wordings: Other wordings of titles by item row.
        on_step: Called with the number of optimiser steps done so far, after each.
    """
    tuning = QueryTuning(encoder, titles, vectors, whitening, config, folder, wordings)
    tuning.run(on_step)
    taught = tuning.encoder
    before, after = _judged((encoder, taught), titles, vectors, whitening, lexical, config)
    kept, why = _keep(before, after, config.run.seed)
    report = {
        "kept": kept,
        "why": why,
        "before": _means(before),
        "after": _means(after),
        "titles": tuning.wordings.num_own,
        "wordings": tuning.wordings.num_others,
        "weights_moved": weights_moved(encoder, taught),
        "losses": [round(loss, 4) for loss in tuning.losses],
    }
    logger.info("the taught reader of queries is %s: %s", "kept" if kept else "not kept", why)
    return QueryResult(taught if kept else encoder, report)


def _judged(
    encoders: Sequence[TextEncoder],
    titles: Sequence[str],
    vectors: Floats,
    whitening: Whitening,
    lexical: LexicalIndex,
    config: Config,
) -> list[dict[str, Values]]:
    """By encoder and kind of query, (titles, 1) what each adds to mrr@20; NaN where its title allows none.

    Queries are answered as search is served, by letters and by vectors, for nobody in particular.
    """
    known = known_items(titles, ASKED, mistyped, derive(config.run.seed, "queries", "judged"))
    found = [{kind: np.full((len(known), 1), np.nan) for kind in KINDS} for _ in encoders]
    asked = {kind: [(i, text) for i, text in enumerate(known.queries[kind]) if text] for kind in KINDS}
    with Progress(sum(map(len, asked.values())), "asking queries", "queries") as bar:
        for kind, queries in asked.items():
            texts = [text for _, text in queries]
            encoded = [whitening.apply(encoder.encode(texts)) for encoder in encoders]
            for number, (i, text) in enumerate(queries):
                shares = lexical.scores(text)
                for values, mine in zip(found, encoded, strict=True):
                    scores = relevance_of(shares, vectors @ mine[number], config.search.letters)
                    values[kind][i] = reciprocals([rank_of(scores, known.answers[i])])
                bar.advance(1)
    return found


def _keep(before: Mapping[str, Values], after: Mapping[str, Values], seed: int) -> tuple[bool, str]:
    """Whether what was taught stays, and why.

    It stays where queries gain beyond chance, each kind counting alike, and no kind loses beyond chance
    (one-sided 95 % bootstraps over titles).
    """
    changes = {kind: after[kind] - before[kind] for kind in KINDS if not np.isnan(after[kind]).all()}
    if not changes:
        return False, "no item has a title to ask for"
    said = ", ".join(
        f"{kind} {np.nanmean(before[kind]):.3f} to {np.nanmean(after[kind]):.3f}" for kind in changes
    )
    lost = [kind for kind, change in changes.items() if _bounds(change, seed)[1] < 0]
    if lost:
        return False, f"{' and '.join(lost)} queries lose beyond chance: mrr@20 of {said}"
    together: Values = np.nanmean(np.hstack(list(changes.values())), axis=1, keepdims=True)
    if not _bounds(together, seed)[0] > 0:
        return False, f"queries gain nothing beyond chance: mrr@20 of {said}"
    return True, f"queries gain: mrr@20 of {said}"


def _bounds(values: Values, seed: int) -> tuple[float, float]:
    """The one-sided bounds of the mean over the titles that have a value."""
    cases = np.flatnonzero(~np.isnan(values[:, 0]))
    low, high = intervals([(cases, values[cases])], np.arange(len(values)), seed=seed, level=ONE_SIDED)[0]
    return float(low[0]), float(high[0])


def _means(judged: Mapping[str, Values]) -> dict[str, float | None]:
    return {
        kind: None if np.isnan(values).all() else round(float(np.nanmean(values)), 5)
        for kind, values in judged.items()
    }
