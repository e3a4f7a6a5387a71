"""Cutting a text into words: English at white space, Chinese by jieba; other languages are left alone."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable
from itertools import compress, count
from typing import Any, Literal

from recsys.errors import DependencyError

Language = Literal["en", "zh", "other", "none"]
"""`other` is a language whose words and negations we do not know; `none` is a text without letters."""

EDITABLE, PROTECTED, ADDED = 0, 1, 2
"""States of a word: may change; must survive; was put in by an op and is not edited again."""
_IS_EDITABLE = bytes([1]) + bytes(255)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
_WORDLESS = re.compile(r"[\W_]+")
_LATIN = re.compile(r"[A-Za-z]")
_NOT_LATIN = bytes(code for code in range(256) if not chr(code).isascii() or not chr(code).isalpha())
_ASCII = re.compile(r"[\x00-\x7f]+")
_FOREIGN = re.compile(r"[\u0370-\u1fff\u3040-\u30ff\u3130-\u318f\uac00-\ud7af]")
"""Greek to Georgian and beyond, kana, hangul: scripts of neither English nor Chinese."""
ENGLISH_WORDS = _words("the a an of and with for in on to from by is this your our or not no at")
OTHER_WORDS = _words(
    "der die das und mit für ohne auf ein eine zu von les le la des du et avec pour sans dans sur une "
    "el los las con para sin una del por y il lo gli di per senza non che een het van voor zonder met "
    "em com sem dos uma och med för utan"
)


class Tokens:
    """A text as words and a state per word; read-only by convention."""

    __slots__ = ("_editable", "joiner", "language", "states", "words")

    def __init__(self, words: tuple[str, ...], states: bytes, joiner: str, language: Language) -> None:
        self.words, self.states, self.joiner, self.language = words, states, joiner, language
        self._editable: tuple[int, ...] | None = None

    @property
    def editable(self) -> tuple[int, ...]:
        """Positions of words that may change, ascending."""
        if self._editable is None:
            self._editable = tuple(compress(count(), self.states.translate(_IS_EDITABLE)))
        return self._editable

    @property
    def text(self) -> str:
        """The words as one text."""
        return self.joiner.join(self.words)


def language_of(text: str) -> Language:
    """English, Chinese, another language, or none: by script, then by the commonest short words."""
    if text.isascii():
        if not _LATIN.search(text):
            return "none"
        return "other" if _speaks_other(text) else "en"
    rest = _ASCII.sub("", text)  # mostly little: letters of Latin are counted as bytes, and fast
    latin = len(text.encode("ascii", "ignore").translate(None, _NOT_LATIN))
    han, foreign = len(_HAN.findall(rest)), len(_FOREIGN.findall(rest))
    if foreign > 0.1 * (han + latin + foreign):
        return "other"
    if han:
        # One Chinese character says about as much as three Latin letters.
        return "zh" if 3 * han >= latin else "en"
    if not latin:
        return "none" if not any(unicodedata.category(c).startswith("L") for c in text) else "other"
    return "other" if _speaks_other(text) else "en"


def _speaks_other(text: str) -> bool:
    words = text.lower().split()
    other = sum(map(OTHER_WORDS.__contains__, words))
    return other >= 2 and other > sum(map(ENGLISH_WORDS.__contains__, words))


def cut(text: str, language: Language) -> tuple[tuple[str, ...], str]:
    """The words of a text and what joins them: `joiner.join(words)` is the text, white space evened out."""
    if language == "zh":
        return tuple(_chinese_segmenter()(" ".join(text.split()))), ""
    return tuple(text.split()), " "


def is_dictionary_word(text: str, min_frequency: int = 20) -> bool:
    """Whether Chinese characters are one word of the segmenter's dictionary, names and rarities left out."""
    return int(_chinese_dictionary().FREQ.get(text) or 0) >= min_frequency


def flat(text: str) -> str:
    """A text in lower case, letters and digits alone, words parted and edged by single spaces."""
    return f" {' '.join(_WORDLESS.sub(' ', text.lower()).split())} "


@functools.cache
def _chinese_dictionary() -> Any:
    try:
        import jieba
    except ImportError as error:
        raise DependencyError(
            "Chinese text needs jieba to be cut into words: install the 'train' extra, or jieba alone"
        ) from error
    jieba.setLogLevel("WARNING")
    tokenizer = jieba.Tokenizer()  # one of our own: its dictionary stays as shipped, so that replay holds
    tokenizer.initialize()
    return tokenizer


def _chinese_segmenter() -> Callable[[str], list[str]]:
    segment: Callable[[str], list[str]] = _chinese_dictionary().lcut
    return segment
