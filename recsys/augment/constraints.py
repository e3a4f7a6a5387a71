"""What may change and what is accepted: protected spans before an edit, acceptance after it.

*Editable*: brands, sizes, quantities, units, model numbers, colours, negations and the phrases that the user
lists are protected spans; ops choose among the other words only. *Acceptance*: original against candidate; a
refusal is a reason that is counted.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import compress

from pydantic import BaseModel, ConfigDict, Field

from recsys.augment import lexicon
from recsys.augment.example import NOTHING, HistoryExample, TextExample
from recsys.augment.tokens import EDITABLE, PROTECTED, Tokens, cut, flat, language_of
from recsys.augment.wordbook import (
    ALONE,
    CLAUSE_END,
    CLAUSE_ENDS,
    CORES,
    EDGES,
    ENGLISH,
    FIRST,
    FREE,
    KIND,
    NEGATION,
    OTHER,
    PHRASE,
    WITH_NEXT,
    WordBook,
    plain_book,
)
from recsys.contexts import MASKED

__all__ = ["CLAUSE_ENDS", "EDGES", "Acceptance", "Protection"]

_CHINESE_SPAN = re.compile(
    "|".join((lexicon.ZH_QUANTITY, lexicon.ZH_NEGATION, lexicon.ZH_SIZE, lexicon.ZH_MODEL, lexicon.ZH_COLOUR))
)
_WORDLESS = re.compile(r"[\W_]+")
_LETTER = re.compile("[A-Za-z]")
_CODES = range(256)
STATE_OF = bytes(PROTECTED if code & (KIND | PHRASE) else EDITABLE for code in _CODES)
"""The state that a code gives its word by itself."""
_WIDE = re.compile(b"[%s]" % re.escape(bytes(c for c in _CODES if c & KIND > ALONE or c & FIRST)))
"""Codes whose span may be of several words."""
_NOT_OTHER = bytes(code for code in _CODES if not code & OTHER)
_NOT_ENGLISH = bytes(code for code in _CODES if not code & ENGLISH)
_IS_PROTECTED = bytes(state == PROTECTED for state in _CODES)
_MOST_BRANDS = 100_000
Spans = list[tuple[int, int]]
"""Words from start to before stop."""


class Protection:
    """Finds protected spans: the built-in kinds, an item's own brand, and the given phrases.

    Args:
        phrases: Words or phrases that must survive; case does not matter.
        brands: Brands of the catalogue: a title may name one that the row's own `brand` does not.
    """

    def __init__(self, phrases: Iterable[str] = (), brands: Iterable[str] = ()) -> None:
        self.phrases = _normalised(phrases)
        self._brands = frozenset(_normalised(brands))
        self._cut = frozenset(_cores(phrase.split()) for phrase in (*self.phrases, *self._brands))
        self._by_two: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
        for words in sorted(self._cut):
            self._by_two.setdefault(words[:2], []).append(words)
        self.book = WordBook(self._cut) if self._cut else plain_book()
        self._own: dict[str, tuple[str, ...]] = {}

    @functools.cached_property
    def brands(self) -> Mapping[str, tuple[str, ...]]:
        """The catalogue's brands in lower case without punctuation, by their first word."""
        by_first: dict[str, list[str]] = {}
        for brand in sorted({flat(brand).strip() for brand in self._brands} - {""}):
            by_first.setdefault(brand.split()[0], []).append(brand)
        return {first: tuple(brands) for first, brands in by_first.items()}

    def tokenise(self, text: str, fields: Mapping[str, str] = NOTHING) -> Tokens:
        """Cut a text and mark its protected words; a text in another language has no editable word."""
        if text.isascii() and _LETTER.search(text):
            words = tuple(text.split())
            codes = bytes(map(self.book.__getitem__, words))
            others = len(codes.translate(None, _NOT_OTHER))
            if others >= 2 and others > len(codes.translate(None, _NOT_ENGLISH)):
                return Tokens(words, bytes([PROTECTED]) * len(words), " ", "other")
            return Tokens(words, self._english_states(words, codes, fields), " ", "en")
        language = language_of(text)
        words, joiner = cut(text, language)
        if language == "en":
            codes = bytes(map(self.book.__getitem__, words))
            return Tokens(words, self._english_states(words, codes, fields), joiner, language)
        if language != "zh":
            return Tokens(words, bytes([PROTECTED]) * len(words), joiner, language)
        states = bytearray(PROTECTED if _WORDLESS.fullmatch(word) else EDITABLE for word in words)
        for start, stop in self._chinese_spans(words, fields.get("brand", "").strip().lower()):
            states[start:stop] = bytes([PROTECTED]) * (stop - start)
        return Tokens(words, bytes(states), joiner, language)

    def prepare(self, example: TextExample) -> TextExample:
        """The same example with its text cut."""
        return TextExample._make((*example[:3], self.tokenise(example.text, example.fields), *example[4:]))

    def spans(self, text: str, fields: Mapping[str, str] = NOTHING) -> list[str]:
        """The protected spans of a text as they stand in it, in order, overlapping ones joined."""
        language = language_of(text)
        if language not in ("en", "zh"):
            return [text] if text else []
        words, joiner = cut(text, language)
        merged: list[list[int]] = []
        for start, stop in sorted(self._spans(words, language, fields)):
            if merged and start < merged[-1][1]:
                merged[-1][1] = max(merged[-1][1], stop)
            else:
                merged.append([start, stop])
        return [joiner.join(words[start:stop]) for start, stop in merged]

    def _spans(self, words: tuple[str, ...], language: str, fields: Mapping[str, str]) -> Spans:
        brand = fields.get("brand", "")
        if language == "zh":
            return list(self._chinese_spans(words, brand.strip().lower()))
        codes = bytes(map(self.book.__getitem__, words))
        alone = [(i, i + 1) for i, code in enumerate(codes) if code & KIND == ALONE or code & PHRASE]
        return alone + self._wide_spans(words, codes) + self.own_spans(words, brand)

    def _english_states(self, words: tuple[str, ...], codes: bytes, fields: Mapping[str, str]) -> bytes:
        states = codes.translate(STATE_OF)
        spans = self._wide_spans(words, codes) if _WIDE.search(codes) else []
        if brand := fields.get("brand", ""):
            spans += self.own_spans(words, brand)
        if not spans:
            return states
        marked = bytearray(states)
        for start, stop in spans:
            marked[start:stop] = bytes([PROTECTED]) * (stop - start)
        return bytes(marked)

    def _wide_spans(self, words: tuple[str, ...], codes: bytes) -> Spans:
        """Spans that may be of several words: those that a word's kind makes, and phrases."""
        spans: Spans = []
        last = len(words)
        for match in _WIDE.finditer(codes):
            i = match.start()
            code = codes[i]
            kind = code & KIND
            if kind == WITH_NEXT:
                spans.append((i, min(i + 2, last)))
            elif kind == NEGATION:
                spans.append((i, _clause_end(codes, i, min(i + 3, last))))
            elif kind == FREE:
                spans.append((max(i - 1, 0), i + 1))
            if code & FIRST and i + 1 < last:
                spans += self._phrases_at(words, i)
        return spans

    @functools.cached_property
    def second_words(self) -> frozenset[str]:
        """The cores that stand second in a phrase."""
        return frozenset(words[1] for words in self._by_two if len(words) > 1)

    def phrases_from(self, first: str, second: str) -> list[tuple[str, ...]]:
        """The phrases that begin with these cores."""
        return self._by_two.get((first, second), [])

    def _phrases_at(self, words: Sequence[str], i: int) -> Spans:
        """The phrases of two words and more that begin at a word which is not the last."""
        return [
            (i, i + len(phrase))
            for phrase in self.phrases_from(CORES[words[i]], CORES[words[i + 1]])
            if len(phrase) == 2 or _cores(words[i : i + len(phrase)]) == phrase
        ]

    def own_cores(self, brand: str) -> tuple[str, ...]:
        """An item's own brand as cores; none where it is one of the catalogue's, found already."""
        own = self._own.get(brand)
        if own is None:
            if len(self._own) >= _MOST_BRANDS:
                self._own.clear()
            own = _cores(brand.lower().split())
            own = self._own[brand] = () if own in self._cut else own
        return own

    def own_spans(self, words: Sequence[str], brand: str) -> Spans:
        """Where an item's own brand stands."""
        own = self.own_cores(brand)
        if not own:
            return []
        cores, size = _cores(words), len(own)
        found = (i for i, core in enumerate(cores) if core == own[0] and cores[i : i + size] == own)
        return [(i, i + size) for i in found]

    def _chinese_spans(self, words: tuple[str, ...], brand: str) -> Iterator[tuple[int, int]]:
        text = "".join(words)
        starts: list[int] = []
        for number, word in enumerate(words):
            starts.extend([number] * len(word))
            if word.lower() in self._brands:
                yield number, number + 1
        for match in _CHINESE_SPAN.finditer(text):
            yield starts[match.start()], starts[match.end() - 1] + 1
        lowered = text.lower()
        if len(lowered) != len(text):  # a letter that changes length in lower case: match as it stands
            lowered = text
        for phrase in (*self.phrases, brand):
            place = lowered.find(phrase) if phrase else -1
            while place >= 0:
                yield starts[place], starts[place + len(phrase) - 1] + 1
                place = lowered.find(phrase, place + 1)


