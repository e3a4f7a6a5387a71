"""What may change and what is accepted: protected spans before an edit, acceptance after it.

*Editable*: brands, sizes, quantities, units, model numbers, colours, negations and the phrases that the user
lists are protected spans; ops choose among the other words only. *Acceptance*: original against candidate; a
refusal is a reason that is counted.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import compress

from pydantic import BaseModel, ConfigDict, Field

from recsys.augment import lexicon
from recsys.augment.example import NOTHING, HistoryExample, TextExample
from recsys.augment.tokens import ADDED, EDITABLE, PROTECTED, Tokens, cut, flat, language_of
from recsys.contexts import MASKED

EDGES = ".,;:!?\"'()[]{}<>“”‘’。，；：！？（）【】《》、*~|"
CLAUSE_ENDS = (".", ",", ";", ":", "!", "?", "|", "。", "，", "；", "：", "！", "？", "、")
_WORDLESS = re.compile(r"[\W_]+")
_HAS_DIGIT = re.compile(r"\d")
_CHINESE_SPAN = re.compile(
    "|".join((lexicon.ZH_QUANTITY, lexicon.ZH_NEGATION, lexicon.ZH_SIZE, lexicon.ZH_MODEL, lexicon.ZH_COLOUR))
)
_SINGLES = lexicon.COLOURS | lexicon.SIZES | lexicon.UNITS | lexicon.NUMBER_WORDS


class Protection:
    """Finds protected spans: the built-in kinds, an item's own brand, and the given phrases.

    Args:
        phrases: Words or phrases that must survive; case does not matter.
        brands: Brands of the catalogue: a title may name one that the row's own `brand` does not.
    """

    def __init__(self, phrases: Iterable[str] = (), brands: Iterable[str] = ()) -> None:
        self.phrases = _normalised(phrases)
        self._brands = frozenset(_normalised(brands))
        self._by_first: dict[str, list[tuple[str, ...]]] = {}
        for phrase in (*self.phrases, *sorted(self._brands)):
            words = _cores(phrase.split())
            self._by_first.setdefault(words[0], []).append(words)

    @functools.cached_property
    def brands(self) -> Mapping[str, tuple[str, ...]]:
        """The catalogue's brands in lower case without punctuation, by their first word."""
        by_first: dict[str, list[str]] = {}
        for brand in sorted({flat(brand).strip() for brand in self._brands} - {""}):
            by_first.setdefault(brand.split()[0], []).append(brand)
        return {first: tuple(brands) for first, brands in by_first.items()}

    def tokenise(self, text: str, fields: Mapping[str, str] = NOTHING) -> Tokens:
        """Cut a text and mark its protected words; a text in another language has no editable word."""
        language = language_of(text)
        words, joiner = cut(text, language)
        if language not in ("en", "zh"):
            return Tokens(words, bytes([PROTECTED]) * len(words), joiner, language)
        states = bytearray(PROTECTED if _WORDLESS.fullmatch(word) else EDITABLE for word in words)
        for start, stop in self._spans(words, language, fields):
            states[start:stop] = bytes([PROTECTED]) * (stop - start)
        return Tokens(words, bytes(states), joiner, language)

    def prepare(self, example: TextExample) -> TextExample:
        """The same example with its text cut."""
        return example._replace(tokens=self.tokenise(example.text, example.fields))

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

    def _spans(
        self, words: tuple[str, ...], language: str, fields: Mapping[str, str]
    ) -> Iterator[tuple[int, int]]:
        brand = fields.get("brand", "").strip().lower()
        if language == "zh":
            yield from self._chinese_spans(words, brand)
            return
        cores = _cores(words)
        yield from _english_spans(words, cores)
        by_first = self._by_first
        if brand:
            own = _cores(brand.split())
            by_first = {**by_first, own[0]: [*by_first.get(own[0], ()), own]}
        if by_first:
            for start, core in enumerate(cores):
                for phrase in by_first.get(core, ()):
                    if cores[start : start + len(phrase)] == phrase:
                        yield start, start + len(phrase)

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
    return tuple([word.strip(EDGES).lower() or word for word in words])


def _english_spans(words: tuple[str, ...], cores: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    last = len(words)
    for i, core in enumerate(cores):
        if _HAS_DIGIT.search(core):
            # A number and the word it counts: dropping what stands between would count something else.
            yield i, min(i + (1 if words[i].endswith(CLAUSE_ENDS) else 2), last)
        elif core in lexicon.NUMBER_WORDS:
            yield i, min(i + 2, last)
        elif core in _SINGLES or words[i].strip(EDGES) in lexicon.LETTER_SIZES:
            yield i, i + 1
        elif core in lexicon.NEGATIONS or core.endswith(("n't", "n’t")):
            yield i, _clause_end(words, i, i + 3)
        elif core == "free":
            yield max(i - 1, 0), i + 1
        elif core.endswith(("-free", "-less", "less")) or core.startswith(("non-", "anti-", "un-")):
            yield i, i + 1


def _clause_end(words: tuple[str, ...], start: int, limit: int) -> int:
    for i in range(start, min(limit, len(words))):
        if words[i].endswith(CLAUSE_ENDS):
            return i + 1
    return min(limit, len(words))


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
    if ADDED in after.states or ADDED in before.states:
        first, second = list(_protected(before)), list(_protected(after))
        return Counter(first) == Counter(second) or _bare(first) == _bare(second)
    # Without additions the states are their own selectors, which is several times faster.
    first, second = list(compress(before.words, before.states)), list(compress(after.words, after.states))
    if first == second or sorted(first) == sorted(second):
        return True
    return _bare(first) == _bare(second)


def _bare(words: Iterable[str]) -> Counter[str]:
    """Words as a new text may write them: in another case, beside other punctuation; mere signs left out."""
    return Counter(core for core in _cores(words) if not _WORDLESS.fullmatch(core))


def _protected(tokens: Tokens) -> Iterator[str]:
    return (word for word, state in zip(tokens.words, tokens.states, strict=True) if state == PROTECTED)
