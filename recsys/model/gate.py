"""What validation decides beside the number of epochs: the lift of cold items, whether fine-tuning stays."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recsys.config import Config
from recsys.contexts import Contexts
from recsys.model.encoder import TextEncoder
from recsys.model.fitted import TowersFit, lifted
from recsys.model.validation import ranking_figures, validation_positions
from recsys.model.whitening import Whitening
from recsys.types import Floats

LIFTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)


def judge(towers: TowersFit, validation: Contexts, config: Config) -> dict[str, dict[str, float]]:
    """Validation figures over all, warm and cold targets (cold: without a training event).

    Cold items are ranked among themselves. In the whole list they stand behind what sells, where a figure
    close to zero says nothing of the texts; and it is among themselves that they compete for the places
    that whole lists keep for them.
    """
    positions = validation_positions(validation, config.train.validation_contexts, config.run.seed)
    users, items = towers.user_vectors(validation, positions), towers.item_vectors()
    warm = np.asarray(towers.item_counts) > 0
    return {
        name: ranking_figures(users, items, validation, positions, wanted, among=among)
        for name, wanted, among in (("all", None, None), ("warm", warm, None), ("cold", ~warm, ~warm))
    }


def choose_lift(towers: TowersFit, validation: Contexts, positions: NDArray[np.int64]) -> float:
    """The lift of `LIFTS` that ranks best on validation: ndcg@10 and recall@20, both over all targets.

    Of several within a thousandth of the best, the smallest.
    """
    users, items = towers.user_vectors(validation, positions), towers.unit_item_vectors()
    found = [
        ranking_figures(users, lifted(items, towers.item_counts, lift, towers.config), validation, positions)
        for lift in LIFTS
    ]
    gains = [
        sum(_relative(found[0][name], figures[name]) for name in ("ndcg@10", "recall@20")) / 2
        for figures in found
    ]
    return next(lift for lift, gain in zip(LIFTS, gains, strict=True) if gain >= max(gains) - 1e-3)


def keep(before: dict[str, dict[str, float]], after: dict[str, dict[str, float]]) -> tuple[bool, str]:
    """Whether fine-tuning stays, and why: neither warm nor cold items may lose on validation.

    A segment loses when the mean of its relative changes in ndcg@10 and recall@20 is below zero: the towers
    retrieve for a ranker, so the depth of the list counts as much as its head. A segment without a
    validation target neither wins nor loses.
    """
    changes = {
        name: np.mean([_relative(before[name][f], after[name][f]) for f in ("ndcg@10", "recall@20")])
        for name in ("warm", "cold")
    }
    lost = [f"{name} items lose ({change:+.2%})" for name, change in changes.items() if change < 0]
    if lost:
        return False, " and ".join(lost)
    return True, ", ".join(f"{name} items {change:+.2%}" for name, change in changes.items())


def _relative(before: float, after: float) -> float:
    return (after - before) / before if before else float(after > 0)


def weights_moved(before: TextEncoder, after: TextEncoder) -> dict[str, float]:
    """Relative L2 change of each layer's weights: |new - old| / |old|."""
    moved = {}
    for number, (old, new) in enumerate(zip(before.layers(), after.layers(), strict=True)):
        pairs = [(a.detach(), b.detach()) for a, b in zip(old.parameters(), new.parameters(), strict=True)]
        change = sum(float(((b - a).double() ** 2).sum()) for a, b in pairs)
        size = sum(float((a.double() ** 2).sum()) for a, _ in pairs)
        moved[f"layer_{number}"] = round(math.sqrt(change / max(size, 1e-30)), 6)
    return moved


def choose_whitening(
    raw: Floats, whitening: Whitening, towers_fit: TowersFit, validation: Contexts, config: Config
) -> tuple[Whitening, str]:
    """The old whitening or one fitted anew: whichever ranks better by text alone on validation."""
    choices = {"kept": whitening, "refitted": Whitening.fit(raw, whitening.dim, config.model.item_bias)}
    scores = {}
    for name, choice in choices.items():
        if choice.dim != whitening.dim:
            continue
        none = {k: np.zeros_like(v) if k.endswith("_residual") else v for k, v in towers_fit.state.items()}
        plain = replace(towers_fit, state=none, text_vectors=choice.apply(raw), lift=0.0)
        scores[name] = judge(plain, validation, config)["all"]["ndcg@10"]
    best = max(scores, key=lambda name: scores[name])
    return choices[best], best