def _normalised(phrases: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({" ".join(phrase.split()).lower() for phrase in phrases} - {""}))


def _cores(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(CORES.__getitem__, words))


def _clause_end(codes: bytes, start: int, limit: int) -> int:
    for i in range(start, limit):
        if codes[i] & CLAUSE_END:
            return i + 1
    return limit


class Acceptance(BaseModel):
    """Original against candidate: bounds that every augmented row must keep."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    min_length: int = Field(1, ge=1)
    """Fewest words (or events) a candidate may have, unless the original had fewer."""
    max_modification: float = Field(0.5, ge=0, le=1)
    """Largest share of the original's words (or events) that may be gone."""

    def judge(self, original: HistoryExample | TextExample, candidate: object) -> tuple[str | None, float]:
        """The reason of a refusal (None accepts) and the share of the original that is gone."""
        if isinstance(original, TextExample):
            if not isinstance(candidate, TextExample):
                raise TypeError("a text op must return a TextExample")
            return self._judge_text(original, candidate)
        if not isinstance(candidate, HistoryExample):
            raise TypeError("a history op must return a HistoryExample")
        return self._judge_history(original, candidate)

    def _judge_text(self, original: TextExample, candidate: TextExample) -> tuple[str | None, float]:
        before, after = original.tokens, candidate.tokens
        if before is None or after is None:
            protection = Protection()
            before = before or protection.tokenise(original.text, original.fields)
            after = after or protection.tokenise(candidate.text, original.fields)
        gone = _share_gone(before.words, after.words)
        if candidate.text == original.text:
            return "unchanged", gone
        if len(after.words) < min(self.min_length, len(before.words)) or not after.words:
            return "too_short", gone
        if gone > self.max_modification:
            return "too_different", gone
        if not _same_protected(before, after):
            return "protected_span_lost", gone
        return None, gone

    def _judge_history(self, original: HistoryExample, candidate: HistoryExample) -> tuple[str | None, float]:
        before, after = original.history, candidate.history
        present = set(after)
        kept = sum(map(present.__contains__, before))
        size, length = len(before), len(after)
        gone = max(size - kept, size - length) / size if size else 0.0
        if length < min(self.min_length, size) or (size and not length):
            return "too_short", gone
        if gone > self.max_modification:
            return "too_different", gone
        if original.targets and not present.difference(before).isdisjoint(original.targets):
            return "target_inserted", gone
        if not length == len(candidate.event_types) == len(candidate.timestamps):
            return "ragged", gone
        if candidate.targets != original.targets:
            return "target_changed", gone
        if after == before and candidate.event_types == original.event_types:
            return "unchanged", gone
        if MASKED in present and len(present) == 1:
            return "nothing_known", gone
        return None, gone


def _share_gone(before: tuple[str, ...], after: tuple[str, ...]) -> float:
    if not before:
        return 0.0
    kept = sum(map(set(after).__contains__, before))
    return max(len(before) - kept, len(before) - len(after)) / len(before)


def _same_protected(before: Tokens, after: Tokens) -> bool:
    first, second = _protected(before), _protected(after)
    return first == second or sorted(first) == sorted(second) or _bare(first) == _bare(second)


def _bare(words: Iterable[str]) -> Counter[str]:
    """Words as a new text may write them: in another case, beside other punctuation; mere signs left out."""
    return Counter(core for core in _cores(words) if not _WORDLESS.fullmatch(core))


def _protected(tokens: Tokens) -> list[str]:
    return list(compress(tokens.words, tokens.states.translate(_IS_PROTECTED)))
