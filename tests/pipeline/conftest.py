from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from whole_run import Made, quick_settings, write_tiny_bert

from recsys.arms import Trials
from recsys.artifacts import load_manifest
from recsys.cli import main
from recsys.config import load_config
from recsys.loading import load_run


@contextlib.contextmanager
def once(tmp_path_factory: pytest.TempPathFactory, worker_id: str, name: str) -> Iterator[Path]:
    """A folder that all workers share, in which one at a time works: the first makes what is not there."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / name
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        yield folder


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Made:
    with once(tmp_path_factory, worker_id, "whole") as folder:
        data, out = folder / "shop", folder / "runs"
        settings = quick_settings(folder / "bert")
        if not (out / "live").exists():
            write(folder, data, out, settings)
    run = load_run(out)
    assert load_manifest(run.path).finished is not None
    return Made(data, out, settings, load_config(None, settings), run)


@pytest.fixture(scope="session")
def prepared(made: Made, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Callable[[Path], Path]:
    """Puts the shop of `made`, as trials find it prepared, where a test wants to train."""
    with once(tmp_path_factory, worker_id, "prepared") as folder:
        if not (folder / "done").exists():
            Trials.prepare(made.data, folder / "work", made.plain)
            (folder / "done").touch()
    return lambda to: Path(shutil.copytree(folder / "work", to))


def write(folder: Path, data: Path, out: Path, settings: list[str]) -> None:
    write_tiny_bert(folder / "bert")
    assert main(["data", "sample", "--size", "tiny", "--out", str(data), "--seed", "3"]) == 0
    options = [part for setting in settings for part in ("--set", setting)]
    assert main(["run", "--data", str(data), "--out", str(out), *options]) == 0
