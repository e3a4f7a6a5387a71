"""Small worlds for the towers: a shop with known structure, and a BERT of three tiny layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recsys.config import Config, load_config
from recsys.contexts import Contexts

WORDS = [
    "red",
    "blue",
    "green",
    "tea",
    "cup",
    "mug",
    "bag",
    "hat",
    "lamp",
    "soap",
    "oil",
    "comb",
    "pen",
    "ink",
]


def make_contexts(
    histories: list[list[int]],
    targets: list[list[int]],
    role: str = "fit",
    weights: list[float] | None = None,
    gap: int = 86_400,
) -> Contexts:
    """Rows from lists; events lie one gap apart, the newest one gap before the moment."""
    lengths, sizes = [len(h) for h in histories], [len(t) for t in targets]
    moments = np.array([10_000_000 + i for i in range(len(histories))], np.int64)
    stamps = [moments[i] - gap * (len(h) - j) for i, h in enumerate(histories) for j in range(len(h))]
    return Contexts(
        user_ids=np.array([f"u{i}" for i in range(len(histories))]),
        moments=moments,
        history_offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        history_rows=np.array([r for h in histories for r in h], np.int64),
        history_events=np.zeros(sum(lengths), np.int64),
        history_timestamps=np.array(stamps, np.int64),
        target_offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        target_rows=np.array([r for t in targets for r in t], np.int64),
        target_weights=np.ones(sum(sizes), np.float32),
        weights=np.array(weights if weights is not None else [1.0] * len(histories), np.float32),
        parents=np.full(len(histories), -1, np.int64),
        role="fit" if role == "fit" else "held_out",
    )


def make_shop(num_rows: int, num_items: int, seed: int, role: str = "fit", cold: int = 4) -> Contexts:
    """Item i is followed by i + 1 (mod the warm items); the last `cold` items never occur."""
    rng = np.random.default_rng(seed)
    warm = num_items - cold
    starts = rng.integers(warm, size=num_rows)
    lengths = rng.integers(1, 5, size=num_rows)
    histories = [[int((s + j) % warm) for j in range(n)] for s, n in zip(starts, lengths, strict=True)]
    return make_contexts(histories, [[(h[-1] + 1) % warm] for h in histories], role)


@pytest.fixture
def unit_vectors() -> np.ndarray:
    """(24, 16) random text vectors."""
    vectors = np.random.default_rng(3).normal(size=(24, 16)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def config() -> Config:
    """A model that fits in a second."""
    return load_config(
        None,
        [
            "run.device=cpu",
            "run.seed=7",
            "model.history_length=6",
            "train.batch_size=32",
            "train.min_steps=1",
            "train.num_negatives=8",
            "train.max_epochs=3",
            "train.checkpoint_steps=2",
            "train.learning_rate=0.02",
            "finetune.layers=2",
            "finetune.steps=6",
            "finetune.items_per_step=8",
            "finetune.contexts_per_step=40",
            "finetune.refresh_steps=2",
            "finetune.learning_rate=0.001",
            "encoder.max_tokens=16",
            "encoder.batch_tokens=64",
        ],
    )


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved BERT of hidden size 16 with a word tokenizer."""
    from whole_run import write_tiny_bert  # here, since tests of the towers alone need no transformers

    folder = tmp_path_factory.mktemp("tiny-bert")
    return write_tiny_bert(folder, [*WORDS, *map(str, range(30))], hidden=16, length=32)


@pytest.fixture
def texts() -> list[str]:
    """24 item texts, two of them equal and one blank."""
    rng = np.random.default_rng(1)
    made = [" ".join(rng.choice(WORDS, rng.integers(1, 6))) + f" {i}" for i in range(24)]
    made[5], made[9] = made[4], "  "
    return made


@pytest.fixture
def make():
    """The maker of rows from lists."""
    return make_contexts


@pytest.fixture
def shop():
    """The maker of a shop whose every item leads to the next."""
    return make_shop
