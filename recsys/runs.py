"""The life of a run directory while it is being made: found again or begun, stages timed, then promoted."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recsys.artifacts import (
    MANIFEST,
    Manifest,
    load_manifest,
    promote,
    record_files,
    write_atomically,
    write_manifest,
)
from recsys.config import Config
from recsys.errors import ArtifactError

logger = logging.getLogger(__name__)

PACKAGES = ("recsys", "feast", "torch", "transformers", "numpy", "pandas", "pyarrow", "onnx")
WORK = "work"
"""Intermediate results, kept while a run is unfinished and removed at its end."""


class OpenRun:
    """A run that is being made. `folder` is its directory, `work` holds what only the making needs.

    Of several processes that make one run, the one that leads writes; the others only fit along.
    """

    def __init__(self, folder: Path, manifest: Manifest, *, leads: bool = True) -> None:
        self.folder, self.manifest, self.leads = folder, manifest, leads
        self.work = folder / WORK
        self._parts: Counter[str] = Counter()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[dict[str, Any]]:
        """Time a stage; what it puts into the dictionary goes into the manifest beside its seconds.

        `seconds` are the clock's, `cpu_seconds` the processor's, all threads of this process together.
        """
        started, figures = time.perf_counter(), dict[str, Any]()
        busy = time.process_time()
        self._parts.clear()
        if not self.leads:
            yield figures
            return
        logger.info("stage %s", name)
        yield figures
        seconds = round(time.perf_counter() - started, 2)
        spent = {"seconds": seconds, "cpu_seconds": round(time.process_time() - busy, 2)}
        parts = {f"{part}_cpu_seconds": round(value, 2) for part, value in self._parts.items()}
        self.manifest.stages[name] = {**spent, **parts, **figures}
        write_manifest(self.folder, self.manifest)
        logger.info("stage %s took %.1f s", name, seconds)

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Within a stage, count processor time under a name of its own: `<name>_cpu_seconds`."""
        busy = time.process_time()
        yield
        self._parts[name] += time.process_time() - busy  # type: ignore[assignment]

    def finish(self, files: list[str], metrics: Mapping[str, Any]) -> None:
        """Record what serving loads, mark the run finished, promote it, and drop intermediate results."""
        record_files(self.folder, self.manifest, files)
        self.manifest.metrics = dict(metrics)
        self.manifest.finished = _now()
        write_manifest(self.folder, self.manifest)
        promote(self.folder)
        shutil.rmtree(self.work, ignore_errors=True)


def augmentation_share(stages: Mapping[str, Mapping[str, Any]]) -> tuple[float, float] | None:
    """Processor seconds of augmentation, and of the training that followed it; None where either is unknown.

    Augmentation is ops, gates and the encoding of variants, wherever they ran. Training is the fits of the
    towers that choose and that are served, fine-tuning and the teaching of queries; the fit that is only
    measured is left out.
    """
    trained = [stages[name] for name in ("select", "finetune", "final", "queries") if name in stages]
    counted = [*trained, *(stages[name] for name in ("report",) if name in stages)]
    if "augment" not in stages or not trained or any("cpu_seconds" not in stage for stage in trained):
        return None
    inside = sum(stage.get("augment_cpu_seconds", 0.0) for stage in trained)
    spent = stages["augment"].get("cpu_seconds", 0.0)
    spent += sum(stage.get("augment_cpu_seconds", 0.0) for stage in counted)
    training = sum(stage["cpu_seconds"] for stage in trained) - inside
    return (spent, training) if training > 0 else None


def open_run(out: Path, config: Config, inputs: Mapping[str, str], *, fresh: bool = False) -> OpenRun:
    """Go on with an unfinished run of the same configuration and inputs, or begin a new one.

    Args:
        out: The folder of runs.
        config: The effective configuration.
        inputs: SHA-256 by input file.
        fresh: Begin a new run even where an unfinished one could go on.
    """
    digest = config.digest()
    if not fresh and (found := _unfinished(out, digest, inputs)) is not None:
        logger.info("going on with the unfinished run %s", found.folder.name)
        return found
    created = _now()
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    run_id = f"{stamp}-{digest[:6]}"
    folder = out / run_id
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        raise ArtifactError(f"{folder}: exists already; try again in a second") from error
    manifest = Manifest(
        run_id=run_id,
        created=created,
        config_digest=digest,
        inputs=dict(inputs),
        seed=config.run.seed,
        versions=_versions(),
    )
    write_atomically(folder / "config.toml", config.to_toml())
    write_manifest(folder, manifest)
    return OpenRun(folder, manifest)


def join_run(folder: Path) -> OpenRun:
    """The run that another process leads, to fit along."""
    return OpenRun(folder, load_manifest(folder), leads=False)


def _unfinished(out: Path, digest: str, inputs: Mapping[str, str]) -> OpenRun | None:
    for path in sorted(out.glob(f"*/{MANIFEST}"), reverse=True):
        if path.parent.is_symlink():
            continue
        try:
            manifest = load_manifest(path.parent)
        except ArtifactError:
            continue  # another version's run, or a damaged one: not ours to go on with
        if manifest.finished is None and (manifest.config_digest, manifest.inputs) == (digest, dict(inputs)):
            return OpenRun(path.parent, manifest)
    return None


def _versions() -> dict[str, str]:
    found = {}
    for name in (*PACKAGES, "faiss-cpu", "faiss-gpu-cu12", "lightgbm", "onnxruntime", "onnxruntime-gpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
