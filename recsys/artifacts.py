"""A run is a directory: arrays, models and one manifest that live together and switch together.

    RUNS/
      live -> 20261123-201502-1f3a9c        the promoted run: a relative link, replaced atomically
      features/                             the feature store's data and registry, shared by the runs
      20261123-201502-1f3a9c/
        manifest.json  config.toml  metrics.json  report.html
        items.parquet  item_vectors.npy  history_vectors.npy  item_features.npy  covisitation.npz …
        index.faiss  user_tower.onnx  text_encoder.onnx  ranker.onnx  towers.safetensors  tokenizer/

Nothing here is a pickle. Every file is written beside its place and moved into it, so that a reader sees
the old one or the new one and never a half.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from recsys.errors import ArtifactError, RecsysError

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
LIVE = "live"


class Manifest(BaseModel):
    """What a run is, what made it, and what it measured."""

    model_config = ConfigDict(extra="forbid")

    schema_version: int = SCHEMA_VERSION
    run_id: str
    created: str
    """ISO 8601, UTC."""
    finished: str | None = None
    config_digest: str
    inputs: dict[str, str] = {}
    """SHA-256 by input file."""
    seed: int = 0
    versions: dict[str, str] = {}
    """Library versions that made the run."""
    stages: dict[str, dict[str, Any]] = {}
    """By stage, in order: `seconds` and what the stage has to say (choices made, counts, losses)."""
    metrics: dict[str, Any] = {}
    files: dict[str, str] = {}
    """SHA-256 by file that serving loads."""


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other processes that ask out of a folder, which is made where it is missing.

    The lock dies with this process; processes forked from it do not inherit it.

    Raises:
        RecsysError: another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RecsysError(
                f"{folder}: another process writes there; wait for it, or give another --out"
            ) from error
        yield


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write a file so that no reader ever sees a part of it."""
    with replacing(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder (same suffix) that takes `path`'s place when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # mkstemp makes it private; a served run is read by another account
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Persist one array as .npy."""
    if array.dtype.hasobject:
        raise ValueError(f"{path.name}: object arrays would need pickle")
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def load_array(path: Path) -> NDArray[Any]:
    """Memory-map one .npy, read-only."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: not a readable array ({error})") from error
    return np.asarray(array)  # a plain view of the same map: np.memmap itself is slow to index


def write_manifest(run: Path, manifest: Manifest) -> None:
    """Persist the manifest: the last thing a stage does."""
    write_atomically(run / MANIFEST, manifest.model_dump_json(indent=1))


def load_manifest(run: Path) -> Manifest:
    """Read a run's manifest.

    Raises:
        ArtifactError: no manifest, not one of ours, or of another schema version.
    """
    path = run / MANIFEST
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactError(f"{run}: not a run directory ({MANIFEST} is missing)") from error
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error})") from error
    version = tree.get("schema_version") if isinstance(tree, dict) else None
    if version != SCHEMA_VERSION:
        raise ArtifactError(
            f"{path}: schema version {version!r}, this program reads {SCHEMA_VERSION}. Train a new run."
        )
    try:
        return Manifest.model_validate(tree)
    except ValidationError as error:
        raise ArtifactError(f"{path}: {error.errors()[0]['msg']}") from error


def record_files(run: Path, manifest: Manifest, names: list[str]) -> None:
    """Put the digests of the files that serving loads into the manifest."""
    manifest.files = {name: file_digest(run / name) for name in sorted(names)}


def verify_files(run: Path, manifest: Manifest) -> None:
    """Raise `ArtifactError` when a file that serving loads is missing or has changed since export."""
    for name, digest in manifest.files.items():
        path = run / name
        if not path.is_file():
            raise ArtifactError(f"{path}: missing, though the manifest lists it")
        if file_digest(path) != digest:
            raise ArtifactError(f"{path}: its content differs from the manifest's digest")


def promote(run: Path) -> None:
    """Point `live` at a finished run, atomically: readers see the old run or the new one, whole."""
    manifest = load_manifest(run)
    if manifest.finished is None:
        raise ArtifactError(f"{run}: not finished, so it cannot be promoted")
    verify_files(run, manifest)
    link = run.parent / LIVE
    if link.exists() and not link.is_symlink():
        raise ArtifactError(f"{link}: is not a link; move it away")
    temporary = run.parent / f".{LIVE}-{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(run.name, target_is_directory=True)
    temporary.replace(link)


def resolve_run(path: Path) -> Path:
    """The run directory behind a path: a run, `RUNS/live`, or `RUNS` itself (then its live run)."""
    if (path / MANIFEST).is_file():
        return path.resolve()
    if (path / LIVE / MANIFEST).is_file():
        return (path / LIVE).resolve()
    raise ArtifactError(f"{path}: neither a run directory nor a folder with a promoted run in it")
