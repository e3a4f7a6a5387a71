"""The gate against near duplicates: of another item's text, and of an earlier variant of the same one.

Exact matches are looked up by a text's normal form. What is merely close is found by MinHash signatures in a
locality-sensitive index over the catalogue: `recsys.augment.gates.shingles`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from recsys.augment.constraints import EDGES
from recsys.augment.example import TextExample
from recsys.augment.gates.gate import Evidence, Gate, Verdicts
from recsys.augment.gates.shingles import CatalogueIndex, Shingling
from recsys.augment.op import Kind
from recsys.augment.tokens import cut, flat, language_of

_SLACK = 0.05
"""The index looks this far under the bound, because near it every third pair would be missed."""


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
        names, texts = [row.row_id for row in originals], [candidate.text for candidate in candidates]
        found: list[float] = index.nearest(names, texts).tolist()
        return found


def _word_set(text: str) -> frozenset[str]:
    language = language_of(text)
    if language != "zh":
        return frozenset(flat(text).split())
    return frozenset(word.strip(EDGES).lower() or word for word in cut(text, language)[0])


def _form(words: frozenset[str]) -> bytes:
    """A bag of words in few bytes (BLAKE2b): those of a whole catalogue must fit into memory."""
    return hashlib.blake2b("\x1f".join(sorted(words)).encode(), digest_size=16).digest()
