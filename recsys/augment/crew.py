"""Worker processes for tasks that end as files: forked, so that what the parent computed is theirs too.

A task is done or it is not; a worker that dies takes its one task with it, and nobody waits for it in vain.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any, TypeVar

from recsys.errors import RecsysError

T = TypeVar("T")
R = TypeVar("R")

_WATCH_SECONDS = 0.5
"""How often an idle worker looks whether its parent still lives."""


def run_all(tasks: Sequence[T], work: Callable[[T], R], workers: int) -> Iterator[tuple[T, R]]:
    """Do tasks in processes, and give each with its result as soon as it is done.

    Args:
        tasks: What is to be done; they are known to the workers by number.
        work: Does one; runs in a fork of this process, so it may read whatever is in memory now. Its result
            is sent back and should be small.
        workers: Processes; with one, or where processes cannot be forked, this process does the work itself.

    Raises:
        RecsysError: a task failed with one, or a worker died.
    """
    workers = min(workers, len(tasks))
    if workers <= 1 or "fork" not in multiprocessing.get_all_start_methods():
        yield from ((task, work(task)) for task in tasks)
        return
    crew: dict[Connection, ForkProcess] = {}
    gc.freeze()  # what is there now is never collected, so that workers do not copy its pages
    try:
        for _ in range(workers):
            _hire(crew, tasks, work)
        yield from _hand_out(crew, tasks)
    finally:
        gc.unfreeze()
        for connection, process in crew.items():
            connection.close()
            process.terminate()
        for process in crew.values():
            process.join()


def _hire(crew: dict[Connection, ForkProcess], tasks: Sequence[T], work: Callable[[T], R]) -> None:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    # A worker must not hold the parent's ends, or nobody would notice that the parent is gone.
    strangers = [*crew, ours]
    process = context.Process(target=_serve, args=(theirs, strangers, tasks, work, os.getpid()), daemon=True)
    process.start()
    theirs.close()
    crew[ours] = process


def _hand_out(crew: dict[Connection, ForkProcess], tasks: Sequence[T]) -> Iterator[tuple[T, Any]]:
    waiting = iter(range(len(tasks)))
    busy: dict[Connection, int] = {}

    def give(connection: Connection) -> None:
        if (number := next(waiting, None)) is not None:
            busy[connection] = number
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its end is seen below
                connection.send(number)

    for connection in crew:
        give(connection)
    while busy:
        for ready in wait(list(busy)):
            connection = next(one for one in busy if one is ready)
            number = busy.pop(connection)
            try:
                problem, result = connection.recv()
            except (EOFError, ConnectionResetError):
                raise _death(crew[connection]) from None
            if problem is not None:
                raise _failure(*problem)
            give(connection)
            yield tasks[number], result


def _serve(
    connection: Connection,
    strangers: Sequence[Connection],
    tasks: Sequence[Any],
    work: Callable[[Any], Any],
    parent: int,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told, and ends its workers
    for stranger in strangers:
        stranger.close()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone
        while True:
            while not connection.poll(_WATCH_SECONDS):
                if os.getppid() != parent:
                    return
            number = connection.recv()
            answer: tuple[tuple[int | None, str, str] | None, Any]
            try:
                answer = (None, work(tasks[number]))
            except Exception as error:  # noqa: BLE001  # whatever it is, the parent is told and raises it
                code = error.exit_code if isinstance(error, RecsysError) else None
                answer = ((code, str(error), traceback.format_exc()), None)
            connection.send(answer)


def _failure(code: int | None, message: str, trace: str) -> Exception:
    if code is None:
        return RuntimeError(f"a worker failed:\n{trace}")
    error = RecsysError(message)
    error.exit_code = code
    return error


def _death(process: ForkProcess) -> RecsysError:
    process.join(timeout=10)
    code = process.exitcode
    how = f"with status {code}"
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        how = f"by {name}" + (", perhaps for lack of memory" if name == "SIGKILL" else "")
    return RecsysError(
        f"a worker process (pid {process.pid}) ended {how}. What is finished is kept: give the same command "
        "again to go on, with fewer --workers if memory is short"
    )
