"""The tables of the SQLite online store, exchanged as a whole: readers see the old rows or the new ones.

Feast adds and overwrites rows and removes none, so a user whom the offline files no longer know would stay.
It therefore fills a second file, whose rows then replace the first one's in one transaction. The name and
the columns of its tables are taken from the store as Feast made it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from recsys.errors import DependencyError

_WAIT_SECONDS = 60.0
# SQLite takes no parameters for names; they come from the store itself and are quoted.
_COUNT = "SELECT count(DISTINCT entity_key) FROM {}"
_DELETE = "DELETE FROM {}"
_DELETE_KEYS = "DELETE FROM {} WHERE entity_key IN ({})"
_COUNT_KEYS = "SELECT count(DISTINCT entity_key) FROM {} WHERE entity_key IN ({})"
_KEYS_AT_ONCE = 500
_FILL = "INSERT INTO {0} ({1}) SELECT {1} FROM beside.{0} ORDER BY entity_key, feature_name"


def allow_reading_while_writing(path: Path) -> None:
    """Let readers go on during a write; the setting stays with the file."""
    if path.is_file():
        with _opened(path) as connection:
            connection.execute("PRAGMA journal_mode=WAL")


def empty_beside(path: Path, tables: Sequence[str]) -> Path:
    """A new file beside the store with the same tables, empty and without their second index.

    Raises:
        DependencyError: the store lacks a table.
    """
    beside = path.with_name(f"{path.name}.new")
    drop(beside)
    with _opened(path) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
    statements = dict(rows)
    if missing := [name for name in tables if name not in statements]:
        raise DependencyError(f"{path}: no table {missing[0]}. Run 'recsys features apply'.")
    with _opened(beside) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        for name in tables:
            connection.execute(statements[name])
    return beside


def number_of_keys(path: Path, table: str) -> int:
    """How many users (or items) a table holds."""
    with _opened(path) as connection:
        count = connection.execute(_COUNT.format(_quoted(table))).fetchone()
    return int(count[0])


def exchange(path: Path, beside: Path, tables: Sequence[str]) -> None:
    """Put the rows of another file in the place of the store's, all tables in one transaction."""
    with _opened(path) as connection:
        connection.execute("ATTACH ? AS beside", (str(beside),))
        with _transaction(connection):
            for name in map(_quoted, tables):
                columns = [_quoted(row[1]) for row in connection.execute(f"PRAGMA table_info({name})")]
                listed = ", ".join(columns)
                connection.execute(_DELETE.format(name))
                connection.execute(_FILL.format(name, listed))
        connection.execute("DETACH beside")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def clear(path: Path) -> None:
    """Remove all rows of all tables, in one transaction."""
    with _opened(path) as connection, _transaction(connection):
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (name,) in names:
            connection.execute(_DELETE.format(_quoted(name)))


def delete_keys(path: Path, tables: Sequence[str], keys: Sequence[bytes]) -> int:
    """Remove entities from tables in one transaction, their bytes overwritten.

    Returns how many there were, an entity counting once for each table that had it.
    """
    deleted = 0
    with _opened(path) as connection:
        connection.execute("PRAGMA secure_delete = ON")
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        present = [_quoted(name) for name in tables if (name,) in rows]
        with _transaction(connection):
            for start in range(0, len(keys), _KEYS_AT_ONCE):
                part = keys[start : start + _KEYS_AT_ONCE]
                marks = ",".join("?" * len(part))
                for name in present:
                    deleted += connection.execute(_COUNT_KEYS.format(name, marks), part).fetchone()[0]
                    connection.execute(_DELETE_KEYS.format(name, marks), part)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return deleted


def drop(path: Path) -> None:
    """Remove a database file and what SQLite keeps beside it."""
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, timeout=_WAIT_SECONDS, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:  # undone whatever happened, an interrupt too
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'
