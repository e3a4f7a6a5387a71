"""Many texts cut into words and protected at once: the same tokens as `Protection.tokenise` gives one by one.

What a word is follows from the word alone, so each distinct word is looked at once. The language of texts
with characters beyond ASCII is judged one by one, and what is not English then is cut one by one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.augment.columns.runs import Ints, counts, offsets_of
from recsys.augment.columns.texts import LANGUAGES, CutTexts, Originals, Vocabulary
from recsys.augment.constraints import STATE_OF
from recsys.augment.tokens import PROTECTED, Tokens, language_of
from recsys.augment.wordbook import CLAUSE_END, ENGLISH, FIRST, FREE, KIND, NEGATION, OTHER, WITH_NEXT

_LETTER = re.compile("[A-Za-z]")
_STATES = np.frombuffer(STATE_OF, np.uint8)
_BLANK = "\x1f"
"""A word that is a space, while texts are split; it parts words in Python, so that no word has it."""
_NEGATED = 2
"""Words behind a negation that go with it, unless a clause ends before."""
_EN, _OTHER, _NONE = (LANGUAGES.index(name) for name in ("en", "other", "none"))


def cut_texts(originals: Originals) -> CutTexts:
    """Cut the texts and mark their protected words."""
    arrow = pa.array(originals.texts, pa.string())
    plain = pc.string_is_ascii(arrow).to_numpy(zero_copy_only=False)
    singly = _language_by_language(originals, np.flatnonzero(~plain).tolist())
    if _has_separators(arrow):
        ours = (row for row in np.flatnonzero(plain).tolist() if not originals.texts[row].isprintable())
        singly |= {row: " ".join(originals.texts[row].split()) for row in ours}
    pool, offsets, words = _split(originals.texts, arrow, singly)
    languages, nothing = np.full(len(arrow), _EN, np.uint8), np.empty(0, np.uint8)
    numbers = pool.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    vocabulary = Vocabulary(pool.dictionary, words)
    cut = CutTexts(originals, arrow, vocabulary, numbers, nothing, offsets, languages)
    codes = cut.codes()[numbers]
    cut.states = _english_states(cut, codes)
    for name, found in _unknown(cut, codes):
        languages[found] = name
    for row, said in singly.items():
        if isinstance(said, Tokens):
            languages[row] = LANGUAGES.index(said.language)
    for row in np.flatnonzero(languages != _EN).tolist():
        tokens = singly.get(row)
        known = np.frombuffer(tokens.states, np.uint8) if isinstance(tokens, Tokens) else PROTECTED
        cut.states[offsets[row] : offsets[row + 1]] = known
    return cut


def _language_by_language(originals: Originals, rows: list[int]) -> dict[int, Tokens | str]:
    """Texts with other characters than ASCII: English with its white space evened out, others cut."""
    known, tokenise = originals.tokens, originals.protection.tokenise
    found: dict[int, Tokens | str] = {}
    for row in rows:
        text = originals.texts[row]
        if language_of(text) == "en":
            found[row] = " ".join(text.split())
        else:
            found[row] = tokenise(text, originals.fields[row]) if known is None else known[row]
    return found


def _has_separators(arrow: pa.Array) -> bool:
    """Whether texts have one of the four characters that part words in Python and not in Arrow."""
    characters = arrow.buffers()[2]
    if characters is None:
        return False
    return bool((np.frombuffer(characters, np.uint8) - np.uint8(0x1C) < 4).any())


def _split(
    texts: Sequence[str], arrow: pa.Array, singly: Mapping[int, Tokens | str]
) -> tuple[pa.DictionaryArray, Ints, list[str]]:
    """The words of the texts, one after the other, (n + 1,) where each text's begin, and the distinct words.

    Words that were cut already are parted by a space for a moment, and words that are a space are a mark.
    """
    if singly:
        said = list(texts)
        for row, cut in singly.items():
            said[row] = cut if isinstance(cut, str) else " ".join(map(_marked, cut.words))
        arrow = pa.array(said, pa.string())
    trimmed = pc.ascii_trim_whitespace(arrow)
    lists = pc.ascii_split_whitespace(trimmed)
    offsets = lists.offsets.to_numpy().astype(np.int64)
    values = lists.values
    empty = pc.equal(pc.binary_length(trimmed), 0).to_numpy(zero_copy_only=False)
    if empty.any():  # splitting nothing gives one empty word
        sizes = np.diff(offsets)
        sizes[empty] = 0
        values, offsets = values.filter(pc.not_equal(values, "")), offsets_of(sizes)
    pool = values.dictionary_encode()
    words = pool.dictionary.to_pylist()
    if singly and _BLANK in words:
        words[words.index(_BLANK)] = " "
        pool = pa.DictionaryArray.from_arrays(pool.indices, pa.array(words, pa.string()))
    return pool, offsets, words


def _marked(word: str) -> str:
    return _BLANK if word == " " else word


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
    if len(at):
        _protect_phrases(cut, at[~ends[at]], states)
    _protect_own_brands(cut, states)
    return states


def _protect_phrases(cut: CutTexts, at: Ints, states: NDArray[np.uint8]) -> None:
    """Mark the phrases that begin at these places, each before the last word of its text."""
    protection, cores, numbers = cut.originals.protection, cut.vocabulary.cores, cut.words
    seconds = protection.second_words
    second = np.fromiter(map(seconds.__contains__, cores), np.bool_, len(cores))
    at = at[second[numbers[at + 1]]]
    stops = cut.offsets[np.searchsorted(cut.offsets, at, side="right")]
    pairs = zip(at.tolist(), stops.tolist(), numbers[at].tolist(), numbers[at + 1].tolist(), strict=True)
    of_two: list[int] = []
    for start, stop, one, two in pairs:
        for phrase in protection.phrases_from(cores[one], cores[two]):
            size = len(phrase)
            if size == 2:
                of_two.append(start)
            elif start + size <= stop:
                rest = numbers[start + 2 : start + size].tolist()
                if all(cores[number] == word for number, word in zip(rest, phrase[2:], strict=True)):
                    states[start : start + size] = PROTECTED
    states[of_two] = PROTECTED
    states[[start + 1 for start in of_two]] = PROTECTED


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
