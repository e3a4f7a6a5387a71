"""On a GPU the models compute what they compute on a CPU. Skipped where torch sees no CUDA device."""

import numpy as np
import pytest
import torch

from recsys.distributed import training_device
from recsys.model.encoder import TextEncoder
from recsys.model.whitening import Whitening
from recsys.train import fit_towers
from recsys.tuning import Tuning

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]


def on(config, device):
    return config.model_copy(update={"run": config.run.model_copy(update={"device": device})})


def encoder_on(device, tiny_bert, config, precision="fp32"):
    shape = config.encoder.model_copy(update={"name": str(tiny_bert)})
    return TextEncoder.load(shape, device, precision)


def test_auto_takes_the_gpu():
    assert training_device("auto").type == "cuda"
    assert training_device("cpu").type == "cpu"


@pytest.mark.parametrize(("precision", "apart"), [("fp32", 1e-4), ("bf16", 0.05)])
def test_the_encoder_agrees_with_the_cpu(tiny_bert, config, texts, precision, apart):
    there = encoder_on("cuda", tiny_bert, config, precision).encode(texts)
    here = encoder_on("cpu", tiny_bert, config).encode(texts)
    assert there.dtype == np.float32
    np.testing.assert_allclose(there, here, atol=apart)


def test_towers_agree_with_the_cpu(shop, unit_vectors, config, tmp_path):
    fit = shop(200, 24, 0)
    counts = np.bincount(fit.target_rows, minlength=24)
    options = {"epochs": 3}
    there, here = (
        fit_towers(fit, unit_vectors, counts, on(config, device), tmp_path / device, **options)
        for device in ("cuda", "cpu")
    )
    np.testing.assert_allclose(there.losses, here.losses, rtol=1e-3)
    np.testing.assert_allclose(there.item_vectors(), here.item_vectors(), atol=1e-2)
    assert np.abs(there.state["target_residual"]).max() > 0.01


def test_fine_tuning_agrees_with_the_cpu(tiny_bert, shop, texts, config, tmp_path):
    fit = shop(150, 24, 0)
    counts = np.bincount(fit.target_rows, minlength=24)
    losses = {}
    for device in ("cuda", "cpu"):
        encoder = encoder_on(device, tiny_bert, config)
        raw = encoder.encode(texts)
        whitening = Whitening.fit(raw, 12)
        chosen = on(config, device)
        towers = fit_towers(fit, whitening.apply(raw), counts, chosen, tmp_path / device, epochs=2)
        tuning = Tuning(encoder, texts, fit, towers, whitening, chosen, tmp_path / f"{device}-tune")
        tuning.run(None)
        losses[device] = tuning.losses
    assert len(losses["cuda"]) == config.finetune.steps
    np.testing.assert_allclose(losses["cuda"], losses["cpu"], rtol=0.02)
