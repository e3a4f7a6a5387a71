"""The column forms of ops that mistype English words: draws side by side, changed words one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.augment.columns.edits import Edited
from recsys.augment.columns.runs import Ints, counts, offsets_of
from recsys.augment.columns.texts import TextRows
from recsys.augment.columns.texts_drawing import Drawing
from recsys.augment.columns.texts_words import as_json, positions_and_words
from recsys.augment.noise import LETTERS, WRONG_KEY, KeyboardNoise, Typo, misplaced, wrong_keys
from recsys.augment.tokens import EDITABLE
from recsys.streams import Streams

_ASCII = [chr(code) for code in range(128)]
_NUM_KEYS = np.array([len(wrong_keys(char)) if char.isalpha() else 0 for char in _ASCII], np.int64)
"""How many keys lie beside a letter's, by its code."""


class _Words:
    """Words that are mistyped, one per row that draws."""

    def __init__(self, part: TextRows, numbers: Ints, letters: Ints) -> None:
        names = part.cut.vocabulary.words
        self.names = [names[number] for number in numbers.tolist()]
        self.letters = letters
        """How many letters each begins with; what follows are signs."""
        self._part, self._numbers = part, numbers

    def letter_codes(self, places: Ints) -> Ints:
        """The codes of the letters at these places."""
        arrow = self._part.cut.vocabulary.arrow
        _, begins, characters = arrow.buffers()
        first = np.frombuffer(begins, np.int32)[arrow.offset + self._numbers]
        codes: Ints = np.frombuffer(characters, np.uint8)[first + places].astype(np.int64)
        return codes


Mistype = Callable[[_Words, Streams], list[str]]


def typo(op: Typo, texts: Drawing) -> Edited[TextRows] | None:
    """`Typo` on many texts."""

    def mistype(words: _Words, drawn: Streams) -> list[str]:
        place = 1 + drawn.below(words.letters - 2)
        kind = drawn.below(WRONG_KEY + 1)
        wrong = np.flatnonzero(kind == WRONG_KEY)
        key = np.zeros(len(kind), np.int64)
        key[wrong] = drawn.below_of(wrong, _NUM_KEYS[words.letter_codes(place)[wrong]])
        return [
            misplaced(word, at, error)
            if error < WRONG_KEY
            else word[:at] + wrong_keys(word[at])[number] + word[at + 1 :]
            for word, at, error, number in zip(
                words.names, place.tolist(), kind.tolist(), key.tolist(), strict=True
            )
        ]

    return _mistyped(op, texts, mistype)


def keyboard_noise(op: KeyboardNoise, texts: Drawing) -> Edited[TextRows] | None:
    """`KeyboardNoise` on many texts."""

    def mistype(words: _Words, drawn: Streams) -> list[str]:
        place = 1 + drawn.below(words.letters - 1)
        key = drawn.below(_NUM_KEYS[words.letter_codes(place)])
        rest = place + np.where(drawn.chance(op.slip), 0, 1)
        return [
            word[:at] + wrong_keys(word[at])[number] + word[after:]
            for word, at, number, after in zip(
                words.names, place.tolist(), key.tolist(), rest.tolist(), strict=True
            )
        ]

    return _mistyped(op, texts, mistype)


def _mistyped(op: Typo | KeyboardNoise, texts: Drawing, mistype: Mistype) -> Edited[TextRows] | None:
    """A few of each text's longer words, mistyped; each row draws for one word after the other."""
    rows, part, drawn, _ = texts
    cut = part.cut
    letters = cut.vocabulary.table("letters", _letters)[part.words]
    found = part.editable & (letters >= op.min_letters)
    spare, before = counts(found, part.offsets)
    wanted = np.maximum(np.minimum(texts.amount(*op.count_range), spare), 0)
    ends, picks = drawn.sample(spare, wanted)
    at = np.flatnonzero(found)[np.repeat(before[:-1], wanted) + picks]
    words = part.words[at]
    new = [""] * len(at)
    for step in range(int(wanted.max(initial=0))):
        drawing = np.flatnonzero(wanted > step)
        which = ends[drawing] + step
        mine = drawn.take(drawing)
        said = mistype(_Words(part, words[which], letters[at[which]]), mine)
        drawn.put(drawing, mine)
        for place, word in zip(which.tolist(), said, strict=True):
            new[place] = word
    numbers = cut.vocabulary.numbers(new)
    changed = np.flatnonzero(numbers != words)
    if not len(changed):
        return None
    of = np.repeat(np.arange(len(part)), wanted)[changed]
    number = np.bincount(of, minlength=len(part))
    chosen = np.flatnonzero(number)
    source = part.source.copy()
    source[at[changed]] = cut.add(numbers[changed], EDITABLE)
    after = TextRows(cut, part.parents, source, part.offsets)
    if len(chosen) < len(part):
        after = after.take(chosen)
    said_now = as_json([new[place] for place in changed.tolist()])
    places = at[changed] - part.offsets[of]
    return positions_and_words(op.name, rows[chosen], after, places, said_now, offsets_of(number[chosen]))


def _letters(words: Sequence[str]) -> NDArray[np.int64]:
    return np.fromiter(map(LETTERS.__getitem__, words), np.int64, len(words))
