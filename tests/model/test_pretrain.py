"""Pretraining on the catalogue: whole words are masked, the loss falls, it resumes, and it loads by path."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from recsys.errors import ConfigError
from recsys.model.encoder import TextEncoder
from recsys.model.masked_lm import MaskedLm
from recsys.model.masking import MaskableTexts
from recsys.pretrain import MASKED_LM, Pretraining, adapt_encoder
from recsys.randomness import generator

COLOURS, THINGS = ["red", "blue", "green"], ["tea", "cup", "mug", "bag", "hat", "lamp", "soap", "oil"]


class Killed(Exception):
    pass


@pytest.fixture
def encoder(tiny_bert, config):
    return TextEncoder.load(config.encoder.model_copy(update={"name": str(tiny_bert)}), "cpu", "fp32")


@pytest.fixture
def catalogue():
    """A shop where every colour has a thing of its own: "red tea pen", "blue cup pen"."""
    return [f"{COLOURS[i % 3]} {THINGS[i % 3]} pen {i // 6} {i % 6}" for i in range(30)]


@pytest.fixture
def settings(config):
    changes = {"enabled": True, "steps": 24, "max_passes": 500.0, "batch_tokens": 64, "learning_rate": 0.003}
    return config.model_copy(update={"pretrain": config.pretrain.model_copy(update=changes)})


def weights(encoder):
    return {name: value.numpy().tobytes() for name, value in encoder.model.state_dict().items()}


def trained(encoder, texts, settings, folder, on_step=None):
    training = Pretraining(encoder, texts, settings, folder)
    training.run(on_step)
    return training


# ---- masks ----


def pieces(tmp_path, words):
    """A word-piece tokenizer over the given pieces, inside an encoder's clothes."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    from recsys.config import EncoderConfig

    vocabulary = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])}
    tokenizer = BertTokenizerFast(vocab=vocabulary, model_max_length=32)
    shape = BertConfig(
        vocab_size=len(vocabulary), hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=8, max_position_embeddings=32,
    )  # fmt: skip
    return TextEncoder(BertModel(shape), tokenizer, EncoderConfig(name="made"), torch.device("cpu"), "fp32")


def test_the_pieces_of_a_word_are_hidden_together(tmp_path):
    made = pieces(tmp_path, ["tea", "##pot", "##s", "cup", "saucer"])
    texts = MaskableTexts(made, ["teapots cup", "saucer", "cup teapot saucer"])
    assert texts.tokens.lengths().tolist() == [6, 3, 6]
    together = set()
    for seed in range(60):
        batch = texts.masked(np.arange(3), 0.3, np.random.default_rng(seed))
        together.add(tuple(batch.chosen[0].tolist()))
        assert batch.chosen[1].tolist() == [False, True, False, False, False, False]  # at least one
        assert batch.chosen[2, 2] == batch.chosen[2, 3]
        assert len(batch.targets) == int(batch.chosen.sum())
    no, yes = False, True
    assert together == {
        (no, yes, yes, yes, no, no), (no, no, no, no, yes, no), (no, yes, yes, yes, yes, no),
    }  # fmt: skip


def test_chinese_words_are_those_of_the_segmenter(tmp_path):
    made = pieces(tmp_path, list("陶瓷茶杯白色"))
    texts = MaskableTexts(made, ["白色陶瓷茶杯"])
    for seed in range(40):
        chosen = texts.masked(np.arange(1), 0.3, np.random.default_rng(seed)).chosen[0]
        assert all(chosen[a] == chosen[b] for a, b in ((1, 2), (3, 4), (5, 6)))


def test_chosen_tokens_are_masked_swapped_or_shown(tmp_path):
    made = pieces(tmp_path, [f"w{i}" for i in range(200)])
    rng = np.random.default_rng(0)
    texts = MaskableTexts(made, [" ".join(f"w{i}" for i in rng.integers(200, size=25)) for _ in range(400)])
    batch = texts.masked(np.arange(400), 0.15, np.random.default_rng(1))
    assert float(batch.chosen.sum()) / (400 * 25) == pytest.approx(0.15, abs=0.02)
    shown = batch.ids[batch.chosen]
    assert float((shown == 4).float().mean()) == pytest.approx(0.8, abs=0.04)
    same = (shown == batch.targets).float().mean()
    assert float(same) == pytest.approx(0.1, abs=0.04)
    assert int(shown.min()) >= 4  # never [PAD], [UNK], [CLS] or [SEP]
    left = ~batch.chosen & batch.attention.bool()
    again = texts.masked(np.arange(400), 0.15, np.random.default_rng(2))
    assert torch.equal(batch.ids[left & ~again.chosen], again.ids[left & ~again.chosen])
    assert not torch.equal(batch.chosen, again.chosen)  # drawn anew


