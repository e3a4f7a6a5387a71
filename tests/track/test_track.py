"""Tracking: what was logged is read back from a real SQLite store; a store that fails fails nothing else."""

from __future__ import annotations

import importlib.util
import logging
import subprocess
import sys
import types

import pytest

from recsys.artifacts import Manifest, write_manifest
from recsys.cli import main
from recsys.config import Config, TrackConfig
from recsys.errors import DependencyError
from recsys.track import DATABASE, Silent, track_run, tracked

needs_mlflow = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None, reason="mlflow is not installed: the extra `track`"
)


@pytest.fixture
def run(tmp_path):
    """A run's folder with what a report leaves."""
    folder = tmp_path / "runs" / "20260101-000000-abcdef"
    folder.mkdir(parents=True)
    manifest = Manifest(
        run_id=folder.name, created="2026-01-01T00:00:00+00:00", config_digest="d", inputs={"items": "1f"},
        seed=0, versions={"recsys": "0.1.0"},
    )  # fmt: skip
    manifest.stages["select"] = {
        "seconds": 2.5, "losses": [3.0, 2.0], "validation_ndcg@10": [0.1, 0.2], "kept": True,
        "passes_per_step": {"forward": 1.0},
    }  # fmt: skip
    manifest.metrics = {"headline": {"novel ndcg@10": 0.125}}
    write_manifest(folder, manifest)
    (folder / "config.toml").write_text(Config().to_toml())
    (folder / "report.html").write_text("<p>a report</p>")
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """One store for all tests: MLflow takes seconds to make its tables."""
    return tmp_path_factory.mktemp("home")


def runs_of(home, experiment):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{home / DATABASE}")
    number = client.get_experiment_by_name(experiment).experiment_id
    return client, client.search_runs([number], order_by=["start_time DESC"])


@pytest.mark.slow
@needs_mlflow
def test_a_local_store_holds_parameters_curves_and_files(run, home, monkeypatch):
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    with tracked(TrackConfig(enabled="on"), home, "shops", "shop") as tracker:
        track_run(tracker, run)
    with pytest.raises(ZeroDivisionError), tracked(TrackConfig(), home, "shops", "shop"):
        raise ZeroDivisionError
    client, (failed, whole) = runs_of(home, "shops")
    assert (whole.info.status, failed.info.status) == ("FINISHED", "FAILED")
    assert whole.info.run_name == "shop"
    assert whole.data.params["model.shrinkage"] == "10.0"
    assert whole.data.params["inputs.items"] == "1f"
    assert whole.data.metrics["novel ndcg_10"] == 0.125
    assert whole.data.metrics["stage.select.seconds"] == 2.5
    assert whole.data.metrics["stage.select.passes_per_step.forward"] == 1.0
    assert "stage.select.kept" not in whole.data.metrics
    curve = client.get_metric_history(whole.info.run_id, "stage.select.validation_ndcg_10")
    assert [(point.step, point.value) for point in curve] == [(1, 0.1), (2, 0.2)]
    names = {file.path for file in client.list_artifacts(whole.info.run_id)}
    assert names == {"report.html", "manifest.json", "config.toml"}
    from mlflow.telemetry import utils

    monkeypatch.setattr(utils, "_IS_IN_CI_ENV_OR_TESTING", False)
    assert utils.is_telemetry_disabled(), "nobody is told what is tracked"


@pytest.mark.slow
@needs_mlflow
def test_recsys_run_is_in_the_store(run, home, tmp_path, monkeypatch):
    pipeline = types.ModuleType("recsys.pipeline")
    measured = types.SimpleNamespace(evaluations=[], comparisons=[], notes=lambda: [])
    pipeline.run_pipeline = lambda data, out, config, fresh: (run, measured)
    monkeypatch.setitem(sys.modules, "recsys.pipeline", pipeline)
    command = ["run", "--data", str(tmp_path / "my-shop"), "--out", str(home)]
    assert main(command) == 0
    assert main([*command, "--set", "track.enabled=off"]) == 0
    monkeypatch.setenv("RANK", "1")
    assert main(command) == 0, "the second process of torchrun"
    _, (tracked_run,) = runs_of(home, "recsys run")
    assert (tracked_run.info.run_name, tracked_run.info.status) == ("my-shop", "FINISHED")
    assert tracked_run.data.params["run_id"] == run.name
    assert tracked_run.data.metrics["novel ndcg_10"] == 0.125


