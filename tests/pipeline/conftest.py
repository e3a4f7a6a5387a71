from __future__ import annotations

import pytest
from whole_run import Made, quick_settings, write_tiny_bert

from recsys.artifacts import load_manifest
from recsys.cli import main
from recsys.config import load_config
from recsys.loading import load_run


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("whole")
    data, out = folder / "shop", folder / "runs"
    settings = quick_settings(write_tiny_bert(folder / "bert"))
    assert main(["data", "sample", "--size", "tiny", "--out", str(data), "--seed", "3"]) == 0
    options = [part for setting in settings for part in ("--set", setting)]
    assert main(["run", "--data", str(data), "--out", str(out), *options]) == 0
    run = load_run(out)
    assert load_manifest(run.path).finished is not None
    return Made(data, out, settings, load_config(None, settings), run)