def test_rows_of_a_batch_add_up_to_it(encoder, catalogue):
    texts = MaskableTexts(encoder, catalogue)
    whole = texts.masked(np.arange(9), 0.4, np.random.default_rng(0))
    parts = [whole.take(slice(start, None, 2)) for start in (0, 1)]
    assert sum(len(part.targets) for part in parts) == len(whole.targets)
    for start, part in enumerate(parts):
        assert torch.equal(part.ids, whole.ids[start::2])
        rows = whole.chosen.nonzero()[:, 0] % 2 == start
        assert torch.equal(part.targets, whole.targets[rows])


def test_a_tokenizer_without_a_mask_is_refused(encoder, catalogue, monkeypatch):
    monkeypatch.setattr(encoder, "tokenizer", SimpleNamespace(mask_token_id=None, is_fast=True))
    with pytest.raises(ConfigError, match=r"pretrain\.enabled=false"):
        MaskableTexts(encoder, catalogue)


# ---- the head ----


def test_a_built_head_begins_at_the_frequencies(encoder, catalogue, settings, tmp_path):
    training = Pretraining(encoder, catalogue, settings, tmp_path)
    assert training.masked.built
    size = len(encoder.tokenizer)
    counts = training.texts.frequencies(training.fit, size)
    assert counts[encoder.tokenizer.convert_tokens_to_ids("pen")] == len(training.fit)
    assert counts[:5].sum() == 0
    batch = training.texts.masked(training.fit, 0.15, np.random.default_rng(0))
    with torch.no_grad():
        loss = float(torch.nn.functional.cross_entropy(training.masked.logits(batch), batch.targets))
    share = (counts + 0.01) / (counts + 0.01).sum()
    assert loss < float(-np.log(share[batch.targets]).mean()) + 0.2  # no worse than counting
    assert loss < np.log(size) - 0.3


def test_a_head_that_is_there_is_loaded(tiny_bert, catalogue, settings, tmp_path):
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    folder = tmp_path / "with-head"
    torch.manual_seed(1)
    model = AutoModelForMaskedLM.from_pretrained(tiny_bert)
    with torch.no_grad():
        model.cls.predictions.bias.copy_(torch.arange(len(model.cls.predictions.bias)) / 10)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(folder)
    encoder = TextEncoder.load(settings.encoder.model_copy(update={"name": str(folder)}), "cpu", "fp32")
    masked = MaskedLm(encoder)
    assert not masked.built
    torch.testing.assert_close(masked.model.cls.predictions.bias, model.cls.predictions.bias)


# ---- the loop ----


def test_it_learns_which_thing_goes_with_which_colour(encoder, catalogue, settings, tmp_path):
    more = {"steps": 150, "batch_tokens": 512, "mask_rate": 0.3, "learning_rate": 0.01}
    longer = settings.model_copy(update={"pretrain": settings.pretrain.model_copy(update=more)})
    training = trained(encoder, catalogue, longer, tmp_path)
    report = training.report()
    assert report["after"]["loss"] < report["before"]["loss"]
    assert np.mean(report["losses"][-10:]) < np.mean(report["losses"][:10]) - 0.3
    tokenizer = encoder.tokenizer
    for colour, thing in zip(COLOURS, THINGS, strict=False):
        ids = torch.tensor([tokenizer(f"{colour} [MASK] pen")["input_ids"]])
        with torch.no_grad():
            logits = training.masked.model(ids).logits[0, 2]
        scores = {t: float(logits[tokenizer.convert_tokens_to_ids(t)]) for t in THINGS[:3]}
        assert max(scores, key=scores.get) == thing


def test_held_out_texts_are_never_trained_on(encoder, catalogue, settings, tmp_path):
    training = Pretraining(encoder, catalogue, settings, tmp_path)
    assert len(training.held_out) == 2
    assert not set(training.held_out) & set(training.fit)
    seen = np.concatenate([batch for turn in range(3) for batch in training._batches(turn)])
    np.testing.assert_array_equal(np.bincount(seen, minlength=30)[training.fit], 3)
    assert not np.isin(training.held_out, seen).any()
    assert len(training._batches(0)) == training.num_batches == len(training._batches(1))


@pytest.mark.parametrize("step", [1, 21, 23])
def test_killed_at_a_step_it_resumes_bit_for_bit(encoder, catalogue, settings, tmp_path, step):
    def kill(done):
        if done == step:
            raise Killed

    whole = trained(encoder, catalogue, settings, tmp_path / "whole")
    with pytest.raises(Killed):
        trained(encoder, catalogue, settings, tmp_path / "killed", kill)
    steps = []
    resumed = trained(encoder, catalogue, settings, tmp_path / "killed", steps.append)
    assert steps[0] == step // 20 * 20 + 1
    assert weights(whole.masked.encoder()) == weights(resumed.masked.encoder())
    assert whole.report() == resumed.report()