@pytest.mark.slow
@needs_mlflow
def test_a_search_over_settings_is_in_the_store(home, tmp_path):
    from recsys.search.explore import METRIC  # torch takes seconds to import
    from recsys.tune.verdict import Result, Verdict, track_search, write_result

    trials = [
        {"number": number, METRIC: figure, "values": {"train.learning_rate": (number + 1) / 1000}}
        for number, figure in enumerate((0.1, None, 0.3))
    ]
    row = {"metric": METRIC, "difference": 0.2, "low": 0.1, "high": 0.3, "p": 0.01}
    verdict = Verdict("gain", "above zero", {"train.learning_rate": 0.003}, (row,))
    towers = {"trials": trials, "importance": {"train.learning_rate": 1.0}}
    result = Result(verdict, towers, {"trials": [], "importance": {}}, 1.0, 2.0)
    write_result(tmp_path, result, Config())
    with tracked(TrackConfig(), home, "recsys tune", "shop") as tracker:
        track_search(tracker, tmp_path, result, Config())
    client, (search,) = runs_of(home, "recsys tune")
    name = METRIC.replace("@", "_")
    curve = client.get_metric_history(search.info.run_id, f"towers.{name}")
    assert [(point.step, point.value) for point in curve] == [(0, 0.1), (2, 0.3)]
    assert search.data.params["best.train.learning_rate"] == "0.003"
    assert search.data.metrics["importance.towers.train.learning_rate"] == 1.0
    assert search.data.metrics[f"{name}.low"] == 0.1
    assert {file.path for file in client.list_artifacts(search.info.run_id)} == {"best.toml", "tune.json"}


@pytest.mark.slow
@needs_mlflow
@pytest.mark.parametrize("place", ["nowhere", "file"])
def test_a_bad_command_is_one_line_with_tracking_too(place, tmp_path):
    """In a process of its own: MLflow says most when it is imported and makes its tables."""
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" if place == "file" else tmp_path / "runs"
    command = ["run", "--data", str(tmp_path / "nowhere"), "--out", str(out), "--set", "track.enabled=on"]
    program = f"""
import sys, types
pipeline = types.ModuleType("recsys.pipeline")  # without torch, which takes seconds to import
def run_pipeline(data, out, config, fresh):
    from recsys.data.interactions import load_dataset
    load_dataset(data, config.data)
pipeline.run_pipeline = run_pipeline
sys.modules["recsys.pipeline"] = pipeline
from recsys.cli import main
sys.exit(main({command!r}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1, done.stderr
    assert (out / DATABASE).exists() == (place == "nowhere")


def test_off_and_absent_are_silent_and_on_says_what_to_install(tmp_path, monkeypatch):
    with tracked(TrackConfig(enabled="off"), tmp_path, "e", "n") as tracker:
        assert isinstance(tracker, Silent)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with tracked(TrackConfig(), tmp_path, "e", "n") as tracker:
        assert isinstance(tracker, Silent)
        tracker.parameters({"a": 1})
        tracker.metrics({"a": 1})
        tracker.curve("a", [1.0])
        tracker.artifacts([tmp_path])
    with (
        pytest.raises(DependencyError, match="the extra 'track'"),
        tracked(TrackConfig(enabled="on"), tmp_path, "e", "n"),
    ):
        pass
    assert not list(tmp_path.iterdir())


class Broken:
    """A client whose store breaks at the second call."""

    calls: list[str] = []  # noqa: RUF012 - one list for all clients of a test

    def __init__(self, tracking_uri: str) -> None:
        self.uri = tracking_uri

    def __getattr__(self, name: str):
        def call(*arguments, **named):
            Broken.calls.append(name)
            if len(Broken.calls) > 3:
                raise OSError("the disk is full\nand more")
            return types.SimpleNamespace(experiment_id="1", info=types.SimpleNamespace(run_id="r"))

        return call


def test_a_store_that_breaks_is_said_once_and_stops_nothing(run, tmp_path, monkeypatch, caplog):
    Broken.calls = []
    package, module = types.ModuleType("mlflow"), types.ModuleType("mlflow.tracking")
    module.MlflowClient = Broken
    package.__spec__ = importlib.util.spec_from_loader("mlflow", None)
    monkeypatch.setitem(sys.modules, "mlflow", package)
    monkeypatch.setitem(sys.modules, "mlflow.tracking", module)
    with caplog.at_level(logging.WARNING), tracked(TrackConfig(), tmp_path, "e", "n") as tracker:
        track_run(tracker, run)
    assert len(Broken.calls) == 4  # experiment, run, one parameter, and the one that failed
    assert [record.message for record in caplog.records] == [
        "tracking has failed and goes no further here: the disk is full"
    ]


def test_a_store_that_cannot_be_opened_stops_nothing(tmp_path, monkeypatch, caplog):
    Broken.calls = ["a", "b", "c"]
    package, module = types.ModuleType("mlflow"), types.ModuleType("mlflow.tracking")
    module.MlflowClient = Broken
    package.__spec__ = importlib.util.spec_from_loader("mlflow", None)
    monkeypatch.setitem(sys.modules, "mlflow", package)
    monkeypatch.setitem(sys.modules, "mlflow.tracking", module)
    with tracked(TrackConfig(enabled="on"), tmp_path, "e", "n") as tracker:
        assert isinstance(tracker, Silent)
    assert "goes no further" in caplog.text
