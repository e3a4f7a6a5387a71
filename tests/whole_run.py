"""One whole run over a tiny shop with a tiny BERT, made once and only read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

from recsys.config import AugmentConfig, Config
from recsys.loading import LoadedRun

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
WORDS = (*LETTERS, *(f"##{letter}" for letter in LETTERS))


def write_tiny_bert(folder: Path, words: Sequence[str] = WORDS, hidden: int = 32, length: int = 64) -> Path:
    """A BERT of three small layers; its words are letters unless told otherwise, for texts of any shop."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = BertTokenizerFast(
        vocab={word: i for i, word in enumerate(vocabulary)}, model_max_length=length
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=hidden,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
        max_position_embeddings=length,
    )
    BertModel(shape).save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Made:
    data: Path
    out: Path
    settings: list[str]
    config: Config
    run: LoadedRun

    @property
    def plain(self) -> Config:
        """The configuration that trials are prepared with: arms bring their own augmentation."""
        return self.config.model_copy(update={"augment": AugmentConfig()})


def quick_settings(encoder: Path) -> list[str]:
    return [
        f"encoder.name={encoder}",
        "encoder.max_tokens=32",
        "run.device=cpu",
        "run.threads=1",
        "track.enabled=off",
        "augment.policy=standard",
        "train.max_epochs=3",
        "train.min_steps=5",
        "train.checkpoint_steps=5",
        "finetune.steps=4",
        "finetune.items_per_step=32",
        "finetune.contexts_per_step=64",
        "finetune.learning_rate=0.001",
        "queries.steps=6",
        "queries.titles_per_step=16",
        "rank.epochs=2",
    ]
