"""Every contender with every seed: trained for equal steps, kept on disk, with the time it will take."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from recsys.arms import Arm, Outcome, Trials
from recsys.compare.contenders import Contender
from recsys.compare.misspelled import Misspelled, Ranks
from recsys.compare.outcomes import Kept, Outcomes
from recsys.config import with_settings
from recsys.errors import RecsysError
from recsys.evaluate.evaluate import Task
from recsys.model.fitted import TowersFit
from recsys.progress import Progress
from recsys.search.bench import no_better_for
from recsys.types import Rows

logger = logging.getLogger(__name__)

RANKS = "ranks"
"""What a training notes of the misspelled queries."""
NEW_ITEMS = "new items"
"""Lists of the items without an event before the cut alone."""


@dataclass(frozen=True)
class Depth(ABC):
    """How far a training goes: the towers alone, over which encoder, or the whole recommendation path."""

    trials: Trials
    misspelled: Misspelled
    task: Task = "novel"

    kind: ClassVar[str]
    """What a comparison is said to have gone to."""
    price: ClassVar[float]
    """What one training costs, in trainings of the towers alone."""
    on_top: ClassVar[str] = ""
    """What the price leaves out, in words."""
    after_towers: ClassVar[tuple[str, ...]] = ()
    """Sections that the towers do not read: arms that differ in them alone share what is fitted before."""

    @property
    def name(self) -> str:
        """Part of an outcome's identity."""
        return f"{self.kind} {self.task}"

    @abstractmethod
    def outcome(self, contender: Contender, seed: int, epochs: int, share: float) -> Kept:
        """Train once and rank for the users of the newest slice."""

    def towers_of(self, contender: Contender, seed: int, epochs: int, share: float) -> str:
        """The digest of all that the towers of a training depend on."""
        config = with_settings(self.trials.config, contender.changes)
        sections = config.model_dump(mode="json", exclude={*self.after_towers, "augment", "run"})
        what = json.dumps([contender.identity, seed, epochs, share, sections], sort_keys=True)
        return hashlib.sha256(what.encode()).hexdigest()[:16]

    def shared_by(self, turn: Turn) -> str:
        """Equal for trainings that cost less one after another in one process; empty: nothing is shared."""
        if not self.after_towers:
            return ""
        return self.towers_of(turn.contender, turn.seed, turn.epochs, turn.share)


DepthOf = Callable[[Trials, Misspelled, Task], Depth]


def new_items(trials: Trials, towers: TowersFit, task: Task) -> Rows:
    """(users, 20) the items that nobody had before the newest slice, ranked among themselves.

    Among all items they stand behind what sells, where lists of the towers alone say nothing of them; whole
    lists keep places for the first of them.
    """
    new = trials.sheet("report").item_counts == 0
    return trials.lists(towers, "report", task, among=new)[:, :20]


def kept_of(depth: Depth, done: Outcome, ranks: Ranks) -> Kept:
    """What a training of the towers leaves.

    Args:
        depth: How far it went.
        done: Its outcome.
        ranks: Of the misspelled queries.
    """
    assert done.towers is not None
    about = {
        "losses": list(done.losses), "steps": done.steps, "epochs": done.epochs,
        "counts": done.counts, "seconds": done.seconds, RANKS: ranks,
    }  # fmt: skip
    return Kept(done.lists, about, {NEW_ITEMS: new_items(depth.trials, done.towers, depth.task)})


class TowersAlone(Depth):
    """Lists from the two towers: what retrieval by vectors alone would show."""

    kind = "towers"
    price = 1.0

    def outcome(self, contender: Contender, seed: int, epochs: int, share: float) -> Kept:
        """Train once and rank for the users of the newest slice."""
        config = with_settings(self.trials.config, contender.changes)
        done = self.trials.run(
            contender.arm, seed, when="report", epochs=epochs, share=share, config=config, task=self.task
        )
        assert done.towers is not None
        return kept_of(self, done, self.misspelled.ranks(done.towers.item_vectors()))


@dataclass(frozen=True, slots=True)
class Chosen:
    """How long every arm trains."""

    epochs: int
    curve: tuple[float, ...]
    """ndcg@10 of `off` on the validation slice, by epoch."""
    seconds: float
    """What that took."""

    @property
    def per_epoch(self) -> float:
        """Seconds."""
        return self.seconds / max(len(self.curve), 1)


@dataclass(frozen=True, slots=True)
class Turn:
    """One training that is wanted."""

    contender: Contender
    seed: int
    share: float
    epochs: int
    key: str


