"""The cheap part: many policies, trained for few epochs on part of the users, most of them stopped early.

Optuna's tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011; Akiba et al., arXiv:1907.10902)
proposes, a percentile of the earlier trials stops. Every trial is in a database beside the results, so that
a killed search goes on with what it knows.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from recsys.arms import Arm
from recsys.augment.policy import policy_from_plain
from recsys.config import AugmentConfig
from recsys.randomness import derive
from recsys.search.bench import Bench
from recsys.search.ledger import Ledger
from recsys.search.space import OFF, Space, fingerprint

logger = logging.getLogger(__name__)

METRIC = "ndcg@10"
PROXY_ROWS = 20_000
"""Training rows of a cheap trial; a smaller dataset is trained on whole."""
PROXY_EPOCHS = 1 / 3
"""Epochs of a cheap trial, as a share of those of a whole training; at least two."""
MOST_REFUSED = 0.9
"""A policy whose gates refuse a larger share of its candidates is not trained."""
_STARTUP = 5
_KEPT = 66.0
"""Percentage of trials that an early figure may not stop: augmentation learns more slowly at first."""
_STUDY = "augment"


@dataclass(frozen=True)
class Proxy:
    """How a cheap trial is trained."""

    epochs: int
    share: float

    @classmethod
    def of(cls, bench: Bench) -> Proxy:
        """A third of the epochs on at most `PROXY_ROWS` rows."""
        share = min(1.0, PROXY_ROWS / max(bench.num_rows, 1))
        return cls(min(max(2, round(bench.max_epochs * PROXY_EPOCHS)), bench.max_epochs), share)


@dataclass(frozen=True)
class Trial:
    """What is known of one cheap trial."""

    number: int
    arm: Arm
    fingerprint: str
    state: str
    """`complete`, `pruned` (stopped by the early metric) or `dropped` (before training)."""
    reason: str
    score: float | None
    """Mean ndcg@10 on the validation slice."""
    seconds: float
    curve: Mapping[int, float] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def to_plain(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "number": self.number,
            "name": self.arm.name,
            "state": self.state,
            "reason": self.reason,
            METRIC: self.score,
            "seconds": round(self.seconds, 2),
            "curve": {str(epoch): value for epoch, value in self.curve.items()},
            "parameters": dict(self.parameters),
            "policy": self.arm.policy.to_plain(),
            "augment": self.arm.fusion.model_dump(mode="json", exclude={"policy"}),
            "counts": {kind: dict(counts) for kind, counts in self.counts.items()},
        }


class Exploration:
    """The study of cheap trials: opened anew or found again.

    Args:
        path: The database.
        bench: The dataset.
        space: What a trial is.
        seed: Of the proposals and of the trainings.
    """

    def __init__(self, path: Path, bench: Bench, space: Space, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.bench, self.space, self.seed = bench, space, seed
        self.proxy = Proxy.of(bench)
        self._study = optuna.create_study(
            storage=open_storage(path), study_name=_STUDY, direction="maximize", load_if_exists=True
        )
        known = self._study.get_trials(deepcopy=False)
        # The sampler's state is not stored: keyed by what is known, it does not propose the same again.
        self._study.sampler = optuna.samplers.TPESampler(
            seed=derive(seed, "search", "sampler", len(known)) % 2**32
        )
        self._study.pruner = optuna.pruners.PercentilePruner(
            _KEPT, n_startup_trials=_STARTUP, n_warmup_steps=2
        )
        if not known:
            for parameters in space.starts.values():
                self._study.enqueue_trial(parameters)

    def go(self, ledger: Ledger, most: int | None, reserve: Callable[[], float]) -> None:
        """Try policies until so many trials are done, or until what is left is needed for the finalists.

        Args:
            ledger: What may be spent.
            most: Trials in all, `off` among them; None leaves it to the budget.
            reserve: Seconds that the finalists need, as estimated by now; a trial that could run into them
                is not begun.
        """
        while (most is None or self._done() < most) and ledger.left > self._longest() + reserve():
            self._try(ledger)
            ledger.note(now=True)

    def trials(self) -> list[Trial]:
        """All trials that are over, in order."""
        rows = self._study.get_trials(deepcopy=False)
        return [_read(row) for row in rows if row.state.is_finished()]

    def _longest(self) -> float:
        """Seconds of the longest cheap training so far, 0 before the first."""
        return max((trial.seconds for trial in self.trials() if trial.state != "dropped"), default=0.0)

    def _done(self) -> int:
        return sum(row.state.is_finished() for row in self._study.get_trials(deepcopy=False))

    def _next(self) -> tuple[optuna.Trial, frozenset[int]]:
        """The trial that was running when the search was stopped, else a new one; and its reported epochs."""
        for row in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            return optuna.Trial(self._study, row._trial_id), frozenset(row.intermediate_values)
        return self._study.ask(), frozenset()

    def _try(self, ledger: Ledger) -> None:
        started = ledger.spent
        trial, reported = self._next()
        arm = self.space.arm(trial, _name(trial.number))
        mark = fingerprint(arm)
        plain = {"policy": arm.policy.to_plain(), "fusion": arm.fusion.model_dump(mode="json")}
        trial.set_user_attr("arm", plain)
        trial.set_user_attr("fingerprint", mark)
        reason, counts = self._obstacle(arm, mark)
        if counts:
            trial.set_user_attr("counts", counts)
        state, score = TrialState.PRUNED, None
        if reason is None:
            watch = Watch(trial, ledger, reported)
            done = self.bench.run(
                arm,
                self.seed,
                when="validation",
                epochs=self.proxy.epochs,
                share=self.proxy.share,
                on_epoch=watch,
            )
            if watch.spent:
                return  # it stays as it is, and is trained again when there are more minutes
            trial.set_user_attr("trained", True)
            reason = "falls behind early" if done.stopped else ""
            if not done.stopped:
                state, score = TrialState.COMPLETE, done.mean(METRIC)
        trial.set_user_attr("reason", reason)
        trial.set_user_attr("seconds", round(ledger.spent - started, 2))
        self._study.tell(trial.number, score, state=state)
        logger.info(
            "cheap trial %s: %s; %.1f of %.1f minutes are spent",
            arm.name, f"{METRIC} {score:.4f}" if score is not None else reason,
            ledger.spent / 60, ledger.budget / 60,
        )  # fmt: skip

    def _obstacle(self, arm: Arm, mark: str) -> tuple[str | None, dict[str, dict[str, int]]]:
        """Why a policy is not trained, None where it is; and what it made of the sample."""
        for other in self.trials():
            if other.fingerprint == mark:
                return f"the same as {other.arm.name}", {}
        if mark == OFF or arm.policy.representation.ops:
            return None, {}
        counts = self.bench.counts(arm)
        accepted = sum(table.get("accepted", 0) for table in counts.values())
        refused = {
            name.removeprefix("rejected:"): n
            for table in counts.values()
            for name, n in table.items()
            if name.startswith("rejected:") and name != "rejected:over_max_expansion"
        }
        if accepted == 0 and not refused:
            return "changes nothing", counts
        if accepted == 0 or sum(refused.values()) > MOST_REFUSED * (accepted + sum(refused.values())):
            most = max(refused, key=lambda name: refused[name])
            return f"gates refuse {sum(refused.values()):,} of its rows, most for {most}", counts
        return None, counts


def open_storage(path: Path) -> optuna.storages.RDBStorage:
    """The database of a search, made where it is not there."""
    return optuna.storages.RDBStorage("sqlite://", engine_kwargs={"creator": partial(_connect, path)})


def _connect(path: Path) -> sqlite3.Connection:
    """A database that survives a kill, without waiting for the disk at every value that is noted."""
    connection = sqlite3.connect(path, timeout=60, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection


class Watch:
    """Tells the study of each epoch, and ends a training that falls behind or has no time left."""

    def __init__(self, trial: optuna.Trial, ledger: Ledger, reported: frozenset[int]) -> None:
        self._trial, self._ledger, self._reported = trial, ledger, reported
        self.spent = False
        """Whether the budget ended it."""

    def __call__(self, epoch: int, figure: float) -> bool:
        """Whether the training is to end."""
        self._ledger.note()
        if epoch not in self._reported:
            self._trial.report(figure, epoch)
        self.spent = self._ledger.left <= 0
        return self.spent or self._trial.should_prune()


def _read(row: FrozenTrial) -> Trial:
    said = row.user_attrs
    complete = row.state == TrialState.COMPLETE
    return Trial(
        number=row.number,
        arm=_arm(row.number, said["arm"]),
        fingerprint=said["fingerprint"],
        state="complete" if complete else "pruned" if said.get("trained") else "dropped",
        reason=said["reason"],
        score=row.value if complete else None,
        seconds=said["seconds"],
        curve=dict(row.intermediate_values),
        parameters=dict(row.params),
        counts=said.get("counts", {}),
    )


def _arm(number: int, plain: Mapping[str, Any]) -> Arm:
    return Arm(_name(number), policy_from_plain(plain["policy"], "trial"), AugmentConfig(**plain["fusion"]))


def _name(number: int) -> str:
    return OFF if number == 0 else f"trial-{number}"
