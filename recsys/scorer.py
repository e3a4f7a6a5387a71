"""The ONNX Runtime room: the exported user tower, ranker and text encoder, without torch.

Sessions take a fixed number of threads and do not spin while they wait: several of them, FAISS and the web
server share the cores of one machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from recsys.errors import ArtifactError, DependencyError
from recsys.types import EncodedHistory, Floats

_BLOCK_BYTES = 32 * 2**20
_TEXT_BATCH_TOKENS = 4096
_PARTS_TOLERANCE = 1e-3


class OnnxUserTower:
    """`types.UserEncoder` over `user_tower.onnx`.

    Every history is padded to `history_length`, whoever else is in the batch, so that one request and a batch
    of a thousand put the same numbers into the model.

    Args:
        path: The exported graph.
        history_vectors: (n, dim) What the tower reads of each item; may be memory-mapped.
        history_length: How many of the newest events are read.
        threads: Threads of one call; None takes ONNX Runtime's choice.
    """

    def __init__(
        self, path: Path, history_vectors: Floats, history_length: int, threads: int | None = None
    ) -> None:
        if history_length < 1:
            raise ValueError(f"history_length must be at least 1, got {history_length}")
        self._session = _open(path, threads, {"history", "events", "gaps", "mask"})
        self._vectors = np.asarray(history_vectors)  # a plain view: np.memmap is slow to index
        self._length = history_length
        self._dim = int(history_vectors.shape[1])
        _require_width(self._session, path, "history", 2, self._dim)
        self._chunk = max(1, _BLOCK_BYTES // (4 * self._dim * history_length))

    def encode(self, histories: Sequence[EncodedHistory], moments: Sequence[int]) -> Floats:
        """User vectors of unit norm, (batch, dim); a history without rows gives the zero vector."""
        if len(histories) != len(moments):
            raise ValueError("histories and moments must have one length")
        users = np.zeros((len(histories), self._dim), np.float32)
        for start in range(0, len(histories), self._chunk):
            span = slice(start, start + self._chunk)
            inputs = self._inputs(histories[span], moments[span])
            known = inputs["mask"].any(axis=1)
            if known.any():
                (found,) = self._session.run(["user"], inputs)
                users[span][known] = found[known]
        return users

    def parts(self, history: EncodedHistory, moment: int) -> Floats | None:
        """What each event puts into the user's vector, (events, dim); those that are not read put in nothing.

        The graph is asked for its weights: in the place of item vectors it is given directions of their own,
        one per event, and its output then holds the weights, up to the scale that the sum's unit norm gives.
        Every call holds the newest event, so that calls share a scale. None where the parts do not add up to
        the vector that the graph gives, that is, where it is no weighted sum.
        """
        count = min(len(history.rows), self._length)
        out = np.zeros((len(history.rows), self._dim), np.float32)
        if not count:
            return out
        inputs = self._inputs([history], [moment])
        weights = np.ones(count)
        for start in range(1, count, self._dim - 1):
            places = np.arange(start, min(start + self._dim - 1, count))
            probe = np.zeros_like(inputs["history"])
            probe[0, 0, 0] = 1.0
            probe[0, places, places - start + 1] = 1.0
            (found,) = self._session.run(["user"], inputs | {"history": probe})
            weights[places] = found[0, places - start + 1] / max(float(found[0, 0]), 1e-30)
        summands = weights[:, None] * inputs["history"][0, :count]
        (whole,) = self._session.run(["user"], inputs)
        total = summands.sum(axis=0)
        summands *= float(whole[0] @ total) / max(float(total @ total), 1e-30)
        if not np.allclose(summands.sum(axis=0), whole[0], atol=_PARTS_TOLERANCE):
            return None
        out[-1 : -count - 1 : -1] = summands
        return out

    def _inputs(self, histories: Sequence[EncodedHistory], moments: Sequence[int]) -> dict[str, NDArray[Any]]:
        shape = (len(histories), self._length)
        rows = np.zeros(shape, np.int64)
        events = np.zeros(shape, np.int64)
        gaps = np.zeros(shape, np.float32)
        mask = np.zeros(shape, np.bool_)
        for i, (history, moment) in enumerate(zip(histories, moments, strict=True)):
            count = min(len(history.rows), self._length)
            newest = slice(-1, -count - 1, -1)  # the model reads the newest first
            rows[i, :count] = history.rows[newest]
            events[i, :count] = history.event_codes[newest]
            gaps[i, :count] = np.maximum(moment - history.timestamps[newest], 0)
            mask[i, :count] = True
        vectors = np.zeros((*shape, self._dim), np.float32)
        vectors[mask] = self._vectors[rows[mask]]
        return {"history": vectors, "events": events, "gaps": gaps, "mask": mask}


class OnnxScorer:
    """`types.Scorer` over `ranker.onnx`."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self._session = _open(path, threads, {"features"})
        width = self._session.get_inputs()[0].shape[1]
        self.num_features: int | None = width if isinstance(width, int) else None
        """Columns that the graph expects, where it says so."""

    def score(self, features: Floats) -> Floats:
        """(num_candidates, num_features) to (num_candidates,); higher is better."""
        if features.ndim != 2 or (self.num_features is not None and features.shape[1] != self.num_features):
            raise ValueError(f"features must be (n, {self.num_features or 'any'}), got {features.shape}")
        if not len(features):
            return np.zeros(0, np.float32)
        (scores,) = self._session.run(["score"], {"features": np.ascontiguousarray(features, np.float32)})
        return np.asarray(scores, np.float32).reshape(len(features))


