"""Many texts cut into words and protected at once: the same tokens as `Protection.tokenise` gives one by one.

What a word is follows from the word alone, so each distinct word is looked at once. Texts with characters
beyond ASCII are cut one by one: they are few in English, and Chinese has to be segmented.
"""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.augment.columns.runs import Ints, counts, interleaved, offsets_of
from recsys.augment.columns.texts import LANGUAGES, CutTexts, Originals, Vocabulary
from recsys.augment.constraints import STATE_OF
from recsys.augment.tokens import PROTECTED, Tokens
from recsys.augment.wordbook import CLAUSE_END, ENGLISH, FIRST, FREE, KIND, NEGATION, OTHER, WITH_NEXT

_LETTER = re.compile("[A-Za-z]")
_STATES = np.frombuffer(STATE_OF, np.uint8)
_NEGATED = 2
"""Words behind a negation that go with it, unless a clause ends before."""
_EN, _OTHER, _NONE = (LANGUAGES.index(name) for name in ("en", "other", "none"))


def cut_texts(originals: Originals) -> CutTexts:
    """Cut the texts and mark their protected words."""
    arrow = pa.array(originals.texts, pa.string())
    plain = pc.string_is_ascii(arrow).to_numpy(zero_copy_only=False)
    pool, offsets, singly = _pool(originals, arrow, plain)
    if _parts_words("".join(pool.dictionary.to_pylist())):
        plain &= ~np.array([_parts_words(text) for text in originals.texts])
        pool, offsets, singly = _pool(originals, arrow, plain)
    words = pool.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    if singly:
        rows, first = np.flatnonzero(plain), int(offsets[-1])
        sizes = np.array([len(tokens.words) for tokens in singly.values()])
        rest = (np.array(list(singly)), words[first:], offsets_of(sizes))
        words, offsets = interleaved([(rows, words[:first], offsets), rest], len(arrow))
    languages, nothing = np.full(len(arrow), _EN, np.uint8), np.empty(0, np.uint8)
    cut = CutTexts(originals, arrow, Vocabulary(pool.dictionary), words, nothing, offsets, languages)
    codes = cut.codes()[words]
    cut.states = _english_states(cut, codes)
    for name, found in _unknown(cut, codes):
        for row in found:
            languages[row] = name
            cut.states[offsets[row] : offsets[row + 1]] = PROTECTED
    for row, tokens in singly.items():
        languages[row] = LANGUAGES.index(tokens.language)
        cut.states[offsets[row] : offsets[row + 1]] = np.frombuffer(tokens.states, np.uint8)
    return cut


def _parts_words(text: str) -> bool:
    """Whether a text has white space of which only Python knows."""
    return any(mark in text for mark in "\x1c\x1d\x1e\x1f")


def _pool(
    originals: Originals, arrow: pa.Array, plain: NDArray[np.bool_]
) -> tuple[pa.DictionaryArray, Ints, dict[int, Tokens]]:
    """The words of the plain texts, with their offsets, then those of the others, which are cut singly."""
    whole = bool(plain.all())
    values, offsets = _split(arrow if whole else arrow.filter(pa.array(plain)))
    singly = {} if whole else _one_by_one(originals, np.flatnonzero(~plain))
    if singly:
        more = pa.array([word for tokens in singly.values() for word in tokens.words], pa.string())
        values = pa.concat_arrays([values, more])
    return values.dictionary_encode(), offsets, singly


def _split(arrow: pa.Array) -> tuple[pa.Array, Ints]:
    """The words of ASCII texts, one after the other, and (n + 1,) where each text's begin."""
    trimmed = pc.ascii_trim_whitespace(arrow)
    lists = pc.ascii_split_whitespace(trimmed)
    offsets = lists.offsets.to_numpy().astype(np.int64)
    values = lists.values
    empty = pc.equal(pc.binary_length(trimmed), 0).to_numpy(zero_copy_only=False)
    if empty.any():  # splitting nothing gives one empty word
        sizes = np.diff(offsets)
        sizes[empty] = 0
        values, offsets = values.filter(pc.not_equal(values, "")), offsets_of(sizes)
    return values, offsets


def _one_by_one(originals: Originals, rows: Ints) -> dict[int, Tokens]:
    known, tokenise = originals.tokens, originals.protection.tokenise
    texts, fields = originals.texts, originals.fields
    return {
        row: known[row] if known is not None else tokenise(texts[row], fields[row]) for row in rows.tolist()
    }


def _english_states(cut: CutTexts, codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(words,) states, of every text as if it were English."""
    states = _STATES[codes]
    kinds = codes & KIND
    begins, ends = (np.zeros(len(codes) + 1, np.bool_) for _ in range(2))
    begins[cut.offsets], ends[cut.offsets - 1] = True, True  # of an empty text its neighbours' edges

    def following(at: Ints) -> Ints:
        return at[~ends[at]] + 1

    states[following(np.flatnonzero(kinds == WITH_NEXT))] = PROTECTED
    at = np.flatnonzero(kinds == NEGATION)
    for _ in range(_NEGATED):
        at = following(at[(codes[at] & CLAUSE_END) == 0])
        states[at] = PROTECTED
    at = np.flatnonzero(kinds == FREE)
    states[at[~begins[at]] - 1] = PROTECTED
    at = np.flatnonzero(codes & FIRST)
    _protect_phrases(cut, at[~ends[at]], states)
    _protect_own_brands(cut, states)
    return states


def _protect_phrases(cut: CutTexts, at: Ints, states: NDArray[np.uint8]) -> None:
    """Mark the phrases that begin at these places, each before the last word of its text."""
    names, numbers = cut.vocabulary.words, cut.words
    phrases_at = cut.originals.protection.phrases_at
    stops = cut.offsets[np.searchsorted(cut.offsets, at, side="right")]
    for start, stop in zip(at.tolist(), stops.tolist(), strict=True):
        words = [names[number] for number in numbers[start:stop].tolist()]
        for _, length in phrases_at(words, 0):
            states[start : start + length] = PROTECTED


def _protect_own_brands(cut: CutTexts, states: NDArray[np.uint8]) -> None:
    """Mark each row's own brand, where the catalogue's brands do not have it."""
    protection, brands = cut.originals.protection, cut.originals.attribute("brand")
    unknown = {brand for brand in set(brands) if brand and protection.own_cores(brand)}
    names, numbers, ends = cut.vocabulary.words, cut.words, cut.offsets
    for row, brand in enumerate(brands) if unknown else ():
        if brand in unknown:
            first, last = int(ends[row]), int(ends[row + 1])
            words = [names[number] for number in numbers[first:last].tolist()]
            for start, stop in protection.own_spans(words, brand):
                states[first + start : first + stop] = PROTECTED


def _unknown(cut: CutTexts, codes: NDArray[np.uint8]) -> list[tuple[int, list[int]]]:
    """ASCII texts without letters, and those in another language: its number, and their rows."""
    others = counts((codes & OTHER) > 0, cut.offsets)[0]
    english = counts((codes & ENGLISH) > 0, cut.offsets)[0]
    foreign = (others >= 2) & (others > english)
    # A word that is neither a number nor signs has a letter; the few texts without one are looked at.
    doubtful = np.flatnonzero(counts((codes & KIND) == 0, cut.offsets)[0] == 0)
    texts = cut.originals.texts
    letterless = [row for row in doubtful.tolist() if not _LETTER.search(texts[row])]
    return [(_OTHER, np.flatnonzero(foreign).tolist()), (_NONE, letterless)]
