"""Which of a catalogue's texts share most of their shingles with another: MinHash, a whole batch at a time.

Signatures and bands are those of datasketch (Broder, 1997; Indyk and Motwani, STOC 1998), whose permutations
and band sizes are used: only the work is done by columns. A shingle is hashed once per batch however many
texts say it, a permutation is applied to the batch's distinct shingles, and the index is sorted band keys.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.augment.tokens import flat, language_of
from recsys.errors import DependencyError

_SEED = 1
"""Of the permutations: signatures are the same in every run and every process."""
_BLOCK = 2048
"""Texts whose shingles are in memory at one time."""
_PAIRS = 65_536
"""Pairs of texts that are compared at one time."""
_ASKED = 256
"""Texts that are looked up at one time."""
_CODED = 8
"""Characters that fit into one number."""

Signatures = NDArray[np.uint32]
Counts = NDArray[np.int64]


class Shingling(NamedTuple):
    """How texts become sets, and the sets signatures."""

    unit: Literal["characters", "words"]
    size: int
    chinese_size: int
    num_perm: int

    def of(self, text: str) -> set[bytes]:
        """Runs of characters or words of a text's normal form, each once; a shorter text is one shingle."""
        chinese = language_of(text) == "zh"
        size = self.chinese_size if chinese else self.size
        plain = flat(text).strip()
        if self.unit == "words" and not chinese:
            words = plain.split()
            return {" ".join(words[i : i + size]).encode() for i in range(max(len(words) - size + 1, 1))}
        plain = plain.replace(" ", "") if chinese else plain
        return {plain[i : i + size].encode() for i in range(max(len(plain) - size + 1, 1))}

    def signatures(self, texts: Sequence[str]) -> Signatures:
        """MinHash signatures, (texts, num_perm), as `datasketch.MinHash` gives them."""
        found = np.empty((len(texts), self.num_perm), np.uint32)
        factors, terms = permutations(self.num_perm)
        for start in range(0, len(texts), _BLOCK):
            block = texts[start : start + _BLOCK]
            for rows, hashes, places, starts in self._parts(block):
                mixed = _mixed(hashes)
                part = np.empty((self.num_perm, len(rows)), np.uint32)
                for i in range(self.num_perm):
                    np.minimum.reduceat((mixed * factors[i] + terms[i])[places], starts, out=part[i])
                found[start + rows] = part.T
        return found

    def _parts(self, texts: Sequence[str]) -> Iterator[tuple[Counts, Signatures, Counts, Counts]]:
        """Rows, hashes of distinct shingles, each row's shingles as places in them, where rows begin."""
        plain = {row: text for row, text in enumerate(texts) if text.isascii()} if self._codes else {}
        plain = {row: form for row, text in plain.items() if len(form := flat(text).strip()) >= self.size}
        if plain:
            yield np.array(list(plain)), *self._ascii([form.encode() for form in plain.values()])
        others = [row for row in range(len(texts)) if row not in plain]
        if others:
            known: dict[bytes, int] = {}
            places = [[known.setdefault(s, len(known)) for s in self.of(texts[row])] for row in others]
            starts = np.cumsum([0, *map(len, places)])[:-1]
            yield np.array(others), _hashes(known), np.concatenate(places), starts

    @property
    def _codes(self) -> bool:
        return self.unit == "characters" and self.size <= _CODED

    def _ascii(self, texts: Sequence[bytes]) -> tuple[Signatures, Counts, Counts]:
        """Runs of single bytes as numbers, those that reach from one text into the next left out."""
        letters = np.frombuffer(b"".join(texts), np.uint8)
        lengths = np.array(list(map(len, texts)))
        codes = np.zeros(len(letters) - self.size + 1, np.uint64)
        for i in range(self.size):
            codes |= letters[i : i + len(codes)].astype(np.uint64) << np.uint64(8 * i)
        ends = np.cumsum(lengths)
        whole = np.ones(len(letters), np.bool_)
        for i in range(1, self.size):
            whole[ends - i] = False
        distinct, places = np.unique(codes[whole[: len(codes)]], return_inverse=True)
        little = distinct.astype("<u8").view(np.uint8).reshape(-1, 8)[:, : self.size]
        shingles = (bytes(row) for row in np.ascontiguousarray(little))
        counts = lengths - self.size + 1
        return _hashes(shingles), places, np.cumsum(counts) - counts


