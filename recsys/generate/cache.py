"""Answers on disk, by the hash of everything that they depend on, so that a rerun asks nobody."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from recsys.errors import ArtifactError

_VERSION = 1
_TABLE = "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL) WITHOUT ROWID"
_MOST_PARAMETERS = 500


def answer_key(identity: str, content: Any, seed: int) -> str:
    """The hash of who is asked, what, and with which seed."""
    plain = json.dumps([_VERSION, identity, content, seed], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()


class AnswerFile:
    """An SQLite file of answers as JSON. Each `put` is a transaction: a killed run keeps what it paid for.

    Several processes may share one file; equal keys hold equal answers, and the first one stays.

    Args:
        path: The file; its folder is made. None keeps the answers in memory.

    Raises:
        ArtifactError: the file is no database of answers, or cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path or ":memory:", timeout=60.0)
            if path is not None:
                self._connection.execute("PRAGMA journal_mode=WAL")
                self._connection.execute("PRAGMA synchronous=NORMAL")
            with self._connection:
                self._connection.execute(_TABLE)
        except (sqlite3.Error, OSError) as error:
            raise ArtifactError(
                f"{path}: the answers kept there cannot be opened ({error}). Delete the file or name "
                "another; what it held is asked again"
            ) from error

    def get(self, keys: Sequence[str]) -> dict[str, Any]:
        """The answers that are there, by key, lists as tuples."""
        found: dict[str, Any] = {}
        for start in range(0, len(keys), _MOST_PARAMETERS):
            part = keys[start : start + _MOST_PARAMETERS]
            marks = ",".join("?" * len(part))
            query = f"SELECT key, answer FROM answers WHERE key IN ({marks})"  # noqa: S608  # only marks
            with self._failing():
                rows = self._connection.execute(query, part).fetchall()
            found.update((key, frozen(json.loads(text))) for key, text in rows)
        return found

    def put(self, answers: Iterable[tuple[str, Any]]) -> None:
        """Keep answers; a key that is there keeps its answer."""
        rows = [(key, json.dumps(value, ensure_ascii=False)) for key, value in answers]
        with self._failing(), self._connection:
            self._connection.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?)", rows)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextlib.contextmanager
    def _failing(self) -> Any:
        try:
            yield
        except sqlite3.Error as error:
            raise ArtifactError(
                f"{self.path}: the answers kept there are damaged or locked ({error}). Delete the file or "
                "name another"
            ) from error


def frozen(value: Any) -> Any:
    """Lists as tuples, all the way down."""
    return tuple(frozen(part) for part in value) if isinstance(value, list | tuple) else value
