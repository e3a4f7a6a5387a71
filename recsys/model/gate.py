"""What validation decides beside the number of epochs: the lift of cold items, whether fine-tuning stays."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recsys.config import Config
from recsys.contexts import Contexts
from recsys.evaluate.bootstrap import Values, intervals
from recsys.model.encoder import TextEncoder
from recsys.model.fitted import TowersFit, lifted
from recsys.model.validation import mean_figures, ranking_values, validation_positions
from recsys.model.whitening import Whitening
from recsys.types import Floats, Rows

LIFTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
ONE_SIDED = 0.9
"""Two-sided coverage whose upper end is a one-sided bound of 95 %."""
WORTH = 0.01
"""Relative gain from which a changed encoder is taken."""


@dataclass(frozen=True)
class Judged:
    """What towers rank on the validation contexts, over all, warm and cold targets."""

    values: dict[str, Values]
    """(num_contexts, 2) ndcg@10 and recall@20 of each context; zero where it has no such target."""
    counts: dict[str, NDArray[np.bool_]]
    """(num_contexts,) whether it has one."""
    owners: Rows
    """(num_contexts,) user of each context, 0-based and dense."""

    @property
    def figures(self) -> dict[str, dict[str, float]]:
        """The means over the contexts that have such a target, and how many these are."""
        return {name: mean_figures(values, self.counts[name]) for name, values in self.values.items()}


def judge(towers: TowersFit, validation: Contexts, config: Config) -> Judged:
    """How towers rank over all, warm and cold targets (cold: without a training event), before the lift.

    Every fit chooses a lift of its own for cold items, at the cost of warm ones: with it two fits would
    differ by that choice. Cold items are ranked among themselves. In the whole list they stand behind what
    sells, where a figure close to zero says nothing of the texts; and it is among themselves that they
    compete for the places that whole lists keep for them.
    """
    positions = validation_positions(validation, config.train.validation_contexts, config.run.seed)
    users, items = towers.user_vectors(validation, positions), towers.unit_item_vectors()
    warm = np.asarray(towers.item_counts) > 0
    values, counts = {}, {}
    for name, wanted, among in (("all", None, None), ("warm", warm, None), ("cold", ~warm, ~warm)):
        values[name], counts[name] = ranking_values(users, items, validation, positions, wanted, among=among)
    owners = np.unique(validation.user_ids[positions], return_inverse=True)[1]
    return Judged(values, counts, owners)


def choose_lift(towers: TowersFit, validation: Contexts, positions: NDArray[np.int64]) -> float:
    """The lift of `LIFTS` that ranks best on validation: ndcg@10 and recall@20, both over all targets.

    Of several within a thousandth of the best, the smallest.
    """
    users, items = towers.user_vectors(validation, positions), towers.unit_item_vectors()
    found = [
        ranking_values(users, lifted(items, towers.item_counts, lift, towers.config), validation, positions)
        for lift in LIFTS
    ]
    judged = found[0][1]  # the same contexts at every lift
    gains = [float(_relative(found[0][0][judged], values[judged]).mean()) for values, _ in found]
    return next(lift for lift, gain in zip(LIFTS, gains, strict=True) if gain >= max(gains) - 1e-3)


def keep(before: Judged, after: Judged, seed: int) -> tuple[bool, str]:
    """Whether a changed encoder stays, and why, with 90 % intervals.

    Warm and cold items each change by the mean of their relative changes in ndcg@10 and recall@20: the towers
    retrieve for a ranker, so the depth of the list counts as much as its head. It stays where both together,
    weighed by their contexts, gain a hundredth at least, and neither loses beyond chance (one-sided 95 %
    bootstrap over users). The same training with another seed differs by more than nothing: a small loss of
    one may be none, and for a small gain the encoder as published is the simpler one.

    Args:
        before: As published.
        after: On the same contexts.
        seed: Of the resampling.
    """
    changes, weights, lost, said = {}, [], [], []
    for name in ("warm", "cold"):
        cases = np.flatnonzero(before.counts[name])
        if not len(cases):
            continue
        change = _relative(before.values[name][cases], after.values[name][cases])
        low, high = intervals([(cases, change)], before.owners, seed=seed, level=ONE_SIDED)[0][:, 0]
        changes[name] = float(change.mean())
        said.append(f"{name} items {changes[name]:+.2%} [{low:+.2%}, {high:+.2%}]")
        weights.append(len(cases))
        if high < 0:
            lost.append(name)
    each = ", ".join(said)
    if lost:
        return False, f"{' and '.join(lost)} items lose beyond chance: {each}"
    if not changes:
        return False, "no validation target to judge by"
    together = float(np.average(list(changes.values()), weights=weights))
    if together < WORTH:
        return False, f"{together:+.2%} together, under {WORTH:.0%}: {each}"
    return True, f"{together:+.2%} together: {each}"


def _relative(before: Values, after: Values) -> Values:
    """Per context the mean over the figures of its change in shares of the mean before, (n, 1).

    A figure that was zero everywhere and no longer is has gained once its own size.
    """
    means = before.mean(axis=0)
    sizes = np.where(means > 0, means, after.mean(axis=0))
    changes = np.divide(after - before, sizes, out=np.zeros_like(before), where=sizes > 0)
    mean: Values = changes.mean(axis=1, keepdims=True)
    return mean


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
        scores[name] = judge(plain, validation, config).figures["all"]["ndcg@10"]
    best = max(scores, key=lambda name: scores[name])
    return choices[best], best
