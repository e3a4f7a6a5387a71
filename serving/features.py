"""The online store as a feature source: one Feast read per request, its client built on first use.

Feast imports torch when it finds it installed, for tensors that nobody asks of it here. A serving process
must not pay for that, so torch is hidden while Feast is imported for the first time.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from recsys.errors import DependencyError
from recsys.snapshot import USER_FIELDS, is_stale, user_features
from recsys.types import UserFeatures

_USERS_PER_READ = 1_000


class OnlineFeatureSource:
    """User features from the store over a folder (RUNS/features).

    Args:
        folder: Where `recsys run` (or `recsys features apply`) put the store.
        ttl_days: Age of the newest event beyond which features are stale (see `is_stale`).

    Safe to share between threads. After a failure the client is built anew at the next call.
    """

    def __init__(self, folder: Path, ttl_days: float) -> None:
        self.folder = folder
        self.ttl_days = ttl_days
        self._lock = threading.Lock()
        self._client: tuple[Any, Any] | None = None

    def fetch(self, user_ids: Sequence[str]) -> list[UserFeatures | None]:
        """Features per user, in order, in one read; None for a user the store has never seen.

        Raises:
            DependencyError: the store cannot be opened or read; the answer must then do without it.
        """
        found: list[UserFeatures | None] = []
        for begin in range(0, len(user_ids), _USERS_PER_READ):
            found.extend(self._read(list(user_ids[begin : begin + _USERS_PER_READ])))
        return found

    def is_stale(self, features: UserFeatures, moment: int) -> bool:
        """Whether these features are too old to be trusted at `moment` (Unix seconds)."""
        return is_stale(features, moment, self.ttl_days)

    def open(self) -> None:
        """Build the client now, so that the first request does not wait for it (some seconds)."""
        self._opened()

    def _read(self, user_ids: list[str]) -> list[UserFeatures | None]:
        store, service = self._opened()
        try:
            answer = store.get_online_features(features=service, entity_rows={"user_id": user_ids})
            columns = answer.to_dict()
        except Exception as error:  # Feast passes on whatever its online store raises
            self._client = None
            raise DependencyError(f"{self.folder}: the online store cannot be read ({error})") from error
        names = [name for name in USER_FIELDS if name in columns]
        return [
            user_features({"user_id": user, **{name: columns[name][place] for name in names}})
            if columns["num_events"][place] is not None
            else None
            for place, user in enumerate(user_ids)
        ]

    def _opened(self) -> tuple[Any, Any]:
        client = self._client
        if client is not None:
            return client
        with self._lock:
            if self._client is None:
                self._client = _open(self.folder)
            return self._client


def _open(folder: Path) -> tuple[Any, Any]:
    try:
        with _torch_hidden():
            from feature_repo.client import open_store
            from feature_repo.services import RETRIEVAL
        store = open_store(folder)
        return store, store.get_feature_service(RETRIEVAL)
    except Exception as error:  # Feast passes on whatever its registry and stores raise
        raise DependencyError(
            f"{folder}: no feature store can be opened ({error}). Make it with 'recsys features apply'."
        ) from error


@contextlib.contextmanager
def _torch_hidden() -> Iterator[None]:
    if "torch" in sys.modules or "feast" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment]  # what makes `import torch` raise
    try:
        yield
    finally:
        del sys.modules["torch"]
