"""Trainings in several processes: the same outcomes, whoever trained; who dies or fails is told of."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from whole_run import Made

from recsys.arms import Arm, Trials
from recsys.compare.contenders import Contender
from recsys.compare.misspelled import Misspelled
from recsys.compare.outcomes import Kept, Outcomes
from recsys.compare.parallel import Work, cores, parts_for, train_in_parallel
from recsys.compare.trainings import Chosen, TowersAlone, Trainings, Turn
from recsys.errors import InputError, RecsysError
from recsys.evaluate.evaluate import Task


@dataclass(frozen=True)
class Depth:
    """Keeps what it was asked for; arms by some names have their process killed, or fail."""

    trials: Trials
    misspelled: Misspelled
    task: Task = "novel"
    name: str = "none"
    price: float = 1.0
    on_top: str = ""

    def outcome(self, contender: Contender, seed: int, epochs: int, share: float) -> Kept:
        if contender.name == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if contender.name == "fails":
            raise InputError("cannot be read", file="items.parquet", column="title", count=3)
        about = {"process": os.getpid(), "scratch": str(self.trials.scratch), "seed": seed}
        return Kept(np.zeros((1, 2), np.int64), about)

    def shared_by(self, turn: Turn) -> str:
        return ""


def turns_of(*names: str, seeds: int = 1) -> list[Turn]:
    return [
        Turn(Contender(Arm(name, Arm.of("off").policy)), seed, 1.0, 1, f"{name}-{seed}")
        for name in names
        for seed in range(seeds)
    ]


@pytest.fixture(scope="module")
def work(made: Made, prepared: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Work:
    folder = tmp_path_factory.mktemp("parallel")
    outcomes = Outcomes(folder / "outcomes", {})
    return Work(made.data, prepared(folder / "work"), made.plain, Depth, "novel", outcomes)


def finished(work: Work, turns: Sequence[Turn]) -> list[str]:
    return [turn.key for turn in train_in_parallel(work, turns, [[turn] for turn in turns], 2)]


def test_every_training_is_given_once_it_is_kept(work: Work) -> None:
    turns = turns_of("a", "b", seeds=3)
    assert sorted(finished(work, turns)) == sorted(turn.key for turn in turns)
    about = [work.outcomes.load(turn.key).about for turn in turns]
    assert [one["seed"] for one in about] == [0, 1, 2, 0, 1, 2]
    assert os.getpid() not in {one["process"] for one in about}
    scratch = {one["process"]: Path(one["scratch"]).name for one in about}
    assert len(set(scratch.values())) == len(scratch), "each process has a folder of its own"
    assert set(scratch.values()) <= {"worker-1", "worker-2"}


def test_a_process_that_dies_is_told_of_and_costs_its_training_alone(work: Work) -> None:
    with pytest.raises(RecsysError, match=r"ended from outside.*fewer --workers"):
        finished(work, turns_of("before", "dies"))
    assert not work.outcomes.has("dies-0")
    assert finished(work, turns_of("after")) == ["after-0"]


def test_an_error_comes_back_as_it_was(work: Work) -> None:
    with pytest.raises(
        InputError, match=r"items.parquet, column 'title': cannot be read \(3 rows\)"
    ) as caught:
        finished(work, turns_of("fails"))
    assert caught.value.count == 3


LINGERS = """
import os, pathlib, sys, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from recsys.compare.parallel import _begin


def linger(path):
    pathlib.Path(path).write_text(str(os.getpid()))
    time.sleep(100)


if __name__ == "__main__":
    context = get_context("spawn")
    pool = ProcessPoolExecutor(1, context, _begin, (context.Value("i", 0), None))
    pool.submit(linger, sys.argv[1]).result()
"""


@pytest.mark.slow
def test_processes_end_with_the_command_that_was_killed(tmp_path: Path) -> None:
    script, said = tmp_path / "lingers.py", tmp_path / "pid"
    script.write_text(LINGERS)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen([sys.executable, str(script), str(said)], env=environment) as command:
        wait_for(lambda: said.exists() and said.read_text() != "")
        command.kill()
    wait_for(lambda: not runs(int(said.read_text())))


def wait_for(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def runs(process: int) -> bool:
    """Whether it is there, and not only waiting for somebody to ask how it ended."""
    said = Path(f"/proc/{process}/stat")
    try:
        os.kill(process, 0)
        return not said.exists() or said.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_threads_are_limited_for_trainings_of_any_kind(work: Work) -> None:
    before = torch.get_num_threads()
    run = work.config.run.model_copy(update={"threads": before + 1})
    try:
        limited = work.config.model_copy(update={"run": run})
        Trials.prepare(work.data, work.folder, limited)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
def test_towers_are_the_same_whoever_trained_them(work: Work, tmp_path: Path) -> None:
    """As many threads on either side: sums of floats depend on how they are split."""
    turns = turns_of("off", seeds=2)
    elsewhere = Work(
        work.data, work.folder, work.config, TowersAlone, "novel", Outcomes(tmp_path / "outcomes", {})
    )
    assert len(list(train_in_parallel(elsewhere, turns, [[turn] for turn in turns], cores()))) == 2
    trials = Trials.prepare(work.data, work.folder, work.config)
    here = TowersAlone(trials, Misspelled(trials))
    for turn in turns:
        mine = here.outcome(turn.contender, turn.seed, turn.epochs, turn.share)
        theirs = elsewhere.outcomes.load(turn.key)
        assert theirs.about["steps"] == mine.about["steps"]
        np.testing.assert_allclose(theirs.about["losses"], mine.about["losses"], rtol=1e-5)
        assert (theirs.lists == mine.lists).mean() > 0.95


@dataclass(frozen=True)
class Sharing(Depth):
    """Trainings of one seed share something."""

    def shared_by(self, turn: Turn) -> str:
        return f"seed {turn.seed}"


@pytest.mark.parametrize(
    ("workers", "sizes"), [(1, [4, 4]), (2, [4, 4]), (4, [2, 2, 2, 2]), (5, [2, 2, 2, 2]), (16, [1] * 8)]
)
def test_what_is_shared_stays_together_while_every_process_has_work(workers: int, sizes: list[int]) -> None:
    turns = turns_of("a", "b", "c", "d", seeds=2)
    parts = parts_for(turns, Sharing(None, None), workers)  # type: ignore[arg-type]
    assert [len(part) for part in parts] == sizes
    assert sorted(turn.key for part in parts for turn in part) == sorted(turn.key for turn in turns)
    assert all(len({turn.seed for turn in part}) == 1 for part in parts)


@pytest.mark.parametrize(("depth", "price"), [(Depth, "80 minutes"), (Sharing, "20 minutes")])
def test_what_is_shared_is_counted_once_in_what_is_to_come(
    depth: type[Depth], price: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainings, "chosen", lambda self, share: Chosen(1, (0.1,), 600.0))
    said: list[str] = []
    trainings = Trainings(
        None,
        depth(None, None),
        Outcomes(tmp_path, {}),
        said.append,
        elsewhere=iter,  # type: ignore[arg-type]
    )
    trainings.walk(turns_of("a", "b", "c", "d", seeds=2))
    assert f"At least {price} to come" in said[0]


def test_nothing_to_train_has_no_parts() -> None:
    assert parts_for([], Sharing(None, None), 4) == []  # type: ignore[arg-type]
