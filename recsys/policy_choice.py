"""Whether a shop is augmented, and by which policy: decided on its own validation slice, off included.

Each candidate is the towers of `select` fitted with it, judged on the same held-out contexts as the towers
without. One that is far behind them at the epoch of their best is not trained to its end. A candidate is
taken where it ranks better beyond chance; of several the first, which is the mildest as they are listed,
unless a later one ranks better than it beyond chance: towers that differ by less make the same lists. Else
nothing is augmented. The chance that one is taken which gains nothing is 5 % at most over all of them: the
test is one-sided, since only a gain is asked for, and its level is shared out (Bonferroni).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys.augment.policy import load_policy
from recsys.config import AUTO, Config
from recsys.evaluate.bootstrap import Values, intervals
from recsys.types import Rows

logger = logging.getLogger(__name__)

OFF = "off"
METRICS = ("ndcg@10", "recall@20")
"""The first decides; the second must not fall beyond chance."""
FALSE_GAIN = 0.05
"""Chance that some candidate is taken where none gains: of the lower ends of the intervals alone."""
KEEPS_UP = 0.8
"""Share of the best figure of `off` that a candidate must have after as many epochs: what learns more slowly
may still win, what has half of it cannot."""


@dataclass(frozen=True)
class Choice:
    """What was chosen, and why."""

    policy: str
    """A candidate's name, or `off`."""
    why: str
    differences: dict[str, dict[str, Any]]
    """By candidate and metric: `off`, `difference`, `low`, `high`."""


def with_policy(config: Config, name: str) -> Config:
    """The configuration with a policy settled; `off` switches augmentation off."""
    chosen = {"policy": OFF, "enabled": False} if name == OFF else {"policy": name}
    return config.model_copy(update={"augment": config.augment.model_copy(update=chosen)})


def is_open(config: Config) -> bool:
    """Whether a policy is still to be chosen."""
    return config.augment.enabled and config.augment.policy == AUTO


def require_policies(config: Config) -> None:
    """See that every policy that a run may use can be read, before anything takes time.

    Raises:
        ConfigError: names the policy, and what is wrong with it.
    """
    if config.augment.enabled:
        for name in config.augment.candidates if is_open(config) else (config.augment.policy,):
            load_policy(name)
        if config.queries.enabled:
            load_policy(config.queries.policy)


def falls_behind(off: Sequence[float]) -> Callable[[int, float], bool]:
    """What ends a candidate's fit: told its epochs and its newest figure, True where it is far behind `off`.

    Args:
        off: Validation figures of the fit without augmentation, by epoch; none never ends anything.
    """
    figures = np.asarray(off, np.float64)
    if not len(figures):
        return lambda epoch, figure: False
    epochs, enough = int(figures.argmax()) + 1, KEEPS_UP * figures.max()

    def behind(epoch: int, figure: float) -> bool:
        if epoch < epochs or not figure < enough:
            return False
        logger.info("stopped: %.5f after %d epochs, without augmentation %.5f", figure, epoch, figures.max())
        return True

    return behind


def choose_policy(judged: Mapping[str, Values], owners: Rows, seed: int) -> Choice:
    """The first candidate that is better than `off` beyond chance and that no later one beats so, or `off`.

    Args:
        judged: By policy, `off` among them and the others from mild to strong, (n, 2) values of `METRICS` on
            the same n held-out contexts.
        owners: (n,) user of each context, 0-based and dense.
        seed: Of the resampling.
    """
    off = judged[OFF]
    candidates = [name for name in judged if name != OFF]
    level = 1 - 2 * FALSE_GAIN / max(len(candidates), 1)
    differences = {name: _difference(judged[name], off, owners, seed, level) for name in candidates}
    first, second = METRICS
    gains = [
        name for name, found in differences.items() if found[first]["low"] > 0 and found[second]["high"] >= 0
    ]
    if not gains:
        why = "no candidate ranks better beyond chance" if candidates else "there is no candidate"
        return Choice(OFF, f"{why} on {len(off)} validation contexts", differences)
    best = gains[0]
    for name in gains[1:]:
        if _difference(judged[name], judged[best], owners, seed, level)[first]["low"] > 0:
            best = name
    said = differences[best][first]
    why = f"{first} {said['difference']:+.5f} [{said['low']:+.5f}, {said['high']:+.5f}] against off"
    return Choice(best, why, differences)


def _difference(ours: Values, off: Values, owners: Rows, seed: int, level: float) -> dict[str, Any]:
    change = ours - off
    if not len(change):
        nothing = {"off": 0.0, "difference": 0.0, "low": 0.0, "high": 0.0}
        return {name: dict(nothing) for name in METRICS}
    low, high = intervals([(np.arange(len(change)), change)], owners, seed=seed, level=level)[0]
    return {
        name: {
            "off": round(float(off[:, i].mean()), 6),
            "difference": round(float(change[:, i].mean()), 6),
            "low": round(float(low[i]), 6),
            "high": round(float(high[i]), 6),
        }
        for i, name in enumerate(METRICS)
    }