class Trainings:
    """The trainings of a comparison.

    Args:
        trials: The dataset.
        depth: How far each goes.
        outcomes: Where they are kept.
        say: Told, in a line, what the user should know meanwhile.
        workers: Processes that share them out; with one, this process trains.
        elsewhere: Trains in other processes, and gives each training once it is kept.
    """

    def __init__(
        self,
        trials: Trials,
        depth: Depth,
        outcomes: Outcomes,
        say: Callable[[str], None],
        workers: int = 1,
        elsewhere: Callable[[Sequence[Turn]], Iterator[Turn]] | None = None,
    ) -> None:
        self._trials, self._depth, self._outcomes, self._say = trials, depth, outcomes, say
        self._workers, self._elsewhere = workers, elsewhere

    def epochs(self, share: float) -> int:
        """How many epochs `off` needs on the validation slice: what every arm is given."""
        return self.chosen(share).epochs

    def chosen(self, share: float) -> Chosen:
        """How many epochs, and what chose them; found once."""
        name = "epochs-" + self._outcomes.key(share=share, what="epochs of off")
        known = self._outcomes.noted(name)
        if known is None:
            part = "" if share >= 1 else f" on {share:.0%} of the users"
            self._say(f"choosing the number of epochs: off is trained on the validation slice{part}")
            started = time.monotonic()
            stop = no_better_for(self._trials.config.train.patience)
            curve = self._trials.run(Arm.of("off"), 0, share=share, on_epoch=stop).curve
            seconds = round(time.monotonic() - started, 2)
            known = {"epochs": int(np.argmax(curve)) + 1, "curve": list(curve), "seconds": seconds}
            self._outcomes.note(name, known)
        return Chosen(known["epochs"], tuple(known["curve"]), known["seconds"])

    def turns(
        self, contenders: Sequence[Contender], seeds: Sequence[int], shares: Sequence[float]
    ) -> list[Turn]:
        """All trainings, seed by seed, so that a comparison that was stopped has whole seeds."""
        return [
            Turn(one, seed, share, self.epochs(share), self._key(one, seed, share))
            for share in shares for seed in seeds for one in contenders
        ]  # fmt: skip

    def walk(self, turns: Sequence[Turn]) -> None:
        """Train what is not there yet; says beforehand what it will cost."""
        keys = list(dict.fromkeys(turn.key for turn in turns))
        missing = [key for key in keys if not self._outcomes.has(key)]
        by_key = {turn.key: turn for turn in reversed(turns)}
        self._announce(len(keys), [by_key[key] for key in missing])
        started = time.monotonic()
        with Progress(
            len(keys), "trainings", "trainings", done=len(keys) - len(missing), enabled=sys.stderr.isatty()
        ) as bar:
            for number, turn in enumerate(self._trained([by_key[key] for key in missing]), start=1):
                spent = (time.monotonic() - started) / number
                if number == self._workers and len(missing) > number:
                    rest, first = duration(spent * (len(missing) - number)), duration(spent * number)
                    which = "the first" if number == 1 else f"the first {number}"
                    self._say(f"{which} took {first}: about {rest} to come")
                left = spent * (len(missing) - number)
                done = len(keys) - len(missing) + number
                share = "" if turn.share >= 1 else f", {turn.share:.0%} of the users"
                logger.info(
                    "%d of %d: %s, seed %d%s; one every %.0f s, %s left",
                    done, len(keys), turn.contender.name, turn.seed, share, spent, duration(left),
                )  # fmt: skip
                bar.advance(1, f"{duration(left)} left")

    def _trained(self, turns: Sequence[Turn]) -> Iterator[Turn]:
        if self._elsewhere is not None and len(turns) > 1:
            yield from self._elsewhere(turns)
            return
        for turn in turns:
            kept = self._depth.outcome(turn.contender, turn.seed, turn.epochs, turn.share)
            self._outcomes.keep(turn.key, kept)
            yield turn

    def kept(self, turn: Turn) -> Kept:
        """The outcome of a training."""
        return self._outcomes.load(turn.key)

    def _announce(self, total: int, missing: Sequence[Turn]) -> None:
        found = total - len(missing)
        known = f"; {found} were finished before" if found else ""
        if not missing:
            self._say(f"all {total} trainings were finished before")
            return
        fits = {self._depth.shared_by(turn) or turn.key: turn for turn in missing}.values()
        price = self._depth.price * sum(turn.epochs * self.chosen(turn.share).per_epoch for turn in fits)
        price /= min(self._workers, len(fits))
        self._say(
            f"{total} trainings of {self.epochs(missing[0].share)} epochs each{known}. "
            f"At least {duration(price)} to come, judged by how long off took{self._depth.on_top}"
        )

    def _key(self, one: Contender, seed: int, share: float) -> str:
        return self._outcomes.key(
            trained=one.identity, changes=sorted(one.changes.items()), unseen=one.unseen, seed=seed,
            share=share, epochs=self.epochs(share), depth=self._depth.name,
        )  # fmt: skip


def refuse_unequal_steps(turns: Sequence[Turn], kept: Sequence[Kept]) -> dict[float, int]:
    """Optimiser steps by share, which all arms must have in common.

    Raises:
        RecsysError: one arm took more than another.
    """
    steps: dict[float, dict[int, str]] = {}
    for turn, one in zip(turns, kept, strict=True):
        steps.setdefault(turn.share, {})[int(one.about["steps"])] = turn.contender.name
    for taken in steps.values():
        if len(taken) > 1:
            (more, one_arm), (fewer, other) = sorted(taken.items(), reverse=True)[:2]
            raise RecsysError(
                f"{one_arm} took {more:,} optimiser steps and {other} {fewer:,}: such arms cannot be "
                "compared. This is a fault of the program; please report it with the policy"
            )
    return {share: next(iter(found)) for share, found in steps.items()}


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
