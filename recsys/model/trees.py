"""The ranker as gradient-boosted trees: LambdaRank (Burges, 2010) by LightGBM, over the same lists."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.config import RankConfig
from recsys.errors import DependencyError
from recsys.model.ranker import RankingLists, Scores
from recsys.progress import Progress
from recsys.randomness import derive
from recsys.types import Floats, Rows


def trees_available() -> bool:
    """Whether LightGBM and the converter of its models are installed."""
    return find_spec("lightgbm") is not None and find_spec("onnxmltools") is not None


def fit_trees(lists: RankingLists, some: Rows, config: RankConfig, seed: int) -> Any:
    """A LightGBM booster fitted on some of the lists, and once more on their novel part.

    Where nobody comes back for an item both are the same, and the lists are read once.

    Raises:
        DependencyError: LightGBM is not installed.
    """
    if not trees_available():
        raise DependencyError(
            "rank.kind 'trees' needs the packages 'lightgbm' and 'onnxmltools': pip install 'recsys[train]'"
        )
    import lightgbm

    rows, sizes = _grouped(lists, some, np.ones(len(lists.labels), np.bool_))
    if (lists.labels[rows] > 0)[~lists.novel[rows]].any():
        more, again = _grouped(lists, some, lists.novel)
        rows, sizes = np.concatenate([rows, more]), np.concatenate([sizes, again])
    settings = {
        "objective": "lambdarank",
        "lambdarank_truncation_level": 20,
        "num_leaves": config.leaves,
        "learning_rate": config.tree_learning_rate,
        "min_data_in_leaf": 50,
        "lambda_l2": 5.0,
        "feature_fraction": 0.5,
        "bagging_fraction": 0.7,
        "bagging_freq": 1,
        "max_bin": 127,
        "seed": derive(seed, "ranker", "trees") % 2**31,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": torch.get_num_threads(),
        "verbose": -1,
    }
    data = lightgbm.Dataset(lists.features[rows], lists.labels[rows], group=sizes)
    with Progress(config.trees, "ranker: trees are grown", "trees") as bar:
        booster = lightgbm.train(settings, data, config.trees, callbacks=[lambda _: bar.advance(1)])
    return lightgbm.Booster(model_str=_single_precision(booster.model_to_string()))


def _single_precision(model: str) -> str:
    """The same trees over float32 features, with thresholds that ONNX holds exactly: rounded down."""
    # The sizes in bytes would no longer be right; without them LightGBM reads one tree after the other.
    lines = [line for line in model.split("\n") if not line.startswith("tree_sizes=")]
    for place, line in enumerate(lines):
        if line.startswith("threshold="):
            exact = np.array(line.removeprefix("threshold=").split(), np.float64)
            rounded = exact.astype(np.float32)
            down = np.where(rounded > exact, np.nextafter(rounded, np.float32(-np.inf)), rounded)
            lines[place] = "threshold=" + " ".join(repr(float(one)) for one in down)
    return "\n".join(lines)


def tree_scores(booster: Any) -> Scores:
    """The booster as a function of features."""

    def score(features: Floats) -> Floats:
        return np.asarray(booster.predict(features), np.float32)

    return score


def usual_spread(score: Scores, lists: RankingLists, some: Rows) -> float:
    """The mean over some lists of the standard deviation of their scores: the scale at which models mix."""
    offsets = lists.offsets
    spreads = [score(lists.features[offsets[u] : offsets[u + 1]]).std() for u in some.tolist()]
    return max(float(np.mean(spreads)), 1e-6)


def _grouped(lists: RankingLists, some: Rows, mask: NDArray[np.bool_]) -> tuple[Rows, Rows]:
    """Rows of some lists within the mask, and how many each list has; only lists with a label."""
    rows, sizes = [np.empty(0, np.int64)], []
    for place in some.tolist():
        span = np.arange(lists.offsets[place], lists.offsets[place + 1])
        span = span[mask[span]]
        if lists.labels[span].any():
            rows.append(span)
            sizes.append(len(span))
    return np.concatenate(rows), np.array(sizes, np.int64)
