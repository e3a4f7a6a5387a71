"""A search's folder: of one search, written by one process at a time, begun anew where that is asked for."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from recsys.artifacts import alone, write_atomically
from recsys.config import Config
from recsys.data.interactions import load_dataset
from recsys.errors import ArtifactError, ConfigError, InputError

T = TypeVar("T")
WORK = "work"
"""Prepared features and vectors, within the folder."""
DATABASE, SPENT, RUNS = "trials.db", "spent.json", "runs"
_OWN = (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", SPENT, RUNS, WORK)


@contextlib.contextmanager
def search_folder(out: Path, own: Sequence[str], *, fresh: bool) -> Iterator[None]:
    """Hold a folder while a search goes on.

    Args:
        out: The folder.
        own: Names of what this search writes there beside what all searches do.
        fresh: Take away what an earlier search left.

    Raises:
        InputError: it is a file.
        ArtifactError: another process writes there.
    """
    if out.exists() and not out.is_dir():
        raise InputError("is a file, not a folder to write into", file=str(out))
    with alone(out):
        if fresh:
            for name in (*own, *_OWN):
                path = out / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        yield


def identity_of(data: Path, config: Config, **more: str) -> dict[str, str]:
    """What makes a search this one: its dataset, its settings, and what else was asked for."""
    digests = sorted(load_dataset(data, config.data).digests.items())
    return {
        "data": hashlib.sha256(repr(digests).encode()).hexdigest(),
        "configuration": config.digest(),
        **more,
    }


def same_search(path: Path, identity: Mapping[str, str]) -> None:
    """Note what a folder's search is of, or make sure that it is the same one.

    Raises:
        ConfigError: it is another.
    """
    if not path.is_file():
        write_atomically(path, json.dumps(dict(identity), indent=1))
        return
    known = json.loads(path.read_text(encoding="utf-8"))
    other = sorted(name for name in {*known, *identity} if known.get(name) != identity.get(name))
    if other:
        raise ConfigError(
            f"{path.parent} holds a search with another {', '.join(other)}. "
            "Give another --out, or --fresh to begin anew there"
        )


def read_record(path: Path, read: Callable[[Any], T], again: str) -> T | None:
    """What `write_record` wrote, None before.

    Args:
        path: The record.
        read: Makes a result of it.
        again: The command that begins anew, for an error.

    Raises:
        ArtifactError: it is damaged.
    """
    if not path.is_file():
        return None
    try:
        return read(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error!r}); {again} with --fresh") from error


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Everything that a search says of itself, as JSON."""
    write_atomically(path, json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