class CatalogueIndex:
    """The catalogue's texts, searchable by how many shingles they share with another.

    Args:
        texts: By row id.
        shingling: How they become sets.
        threshold: Jaccard similarity from which on texts are found, most of them at it, nearly all above.

    Raises:
        DependencyError: datasketch is not installed.
    """

    def __init__(self, texts: Mapping[str, str], shingling: Shingling, threshold: float) -> None:
        _, lsh = datasketch()
        bands = lsh(threshold=threshold, num_perm=shingling.num_perm, weights=(0.3, 0.7))
        self.shingling = shingling
        self._ranges: list[tuple[int, int]] = list(bands.hashranges)
        distinct = {text: place for place, text in enumerate(dict.fromkeys(texts.values()))}
        self._place = {row_id: distinct[text] for row_id, text in texts.items()}
        self._signatures = shingling.signatures(list(distinct))
        self._bands: list[tuple[NDArray[np.uint64], NDArray[np.int32]]] = []
        for start, stop in self._ranges:
            keys = _key(self._signatures[:, start:stop])
            order = np.argsort(keys, kind="stable")
            self._bands.append((keys[order], order.astype(np.int32)))

    def nearest(self, row_ids: Sequence[str], texts: Sequence[str]) -> NDArray[np.float64]:
        """The largest estimated Jaccard similarity with another text that the row's own does not reach, (n,).

        Templates make many titles alike: that an original is close to another item is no fault of its
        variant; that the variant comes closer is. 0 where it comes closer to none.
        """
        found = np.zeros(len(texts))
        signatures = self.shingling.signatures(texts)
        owns = np.array([self._place.get(row_id, -1) for row_id in row_ids], np.int64)
        for start in range(0, len(texts), _ASKED):
            asked, rows = self._colliding(signatures[start : start + _ASKED])
            asked += start
            asked, rows = (part[rows != owns[asked]] for part in (asked, rows))
            for low in range(0, len(asked), _PAIRS):
                some, others = asked[low : low + _PAIRS], self._signatures[rows[low : low + _PAIRS]]
                after = (others == signatures[some]).mean(axis=1)
                own = owns[some]
                before = (others == self._signatures[own]).mean(axis=1)
                after[(own >= 0) & (after <= before)] = 0.0
                np.maximum.at(found, some, after)
        return found

    def _colliding(self, signatures: Signatures) -> tuple[Counts, Counts]:
        """Pairs (place among the asked, row of the catalogue) that are equal in one band at least."""
        pairs = [np.empty(0, np.int64)]
        size = len(self._signatures)
        for (start, stop), (keys, rows) in zip(self._ranges, self._bands, strict=True):
            wanted = _key(signatures[:, start:stop])
            left, right = (np.searchsorted(keys, wanted, side) for side in ("left", "right"))
            counts = right - left
            asked = np.repeat(np.arange(len(wanted)), counts)
            within = np.arange(len(asked)) - np.repeat(np.cumsum(counts) - counts, counts)
            pairs.append(asked * size + rows[np.repeat(left, counts) + within])
        distinct = np.unique(np.concatenate(pairs))
        return distinct // max(size, 1), distinct % max(size, 1)


def permutations(number: int) -> tuple[Signatures, Signatures]:
    """The factors and terms of datasketch's 32-bit permutations, (number,) each."""
    minhash, _ = datasketch()
    factors, terms = minhash(num_perm=number, seed=_SEED, scheme="affine32").permutations
    return np.asarray(factors, np.uint32), np.asarray(terms, np.uint32)


def datasketch() -> tuple[Any, Any]:
    """`MinHash` and `MinHashLSH` of the library.

    Raises:
        DependencyError: it is not installed.
    """
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError as error:
        raise DependencyError(
            "the gate 'near_duplicate' needs datasketch: install the 'train' extra, or set "
            "max_jaccard_other = 1 to compare exactly alone"
        ) from error
    return MinHash, MinHashLSH


def _hashes(shingles: Any) -> Signatures:
    """The first four bytes of SHA-1, as datasketch hashes."""
    sha1 = hashlib.sha1
    starts = b"".join([sha1(one, usedforsecurity=False).digest()[:4] for one in shingles])
    return np.frombuffer(starts, "<u4").astype(np.uint32)


def _mixed(hashes: Signatures) -> Signatures:
    """The finaliser of MurmurHash3 (Appleby), which goes before the permutations."""
    mixed = hashes ^ (hashes >> np.uint32(16))
    mixed *= np.uint32(0x85EBCA6B)
    mixed ^= mixed >> np.uint32(13)
    mixed *= np.uint32(0xC2B2AE35)
    mixed ^= mixed >> np.uint32(16)
    return mixed


def _key(band: Signatures) -> NDArray[np.uint64]:
    """One number per row of a band; that two bands share one by chance costs a comparison, no verdict."""
    keys = np.zeros(len(band), np.uint64)
    for column in band.T:
        keys = (keys ^ column) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(29)
    return keys
