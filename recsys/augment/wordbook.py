"""What is known of an English word at sight, found once per distinct word: a catalogue repeats its words."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

from recsys.augment import lexicon
from recsys.augment.tokens import ENGLISH_WORDS, OTHER_WORDS

EDGES = ".,;:!?\"'()[]{}<>“”‘’。，；：！？（）【】《》、*~|"
CLAUSE_ENDS = (".", ",", ";", ":", "!", "?", "|", "。", "，", "；", "：", "！", "？", "、")

PLAIN, WORDLESS, ALONE, WITH_NEXT, NEGATION, FREE = range(6)
"""Kinds: editable; signs alone, protected but no span; a span of one word; one that takes the next word with
it; a negation and what it governs; "free", which takes the word before it."""
KIND, CLAUSE_END, FIRST, OTHER, ENGLISH, PHRASE = 7, 8, 16, 32, 64, 128
"""Parts of a code: the kind; the word ends a clause; its core begins a longer phrase to protect; it is a
common short word of another language, or of English; its core is a phrase to protect by itself."""
_MOST = 200_000
_SIGNS_ALONE = re.compile(r"[\W_]+")
_HAS_DIGIT = re.compile(r"\d")
_SINGLES = lexicon.COLOURS | lexicon.SIZES | lexicon.UNITS


class WordBook(dict[str, int]):
    """Codes by word; an unknown word is looked at when it is asked for, and the book stays within a bound.

    Args:
        phrases: Phrases to protect, as the cores of their words.
    """

    def __init__(self, phrases: Iterable[tuple[str, ...]] = ()) -> None:
        super().__init__()
        every = frozenset(phrases)
        self._firsts = frozenset(phrase[0] for phrase in every if len(phrase) > 1)
        self._alone = frozenset(phrase[0] for phrase in every if len(phrase) == 1)

    def __missing__(self, word: str) -> int:
        if len(self) >= _MOST:
            self.clear()
        lowered = word.lower()
        code = kind_of(word)
        code |= CLAUSE_END if word.endswith(CLAUSE_ENDS) else 0
        core = core_of(word)
        code |= FIRST if core in self._firsts else 0
        code |= PHRASE if core in self._alone else 0
        code |= OTHER if lowered in OTHER_WORDS else 0
        code |= ENGLISH if lowered in ENGLISH_WORDS else 0
        self[word] = code
        return code


class CoreBook(dict[str, str]):
    """Cores by word, within a bound as well."""

    def __missing__(self, word: str) -> str:
        if len(self) >= _MOST:
            self.clear()
        core = self[word] = core_of(word)
        return core


CORES = CoreBook()
"""Shared by all who compare words."""


@functools.cache
def plain_book() -> WordBook:
    """The book without phrases, for all who protect the built-in kinds alone."""
    return WordBook()


def core_of(word: str) -> str:
    """A word in lower case without the signs at its edges; the word itself where that leaves nothing."""
    return word.strip(EDGES).lower() or word


def kind_of(word: str) -> int:
    """The kind of a word by itself."""
    core = core_of(word)
    if _HAS_DIGIT.search(core):
        # A number and the word it counts: dropping what stands between would count something else.
        return ALONE if word.endswith(CLAUSE_ENDS) else WITH_NEXT
    if core in lexicon.NUMBER_WORDS:
        return WITH_NEXT
    if core in _SINGLES or word.strip(EDGES) in lexicon.LETTER_SIZES:
        return ALONE
    if core in lexicon.NEGATIONS or core.endswith(("n't", "n’t")):
        return NEGATION
    if core == "free":
        return FREE
    if core.endswith(("-free", "-less", "less")) or core.startswith(("non-", "anti-", "un-")):
        return ALONE
    return WORDLESS if _SIGNS_ALONE.fullmatch(word) else PLAIN
