"""The towers as files that serving reads: arrays and ONNX graphs, each graph proven before it is in place."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor, nn

from recsys.artifacts import replacing, write_array
from recsys.config import Config
from recsys.contexts import EVENT_TYPES
from recsys.errors import ArtifactError
from recsys.graph_builder import OPSET
from recsys.model.encoder import TextEncoder
from recsys.model.fitted import TowersFit
from recsys.model.towers import UserTower
from recsys.model.whitening import Whitening
from recsys.randomness import generator
from recsys.scorer import OnnxTextEncoder, OnnxUserTower
from recsys.types import EncodedHistory, Floats
from recsys.user_graph import user_graph

logger = logging.getLogger(__name__)

TOLERANCE = 1e-4
"""Largest difference allowed between a unit vector of torch and of ONNX Runtime, per component."""
MIN_OVERLAP = 0.99
"""Smallest share of top-k items that the two must have in common."""
TOP_K = 20
NUM_QUERIES = 200
NUM_TEXTS = 64


class WhitenedEncoder(nn.Module):
    """Token ids to a vector in the space of `text_vectors.npy`: encoder, pool, whitening, unit norm."""

    mean: Tensor
    projection: Tensor

    def __init__(self, encoder: TextEncoder, whitening: Whitening) -> None:
        super().__init__()
        self.encoder = encoder.copy(torch.device("cpu"), "fp32")
        self.model = self.encoder.model  # registered, so that its weights are part of the graph
        self.register_buffer("mean", torch.from_numpy(whitening.mean))
        self.register_buffer("projection", torch.from_numpy(whitening.projection))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(batch, tokens) int64 each, to (batch, dim)."""
        raw = self.encoder.pooled(input_ids, attention_mask)
        return nn.functional.normalize((raw - self.mean) @ self.projection, dim=-1, eps=1e-12)


def export_towers(towers: TowersFit, folder: Path, config: Config) -> dict[str, Any]:
    """Write the three vector tables, `towers.safetensors` and `user_tower.onnx`.

    Returns:
        The parity figures of the graph: `max_difference` and `top_20_overlap` against torch.

    Raises:
        ArtifactError: the graph does not agree with torch; its file is then not in place.
    """
    history_vectors, item_vectors = towers.history_vectors(), towers.item_vectors()
    write_array(folder / "text_vectors.npy", np.asarray(towers.text_vectors, np.float32))
    write_array(folder / "item_vectors.npy", item_vectors)
    write_array(folder / "history_vectors.npy", history_vectors)
    with replacing(folder / "towers.safetensors") as temporary:
        state = {name: np.ascontiguousarray(value) for name, value in towers.state.items()}
        save_file({**state, "item_counts": np.ascontiguousarray(towers.item_counts)}, temporary)
    tower, length = towers.user_tower(), towers.config.history_length
    with replacing(folder / "user_tower.onnx") as temporary:
        temporary.write_bytes(user_graph(tower, history_vectors.shape[1]).SerializeToString())
        figures = _user_parity(tower, temporary, history_vectors, item_vectors, length, config.run.seed)
        _require_parity(figures, folder / "user_tower.onnx")
    return figures


def export_text_encoder(
    encoder: TextEncoder,
    whitening: Whitening,
    folder: Path,
    config: Config,
    sample_texts: Sequence[str],
) -> dict[str, Any]:
    """Write `text_encoder.onnx` (fp32) and `tokenizer/tokenizer.json`.

    Args:
        encoder: The encoder that made the run's text vectors.
        whitening: The whitening that made them.
        folder: The run.
        config: Section `run` is read.
        sample_texts: The catalogue's texts; parity is proven on a draw of them.

    Raises:
        ArtifactError: the graph does not agree with torch; its file is then not in place.
    """
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir(parents=True, exist_ok=True)
    encoder.tokenizer.save_pretrained(tokenizer)
    model = WhitenedEncoder(encoder, whitening).eval()
    texts = _sample(sample_texts, config.run.seed)
    tokens = encoder.tokenize(texts)
    ids, mask = tokens.padded(np.arange(len(texts)), encoder.pad_id)
    with torch.inference_mode():
        ours = model(ids, mask).numpy()
    with replacing(folder / "text_encoder.onnx") as temporary:
        # Two texts: sizes of one would be taken for constants.
        _write_encoder(model, ids[:2].clone(), mask[:2].clone(), temporary, encoder.max_tokens)
        theirs = OnnxTextEncoder(
            temporary, tokenizer / "tokenizer.json", encoder.max_tokens, config.run.threads
        ).encode(texts)
        figures = _agreement(ours, theirs, ours)
        _require_parity(figures, folder / "text_encoder.onnx")
    return figures


