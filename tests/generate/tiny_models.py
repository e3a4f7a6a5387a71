"""Real models of the real classes, tiny and untrained, made on the spot."""

from __future__ import annotations

import json
from pathlib import Path

import sentencepiece
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    BertTokenizerFast,
    MarianConfig,
    MarianMTModel,
)

ENGLISH = [
    *("soft", "warm", "large", "cotton", "shirt", "for", "men", "with", "long", "sleeves", "and", "nice"),
    *("lovely", "cosy", "gentle", "plain", "sturdy", "light", "ceramic", "mug", "kitchen", "plate", "dinner"),
    *("set", "red", "blue", "without", "parabens", "free", "gift", "bottle", "travel", "daily", "classic"),
]
CHINESE = "红色纯棉短袖上衣舒适柔软优质耐用家用厨房陶瓷杯子夏季宽松男士运动休闲日常穿着不含酒精时尚简约"
SENTENCES = [" ".join(ENGLISH[i : i + 7]) for i in range(0, 40, 2)] * 5


def masked_folder(folder: Path, head: bool = True, seed: int = 0) -> Path:
    """A BERT of two layers over whole words, subwords and Chinese characters."""
    folder.mkdir(parents=True, exist_ok=True)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = dict.fromkeys([*special, *ENGLISH, "##s", "##ing", ",", ".", "2", *CHINESE])
    vocabulary = {token: i for i, token in enumerate(tokens)}
    (folder / "vocab.txt").write_text("\n".join(tokens), encoding="utf-8")
    tokenizer = BertTokenizerFast(vocab=vocabulary, do_lower_case=True, model_max_length=64)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokens), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64, initializer_range=0.5,
    )  # fmt: skip
    (BertForMaskedLM if head else BertModel)(config).save_pretrained(folder)
    return folder


def marian_folder(folder: Path, seed: int = 0) -> Path:
    """A Marian model of one layer with a SentencePiece vocabulary trained on a few sentences."""
    folder.mkdir(parents=True, exist_ok=True)
    corpus = folder.parent / f"{folder.name}.txt"
    corpus.write_text("\n".join(SENTENCES), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(folder / "source"), vocab_size=90, hard_vocab_limit=False,
        minloglevel=2,
    )  # fmt: skip
    (folder / "source.model").rename(folder / "source.spm")
    (folder / "source.vocab").unlink()
    (folder / "target.spm").write_bytes((folder / "source.spm").read_bytes())
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
    names = [pieces.id_to_piece(i) for i in range(pieces.get_piece_size())]
    known = ["</s>", "<unk>", *(name for name in names if name not in ("<s>", "</s>", "<unk>")), "<pad>"]
    ids = {name: i for i, name in enumerate(known)}
    (folder / "vocab.json").write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"source_lang": "en", "target_lang": "xx", "model_max_length": 64}), encoding="utf-8"
    )
    torch.manual_seed(seed)
    pad = ids["<pad>"]
    config = MarianConfig(
        vocab_size=len(ids), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=64,
        pad_token_id=pad, eos_token_id=0, decoder_start_token_id=pad, forced_eos_token_id=0, init_std=0.5,
        max_length=None,
    )  # fmt: skip
    MarianMTModel(config).save_pretrained(folder)
    return folder
