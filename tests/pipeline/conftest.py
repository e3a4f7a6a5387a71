from __future__ import annotations

import fcntl
from pathlib import Path

import pytest
from whole_run import Made, quick_settings, write_tiny_bert

from recsys.artifacts import load_manifest
from recsys.cli import main
from recsys.config import load_config
from recsys.loading import load_run


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Made:
    """Made by the first worker that asks for it; the others wait and read."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "whole"
    folder.mkdir(exist_ok=True)
    data, out = folder / "shop", folder / "runs"
    settings = quick_settings(folder / "bert")
    with (folder / "lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        if not (out / "live").exists():
            write(folder, data, out, settings)
    run = load_run(out)
    assert load_manifest(run.path).finished is not None
    return Made(data, out, settings, load_config(None, settings), run)


def write(folder: Path, data: Path, out: Path, settings: list[str]) -> None:
    write_tiny_bert(folder / "bert")
    assert main(["data", "sample", "--size", "tiny", "--out", str(data), "--seed", "3"]) == 0
    options = [part for setting in settings for part in ("--set", setting)]
    assert main(["run", "--data", str(data), "--out", str(out), *options]) == 0
