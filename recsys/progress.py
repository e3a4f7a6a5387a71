"""Progress that a person can read: a bar on a terminal, a log line now and then elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Self

from tqdm import tqdm

logger = logging.getLogger(__name__)

LOG_SECONDS = 20.0
_SILENT: ContextVar[bool] = ContextVar("silent", default=False)


@contextmanager
def silent() -> Iterator[None]:
    """No bar and no line of progress meanwhile: of processes side by side only one should speak."""
    before = _SILENT.set(True)
    try:
        yield
    finally:
        _SILENT.reset(before)


class Progress:
    """Counts examples out of a known total and says how fast and how long still.

    Args:
        total: Examples in all.
        label: What is being done, in a few words.
        unit: What is counted.
        done: Examples already behind us (after a resume); they do not enter the speed.
        enabled: Off is silent.
    """

    def __init__(
        self, total: int, label: str, unit: str = "examples", done: int = 0, enabled: bool = True
    ) -> None:
        self._total, self._label, self._unit = total, label, unit
        self._start = self._last = time.monotonic()
        self._initial = self._done = done
        self._enabled = enabled = enabled and not _SILENT.get()
        self._bar = (
            tqdm(total=total, desc=label, unit=f" {unit}", initial=done, leave=False)
            if enabled and sys.stderr.isatty()
            else None
        )

    @property
    def rate(self) -> float:
        """Examples per second so far."""
        return (self._done - self._initial) / max(time.monotonic() - self._start, 1e-9)

    def advance(self, count: int, note: str = "") -> None:
        """Report that `count` more examples are done, with the newest figures in words."""
        self._done += count
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(count)
            return
        now = time.monotonic()
        if self._enabled and now - self._last >= LOG_SECONDS:
            self._last = now
            left = (self._total - self._done) / max(self.rate, 1e-9)
            logger.info(
                "%s: %s of %s %s, %s/s, %d s left %s",
                self._label, f"{self._done:,}", f"{self._total:,}", self._unit, _shown(self.rate),
                left, note,
            )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()


def _shown(rate: float) -> str:
    """A speed: whole where there are many a second, with a digit more where there are few."""
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
