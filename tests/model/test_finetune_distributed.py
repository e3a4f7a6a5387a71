"""Fine-tuning in two processes agrees with one of the same global batch."""

import numpy as np
import pytest
from two_processes import TWO_PROCESSES, result_of

SCRIPT = """
import os, sys
sys.path.insert(0, {tests})
import numpy as np, torch
from pathlib import Path
from conftest import WORDS, make_shop
from recsys.config import load_config
from recsys.tuning import Tuning
from recsys.model.encoder import TextEncoder
from recsys.model.whitening import Whitening
from recsys.train import fit_towers
torch.set_num_threads(1)
config = load_config(None, {settings})
texts = [" ".join(WORDS[(i * k) % len(WORDS)] for k in (1, 3, 5)) + f" {i}" for i in range(24)]
encoder = TextEncoder.load(config.encoder, "cpu", "fp32")
raw = encoder.encode(texts)
whitening = Whitening.fit(raw, 12)
rows = make_shop(150, 24, 0)
counts = np.bincount(rows.target_rows, minlength=24)
folder = Path({folder})
towers = fit_towers(rows, whitening.apply(raw), counts, config, folder / "towers", epochs=1)
tuning = Tuning(encoder, texts, rows, towers, whitening, config, folder)
tuning.run(None)
if int(os.environ.get("RANK", "0")) == 0:
    weights = np.concatenate([p.detach().numpy().ravel() for p in tuning.learning])
    before = [p for layer in encoder.layers()[-2:] for p in layer.parameters()]
    start = np.concatenate([p.detach().numpy().ravel() for p in before])
    losses, text = np.array(tuning.losses), tuning.text.numpy()
    np.savez(folder / "result.npz", losses=losses, text=text, moved=weights - start)
"""


@pytest.mark.slow
def test_two_processes_equal_one(tiny_bert, tmp_path):
    settings = [
        "run.device=cpu", f"encoder.name={tiny_bert}", "encoder.max_tokens=16", "model.history_length=6",
        "train.num_negatives=8", "train.batch_size=32", "train.min_steps=1",
        "finetune.layers=2", "finetune.steps=4",
        "finetune.items_per_step=8", "finetune.contexts_per_step=40", "finetune.refresh_steps=2",
        "finetune.learning_rate=0.001",
    ]  # fmt: skip
    script = SCRIPT.replace("{settings}", repr(settings))
    one = result_of(tmp_path / "one", script)
    two = result_of(tmp_path / "two", script, TWO_PROCESSES)
    np.testing.assert_allclose(one["losses"], two["losses"], rtol=1e-3)
    np.testing.assert_allclose(one["text"], two["text"], atol=5e-3)
    assert np.abs(one["moved"]).max() > 1e-3
    direction = one["moved"] @ two["moved"]
    assert direction / np.linalg.norm(one["moved"]) / np.linalg.norm(two["moved"]) > 0.99
