"""What a run notes of its stages: clock and processor, and what augmentation cost beside training."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from recsys.artifacts import load_manifest
from recsys.config import Config
from recsys.runs import augmentation_share, open_run


def busy(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_a_stage_counts_clock_and_processor_and_its_parts(tmp_path: Path) -> None:
    run = open_run(tmp_path, Config(), {})
    with run.stage("select") as figures:
        for _ in range(2):
            with run.part("augment"):
                busy(0.05)
        time.sleep(0.2)
        figures["rows"] = 3
    with run.stage("final"):
        busy(0.02)
    stages = load_manifest(run.folder).stages
    assert stages["select"]["rows"] == 3
    assert stages["select"]["seconds"] >= 0.29
    assert 0.1 <= stages["select"]["augment_cpu_seconds"] <= stages["select"]["cpu_seconds"]
    assert "augment_cpu_seconds" not in stages["final"], "a stage's parts are its own"


def test_augmentation_is_held_against_the_training_that_followed() -> None:
    stages = {
        "encode": {"cpu_seconds": 500.0},
        "augment": {"cpu_seconds": 12.0},
        "select": {"cpu_seconds": 101.0, "augment_cpu_seconds": 1.0},
        "finetune": {"cpu_seconds": 52.0, "augment_cpu_seconds": 2.0},
        "report": {"cpu_seconds": 400.0, "augment_cpu_seconds": 1.0},
        "final": {"cpu_seconds": 51.0, "augment_cpu_seconds": 1.0},
    }
    assert augmentation_share(stages) == (pytest.approx(17.0), pytest.approx(200.0))
    assert augmentation_share({"select": {"cpu_seconds": 1.0}}) is None
    assert augmentation_share({"augment": {"cpu_seconds": 1.0}, "select": {"seconds": 1.0}}) is None