def test_only_top_layers_and_the_head_learn(encoder, catalogue, settings, tmp_path):
    top = settings.model_copy(update={"pretrain": settings.pretrain.model_copy(update={"layers": 1})})
    before = weights(encoder)
    training = trained(encoder, catalogue, top, tmp_path)
    assert weights(encoder) == before  # the caller's model is as it was
    moved = {name for name, value in weights(training.masked.encoder()).items() if value != before[name]}
    assert moved
    assert all(name.startswith("encoder.layer.2.") for name in moved)


def test_it_is_budgeted_by_passes(encoder, catalogue, settings, tmp_path):
    few = settings.model_copy(update={"pretrain": settings.pretrain.model_copy(update={"max_passes": 0.5})})
    training = Pretraining(encoder, catalogue, few, tmp_path)
    assert training.num_steps == int(np.ceil(0.5 * training.num_batches)) < 24


# ---- the whole ----


def adapt(encoder, catalogue, settings, shop, folder, **options):
    fit, held_out = shop(150, 30, 0), shop(60, 30, 1, "held_out")
    counts = np.bincount(fit.target_rows, minlength=30)
    return adapt_encoder(encoder, catalogue, fit, counts, settings, folder, validation=held_out, **options)


def test_the_gate_decides_and_the_report_says_why(encoder, catalogue, settings, shop, tmp_path):
    result = adapt(encoder, catalogue, settings, shop, tmp_path)
    report = result.report
    assert report["kept"] == result.kept == (result.encoder is not encoder)
    assert set(report["before"]) == set(report["after"]) == {"all", "warm", "cold"}
    assert report["why"]
    assert report["masked_lm"]["before"]["loss"] > 0
    np.testing.assert_allclose(
        result.whitening.apply(result.encoder.encode(catalogue)), result.text_vectors, atol=1e-5
    )


def test_the_gate_keeps_what_wins_and_refuses_what_loses(encoder, catalogue, settings, shop, tmp_path):
    from recsys.train import fit_towers

    fit, held_out = shop(150, 30, 0), shop(60, 30, 1, "held_out")
    counts = np.bincount(fit.target_rows, minlength=30)
    asked = []

    def side(best):
        def fitted(vectors, model, whitening, epochs):
            asked.append(epochs)
            good = (model is encoder) != best
            own = vectors if good else np.full_like(vectors, vectors.shape[1] ** -0.5)
            many = 6 if good else 1
            return fit_towers(fit, own, counts, settings, tmp_path / str((best, len(asked))), epochs=many)

        return fitted

    kept = adapt(encoder, catalogue, settings, shop, tmp_path / "a", fit=side(True))
    assert kept.kept
    assert asked == [None, 1]
    refused = adapt(encoder, catalogue, settings, shop, tmp_path / "a", fit=side(False))
    assert not refused.kept
    assert refused.encoder is encoder
    assert "lose" in refused.report["why"]
    assert held_out.role == "held_out"


def test_the_adapted_model_loads_by_path(encoder, catalogue, settings, shop, tmp_path):
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    result = adapt(encoder, catalogue, settings, shop, tmp_path, save_to=tmp_path / MASKED_LM)
    assert (tmp_path / MASKED_LM / "model.safetensors").is_file()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / MASKED_LM)
    model, loading = AutoModelForMaskedLM.from_pretrained(tmp_path / MASKED_LM, output_loading_info=True)
    assert not loading["missing_keys"]
    training = trained(encoder, catalogue, settings, tmp_path)  # finished: nothing is run
    own = training.masked.model.state_dict()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, own[name], msg=name)
    assert tokenizer("red tea")["input_ids"] == encoder.tokenizer("red tea")["input_ids"]
    shape = settings.encoder.model_copy(update={"name": str(tmp_path / MASKED_LM)})
    adapted = training.masked.encoder().encode(catalogue)
    np.testing.assert_allclose(TextEncoder.load(shape, "cpu", "fp32").encode(catalogue), adapted, atol=1e-5)
    assert result.report["masked_lm"] == training.report()


def test_too_few_texts_are_left_alone(encoder, settings, shop, tmp_path):
    result = adapt(encoder, ["red tea"] * 29 + ["blue cup"], settings, shop, tmp_path)
    assert not result.kept
    assert "2 distinct texts" in result.report["why"]
    assert result.encoder is encoder


def test_masks_are_keyed_by_step(encoder, catalogue):
    texts = MaskableTexts(encoder, catalogue)
    draws = [texts.masked(np.arange(9), 0.15, generator(0, "pretrain", "masks", step)) for step in (3, 3, 4)]
    assert torch.equal(draws[0].ids, draws[1].ids)
    assert not torch.equal(draws[0].ids, draws[2].ids)
