"""Ops on representations in two processes agree with one process of the same global batch."""

import numpy as np
import pytest
from two_processes import TWO_PROCESSES, result_of

SCRIPT = """
import sys
sys.path.insert(0, {tests})
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
    rows, vectors, np.bincount(rows.target_rows, minlength=24), load_config(None, {settings}),
    Path({folder}), epochs=2, representation=Representation(ops=ops),
)
if int(os.environ.get("RANK", "0")) == 0:
    np.savez({folder} + "/result.npz", losses=np.array(fitted.losses), **fitted.state)
"""
SETTINGS = [
    "run.device=cpu",
    "model.history_length=6",
    "train.batch_size=32",
    "train.min_steps=1",
    "train.num_negatives=8",
]


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    script = SCRIPT.replace("{settings}", repr(SETTINGS))
    one = result_of(tmp_path / "one", script)
    two = result_of(tmp_path / "two", script, TWO_PROCESSES)
    np.testing.assert_allclose(one["losses"], two["losses"], rtol=1e-4)
    for name in ("target_residual", "history_residual", "log_temperature"):
        np.testing.assert_allclose(one[name], two[name], atol=1e-3, err_msg=name)
    assert np.abs(one["target_residual"]).max() > 0.005