class OnnxTextEncoder:
    """Item text to a vector in the space of `text_vectors.npy`: for a newer item, or for a search.

    Args:
        path: The exported graph.
        tokenizer_json: The run's `tokenizer.json`.
        max_tokens: Longer texts are cut, special tokens included.
        threads: Threads of one call; None takes ONNX Runtime's choice.
    """

    def __init__(self, path: Path, tokenizer_json: Path, max_tokens: int, threads: int | None = None) -> None:
        self._session = _open(path, threads, {"input_ids", "attention_mask"})
        self._tokenizer = _load_tokenizer(tokenizer_json)
        self._tokenizer.enable_truncation(max_tokens)
        self._tokenizer.no_padding()
        pad = self._tokenizer.token_to_id("[PAD]")
        self._pad = 0 if pad is None else int(pad)
        width = self._session.get_outputs()[0].shape[-1]
        self._dim = width if isinstance(width, int) else 0

    def encode(self, texts: Sequence[str]) -> Floats:
        """(len(texts), dim) in order; batches are made of texts of like length."""
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        vectors: Floats | None = None
        for batch in _batches([len(ids[i]) for i in order]):
            places = order[batch]
            found = self._run([ids[i] for i in places])
            if vectors is None:
                vectors = np.zeros((len(ids), found.shape[1]), np.float32)
            vectors[places] = found
        return np.zeros((0, self._dim), np.float32) if vectors is None else vectors

    def _run(self, ids: list[list[int]]) -> Floats:
        longest = max(1, *map(len, ids)) if ids else 1
        tokens = np.full((len(ids), longest), self._pad, np.int64)
        mask = np.zeros((len(ids), longest), np.int64)
        for i, row in enumerate(ids):
            tokens[i, : len(row)] = row
            mask[i, : len(row)] = 1
        (found,) = self._session.run(["vector"], {"input_ids": tokens, "attention_mask": mask})
        return np.asarray(found, np.float32)


def _batches(lengths: list[int]) -> list[slice]:
    """Spans of ascending lengths whose padded tokens stay within the budget."""
    spans, start = [], 0
    for end, length in enumerate(lengths):
        if end > start and (end + 1 - start) * max(length, 1) > _TEXT_BATCH_TOKENS:
            spans.append(slice(start, end))
            start = end
    return [*spans, slice(start, len(lengths))] if lengths else []


def _open(path: Path, threads: int | None, inputs: set[str]) -> Any:
    if not path.is_file():
        raise ArtifactError(f"{path}: there is no model here")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's error classes share no public base
        raise ArtifactError(f"{path}: not a readable ONNX model ({error})") from error
    found = {argument.name for argument in session.get_inputs()}
    if found != inputs:
        raise ArtifactError(f"{path}: takes the inputs {sorted(found)}, expected {sorted(inputs)}")
    return session


def _require_width(session: Any, path: Path, name: str, axis: int, width: int) -> None:
    shape = next(argument.shape for argument in session.get_inputs() if argument.name == name)
    if isinstance(shape[axis], int) and shape[axis] != width:
        raise ArtifactError(f"{path}: '{name}' is {shape[axis]} wide, the run's vectors are {width}")


def _load_tokenizer(path: Path) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise DependencyError(
            "encoding text needs the package 'tokenizers': pip install tokenizers"
        ) from error
    if not path.is_file():
        raise ArtifactError(f"{path}: there is no tokenizer here")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise ArtifactError(f"{path}: not a readable tokenizer ({error})") from error
