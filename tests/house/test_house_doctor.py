"""The doctor: never ill itself, says what is missing and how to get it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from recsys import cli, doctor
from recsys.artifacts import Manifest, promote, write_manifest
from recsys.doctor import Finding, examine, works


def by_topic(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.topic: finding for finding in findings}


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make packages look absent: neither importable nor listed as installed."""

    def hide(*names: str) -> None:
        real_version, real_import = metadata.version, doctor.importlib.import_module

        def version(name: str) -> str:
            if name.replace("-", "_") in names:
                raise metadata.PackageNotFoundError(name)
            return real_version(name)

        def import_module(name: str, *rest: Any) -> Any:
            if name.split(".")[0] in names:
                raise ModuleNotFoundError(f"No module named '{name}'", name=name)
            return real_import(name, *rest)

        monkeypatch.setattr(doctor.metadata, "version", version)
        monkeypatch.setattr(doctor.importlib, "import_module", import_module)

    return hide


def test_a_whole_installation_is_ready(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--runs", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "ready for everything" in text
    assert all(
        topic in text for topic in ("python", "extra cpu", "device", "faiss", "onnxruntime", "encoder")
    )


def test_json_holds_the_same_findings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--runs", str(tmp_path), "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["works"] is True
    assert {finding["topic"] for finding in tree["findings"]} == set(by_topic(examine(tmp_path)))


def test_without_torch_training_is_missing_and_serving_is_not(
    tmp_path: Path, without: Callable[..., None]
) -> None:
    without("torch", "transformers")
    findings = by_topic(examine(tmp_path))
    assert findings["device"].verdict == "missing"
    assert findings["extra train"].verdict == "missing"
    assert "transformers" in findings["extra train"].detail
    assert "[train]" in findings["extra train"].hint
    assert not works(examine(tmp_path, "training"))
    assert works(examine(tmp_path, "serving"))


def test_without_faiss_nothing_works_and_the_cpu_extra_is_proposed(
    tmp_path: Path, without: Callable[..., None]
) -> None:
    without("faiss_cpu", "faiss")
    findings = by_topic(examine(tmp_path, "serving"))
    assert findings["extra cpu"].verdict == "missing"
    assert "[cpu]" in findings["extra cpu"].hint
    assert "extra gpu" not in findings
    assert findings["faiss"].verdict == "missing"


def test_what_is_missing_ends_with_one(
    tmp_path: Path, without: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    without("fastapi")
    assert cli.main(["doctor", "--runs", str(tmp_path)]) == 1
    assert "1 missing" in capsys.readouterr().out
    assert cli.main(["doctor", "--runs", str(tmp_path), "--for", "training"]) == 0


def test_a_version_outside_its_range_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = metadata.version
    monkeypatch.setattr(doctor.metadata, "version", lambda name: "1.0" if name == "click" else real(name))
    finding = by_topic(examine(tmp_path))["core"]
    assert finding.verdict == "missing"
    assert "click 1.0 (needs >=" in finding.detail


def test_twins_that_overwrite_each_other_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    twins = {"faiss": ["faiss-cpu", "faiss-gpu-cu12"], "onnxruntime": ["onnxruntime"]}
    monkeypatch.setattr(doctor.metadata, "packages_distributions", lambda: twins)
    found = [finding for finding in examine(tmp_path) if "both installed" in finding.detail]
    assert [finding.verdict for finding in found] == ["missing"]
    assert "pip uninstall faiss-cpu faiss-gpu-cu12" in found[0].hint


def test_a_changed_encoder_is_not_to_be_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "PACKAGED_WEIGHTS", "0" * 64)
    finding = by_topic(examine(tmp_path))["encoder"]
    assert finding.verdict == "missing"
    assert "checksum" in finding.detail


def make_run(folder: Path, finished: str | None) -> Path:
    folder.mkdir(parents=True)
    manifest = Manifest(
        run_id=folder.name,
        created="now",
        config_digest="0",
        finished=finished,
        stages={"encode": {"seconds": 1}},
    )
    write_manifest(folder, manifest)
    return folder


def test_the_last_run_is_described(tmp_path: Path) -> None:
    assert by_topic(examine(tmp_path))["last run"].detail.startswith("none under")
    promote(make_run(tmp_path / "one", "2026-01-01"))
    assert by_topic(examine(tmp_path))["last run"].detail.endswith("finished 2026-01-01, live")
    make_run(tmp_path / "two", None)
    finding = by_topic(examine(tmp_path))["last run"]
    assert "stopped after encode" in finding.detail
    (tmp_path / "two" / "manifest.json").write_text("{")
    assert "cannot be read" in by_topic(examine(tmp_path))["last run"].detail


def test_a_store_that_cannot_be_opened_is_missing(tmp_path: Path) -> None:
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "feature_store.yaml").write_text("project: [")
    finding = by_topic(examine(tmp_path))["feature store"]
    assert finding.verdict == "missing"
    assert "cannot be opened" in finding.detail


def test_it_runs_in_an_interpreter_that_lacks_everything_heavy(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'faiss', 'onnxruntime', 'feast', 'pandas', 'packaging'):\n"
        "    sys.modules[name] = None\n"
        "from recsys.cli import main\n"
        f"sys.exit(main(['doctor', '--runs', {str(tmp_path)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr == ""
    assert "torch cannot be imported" in done.stdout


def test_memory_is_positive_and_real() -> None:
    memory = doctor.available_memory()
    assert memory is None or 0 < memory < 2**50


def test_every_hint_is_for_something(tmp_path: Path) -> None:
    for finding in examine(tmp_path):
        assert finding.detail
        assert finding.verdict == "ok" or finding.hint
