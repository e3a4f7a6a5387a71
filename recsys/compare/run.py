"""A comparison over a dataset on disk: prepared once, trained arm by arm, judged on the newest slice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from recsys import __version__
from recsys.arms import Trials
from recsys.artifacts import alone
from recsys.compare.contenders import Contender, Entered
from recsys.compare.misspelled import Misspelled
from recsys.compare.outcomes import Kept, Outcomes
from recsys.compare.parallel import Work, parts_for, train_in_parallel
from recsys.compare.trainings import NEW_ITEMS, RANKS, Depth, DepthOf, Trainings, Turn, refuse_unequal_steps
from recsys.config import Config
from recsys.errors import InputError
from recsys.evaluate.contrast import Finding, Part, contrast, parts_of
from recsys.evaluate.evaluate import WHOLE, Evaluation, Task
from recsys.evaluate.planned import DECIDES, PLANNED, among_new, planned_segments

WORK, OUTCOMES = "work", "outcomes"


@dataclass(frozen=True)
class Order:
    """How much is asked for."""

    seeds: int = 5
    shares: tuple[float, ...] = ()
    """Parts of the data to compare on, beside the whole of it."""
    task: Task = "novel"
    drop_idle: bool = False
    """Leave out an arm that changes no list and no query with the first seed, and train it with no other."""


@dataclass(frozen=True)
class Compared:
    """What a comparison came to."""

    entered: Entered
    order: Order
    depth: str
    findings: list[Finding]
    parts: Mapping[str, Sequence[Part]]
    """By arm, those of the whole data first."""
    epochs: Mapping[float, int]
    """By share."""
    steps: Mapping[float, int]
    losses: Mapping[str, Sequence[Sequence[float]]]
    """Training losses by arm, seed and epoch, on the whole data."""
    curve: Sequence[float]
    """ndcg@10 of `off` on the validation slice by epoch: what chose the number of epochs."""
    counts: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)
    """What augmentation did, by arm, with the first seed."""
    seconds: float = 0.0
    """Of all trainings."""

    @property
    def num_users(self) -> int:
        """Users that were judged."""
        return len(self.parts[self.entered.reference.name][0].users)


def run_compare(
    data: Path,
    out: Path,
    entered: Entered,
    order: Order,
    depth_of: DepthOf,
    say: Callable[[str], None],
    *,
    equal_steps: bool = True,
    workers: int = 1,
) -> Compared:
    """Train all contenders with all seeds, or find that done, and judge them.

    Args:
        data: As for `recsys run`.
        out: Folder of this comparison; what is prepared goes into `work` there, trainings into `outcomes`.
        entered: Who takes part, and the shared configuration.
        order: How much is asked for.
        depth_of: How far trainings go.
        say: Told, in lines, what the user should know meanwhile.
        equal_steps: Refuse arms that took different numbers of optimiser steps.
        workers: Processes that train side by side.

    Raises:
        RecsysError: bad data or settings, or a folder in which another process writes.
    """
    if out.exists() and not out.is_dir():
        raise InputError("is a file, not a folder to write into", file=str(out))
    with alone(out):
        plain = _plain(entered.config)
        trials = Trials.prepare(data, out / WORK, plain)
        misspelled = Misspelled(trials)
        depth = depth_of(trials, misspelled, order.task)
        digests = repr(sorted(trials.shop.dataset.digests.items()))
        shared = {
            "data": hashlib.sha256(digests.encode()).hexdigest(),
            "configuration": plain.digest(),
            "version": __version__,
        }
        for half in (out / OUTCOMES).glob(".*"):  # what a kill left
            half.unlink()
        outcomes = Outcomes(out / OUTCOMES, shared)
        work = Work(data, out / WORK, plain, depth_of, order.task, outcomes)

        def elsewhere(turns: Sequence[Turn]) -> Iterator[Turn]:
            return train_in_parallel(work, turns, parts_for(turns, depth, workers), workers)

        trainings = Trainings(trials, depth, outcomes, say, workers, elsewhere if workers > 1 else None)
        if order.drop_idle:
            entered = _without_idle(entered, trainings, say)
        turns = trainings.turns(entered.contenders, range(order.seeds), (1.0, *order.shares))
        trainings.walk(turns)
        return _judged(trials, entered, order, depth, trainings, turns, misspelled, equal_steps)


def _without_idle(entered: Entered, trainings: Trainings, say: Callable[[str], None]) -> Entered:
    """The contenders that change a list or how a query is read with the first seed, and the placebos."""
    turns = trainings.turns(entered.contenders, [0], (1.0,))
    trainings.walk(turns)
    first = trainings.kept(turns[0])
    idle = [
        turn.contender
        for turn in turns[1:]
        if not turn.contender.is_placebo and _shows_the_same(trainings.kept(turn), first)
    ]
    if idle:
        names = ", ".join(one.name for one in idle)
        say(f"nothing changes with {names}: the same as {entered.reference.name}, and left out")
    kept = tuple(one for one in entered.contenders if one not in idle)
    if not any(not one.is_placebo for one in kept[1:]):
        raise InputError(
            "nothing that was tried changes a list or how a query is read",
            hint="There is nothing to compare here",
        )
    return Entered(entered.config, kept)


def _shows_the_same(one: Kept, other: Kept) -> bool:
    return np.array_equal(one.lists, other.lists) and bool(one.about[RANKS] == other.about[RANKS])


def _plain(config: Config) -> Config:
    """The configuration with what arms and seeds set at its defaults, so that all of them share the rest."""
    run = config.run.model_copy(update={"seed": 0})
    return config.model_copy(update={"augment": type(config.augment)(), "run": run})


def _judged(
    trials: Trials,
    entered: Entered,
    order: Order,
    depth: Depth,
    trainings: Trainings,
    turns: Sequence[Turn],
    misspelled: Misspelled,
    equal_steps: bool,
) -> Compared:
    kept = [trainings.kept(turn) for turn in turns]
    steps = refuse_unequal_steps(turns, kept) if equal_steps else {}
    by_arm = {one.name: _of(one, turns, kept) for one in entered.contenders}
    parts = {
        name: [part for share in (1.0, *order.shares) for part in _parts(trials, found, share, order)]
        for name, found in by_arm.items()
    }
    ranks = {name: [one.about[RANKS] for t, one in found if t.share >= 1] for name, found in by_arm.items()}
    if any(one != ranks[entered.reference.name] for one in ranks.values()):  # else nothing touches the towers
        for name, by_seed in ranks.items():
            parts[name] += misspelled.parts(by_seed)
    whole = {name: [one for turn, one in found if turn.share >= 1] for name, found in by_arm.items()}
    return Compared(
        entered, order, depth.name,
        contrast(parts, entered.reference.name, entered.placebos),
        parts,
        {share: trainings.epochs(share) for share in (1.0, *order.shares)},
        steps,
        {name: [one.about["losses"] for one in found] for name, found in whole.items()},
        trainings.chosen(1.0).curve,
        {name: found[0].about["counts"] for name, found in whole.items()},
        _seconds(turns, kept),
    )  # fmt: skip


def _of(one: Contender, turns: Sequence[Turn], kept: Sequence[Kept]) -> list[tuple[Turn, Kept]]:
    return [(turn, done) for turn, done in zip(turns, kept, strict=True) if turn.contender is one]


def _parts(
    trials: Trials,
    found: Sequence[tuple[Turn, Kept]],
    share: float,
    order: Order,
) -> list[Part]:
    """The parts of an arm's lists; of a part of the data, the whole alone."""
    segments = planned_segments(trials.sheet("report"), trials.thin) if share >= 1 else ()
    evaluations: list[Evaluation] = [
        trials.evaluate(kept.lists, "report", turn.contender.name, order.task, segments)
        for turn, kept in found
        if turn.share == share
    ]
    parts = parts_of(evaluations, PLANNED, DECIDES)
    if share >= 1:
        return [*parts, *_among_new(trials, found, order)]
    whole = next(part for part in parts if part.dimension == WHOLE)
    return [Part("data", f"{share:.0%}", whole.decides, whole.users, whole.figures)]


def _among_new(trials: Trials, found: Sequence[tuple[Turn, Kept]], order: Order) -> list[Part]:
    """The part in which new items are ranked among themselves, where trainings left such lists."""
    sheet = trials.sheet("report")
    evaluations = [
        trials.evaluate(kept.others[NEW_ITEMS], "report", turn.contender.name, order.task, [among_new(sheet)])
        for turn, kept in found
        if turn.share >= 1 and NEW_ITEMS in kept.others
    ]
    return parts_of(evaluations, PLANNED, DECIDES)[1:] if evaluations else []


def _seconds(turns: Sequence[Turn], kept: Sequence[Kept]) -> float:
    """Of every training once, however many arms it stands for."""
    distinct = {turn.key: one for turn, one in zip(turns, kept, strict=True)}
    return float(sum(sum(one.about["seconds"].values()) for one in distinct.values()))
