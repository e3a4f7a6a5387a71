"""One stage's trials: proposed by Optuna, stopped early, kept in a database that survives a kill."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from recsys.randomness import derive
from recsys.search.explore import METRIC, Watch, open_storage
from recsys.search.ledger import Ledger
from recsys.tune.space import Knob, Values

logger = logging.getLogger(__name__)

_STARTUP = 5
_KEPT = 50.0
"""Percentage of trials that an early figure may not stop."""
_IMPORTANT = 8
"""Finished trials before anything is said of the importance of settings."""

OnEpoch = Callable[[int, float], bool]


@dataclass(frozen=True)
class Judged:
    """What a trial came to."""

    score: float
    stopped: bool = False
    """Ended early: the score is not that of a whole trial."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """What a user of the result has to know, for example the epochs that were best."""


@dataclass(frozen=True)
class Trial:
    """A trial that is over."""

    number: int
    values: Values
    state: str
    """`complete` or `stopped`."""
    score: float | None
    seconds: float
    notes: Mapping[str, Any]
    curve: Mapping[int, float]

    def to_plain(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "number": self.number,
            "state": self.state,
            METRIC: self.score,
            "seconds": round(self.seconds, 2),
            "values": dict(self.values),
            "notes": dict(self.notes),
            "curve": {str(step): value for step, value in self.curve.items()},
        }


class Study:
    """The trials of one stage; trial 0 has the settings that were given.

    Args:
        path: The database.
        name: Of the stage, within it.
        knobs: What is searched.
        given: The first trial's values.
        seed: Of the proposals.
    """

    def __init__(self, path: Path, name: str, knobs: Sequence[Knob], given: Values, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._knobs, self.name = tuple(knobs), name
        self._study = optuna.create_study(
            storage=open_storage(path), study_name=name, direction="maximize", load_if_exists=True
        )
        known = self._study.get_trials(deepcopy=False)
        # The sampler's state is not stored: keyed by what is known, it does not propose the same again.
        self._study.sampler = optuna.samplers.TPESampler(
            seed=derive(seed, "tune", name, len(known)) % 2**32,
        )
        self._study.pruner = optuna.pruners.PercentilePruner(
            _KEPT, n_startup_trials=_STARTUP, n_warmup_steps=2
        )
        if not known:
            self._study.enqueue_trial(dict(given))

    def go(
        self,
        judge: Callable[[Values, OnEpoch], Judged],
        ledger: Ledger,
        most: int | None,
        until: float,
    ) -> None:
        """Try settings until so many trials are over or no more than `until` seconds are left.

        Args:
            judge: Trains and judges; told each epoch's figure it learns whether to stop.
            ledger: What may be spent.
            most: Trials at most; None leaves it to the budget.
            until: Seconds to leave.
        """
        while (most is None or len(self.trials()) < most) and ledger.left > until:
            self._try(judge, ledger)
            ledger.note(now=True)

    def trials(self) -> list[Trial]:
        """All trials that are over, in order."""
        return [
            Trial(
                row.number,
                dict(row.params),
                "complete" if row.state == TrialState.COMPLETE else "stopped",
                row.value if row.state == TrialState.COMPLETE else None,
                float(row.user_attrs.get("seconds", 0.0)),
                row.user_attrs.get("notes", {}),
                dict(row.intermediate_values),
            )
            for row in self._study.get_trials(deepcopy=False)
            if row.state.is_finished()
        ]

    def ranked(self) -> list[Trial]:
        """Whole trials, the best first."""
        whole = [trial for trial in self.trials() if trial.score is not None]
        return sorted(whole, key=lambda trial: (-(trial.score or 0.0), trial.number))

    def importance(self) -> dict[str, float]:
        """How much each setting matters for being among the best, in all 1; empty with too few trials.

        PED-ANOVA (Watanabe et al., IJCAI 2023), which needs no forest to be fitted.
        """
        whole = [trial for trial in self.trials() if trial.score is not None]
        if len(whole) < _IMPORTANT or len({trial.score for trial in whole}) < 2:
            return {}
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        found = optuna.importance.get_param_importances(self._study, evaluator=evaluator)
        return {name: round(float(value), 4) for name, value in found.items()}

    def _try(self, judge: Callable[[Values, OnEpoch], Judged], ledger: Ledger) -> None:
        started = ledger.spent
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if running:  # what a kill interrupted
            trial, reported = optuna.Trial(self._study, running[0]._trial_id), running[0].intermediate_values
        else:
            trial, reported = self._study.ask(), {}
        values = {knob.setting: knob.draw(trial) for knob in self._knobs}
        same = next((t for t in self.ranked() if t.values == values), None)
        if same is not None:
            done = Judged(same.score or 0.0, notes=same.notes)
        else:
            watch = Watch(trial, ledger, frozenset(reported))
            done = judge(values, watch)
            if watch.spent:
                return  # it stays as it is, and is tried again when there are more minutes
        trial.set_user_attr("seconds", round(ledger.spent - started, 2))
        trial.set_user_attr("notes", dict(done.notes))
        state = TrialState.PRUNED if done.stopped else TrialState.COMPLETE
        self._study.tell(trial.number, None if done.stopped else done.score, state=state)
        said = "falls behind early" if done.stopped else f"{METRIC} {done.score:.4f}"
        logger.info("%s, trial %d: %s", self.name, trial.number, said)
