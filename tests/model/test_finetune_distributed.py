"""Fine-tuning in two processes agrees with one of the same global batch."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = """
import os, sys
sys.path.insert(0, {tests!r})
import numpy as np, torch
from pathlib import Path
from conftest import WORDS, make_shop
from recsys.config import load_config
from recsys.finetune import _Tuning
from recsys.model.encoder import TextEncoder
from recsys.model.whitening import Whitening
from recsys.train import fit_towers
torch.set_num_threads(1)
config = load_config(None, {settings!r})
texts = [" ".join(WORDS[(i * k) % len(WORDS)] for k in (1, 3, 5)) + f" {{i}}" for i in range(24)]
encoder = TextEncoder.load(config.encoder, "cpu", "fp32")
raw = encoder.encode(texts)
whitening = Whitening.fit(raw, 12)
rows = make_shop(150, 24, 0)
counts = np.bincount(rows.target_rows, minlength=24)
folder = Path({folder!r})
towers = fit_towers(rows, whitening.apply(raw), counts, config, folder / "towers", epochs=1, progress=False)
tuning = _Tuning(encoder, texts, rows, towers, whitening, config, folder)
tuning.run(False, None)
if int(os.environ.get("RANK", "0")) == 0:
    weights = np.concatenate([p.detach().numpy().ravel() for p in tuning.learning])
    before = [p for layer in encoder.layers()[-2:] for p in layer.parameters()]
    start = np.concatenate([p.detach().numpy().ravel() for p in before])
    losses, text = np.array(tuning.losses), tuning.text.numpy()
    np.savez(folder / "result.npz", losses=losses, text=text, moved=weights - start)
"""


def run(folder, tiny_bert, launcher=()):
    folder.mkdir()
    settings = [
        "run.device=cpu", f"encoder.name={tiny_bert}", "encoder.max_tokens=16", "model.history_length=6",
        "train.num_negatives=8", "train.batch_size=32", "finetune.layers=2", "finetune.steps=4",
        "finetune.items_per_step=8", "finetune.contexts_per_step=40", "finetune.refresh_steps=2",
        "finetune.learning_rate=0.001",
    ]  # fmt: skip
    script = folder / "script.py"
    tests = str(Path(__file__).parent)
    script.write_text(SCRIPT.format(tests=tests, settings=settings, folder=str(folder)))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *launcher, str(script)], env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    return np.load(folder / "result.npz")


@pytest.mark.slow
def test_two_processes_equal_one(tiny_bert, tmp_path):
    one = run(tmp_path / "one", tiny_bert)
    two = run(
        tmp_path / "two", tiny_bert, ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    )
    np.testing.assert_allclose(one["losses"], two["losses"], rtol=1e-3)
    np.testing.assert_allclose(one["text"], two["text"], atol=5e-3)
    assert np.abs(one["moved"]).max() > 1e-3
    direction = one["moved"] @ two["moved"]
    assert direction / np.linalg.norm(one["moved"]) / np.linalg.norm(two["moved"]) > 0.99
