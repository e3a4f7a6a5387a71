import json

import numpy as np
import onnxruntime as ort
import pytest
import torch

from recsys import export as room
from recsys.config import ModelConfig
from recsys.contexts import EVENT_TYPES
from recsys.errors import ArtifactError
from recsys.export import export_text_encoder, export_towers
from recsys.model.encoder import TextEncoder
from recsys.model.fitted import TowersFit
from recsys.model.towers import TwoTower, UserTower
from recsys.model.whitening import Whitening
from recsys.scorer import OnnxTextEncoder, OnnxUserTower
from recsys.user_graph import INPUTS, user_graph


def towers(vectors, **changes):
    counts = np.arange(len(vectors))
    shape = ModelConfig(**({"history_length": 6} | changes))
    model = TwoTower(counts, vectors.shape[1], shape)
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    state = {name: value.numpy() for name, value in model.whole().items()}
    return TowersFit(state, vectors, counts, shape, 1, (0.1,), (2.0,), 10.0)


@pytest.mark.parametrize(("length", "bias"), [(1, False), (6, False), (6, True)])
def test_the_user_tower_is_exported_with_its_parity(unit_vectors, config, tmp_path, make, length, bias):
    fitted = towers(unit_vectors, history_length=length, item_bias=bias)
    figures = export_towers(fitted, tmp_path, config)
    assert figures["max_difference"] < 1e-5
    assert figures["top_20_overlap"] == 1
    contexts = make([[1, 2, 3, 4, 5, 6, 7, 8], [], [9]], [[0], [0], [0]])
    served = OnnxUserTower(tmp_path / "user_tower.onnx", fitted.history_vectors(), length, 1)
    users = served.encode(list(contexts.histories()), contexts.moments.tolist())
    np.testing.assert_allclose(users, fitted.user_vectors(contexts), atol=1e-5)
    assert not users[1].any()
    for name in ("text", "item", "history"):
        assert np.load(tmp_path / f"{name}_vectors.npy").shape == unit_vectors.shape
    assert {p.suffix for p in tmp_path.iterdir()} == {".npy", ".onnx", ".safetensors"}


@pytest.mark.parametrize("bias", [False, True])
def test_the_written_graph_is_the_user_tower_wherever_its_inputs_lie(bias):
    torch.manual_seed(1)
    tower = UserTower(7, 0.9, item_bias=bias).eval()
    for parameter in tower.parameters():
        torch.nn.init.normal_(parameter)
    session = ort.InferenceSession(user_graph(tower, 5).SerializeToString())
    for length in (1, 4, 7):
        gaps = 60.0 * 365 * 24 * 3600 * torch.rand(9, length)  # far beyond the last knot, most of them
        gaps[-4:, 0] = torch.tensor([-3600.0, 0.0, 3600.0, 3 * 3600.0])
        mask = torch.rand(9, length) < 0.6
        mask[0], mask[-4:, 0] = False, True
        given = (torch.randn(9, length, 5), torch.randint(len(EVENT_TYPES), (9, length)), gaps, mask)
        named = {name: one.numpy() for name, one in zip(INPUTS, given, strict=True)}
        with torch.inference_mode():
            expected = tower(*given).numpy()
        np.testing.assert_allclose(session.run(None, named)[0], expected, atol=1e-5)
        assert not expected[0].any()


def test_the_text_encoder_is_exported_with_its_tokenizer(tiny_bert, texts, config, tmp_path):
    shape = config.encoder.model_copy(update={"name": str(tiny_bert)})
    encoder = TextEncoder.load(shape, "cpu", "fp32")
    raw = encoder.encode(texts)
    whitening = Whitening.fit(raw, 8)
    figures = export_text_encoder(encoder, whitening, tmp_path, config, texts)
    assert figures["max_difference"] < 1e-4
    served = OnnxTextEncoder(
        tmp_path / "text_encoder.onnx", tmp_path / "tokenizer" / "tokenizer.json", encoder.max_tokens, 1
    )
    known = [text for text in texts if text.strip()]
    expected = whitening.apply(raw)[[i for i, text in enumerate(texts) if text.strip()]]
    np.testing.assert_allclose(served.encode(known), expected, atol=1e-4)
    assert json.loads((tmp_path / "tokenizer" / "tokenizer.json").read_text())["model"]


def test_a_graph_that_disagrees_is_not_put_in_place(unit_vectors, config, tmp_path, monkeypatch):
    class Other(OnnxUserTower):
        def encode(self, histories, moments):
            return super().encode(histories, moments)[:, ::-1]

    monkeypatch.setattr(room, "OnnxUserTower", Other)
    with pytest.raises(ArtifactError, match="does not agree"):
        export_towers(towers(unit_vectors), tmp_path, config)
    assert not (tmp_path / "user_tower.onnx").exists()


def test_parity_fails_on_nan():
    with pytest.raises(ArtifactError):
        room._require_parity({"max_difference": float("nan"), "top_20_overlap": 1.0}, room.Path("x.onnx"))
