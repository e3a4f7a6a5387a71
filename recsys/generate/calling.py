"""One HTTP call that holds out: retries with backoff, `Retry-After`, timeouts, and a circuit breaker."""

from __future__ import annotations

import email.utils
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx

from recsys.augment.asking import ChatService
from recsys.errors import ConfigError
from recsys.randomness import stream

logger = logging.getLogger(__name__)

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 60.0
_FAILURES_TO_OPEN = 5
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})


class Refused(Exception):
    """A call that gave nothing.

    Args:
        reason: `unreachable` or `rejected`.
        status: The last HTTP status; None where there was none.
        maybe_billed: Whether the other side may have done the work all the same.
    """

    def __init__(self, reason: str, status: int | None = None, maybe_billed: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.status, self.maybe_billed = reason, status, maybe_billed


class Caller:
    """Posts JSON to an endpoint's `chat/completions`; one object serves all threads.

    The key is read from the environment when the object is made, and is in no message and no log.

    Args:
        service: The endpoint and its limits.
        pause: Waits for so many seconds; the default ends early where `stop` is called.
        transport: What carries the calls, for httpx; None is the network.

    Raises:
        ConfigError: the environment variable of the key is not set.
    """

    def __init__(
        self,
        service: ChatService,
        pause: Callable[[float], object] | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._service, self._stopped = service, threading.Event()
        self._pause = pause or self._stopped.wait
        headers = {"Content-Type": "application/json"}
        if service.api_key_env:
            key = os.environ.get(service.api_key_env, "").strip()
            if not key:
                raise ConfigError(
                    f"{service.op}: the environment variable {service.api_key_env} is not set. Put the key "
                    f"of {service.base_url} into it, or leave api_key_env empty where none is needed"
                )
            headers["Authorization"] = f"Bearer {key}"
        limits = httpx.Limits(max_connections=service.concurrency)
        # Redirects are not followed: the key goes to the endpoint that was named and nowhere else.
        self._client = httpx.Client(
            timeout=service.timeout,
            headers=headers,
            limits=limits,
            follow_redirects=False,
            transport=transport,
        )
        self._lock = threading.Lock()
        self._failures = 0
        self.counts: Counter[str] = Counter()

    @property
    def open(self) -> bool:
        """Whether so many calls in a row have failed that no further one is made."""
        return self._failures >= _FAILURES_TO_OPEN

    def close_circuit(self) -> None:
        """Let calls be made again."""
        self._failures = 0

    def post(self, body: bytes, key: int, pay_again: Callable[[], bool]) -> Any:
        """The reply's JSON.

        Args:
            body: The call's JSON.
            key: Keys the jitter of the pauses.
            pay_again: Asked before a call is repeated that the other side may have billed; False ends it.

        Raises:
            Refused: no use, after all tries.
            ConfigError: the endpoint does not know the key, the model or the path.
        """
        rng = stream(key, "jitter")
        status: int | None = None
        for attempt in range(self._service.max_retries + 1):
            if self.open or self._stopped.is_set():
                raise Refused("unreachable", status)
            self.count("retries" if attempt else "first_calls")
            wait, billed = None, False
            try:
                response = self._client.post(f"{self._service.base_url}/chat/completions", content=body)
            except httpx.TransportError as error:
                # Once it is sent, a call may be answered, and billed, after we hung up.
                billed = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
                logger.warning("%s: %s (try %d)", self._service.op, type(error).__name__, attempt + 1)
            else:
                status = response.status_code
                if status == 200:
                    self._failures = 0
                    return _json(response)
                self._stop_if_hopeless(status)
                if status not in _AGAIN:
                    raise Refused("rejected", status)
                wait = _retry_after(response)
                logger.warning("%s: HTTP %d (try %d)", self._service.op, status, attempt + 1)
            if attempt == self._service.max_retries:
                break
            if billed and not pay_again():
                raise Refused("budget", status, billed)
            backoff = _FIRST_PAUSE * 2**attempt * rng.uniform(0.5, 1.5)
            self._pause(min(backoff if wait is None else wait + 0.1 * rng.random(), _LONGEST_PAUSE))
        self._failed()
        raise Refused("unreachable", status, billed)

    def count(self, name: str) -> None:
        """Add one to a count; safe for threads."""
        with self._lock:
            self.counts[name] += 1

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def stop(self) -> None:
        """Make no further call and end all pauses: the run is over."""
        self._stopped.set()

    def _stop_if_hopeless(self, status: int) -> None:
        service = self._service
        if status in (401, 403):
            where = f"the key in {service.api_key_env}" if service.api_key_env else "calls without a key"
            raise ConfigError(f"{service.op}: {service.base_url} refuses {where} (HTTP {status})")
        if status == 404 or 300 <= status < 400:
            raise ConfigError(
                f"{service.op}: {service.base_url}/chat/completions does not offer the model "
                f"'{service.model}' (HTTP {status}). Check base_url and model"
            )

    def _failed(self) -> None:
        with self._lock:
            self._failures += 1
            if self._failures == _FAILURES_TO_OPEN:
                logger.warning(
                    "%s: %d calls in a row failed, no more are made", self._service.op, self._failures
                )


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds that the server asks to wait: a number, or a date."""
    value = response.headers.get("Retry-After", "").strip()
    if not value:
        return None
    try:
        return max(float(value), 0.0)
    except ValueError:
        pass
    try:
        return max(email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (TypeError, ValueError):
        return None
