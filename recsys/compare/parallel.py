"""Trainings by several processes: each holds the dataset for itself and writes the outcomes that it finishes.

The processes are started afresh and not forked, since a forked one can use neither CUDA nor the threads that
its parent has started. On a machine with a GPU they share it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys.arms import Trials
from recsys.compare.misspelled import Misspelled
from recsys.compare.outcomes import Outcomes
from recsys.compare.trainings import Depth, DepthOf, Turn
from recsys.config import Config
from recsys.errors import RecsysError
from recsys.evaluate.evaluate import Task
from recsys.progress import silent

_POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""What libraries take their number of threads from while they are loaded."""
_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Work:
    """What a process trains with; all of it can be sent to another process."""

    data: Path
    folder: Path
    """Where the dataset lies prepared."""
    config: Config
    depth_of: DepthOf
    task: Task
    outcomes: Outcomes


def train_in_parallel(
    work: Work, turns: Sequence[Turn], parts: Sequence[Sequence[Turn]], workers: int
) -> Iterator[Turn]:
    """Train and keep every one, and give each once it is kept, whatever their order.

    Args:
        work: The dataset and how far trainings go.
        turns: Distinct trainings that are not kept yet.
        parts: The same, as one process had better do them together.
        workers: Processes.

    Raises:
        RecsysError: a training failed, or a process was ended from outside; what was kept stays.
    """
    context = multiprocessing.get_context("spawn")
    workers = min(workers, len(parts))
    with _threads(max(1, cores() // workers)):
        begin = (context.Value("i", 0), work)
        pool = ProcessPoolExecutor(workers, context, _begin, begin)
        try:
            futures = [pool.submit(_train, part) for part in parts]
            yield from _as_kept(futures, turns, work.outcomes)
        except BrokenProcessPool as error:
            raise RecsysError(
                f"one of {workers} processes was ended from outside, perhaps for want of memory. What was "
                "finished is kept: the same command goes on, and fewer --workers need less"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def parts_for(turns: Sequence[Turn], depth: Depth, workers: int) -> list[list[Turn]]:
    """Trainings dealt out so that those which share something are together, and every process has work."""
    groups: dict[str, list[Turn]] = defaultdict(list)
    for turn in turns:
        groups[depth.shared_by(turn) or turn.key].append(turn)
    pieces = max(1, workers // len(groups)) if groups else 1
    return [part for group in groups.values() for i in range(pieces) if (part := group[i::pieces])]


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _as_kept(futures: list[Future[None]], turns: Sequence[Turn], outcomes: Outcomes) -> Iterator[Turn]:
    awaited = {turn.key: turn for turn in turns}
    running = set(futures)
    while running:
        done, running = wait(running, timeout=_LOOK_SECONDS, return_when="FIRST_EXCEPTION")
        for future in done:
            future.result()
        for key in [key for key in awaited if outcomes.has(key)]:
            yield awaited.pop(key)


@contextlib.contextmanager
def _threads(number: int) -> Iterator[None]:
    """Processes that are started meanwhile load their libraries with so many threads."""
    before = {name: os.environ.get(name) for name in _POOLS}
    os.environ.update(dict.fromkeys(_POOLS, str(number)))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


_mine: dict[str, Any] = {}
"""Of this process: its number and its work, and its depth once it has trained."""


def _begin(started: Any, work: Work) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with started.get_lock():
        started.value += 1
        _mine.update(number=started.value, work=work)


def _end_with_parent() -> None:
    """Whoever kills the command means its processes too: left alone they would train on, unseen."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _train(turns: Sequence[Turn]) -> None:
    work: Work = _mine["work"]
    with silent():
        if "depth" not in _mine:  # not in `_begin`: an error would be taken for a death
            trials = Trials.prepare(work.data, work.folder, work.config, worker=int(_mine["number"]))
            _mine["depth"] = work.depth_of(trials, Misspelled(trials), work.task)
        depth: Depth = _mine["depth"]
        for turn in turns:
            work.outcomes.keep(turn.key, depth.outcome(turn.contender, turn.seed, turn.epochs, turn.share))
