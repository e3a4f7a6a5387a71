"""Runs, parameters, metrics and files into MLflow, where it is installed and wanted; a no-op elsewhere.

A tracker that fails never fails what it tracks: it says so once and is silent from then on.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import math
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from recsys.artifacts import MANIFEST, load_manifest
from recsys.config import TrackConfig
from recsys.errors import DependencyError

logger = logging.getLogger(__name__)

DATABASE = "mlflow.db"
"""The local store, beside what is tracked, unless `track.uri` names another."""
_LONGEST = 500
"""Characters of a parameter that every store takes."""
_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_LOGGING_LEVEL": "WARNING"}
"""Read by MLflow when it is imported, and set unless they are. Without them it reports to its makers what is
called, and says how it makes tables among the lines of the command."""
_UNNAMED = re.compile(r"[^A-Za-z0-9_\-. /]+")


class Tracker(Protocol):
    """What is told of one run while it goes on."""

    def parameters(self, tree: Mapping[str, Any]) -> None:
        """Settings, nested or not, under dotted names."""
        ...

    def metrics(self, values: Mapping[str, Any], step: int = 0) -> None:
        """Numbers, nested or not, under dotted names; what is no number is left out."""
        ...

    def curve(self, name: str, values: Sequence[float]) -> None:
        """A figure by epoch, from 1."""
        ...

    def artifacts(self, paths: Sequence[Path]) -> None:
        """Files, those that exist."""
        ...


class Silent:
    """Tracks nothing."""

    def parameters(self, tree: Mapping[str, Any]) -> None:
        """Nothing."""

    def metrics(self, values: Mapping[str, Any], step: int = 0) -> None:
        """Nothing."""

    def curve(self, name: str, values: Sequence[float]) -> None:
        """Nothing."""

    def artifacts(self, paths: Sequence[Path]) -> None:
        """Nothing."""


class _Mlflow:
    """One run in a store."""

    def __init__(self, client: Any, run_id: str) -> None:
        self._client, self._run, self._failed = client, run_id, False

    def parameters(self, tree: Mapping[str, Any]) -> None:
        for name, value in _flat(tree):
            self._do("log_param", _name(name), str(value)[:_LONGEST])

    def metrics(self, values: Mapping[str, Any], step: int = 0) -> None:
        for name, value in _flat(values):
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                self._do("log_metric", _name(name), float(value), step=step)

    def curve(self, name: str, values: Sequence[float]) -> None:
        for epoch, value in enumerate(values, start=1):
            self.metrics({name: value}, epoch)

    def artifacts(self, paths: Sequence[Path]) -> None:
        for path in paths:
            if path.is_file():
                self._do("log_artifact", str(path))

    def end(self, status: str) -> None:
        self._do("set_terminated", status)

    def _do(self, what: str, *arguments: Any, **named: Any) -> None:
        if self._failed:
            return
        try:
            getattr(self._client, what)(self._run, *arguments, **named)
        except Exception as error:  # noqa: BLE001 - whatever a store's driver raises, the run goes on
            self._failed = True
            _complain(error)


@contextlib.contextmanager
def tracked(config: TrackConfig, home: Path, experiment: str, name: str) -> Iterator[Tracker]:
    """Track what goes on inside as one run; of the processes of torchrun the first tracks alone.

    Args:
        config: Whether, and where.
        home: Folder of the local store.
        experiment: Runs stand side by side in it.
        name: Of the run.

    Raises:
        DependencyError: tracking is `on` and MLflow is not installed.
    """
    run = _begin(config, home, experiment, name)
    if run is None:
        yield Silent()
        return
    try:
        yield run
    except BaseException:  # an interruption is a failed run too; it goes on its way
        run.end("FAILED")
        raise
    run.end("FINISHED")


def _begin(config: TrackConfig, home: Path, experiment: str, name: str) -> _Mlflow | None:
    if config.enabled == "off" or int(os.environ.get("RANK", "0")) > 0:
        return None
    if importlib.util.find_spec("mlflow") is None:
        if config.enabled == "on":
            raise DependencyError("track.enabled is 'on', but mlflow is missing: install the extra 'track'")
        return None
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError:  # what is tracked writes there as well, and says what is wrong
        return None
    try:
        for switch, value in _QUIET.items():
            os.environ.setdefault(switch, value)
        from mlflow.tracking import MlflowClient  # slow to import

        uri = config.uri or f"sqlite:///{(home / DATABASE).resolve()}"
        client = MlflowClient(tracking_uri=uri)
        known = client.get_experiment_by_name(experiment)
        if known is None:
            place = None if config.uri else (home / "mlartifacts").resolve().as_uri()
            number = client.create_experiment(experiment, artifact_location=place)
        else:
            number = known.experiment_id
        return _Mlflow(client, client.create_run(number, run_name=name).info.run_id)
    except Exception as error:  # noqa: BLE001 - a store that cannot be opened must not stop a run
        _complain(error)
        return None


def _complain(error: Exception) -> None:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    logger.warning("tracking has failed and goes no further here: %s", first[:300])


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _name(name: str) -> str:
    """As a store takes it: ndcg@10 is ndcg_10."""
    return _UNNAMED.sub("_", name)


def track_run(tracker: Tracker, folder: Path) -> None:
    """All that a run's folder says of it: settings, figures per stage, curves per epoch, and its reports."""
    manifest = load_manifest(folder)
    tracker.parameters(tomllib.loads((folder / "config.toml").read_text(encoding="utf-8")))
    tracker.parameters({"run_id": manifest.run_id, "inputs": manifest.inputs, "versions": manifest.versions})
    for stage, figures in manifest.stages.items():
        tracker.metrics({f"stage.{stage}": figures})
        for name in ("losses", "validation_ndcg@10"):
            tracker.curve(f"stage.{stage}.{name}", figures.get(name) or ())
    tracker.metrics(manifest.metrics.get("headline", {}))
    tracker.artifacts([folder / name for name in ("report.html", "metrics.json", MANIFEST, "config.toml")])
