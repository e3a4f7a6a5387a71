"""A dataset whose right answer is known: an arm's gain is a function of its policy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np

from recsys.arms import Arm, When
from recsys.randomness import generator
from recsys.search.bench import Score
from recsys.search.space import OFF, Facts, fingerprint

FACTS = Facts(
    {"history": ("crop", "item_dropout"), "text": ("word_dropout",)},
    {"chinese_noise": "changes 0 of 100 rows"},
    {"history": (3, 9), "text": (8, 20)},
)
USERS = 400


class Killed(BaseException):
    """What a killed process looks like from inside."""


class Clock:
    """Seconds that pass when something is done."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def best_epoch(arm: Arm) -> int:
    """Where an arm's validation figure is highest: off overfits first."""
    return 5 if fingerprint(arm) == OFF else 7


class FakeBench:
    """A bench without a dataset.

    Args:
        gain: What an arm adds to ndcg@10, by slice.
        clock: Moves on with every training.
        price: Seconds of a whole training.
        noise: Standard deviation of a user's difference between arms.
        kill_at: Number of the training in which the process is killed, from 0.
    """

    num_rows, max_epochs, patience = 5000, 12, 2

    def __init__(
        self,
        gain: Callable[[Arm, When], float],
        clock: Clock,
        price: float = 12.0,
        noise: float = 0.02,
        kill_at: int | None = None,
    ) -> None:
        self.gain, self.clock, self.price, self.noise, self.kill_at = gain, clock, price, noise, kill_at
        self.runs: list[tuple[str, int, When, int]] = []
        """Fingerprint, seed, slice and epochs of every training that ended."""
        self.chosen: list[str] = []
        """Fingerprints of the trainings that chose a number of epochs."""
        self.begun = 0
        self.told: Counter[str] = Counter()

    def facts(self) -> Facts:
        self.told["facts"] += 1
        return FACTS

    def counts(self, arm: Arm) -> dict[str, dict[str, int]]:
        self.told["counts"] += 1
        history = [op.name for op in arm.policy.history.ops.ops]
        if history == ["crop"]:
            return {"history": {"rows": 100, "accepted": 0, "left_alone": 100}}
        if arm.policy.text.ops.ops and not history:
            return {"text": {"rows": 100, "accepted": 2, "rejected:garbled": 90}}
        return {"history": {"rows": 100, "accepted": 50, "left_alone": 50}}

    def run(
        self,
        arm: Arm,
        seed: int,
        *,
        when: When,
        epochs: int | None = None,
        share: float = 1.0,
        on_epoch: Callable[[int, float], bool] | None = None,
    ) -> Score:
        number = self.begun
        self.begun += 1
        wanted = epochs or self.max_epochs
        mean = 0.1 + self.gain(arm, when)
        done, stopped, curve = 0, False, []
        while done < wanted and not stopped:
            done += 1
            self.clock.now += self.price / self.max_epochs
            if number == self.kill_at and done == wanted // 2:
                raise Killed
            curve.append(mean * (done / wanted if epochs else min(done, best_epoch(arm)) / 12))
            stopped = on_epoch is not None and on_epoch(done, curve[-1])
        mark = fingerprint(arm)
        if epochs is None:
            self.chosen.append(mark)
        else:
            self.runs.append((mark, seed, when, done))
        users = np.array([f"u{i:04}" for i in range(USERS)])
        base = generator(seed, "user", when).normal(0.0, 0.05, USERS)
        own = generator(seed, "arm", mark, when).normal(0.0, self.noise, USERS) if mark != OFF else 0.0
        ndcg = np.asarray(mean + base - base.mean() + own)
        figures = {"ndcg@10": ndcg, "recall@20": 2 * ndcg}
        return Score(users, figures, self.price * done / 12, done, stopped, curve=tuple(curve))


def dropout_gains(arm: Arm, when: When) -> float:
    """Item dropout is what helps; the milder its rate, the more. Everything else harms a little."""
    ops = [op for op in arm.policy.history.ops.ops if op.name == "item_dropout"]
    if not ops:
        return -0.01 if fingerprint(arm) != OFF else 0.0
    return 0.03 - 0.02 * ops[0].rate_range[1]


def nothing_gains(arm: Arm, when: When) -> float:
    """Whatever is done is noise."""
    return 0.0


def only_on_validation(arm: Arm, when: When) -> float:
    """A gain that is none: the slice on which it was chosen shows it, the newest does not."""
    return dropout_gains(arm, when) if when == "validation" else 0.0
