"""What is searched, with its bounds: never outside those that the settings themselves have.

A setting stays out that changes what is asked for (lengths of lists, event weights), what it costs (steps,
catalogue limits), or that validation chooses in every run anyway (epochs, the lift).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from recsys.config import Config
from recsys.search.settings import Asker

Values = Mapping[str, Any]
"""Settings by dotted name."""


@dataclass(frozen=True, slots=True)
class Knob:
    """One setting that is searched: some values, or a range."""

    setting: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False

    def around(self, value: Any) -> Knob:
        """Wide enough for a value that the configuration already has."""
        if self.choices:
            return self if value in self.choices else replace(self, choices=(*self.choices, value))
        return replace(self, low=min(self.low, value), high=max(self.high, value), log=self.log and value > 0)

    def draw(self, asker: Asker) -> Any:
        """A value."""
        if self.choices:
            return asker.suggest_categorical(self.setting, self.choices)
        if self.whole:
            return asker.suggest_int(self.setting, round(self.low), round(self.high), log=self.log)
        return asker.suggest_float(self.setting, self.low, self.high, log=self.log)


TOWERS = (
    Knob("model.shrinkage", low=1, high=50, log=True),
    Knob("model.decay", low=0.5, high=1.0),
    Knob("model.temperature", low=0.02, high=0.3, log=True),
    Knob("model.item_bias", (False, True)),
    Knob("train.learning_rate", low=2e-4, high=5e-3, log=True),
    Knob("train.user_learning_rate", low=2e-3, high=1e-1, log=True),
    Knob("train.weight_decay", low=1e-4, high=0.3, log=True),
    Knob("train.residual_dropout", low=0.0, high=0.7),
    # A large shop's batches follow the first of the two, a small one's the second.
    Knob("train.batch_size", (128, 256, 512)),
    Knob("train.min_steps", (20, 40, 80)),
    Knob("train.repeat_weight", low=0.0, high=1.0),
    Knob("train.hard_negatives", (0, 5, 20)),
    Knob("train.mask_own", (False, True)),
    Knob("train.mask_near", (0.0, 0.8, 0.95)),
)
"""What is fitted, judged by the towers' own lists."""

LISTS = (
    Knob("retrieve.two_tower", low=50, high=400, log=True, whole=True),
    Knob("retrieve.covisitation", low=0, high=200, whole=True),
    Knob("retrieve.trending", low=0, high=100, whole=True),
    Knob("retrieve.fresh", low=0, high=60, whole=True),
    Knob("rank.epochs", low=4, high=30, log=True, whole=True),
    Knob("rank.learning_rate", low=5e-4, high=1e-2, log=True),
    Knob("rank.trees", low=50, high=400, log=True, whole=True),
    Knob("rank.leaves", low=7, high=63, log=True, whole=True),
    Knob("rank.tree_learning_rate", low=0.02, high=0.2, log=True),
)
"""Which candidates there are and how the ranker learns, over the best towers."""


def fitting(knobs: Sequence[Knob], config: Config) -> tuple[Knob, ...]:
    """The knobs, each wide enough for what the configuration has, so that it is the first to be tried."""
    given = values_of(knobs, config)
    return tuple(knob.around(given[knob.setting]) for knob in knobs)


def values_of(knobs: Sequence[Knob], config: Config) -> dict[str, Any]:
    """What a configuration has at the knobs."""
    return {knob.setting: _read(config, knob.setting) for knob in knobs}


def _read(config: Config, name: str) -> Any:
    section, _, key = name.partition(".")
    return getattr(getattr(config, section), key)