def _write_encoder(model: WhitenedEncoder, ids: Tensor, mask: Tensor, path: Path, max_tokens: int) -> None:
    """Export the encoder to one ONNX file with dynamic axes; parity is the caller's to prove."""
    # The exporter names every optional package it lacks.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    axes = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("tokens", min=1, max=max_tokens)}
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that two axes share one name, which is meant
        warnings.simplefilter("ignore", FutureWarning)  # torch's own use of what it deprecates
        program = torch.onnx.export(
            model,
            (ids, mask),
            dynamo=True,
            opset_version=OPSET,
            input_names=["input_ids", "attention_mask"],
            output_names=["vector"],
            dynamic_shapes=(axes, axes),
            verbose=False,
        )
    if program is None:
        raise ArtifactError(f"{path.name}: torch made no ONNX program")
    program.save(str(path), external_data=False)


def _user_parity(
    tower: UserTower, path: Path, history_vectors: Floats, item_vectors: Floats, length: int, seed: int
) -> dict[str, float]:
    """Made-up histories of every length, the empty one included, through both."""
    rng = generator(seed, "export", "histories")
    moment = 10**9
    histories = []
    for i in range(NUM_QUERIES):
        count = i % (length + 1)
        gaps = np.sort(np.exp(rng.uniform(0, 18, count)).astype(np.int64))[::-1]
        histories.append(
            EncodedHistory(
                rng.integers(len(history_vectors), size=count),
                rng.integers(len(EVENT_TYPES), size=count),
                moment - gaps,
            )
        )
    theirs = OnnxUserTower(path, history_vectors, length, 1).encode(histories, [moment] * len(histories))
    with torch.inference_mode():
        ours = np.concatenate([_torch_user(tower, history_vectors, h, moment) for h in histories])
    return _agreement(ours, theirs, item_vectors)


def _torch_user(tower: UserTower, history_vectors: Floats, history: EncodedHistory, moment: int) -> Floats:
    newest = slice(None, None, -1)
    rows = history.rows[newest]
    user: Floats = tower(
        torch.from_numpy(np.asarray(history_vectors[rows]))[None],
        torch.from_numpy(history.event_codes[newest].copy())[None],
        torch.from_numpy((moment - history.timestamps[newest]).astype(np.float32))[None],
        torch.ones((1, len(rows)), dtype=torch.bool),
    ).numpy()
    return user


def _agreement(ours: Floats, theirs: Floats, items: Floats) -> dict[str, float]:
    """Largest difference, and how much of each top-k list over `items` the two have in common."""
    k = min(TOP_K, len(items))
    overlaps = []
    for mine, other in zip(ours, theirs, strict=True):
        if mine.any():
            first, second = items @ mine, items @ other
            # An item whose score ties with the k-th within the tolerance may stand on either side.
            edge = np.partition(first, -k)[-k] - 2 * TOLERANCE
            overlaps.append(float((first[np.argsort(-second)[:k]] >= edge).mean()))
    return {
        "max_difference": float(np.abs(ours - theirs).max(initial=0.0)),
        f"top_{TOP_K}_overlap": float(np.mean(overlaps)) if overlaps else 1.0,
        "queries": len(ours),
    }


def _require_parity(figures: dict[str, float], path: Path) -> None:
    logger.info("%s: parity with torch %s", path.name, figures)
    # Written so that NaN fails too.
    if not (figures["max_difference"] <= TOLERANCE and figures[f"top_{TOP_K}_overlap"] >= MIN_OVERLAP):
        raise ArtifactError(f"{path}: the exported graph does not agree with torch: {figures}")


def _sample(texts: Sequence[str], seed: int) -> list[str]:
    distinct = sorted({text for text in texts if text.strip()}) or ["text"]
    picked = generator(seed, "export", "texts").permutation(len(distinct))[:NUM_TEXTS]
    return [distinct[i] for i in picked] * (2 if len(picked) == 1 else 1)
