"""From a fit to a ranker: candidates as retrieval produced them, labels from the time after the fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.artifacts import replacing
from recsys.config import RankConfig
from recsys.errors import ArtifactError
from recsys.export import dynamic, write_graph
from recsys.loading import FEATURE_MEANS
from recsys.model.ranker import Ranker, RankingLists, fit_ranker
from recsys.randomness import generator
from recsys.rank_features import FEATURE_GROUPS, RANK_FEATURES
from recsys.recommend import Recommender
from recsys.scorer import OnnxScorer
from recsys.types import Floats, Query, Rows

_CHUNK = 256
_TOLERANCE = 1e-3
MIN_LISTS = 50
"""Fewer lists with a label than this cannot train a ranker: candidates are then ranked by match score."""


def collect_lists(
    recommender: Recommender, queries: Sequence[Query], targets: Sequence[Rows]
) -> RankingLists:
    """Candidates and labels of each query; `targets[i]` are the rows that query i's user took afterwards."""
    features, labels, novel = [], [], []
    sizes: list[NDArray[np.int64]] = []
    for start in range(0, len(queries), _CHUNK):
        chunk = queries[start : start + _CHUNK]
        ranked = recommender.rank(chunk, [recommender.excluded_rows(query) for query in chunk])
        users, rows = ranked.candidates.users, ranked.candidates.rows
        num_items = len(recommender.vocabulary)
        taken = [wanted + i * num_items for i, wanted in enumerate(targets[start : start + _CHUNK])]
        labels.append(np.isin(rows + users * num_items, np.concatenate(taken)).astype(np.float32))
        novel.append(ranked.features[:, RANK_FEATURES.index("owned")] == 0)
        features.append(ranked.features)
        sizes.append(np.bincount(users, minlength=len(chunk)))
    return RankingLists(
        np.concatenate(features),
        np.concatenate(labels),
        np.concatenate(novel),
        np.concatenate([[0], np.cumsum(np.concatenate(sizes))]),
    )


def train_ranker(
    recommender: Recommender,
    queries: Sequence[Query],
    targets: Sequence[Rows],
    config: RankConfig,
    seed: int,
    path: Path,
    *,
    left_out: Sequence[str] = (),
) -> dict[str, Any]:
    """Fit the ranker and put its ONNX file in place once it agrees with torch.

    Features that are left out are zero in training, and since the graph clips to the range seen there, it
    does not see them in serving either.

    Args:
        recommender: Of a fit, without a ranker.
        queries: As of the fit's cut.
        targets: What each query's user took afterwards.
        config: How to train.
        seed: Of draws and weights.
        path: Where the graph goes.
        left_out: Names of `FEATURE_GROUPS` that the ranker shall do without: for ablations.

    Returns what the manifest says of it; with too few labelled lists there is no file and the reason.

    Raises:
        ArtifactError: the exported graph ranks differently from the model.
    """
    if len(queries) > config.max_users:
        picked = np.sort(generator(seed, "ranker", "users").permutation(len(queries))[: config.max_users])
        queries, targets = [queries[i] for i in picked], [targets[i] for i in picked]
    if len(queries) < MIN_LISTS:
        return {"kept": False, "why": f"{len(queries)} users to learn from, {MIN_LISTS} needed"}
    lists = collect_lists(recommender, queries, targets)
    hidden = [name for group in left_out for name in FEATURE_GROUPS[group]]
    lists.features[:, [RANK_FEATURES.index(name) for name in hidden]] = 0
    labelled = int(
        sum(lists.labels[a:b].any() for a, b in zip(lists.offsets[:-1], lists.offsets[1:], strict=True))
    )
    if labelled < MIN_LISTS:
        return {"kept": False, "why": f"{labelled} lists hold a label, {MIN_LISTS} needed"}
    wanted = sum(len(rows) for rows in targets)
    model, figures = fit_ranker(lists, config, seed)
    parity = export_ranker(model, lists, path)
    return {
        "kept": True,
        "candidates_per_user": round(len(lists.labels) / len(lists), 1),
        "candidate_recall": round(float(lists.labels.sum()) / max(wanted, 1), 4),
        **figures,
        FEATURE_MEANS: [float(mean) for mean in lists.features.mean(axis=0)],
        "parity": parity,
    }


def export_ranker(model: Ranker, lists: RankingLists, path: Path) -> dict[str, float]:
    """Write the ranker's graph, after it has ranked some of the lists exactly as the model does."""
    sample = torch.from_numpy(np.ascontiguousarray(lists.features[:512]))
    with replacing(path) as temporary:
        write_graph(
            model, (sample,), temporary, names=("features",), output="score", axes={0: dynamic("rows")}
        )
        scorer = OnnxScorer(temporary, threads=1)
        parity = _parity(model, scorer, lists)
        if parity["max_difference"] > _TOLERANCE or parity["same_top_10"] < 0.99:
            raise ArtifactError(f"{path}: the exported ranker differs from the model ({parity})")
    return parity


def _parity(model: Ranker, scorer: OnnxScorer, lists: RankingLists, num_lists: int = 100) -> dict[str, float]:
    worst, same = 0.0, []
    for start, end in list(zip(lists.offsets[:-1], lists.offsets[1:], strict=True))[:num_lists]:
        features: Floats = np.ascontiguousarray(lists.features[start:end])
        if not len(features):
            continue
        with torch.inference_mode():
            ours = model(torch.from_numpy(features)).numpy()
        theirs = scorer.score(features)
        worst = max(worst, float(np.abs(ours - theirs).max()))
        mine, other = (np.argsort(-scores, kind="stable")[:10] for scores in (ours, theirs))
        same.append(np.array_equal(mine, other) or np.allclose(ours[mine], ours[other], atol=1e-5))
    return {"max_difference": round(worst, 8), "same_top_10": float(np.mean(same))}
