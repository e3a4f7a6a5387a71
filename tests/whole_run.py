"""One whole run over a tiny shop with a tiny BERT, made once and only read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

from recsys.config import Config
from recsys.loading import LoadedRun


def write_tiny_bert(folder: Path) -> Path:
    """A BERT of hidden size 32 whose words are letters, for texts of any shop."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    folder.mkdir(parents=True, exist_ok=True)
    BertTokenizerFast(vocab={word: i for i, word in enumerate(words)}).save_pretrained(folder)
    torch.manual_seed(0)
    shape = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
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
        "rank.epochs=2",
    ]
