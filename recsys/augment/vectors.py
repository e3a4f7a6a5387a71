"""Vectors of texts on disk, by content: each text is encoded once, whoever asks and however often."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.artifacts import load_array, write_array, write_atomically
from recsys.augment.gates.gate import Encode
from recsys.types import Floats

_PART = 4096
"""Texts per file: what a kill may cost."""


class TextVectors:
    """Raw vectors of texts that one encoder made: a folder of parts, each with keys and vectors.

    Args:
        folder: Holds the vectors of one encoder and of no other.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._keys = np.empty(0, np.uint64)
        self._places = np.empty((0, 2), np.int64)
        self._vectors: list[Floats] = []

    def fill(self, texts: Iterable[str], encode: Encode, plan: Path, prefix: str) -> Iterator[int]:
        """Encode what is not here yet, and give the number of texts after each part.

        The parts of an interrupted filling are made anew as they would have been: vectors depend, in their
        last bits, on which texts are encoded together.

        Args:
            texts: Read once; the same and in the same order when an interrupted filling goes on.
            encode: Texts to raw vectors.
            plan: Where this filling notes which parts it found.
            prefix: Of this filling's parts; nobody else's.
        """
        if not plan.is_file():
            parts = (path.name for path in self._folder.glob("*.keys.npy"))
            found = sorted(name for name in parts if not name.startswith(prefix))
            write_atomically(plan, json.dumps(found))
        known: set[int] = set()
        for name in json.loads(plan.read_text(encoding="utf-8")):
            known.update(load_array(self._folder / name).tolist())
        batch: list[str] = []
        number = 0
        for text in texts:
            if (key := text_key(text)) in known:
                continue
            known.add(key)
            batch.append(text)
            if len(batch) == _PART:
                self._write(f"{prefix}-{number:05d}", batch, encode)
                yield len(batch)
                number, batch = number + 1, []
        if batch:
            self._write(f"{prefix}-{number:05d}", batch, encode)
            yield len(batch)

    def load(self) -> None:
        """Find everything that is in the folder; the vectors stay on disk until they are asked for."""
        parts = sorted(self._folder.glob("*.keys.npy"))
        keys = [load_array(path) for path in parts]
        self._vectors = [load_array(_vectors_beside(path)) for path in parts]
        places = [
            np.stack([np.full(len(part), number), np.arange(len(part))], axis=1)
            for number, part in enumerate(keys)
        ]
        everything = np.concatenate([np.empty(0, np.uint64), *keys])
        order = np.argsort(everything, kind="stable")
        self._keys = everything[order]
        self._places = np.concatenate([np.empty((0, 2), np.int64), *places])[order]

    def __call__(self, texts: Sequence[str]) -> Floats:
        """(len(texts), dim) vectors of unit norm; a blank text's is zero. All must be here."""
        return unit_rows(self.raw(texts))

    def raw(self, texts: Sequence[str]) -> Floats:
        """(len(texts), dim) vectors as the encoder gave them. All must be here."""
        wanted = np.fromiter((text_key(text) for text in texts), np.uint64, len(texts))
        found = np.searchsorted(self._keys, wanted)
        if not len(texts):
            return np.empty((0, 0), np.float32)
        if not len(self._keys) or (self._keys[np.minimum(found, len(self._keys) - 1)] != wanted).any():
            raise KeyError("a text was not encoded")
        places: NDArray[np.int64] = self._places[found]
        vectors = np.empty((len(texts), self._vectors[0].shape[1]), np.float32)
        for number in np.unique(places[:, 0]).tolist():
            mine = places[:, 0] == number
            vectors[mine] = self._vectors[number][places[mine, 1]]
        return vectors

    def _write(self, name: str, texts: list[str], encode: Encode) -> None:
        keys = self._folder / f"{name}.keys.npy"
        if keys.is_file():
            return
        write_array(_vectors_beside(keys), np.asarray(encode(texts), np.float32))
        write_array(keys, np.array([text_key(text) for text in texts], np.uint64))


class Remembered:
    """An encoder with a memory: the catalogue's vectors are given, what else was encoded lies in a folder.

    Args:
        folder: For this encoder alone; what is there is not encoded again.
        encode: Texts to raw vectors.
        texts: The catalogue's texts.
        vectors: (len(texts), dim) theirs, raw.
    """

    def __init__(
        self, folder: Path, encode: Callable[[Sequence[str]], Floats], texts: Sequence[str], vectors: Floats
    ) -> None:
        self._store, self._folder, self._encode = TextVectors(folder), folder, encode
        self._row_of = {text: row for row, text in enumerate(texts)}
        self._vectors = vectors

    def raw(self, texts: Sequence[str]) -> Floats:
        """(len(texts), dim) vectors as the encoder gives them."""
        rows = np.fromiter((self._row_of.get(text, -1) for text in texts), np.int64, len(texts))
        vectors = np.zeros((len(texts), self._vectors.shape[1]), np.float32)
        vectors[rows >= 0] = self._vectors[rows[rows >= 0]]
        new = [text for text, row in zip(texts, rows.tolist(), strict=True) if row < 0]
        if new:
            prefix = f"{text_key(chr(0).join(new)):016x}"
            for _ in self._store.fill(new, self._encode, self._folder / f"{prefix}.json", prefix):
                pass
            self._store.load()
            vectors[rows < 0] = self._store.raw(new)
        return vectors

    def unit(self, texts: Sequence[str]) -> Floats:
        """(len(texts), dim) vectors of unit norm; a blank text's is zero."""
        return unit_rows(self.raw(texts))


def unit_rows(vectors: Floats) -> Floats:
    """Rows of unit norm; rows of zeros stay."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Floats = vectors / np.maximum(norms, np.float32(1e-12))
    return unit


def text_key(text: str) -> int:
    """64 bits of a text's BLAKE2b: among a million texts, two share one with a chance of 3e-8."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _vectors_beside(keys: Path) -> Path:
    return keys.with_name(keys.name.replace(".keys.", ".vectors."))
