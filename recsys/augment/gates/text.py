"""Gates on texts: attributes, fluency, meaning."""

from __future__ import annotations

import re
import unicodedata
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from recsys.augment import lexicon
from recsys.augment.constraints import EDGES, Protection
from recsys.augment.example import TextExample
from recsys.augment.gates.gate import Evidence, Gate, Verdicts
from recsys.augment.op import Kind
from recsys.augment.tokens import cut, flat, language_of

_FACTS = lexicon.COLOURS | lexicon.SIZES | lexicon.NEGATIONS
_DIGIT = re.compile(r"\d")
_SIGNS = re.compile(r"[\W_]+")
_RUN = re.compile(r"([^\s\d])\1{7}")


class TextGate(Gate[TextExample]):
    """A gate that looks at one text and its original."""

    kind: ClassVar[Kind] = "text"

    def judge(
        self, originals: Sequence[TextExample], candidates: Sequence[TextExample], evidence: Evidence
    ) -> Verdicts:
        """One verdict per pair."""
        pairs = [self.weigh(a, b, evidence) for a, b in zip(originals, candidates, strict=True)]
        return Verdicts([score for score, _ in pairs], [reason for _, reason in pairs])

    @abstractmethod
    def weigh(
        self, original: TextExample, candidate: TextExample, evidence: Evidence
    ) -> tuple[float, str | None]:
        """Score and reason of one candidate."""


class Attributes(TextGate):
    """Brands, sizes, quantities, models, colours and negations are neither lost nor made up."""

    name = "attributes"

    def weigh(
        self, original: TextExample, candidate: TextExample, evidence: Evidence
    ) -> tuple[float, str | None]:
        """Share of the original's protected spans that stand; made-up facts give 0."""
        wanted = Counter(evidence.protection.spans(original.text, original.fields))
        after = flat(candidate.text)
        kept = sum(min(after.count(flat(span).strip()), count) for span, count in wanted.items())
        score = kept / wanted.total() if wanted else 1.0
        if score < 1.0:
            return score, "attribute_lost"
        if made_up(original, candidate.text, evidence.protection):
            return 0.0, "attribute_added"
        return 1.0, None


class Fluency(TextGate):
    """Texts stay texts: no absurd length, no repetition, no garbage of characters."""

    name = "fluency"

    length_range: tuple[float, float] = (0.4, 3.0)
    """Characters of the candidate, as a share of the original's; thin texts may grow by `allowance`."""
    allowance: int = Field(200, ge=0)
    """Characters that any text may grow by, whatever its length."""
    max_repetition: float = Field(0.3, gt=0, le=1)
    """Largest share of the words that are one word, in texts of six words and more."""
    min_letters: float = Field(0.5, ge=0, le=1)
    """Smallest share of letters and digits among the characters that are not white space."""

    def weigh(
        self, original: TextExample, candidate: TextExample, evidence: Evidence
    ) -> tuple[float, str | None]:
        """Share of letters; what the original did already is no fault of the candidate."""
        before, after = len(original.text), len(candidate.text)
        letters = _letter_share(candidate.text)
        if before and after < self.length_range[0] * before:
            return letters, "too_little_left"
        if after > max(self.length_range[1] * before, before + self.allowance):
            return letters, "too_long"
        repeated = _repetition(candidate.text)
        if repeated > max(self.max_repetition, _repetition(original.text)):
            return letters, "repetitive"
        garbled = letters < min(self.min_letters, _letter_share(original.text)) or _broken(candidate.text)
        return letters, "garbled" if garbled and not _broken(original.text) else None


class Meaning(Gate[TextExample]):
    """The variant means what the original does, by the encoder's own measure."""

    name = "meaning"
    kind: ClassVar[Kind] = "text"
    needs: ClassVar[frozenset[str]] = frozenset({"encode"})

    min_cosine: float = Field(0.7, ge=-1, le=1)
    """Smallest cosine of the two texts' vectors."""
    min_words: int = Field(3, ge=1)
    """Texts with fewer words mean too little to be held to."""

    def judge(
        self, originals: Sequence[TextExample], candidates: Sequence[TextExample], evidence: Evidence
    ) -> Verdicts:
        """The cosines."""
        # Both sides in one call: texts of one length share a batch, and nothing is padded twice.
        vectors = evidence.encoded([example.text for example in (*originals, *candidates)])
        if vectors is None:
            raise ValueError("the gate 'meaning' needs an encoder")
        size, verdicts = len(originals), Verdicts([], [])
        for original, one, other in zip(originals, vectors[:size], vectors[size:], strict=True):
            cosine = float(np.dot(one, other))
            refused = cosine < self.min_cosine and self._says_something(original.text)
            verdicts.scores.append(cosine)
            verdicts.reasons.append("meaning_changed" if refused else None)
        return verdicts

    def _says_something(self, text: str) -> bool:
        return len(cut(text, language_of(text))[0]) >= self.min_words


def made_up(original: TextExample, text: str, protection: Protection) -> list[str]:
    """Facts of a text (numbers, colours, sizes, negations, brands) that its original and row do not know."""
    known = _cores(original.text) | {core for value in original.fields.values() for core in _cores(value)}
    source = flat(" ".join((original.text, *original.fields.values())))
    if language_of(text) == "zh":
        return [
            span
            for span in protection.spans(text, original.fields)
            if flat(span).strip() not in source and not any(part in source for part in _parts(span))
        ]
    brands = protection.brands
    new = [core for core in sorted(_cores(text) - known) if core in _FACTS or _DIGIT.search(core)]
    return new + [brand for brand in sorted(brands_in(text, brands)) if f" {brand} " not in source]


def brands_in(text: str, brands: Mapping[str, tuple[str, ...]]) -> set[str]:
    """Brands that a text names as whole words; `brands` by their first word."""
    said = flat(text)
    return {brand for word in set(said.split()) for brand in brands.get(word, ()) if f" {brand} " in said}


def added_text(original: TextExample, candidate: TextExample) -> str:
    """The words that a candidate says and its original does not, in order, as one text."""
    known = _cores(original.text)
    words, joiner = cut(candidate.text, language_of(candidate.text))
    return joiner.join(word for word in words if word.strip(EDGES).lower() not in known)


def _cores(text: str) -> set[str]:
    return {word.strip(EDGES).lower() or word for word in cut(text, language_of(text))[0]}


def _parts(span: str) -> list[str]:
    """A Chinese span without its last or first character: cutting anew may lend it a neighbour's."""
    plain = flat(span).strip()
    return [plain[:-1], plain[1:]] if len(plain) > 2 else []


def _letter_share(text: str) -> float:
    visible = sum(map(len, text.split()))
    return len(_SIGNS.sub("", text)) / visible if visible else 1.0


def _repetition(text: str) -> float:
    words = [word.lower() for word in cut(text, language_of(text))[0] if any(map(str.isalnum, word))]
    return Counter(words).most_common(1)[0][1] / len(words) if len(words) >= 6 else 0.0


def _broken(text: str) -> bool:
    """Replacement, control or unassigned characters, or one character eight times in a row."""
    if _RUN.search(text):
        return True
    if text.isascii() and text.isprintable():
        return False
    return any(char == "\ufffd" or unicodedata.category(char) in ("Cc", "Cn", "Co") for char in text)
