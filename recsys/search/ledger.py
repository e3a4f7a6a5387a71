"""Minutes that may be spent and minutes that were, over kills and restarts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from recsys.artifacts import write_atomically
from recsys.errors import ArtifactError

_EVERY = 5.0
"""Seconds between notes: what a kill loses of the account at most, one epoch aside."""


@dataclass(frozen=True)
class Budget:
    """How much a search may do."""

    minutes: float
    """Wall clock, all processes of one search together."""
    trials: int | None = None
    """Trials at most; None leaves it to the minutes."""
    seed: int = 0
    """Keys every draw."""


class Ledger:
    """Seconds spent by a search, noted in a file as they pass.

    Args:
        path: The note.
        budget: Seconds in all.
        clock: Seconds that pass; for tests.
    """

    def __init__(self, path: Path, budget: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._budget, self._clock = path, budget, clock
        self._before = _noted(path)
        self._start = self._last = clock()

    @property
    def spent(self) -> float:
        """Seconds since the search began, what lay between its processes left out."""
        return self._before + self._clock() - self._start

    @property
    def left(self) -> float:
        """Seconds that may still be spent."""
        return max(self._budget - self.spent, 0.0)

    @property
    def budget(self) -> float:
        """Seconds in all."""
        return self._budget

    def note(self, *, now: bool = False) -> None:
        """Write what was spent, if the last note is old enough or `now`."""
        moment = self._clock()
        if now or moment - self._last >= _EVERY:
            self._last = moment
            write_atomically(self._path, json.dumps({"seconds": round(self.spent, 2)}))


def _noted(path: Path) -> float:
    if not path.is_file():
        return 0.0
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["seconds"])
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path}: not a note of seconds spent; search with --fresh") from error
