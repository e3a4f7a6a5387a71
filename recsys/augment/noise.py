"""Text ops that make the errors people make when they type: English keys, Chinese sounds and shapes.

For queries rather than for item titles: one wrong letter moves a sentence encoder's vector more than a
dropped word does.
"""

from __future__ import annotations

import functools
from typing import Any

from pydantic import Field

from recsys.augment.confusions import HOMOPHONES, LOOK_ALIKES
from recsys.augment.constraints import EDGES
from recsys.augment.example import TextExample
from recsys.augment.op import Counts
from recsys.augment.text import tokens_of
from recsys.augment.tokens import Tokens
from recsys.augment.words import ReplaceWords, like
from recsys.randomness import Stream

_ROWS = (("qwertyuiop", 0.0), ("asdfghjkl", 0.25), ("zxcvbnm", 0.75))
"""The letters of a QWERTY keyboard and how far each row is moved to the right, in keys."""
_MOST_WORDS = 200_000
WRONG_KEY = 3
"""Number of the error that hits the wrong key, after letters exchanged, dropped and doubled."""
_REACH = 1.3
"""Two keys are neighbours when their centres are at most this many keys apart."""


class _LetterCounts(dict[str, int]):
    """Letters of a word that is made of ASCII letters alone, signs behind it aside; 0 for any other word."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _MOST_WORDS:
            self.clear()
        core = word.rstrip(EDGES)
        count = self[word] = len(core) if core.isascii() and core.isalpha() else 0
        return count


LETTERS = _LetterCounts()
"""Shared by all who mistype."""


class MistypeWords(ReplaceWords):
    """Shared draw: a few of the words that can be mistyped, each by `mistype`."""

    count_range: Counts = (1, 1)
    """How many words are mistyped; strength scales it."""

    def sample(self, example: TextExample, rng: Stream, strength: float) -> tuple[Any, ...] | None:
        """Draw the words and how each is mistyped."""
        tokens = tokens_of(example)
        found = self.places(tokens)
        low, high = self.count_range
        count = min(int((low + rng.below(high - low + 1)) * strength + 0.5), len(found))
        if count < 1:
            return None
        positions = [found[i] for i in rng.sample(len(found), count)]
        pairs = [(i, self.mistype(tokens.words[i], rng)) for i in positions]
        changed = [(i, word) for i, word in pairs if word != tokens.words[i]]
        return tuple(zip(*changed, strict=True)) if changed else None

    def places(self, tokens: Tokens) -> list[int]:
        """Positions of the words in which an error can be made."""
        raise NotImplementedError

    def mistype(self, word: str, rng: Stream) -> str:
        """The word with one error."""
        raise NotImplementedError


class Typo(MistypeWords):
    """Mistypes letters of longer English words: exchanged, dropped, doubled, or the neighbouring key."""

    name = "typo"
    languages = frozenset({"en"})

    min_letters: int = Field(5, ge=3)
    """Shorter words stay: a typo there makes another word."""

    def places(self, tokens: Tokens) -> list[int]:
        """Long enough words of letters."""
        words, least = tokens.words, self.min_letters
        return [i for i in tokens.editable if LETTERS[words[i]] >= least]

    def mistype(self, word: str, rng: Stream) -> str:
        """One of the four errors."""
        return mistyped(word, rng)


class KeyboardNoise(MistypeWords):
    """Hits a key beside the right one, in its place or along with it, in longer English words."""

    name = "keyboard_noise"
    languages = frozenset({"en"})

    min_letters: int = Field(5, ge=3)
    """Shorter words stay: a typo there makes another word."""
    slip: float = Field(0.3, ge=0, le=1)
    """Chance that both keys are hit, instead of the wrong one alone."""

    def places(self, tokens: Tokens) -> list[int]:
        """Long enough words of letters."""
        words, least = tokens.words, self.min_letters
        return [i for i in tokens.editable if LETTERS[words[i]] >= least]

    def mistype(self, word: str, rng: Stream) -> str:
        """The word with one wrong key after its first letter."""
        place = 1 + rng.below(len(word.rstrip(EDGES)) - 1)
        wrong = rng.choice(wrong_keys(word[place]))
        return word[:place] + wrong + word[place + (0 if rng.chance(self.slip) else 1) :]


class ChineseNoise(MistypeWords):
    """Writes a Chinese character for one that sounds the same or looks alike."""

    name = "chinese_noise"
    languages = frozenset({"zh"})

    sounds: bool = True
    """Characters of the same sound."""
    shapes: bool = True
    """Characters of a similar shape."""

    @functools.cached_property
    def _others(self) -> dict[str, str]:
        tables = ((self.sounds, HOMOPHONES), (self.shapes, LOOK_ALIKES))
        others: dict[str, str] = {}
        for used, table in tables:
            for char, rest in table.items() if used else ():
                others[char] = others.get(char, "") + rest
        return others

    def places(self, tokens: Tokens) -> list[int]:
        """Words with a character in the tables."""
        others, words = self._others.keys(), tokens.words
        return [i for i in tokens.editable if not others.isdisjoint(words[i])]

    def mistype(self, word: str, rng: Stream) -> str:
        """The word with one character exchanged."""
        places = [i for i, char in enumerate(word) if char in self._others]
        place = rng.choice(places)
        return word[:place] + rng.choice(self._others[word[place]]) + word[place + 1 :]


def mistyped(word: str, rng: Stream) -> str:
    """A word with one typing error after its first letter, as fingers make them."""
    last = len(word.rstrip(EDGES)) - 1
    place = 1 + rng.below(last - 1)
    kind = rng.below(WRONG_KEY + 1)
    if kind < WRONG_KEY:
        return misplaced(word, place, kind)
    return word[:place] + rng.choice(wrong_keys(word[place])) + word[place + 1 :]


def misplaced(word: str, place: int, kind: int) -> str:
    """A word whose letters at a place are exchanged (0), or of which one is dropped (1) or doubled (2)."""
    if kind == 0:
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    return word[:place] + word[place + 1 :] if kind == 1 else word[: place + 1] + word[place:]


@functools.cache
def wrong_keys(letter: str) -> tuple[str, ...]:
    """What the keys beside a letter's type, in its case."""
    return tuple(like(key, letter) for key in neighbour_keys(letter.lower()))


@functools.cache
def neighbour_keys(letter: str) -> tuple[str, ...]:
    """The letters beside a letter on a QWERTY keyboard, nearest first; every letter has some."""
    places = {key: (x + shift, float(y)) for y, (row, shift) in enumerate(_ROWS) for x, key in enumerate(row)}
    at = places[letter]
    distances = sorted(((x - at[0]) ** 2 + (y - at[1]) ** 2, key) for key, (x, y) in places.items())
    return tuple(key for distance, key in distances if 0 < distance <= _REACH**2)
