"""A feature store that may hang or fail, made safe to ask: a time limit, and a pause after failures."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from recsys.errors import DependencyError
from recsys.types import FeatureSource, UserFeatures

FAILURES = 3

log = logging.getLogger(__name__)


class FeatureReader(Protocol):
    """One user's features, or a `DependencyError`."""

    def read(self, user_id: str) -> UserFeatures | None:
        """Features of one user; None for one the store has never seen."""
        ...


class GuardedFeatures:
    """Reads one user's features within a time limit.

    After three failures in a row the store is left alone for a while (Nygard, *Release It!*, 2007: a circuit
    breaker), so that its failure costs the requests nothing.

    Args:
        make: Builds the source; called again after it failed.
        timeout_seconds: Longest wait for one read.
        cooldown_seconds: How long the store is left alone.
        threads: Reads side by side.
        clock: Monotonic seconds; tests bring their own.
    """

    def __init__(
        self,
        make: Callable[[], FeatureSource],
        timeout_seconds: float,
        cooldown_seconds: float,
        threads: int = 4,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make, self._clock = make, clock
        self._timeout, self._cooldown = timeout_seconds, cooldown_seconds
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="features")
        self._lock = threading.Lock()
        self._source: FeatureSource | None = None
        self._failures, self._closed_until = 0, 0.0

    def read(self, user_id: str) -> UserFeatures | None:
        """Features of one user; None for one the store has never seen.

        Raises:
            DependencyError: the store failed, took too long, or is being left alone.
        """
        if self._clock() < self._closed_until:
            raise DependencyError("the feature store failed repeatedly and is left alone for a moment")
        try:
            found = self._pool.submit(self._fetch, user_id).result(self._timeout)
        except Exception as error:  # whatever a store raises, the request must still be answered
            self._note_failure(error)
            raise DependencyError(f"the feature store did not answer ({type(error).__name__})") from error
        self._failures = 0
        return found

    def warm(self) -> None:
        """Build the source now, without a time limit: its imports take seconds. A failure is only logged."""
        try:
            self._fetch("")
        except Exception as error:  # noqa: BLE001 - the store may come back; until then answers are marked
            log.warning("the feature store does not answer yet: %s", error)

    def close(self) -> None:
        """Stop taking reads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _fetch(self, user_id: str) -> UserFeatures | None:
        with self._lock:
            if self._source is None:
                self._source = self._make()
        return self._source.fetch([user_id])[0]

    def _note_failure(self, error: Exception) -> None:
        self._failures += 1
        if self._failures >= FAILURES:
            self._closed_until = self._clock() + self._cooldown
        if self._failures <= FAILURES:
            log.warning("feature read failed, %d in a row: %r", self._failures, error)
