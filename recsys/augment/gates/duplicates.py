"""The gate against near duplicates: of another item's text, and of an earlier variant of the same one.

Exact matches are looked up by a text's normal form. What is merely close is found by MinHash signatures in a
locality-sensitive index over the catalogue (Broder, 1997; Indyk and Motwani, STOC 1998).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.augment.constraints import EDGES
from recsys.augment.example import TextExample
from recsys.augment.gates.gate import Evidence, Gate, Verdicts
from recsys.augment.op import Kind
from recsys.augment.tokens import cut, flat, language_of
from recsys.errors import DependencyError

_SEED = 1
"""Of the permutations: signatures are the same in every run and every process."""
_SLACK = 0.05
"""The index looks this far under the bound, because near it every third pair would be missed."""
_BLOCK = 4096
"""Texts whose signatures are objects at one time."""


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

    def signatures(self, texts: Iterable[str]) -> Iterator[NDArray[np.uint32]]:
        """MinHash signatures, (num_perm,) each."""
        minhash, _ = _datasketch()
        made = minhash.generator(map(self.of, texts), num_perm=self.num_perm, seed=_SEED)
        return (one.hashvalues for one in made)


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
        minhash, lsh = _datasketch()
        self.shingling = shingling
        self._wrap = minhash(num_perm=shingling.num_perm, seed=_SEED)
        self._lsh = lsh(threshold=threshold, num_perm=shingling.num_perm, weights=(0.3, 0.7))
        distinct = {text: place for place, text in enumerate(dict.fromkeys(texts.values()))}
        self._place = {row_id: distinct[text] for row_id, text in texts.items()}
        self._signatures = np.empty((len(distinct), shingling.num_perm), np.uint32)
        with self._lsh.insertion_session(_BLOCK) as session:
            for row, signature in enumerate(shingling.signatures(distinct)):
                self._signatures[row] = signature
                session.insert(row, self._as_minhash(signature), check_duplication=False)

    def nearest(self, row_id: str, signature: NDArray[np.uint32]) -> float:
        """The largest estimated Jaccard similarity with another text that the row's own text does not reach.

        Templates make many titles alike: that an original is close to another item is no fault of its
        variant; that the variant comes closer is. 0 where it comes closer to none.
        """
        own = self._place.get(row_id, -1)
        found = [row for row in self._lsh.query(self._as_minhash(signature)) if row != own]
        if not found:
            return 0.0
        others = self._signatures[found]
        after = (others == signature).mean(axis=1)
        if own >= 0:
            after[after <= (others == self._signatures[own]).mean(axis=1)] = 0.0
        return float(after.max())

    def _as_minhash(self, signature: NDArray[np.uint32]) -> Any:
        self._wrap.hashvalues = signature  # one object for all: the index reads the values and keeps none
        return self._wrap


class NearDuplicate(Gate[TextExample]):
    """A variant adds something: it is neither nearly another item's text nor its own sibling again."""

    name = "near_duplicate"
    kind: ClassVar[Kind] = "text"

    max_jaccard: float = Field(0.95, gt=0, le=1)
    """Largest share of words that two variants of one text have in common."""
    max_jaccard_other: float = Field(0.85, gt=_SLACK, le=1)
    """Largest estimated share of shingles in common with another item's text; 1 compares exactly alone."""
    num_perm: int = Field(128, ge=16, le=1024)
    """Permutations of a MinHash signature: its error is about 0.5 / sqrt(num_perm) at most."""
    shingle: Literal["characters", "words"] = "characters"
    """What a shingle is a run of; in Chinese always characters."""
    shingle_size: int = Field(4, ge=1, le=20)
    """Characters, or words, of a shingle."""
    chinese_shingle_size: int = Field(2, ge=1, le=20)
    """Characters of a shingle in Chinese."""

    # Siblings are few, so they are compared pair by pair, exactly.
    def judge(
        self, originals: Sequence[TextExample], candidates: Sequence[TextExample], evidence: Evidence
    ) -> Verdicts:
        """1 minus the largest overlap with an earlier sibling, or with an item that it came closer to."""
        self.prepare(evidence)
        siblings: dict[str, list[frozenset[str]]] = {}
        verdicts = Verdicts([], [])
        others = self._others(originals, candidates, evidence)
        for original, candidate, other in zip(originals, candidates, others, strict=True):
            words, own = _word_set(candidate.text), _word_set(original.text)
            earlier = siblings.setdefault(original.row_id, [])
            overlap = max((len(words & old) / max(len(words | old), 1) for old in earlier), default=0.0)
            # A changed order is a variant of its own: the bag of words says nothing of it.
            reason = "duplicate_sibling" if overlap > self.max_jaccard and words != own else None
            taken = (evidence.owners or {}).get(_form(words), original.row_id) != original.row_id
            if words != own and (taken or other > self.max_jaccard_other):
                reason = "duplicate_of_other"
            if reason is None:
                earlier.append(words)
            verdicts.scores.append(1.0 - max(overlap, other))
            verdicts.reasons.append(reason)
        return verdicts

    def prepare(self, evidence: Evidence) -> None:
        """Index the catalogue once; a normal form that several items have is nobody's."""
        if evidence.owners is None:
            owners: dict[bytes, str] = {}
            for row_id, text in evidence.texts.items():
                form = _form(_word_set(text))
                owners[form] = row_id if owners.get(form, row_id) == row_id else ""
            evidence.owners = owners
        if self.max_jaccard_other < 1.0 and self._key not in evidence.indices:
            threshold = self.max_jaccard_other - _SLACK
            evidence.indices[self._key] = CatalogueIndex(evidence.texts, self._shingling, threshold)

    @property
    def _shingling(self) -> Shingling:
        return Shingling(self.shingle, self.shingle_size, self.chinese_shingle_size, self.num_perm)

    @property
    def _key(self) -> tuple[object, ...]:
        return (*self._shingling, self.max_jaccard_other)

    def _others(
        self, originals: Sequence[TextExample], candidates: Sequence[TextExample], evidence: Evidence
    ) -> list[float]:
        index = evidence.indices.get(self._key)
        if index is None:
            return [0.0] * len(candidates)
        signatures = index.shingling.signatures(candidate.text for candidate in candidates)
        return [index.nearest(row.row_id, one) for row, one in zip(originals, signatures, strict=True)]


def _word_set(text: str) -> frozenset[str]:
    language = language_of(text)
    if language != "zh":
        return frozenset(flat(text).split())
    return frozenset(word.strip(EDGES).lower() or word for word in cut(text, language)[0])


def _form(words: frozenset[str]) -> bytes:
    """A bag of words in few bytes (BLAKE2b): those of a whole catalogue must fit into memory."""
    return hashlib.blake2b("\x1f".join(sorted(words)).encode(), digest_size=16).digest()


def _datasketch() -> tuple[Any, Any]:
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError as error:
        raise DependencyError(
            "the gate 'near_duplicate' needs datasketch: install the 'train' extra, or set "
            "max_jaccard_other = 1 to compare exactly alone"
        ) from error
    return MinHash, MinHashLSH
