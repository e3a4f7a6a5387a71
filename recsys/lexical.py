"""A lexical index over character n-grams: what finds an item although the query is misspelled.

BM25 (Robertson and Zaragoza, 2009) over the trigrams of words, edges included: one wrong letter spoils three
of them and leaves the others. N-grams are hashed into a fixed number of buckets, so that the index is three
arrays and no vocabulary.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.artifacts import load_array, write_array
from recsys.types import Floats

BUCKETS = 1 << 18
MAX_TEXT = 256
"""Characters of an item's text that are indexed: title, brand and category come first in it."""
MAX_QUERY = 200
"""Characters of a query that are looked up; the rest is left alone."""
_K1, _B = 1.2, 0.75
_WORD = re.compile(r"\w+")
_FILES = ("lexical_indptr", "lexical_items", "lexical_weights")


@dataclass(frozen=True, slots=True)
class LexicalIndex:
    """Items by n-gram, with each pair's part of the BM25 score."""

    indptr: NDArray[np.int64]
    """(BUCKETS + 1,)"""
    items: NDArray[np.int32]
    weights: Floats
    num_items: int

    @classmethod
    def build(cls, texts: Sequence[str]) -> LexicalIndex:
        """Index texts, in catalogue order."""
        buckets: list[int] = []
        counts: list[int] = []
        sizes = np.zeros(len(texts), np.int64)
        for row, text in enumerate(texts):
            found = Counter(grams(text[:MAX_TEXT]))
            buckets.extend(found)
            counts.extend(found.values())
            sizes[row] = len(found)
        bucket, count = np.array(buckets, np.int64), np.array(counts, np.float64)
        item = np.repeat(np.arange(len(texts), dtype=np.int32), sizes)
        lengths = np.bincount(item, count, minlength=len(texts))
        mean = max(float(lengths.mean()) if len(texts) else 1.0, 1.0)
        order = np.argsort(bucket, kind="stable")
        bucket, count, item = bucket[order], count[order], item[order]
        indptr = np.concatenate([[0], np.cumsum(np.bincount(bucket, minlength=BUCKETS))]).astype(np.int64)
        rarity = _rarity(np.diff(indptr), len(texts))[bucket]
        part = count * (_K1 + 1) / (count + _K1 * (1 - _B + _B * lengths[item] / mean))
        return cls(indptr, item, (rarity * part).astype(np.float32), len(texts))

    def scores(self, query: str) -> Floats:
        """(num_items,): the share of the query that each item's text holds, rare n-grams counting more.

        It is the BM25 score over what an item of average length gets that holds every n-gram of the query
        once: 0 for nothing in common, about 1 for everything, somewhat more for short texts.
        """
        found = np.unique(np.array(list(grams(query[:MAX_QUERY])), np.int64))
        starts, ends = self.indptr[found], self.indptr[found + 1]
        out = np.zeros(self.num_items, np.float64)
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            out[self.items[start:end]] += self.weights[start:end]  # an item stands once per bucket
        most = float(_rarity(ends - starts, self.num_items).sum())
        shares: Floats = (out / max(most, 1e-9)).astype(np.float32)
        return shares

    def write(self, folder: Path) -> None:
        """Persist as three arrays."""
        arrays: list[NDArray[Any]] = [self.indptr, self.items, self.weights]
        for name, values in zip(_FILES, arrays, strict=True):
            write_array(folder / f"{name}.npy", values)

    @classmethod
    def load(cls, folder: Path, num_items: int) -> LexicalIndex | None:
        """Memory-map what `write` wrote; None where a run has none."""
        if not (folder / f"{_FILES[0]}.npy").is_file():
            return None
        indptr, items, weights = (np.asarray(load_array(folder / f"{name}.npy")) for name in _FILES)
        return cls(indptr, items, weights, num_items)


def grams(text: str) -> list[int]:
    """Buckets of a text's n-grams, in order: trigrams of words, bigrams where letters are not Latin.

    Case, accents and width do not matter.
    """
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(char for char in plain if not unicodedata.combining(char))
    out = []
    for word in _WORD.findall(plain):
        size = 3 if word.isascii() else 2
        edged = f"^{word}$"
        for start in range(len(edged) - size + 1):
            out.append(zlib.crc32(edged[start : start + size].encode()) % BUCKETS)
    return out


def _rarity(items_with: NDArray[np.int64], num_items: int) -> NDArray[np.float64]:
    weights: NDArray[np.float64] = np.log1p((num_items - items_with + 0.5) / (items_with + 0.5))
    return weights
