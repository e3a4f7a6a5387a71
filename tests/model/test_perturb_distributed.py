"""Ops on representations in two processes agree with one process of the same global batch."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import os
import numpy as np, torch
from pathlib import Path
from conftest import make_shop
from recsys.augment.representation import DropoutViews, GaussianNoise, Mixup, Pgd, Representation
from recsys.config import load_config
from recsys.train import fit_towers
torch.set_num_threads(1)
vectors = np.random.default_rng(3).normal(size=(24, 16)).astype(np.float32)
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
rows = make_shop(200, 24, 0)
ops = (DropoutViews(weight=0.5), GaussianNoise(), Mixup(alpha=1.0), Pgd(steps=2))
fitted = fit_towers(
    rows, vectors, np.bincount(rows.target_rows, minlength=24), load_config(None, {settings!r}),
    Path({folder!r}), epochs=2, progress=False, representation=Representation(ops=ops),
)
if int(os.environ.get("RANK", "0")) == 0:
    np.savez({folder!r} + "/result.npz", losses=np.array(fitted.losses), **fitted.state)
"""
SETTINGS = ["run.device=cpu", "model.history_length=6", "train.batch_size=32", "train.num_negatives=8"]


def run(folder, launcher=()):
    folder.mkdir()
    script = folder / "script.py"
    tests = str(Path(__file__).parent)
    script.write_text(SCRIPT.format(tests=tests, settings=SETTINGS, folder=str(folder)))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *launcher, str(script)], env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    return np.load(folder / "result.npz")


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    one = run(tmp_path / "one")
    two = run(tmp_path / "two", ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"))
    np.testing.assert_allclose(one["losses"], two["losses"], rtol=1e-4)
    for name in ("target_residual", "history_residual", "log_temperature"):
        np.testing.assert_allclose(one[name], two[name], atol=1e-3, err_msg=name)
    assert np.abs(one["target_residual"]).max() > 0.005
