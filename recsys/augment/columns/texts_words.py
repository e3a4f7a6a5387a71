"""The column forms of text ops that put words in: synonyms in the place of words, and words into gaps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from json.encoder import encode_basestring

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.augment.columns.edits import Edited, Json, named, number_lists
from recsys.augment.columns.runs import Ints, counts, offsets_of, owners
from recsys.augment.columns.texts import CutTexts, TextRows
from recsys.augment.columns.texts_drawing import Drawing
from recsys.augment.constraints import EDGES
from recsys.augment.tokens import ADDED, EDITABLE, PROTECTED
from recsys.augment.wordbook import CORES
from recsys.augment.words import MinedSynonym, SwapSynonyms, WordInsertion, put_in_place


def positions_and_words(
    op_name: str, rows: Ints, after: TextRows, at: Ints, words: pa.Array, ends: Ints
) -> Edited[TextRows]:
    """What an op edited whose plans are positions and a word for each.

    Args:
        op_name: The op's.
        rows: Positions of the edited texts in the batch.
        after: They.
        at: Positions in the texts, text after text.
        words: A word for each, as JSON.
        ends: (rows + 1,) where each text's positions begin.
    """
    said = words
    if len(words) != len(rows):
        said = pc.binary_join(pa.ListArray.from_arrays(pa.array(ends.astype(np.int32)), words), ",")
    body = pc.binary_join_element_wise(number_lists(at, ends), said, "],[")
    return named(op_name, rows, after, Json("[", body, "]"))


def as_json(words: Sequence[str]) -> pa.Array:
    """Words as JSON strings."""
    every = "".join(words)
    if len(encode_basestring(every)) == len(every) + 2:  # nothing to escape
        return pc.binary_join_element_wise('"', pa.array(words, pa.string()), '"', "")
    return pa.array([encode_basestring(word) for word in words], pa.string())


def swap_synonyms(op: SwapSynonyms, texts: Drawing) -> Edited[TextRows] | None:
    """`Synonym`, `MinedSynonym` and `WordnetSynonym` on many texts."""
    rows, part, drawn, strengths = texts
    cut = part.cut
    known = op.known(cut.originals.synonyms)

    def others(words: Sequence[str]) -> NDArray[np.int64]:
        found = map(known, cut.vocabulary.cores[-len(words) :] if words else ())
        return np.array([len(row) if row else 0 for row in found], np.int64)

    number = cut.vocabulary.table(("synonyms", id(op)), others)
    found = part.editable & (number[part.words] > 0)
    if isinstance(op, MinedSynonym):
        found &= ~_said_by_category(op, part, found)
    spare, before = counts(found, part.offsets)
    low, high = op.rate_range
    drawn_share = low + (high - low) * drawn.random()
    wanted = np.maximum((drawn_share * strengths * part.sizes + 0.5).astype(np.int64), 1)
    wanted = np.minimum(wanted, spare)
    chosen = np.flatnonzero(wanted)
    if not len(chosen):
        return None
    ends, picks = drawn.sample(spare, wanted)
    at = np.flatnonzero(found)[np.repeat(before[:-1], wanted) + picks]
    words = part.words[at]
    choice = drawn.below_runs(number[words], ends)
    most = int(number.max()) + 1
    pairs, which = np.unique(words * most + choice, return_inverse=True)
    names = cut.vocabulary.words

    def other(word: str, index: int) -> str:
        core = word.strip(EDGES)
        return put_in_place(word, core, (known(CORES[word]) or ())[index])

    new = [
        other(names[word], index)
        for word, index in zip(*map(np.ndarray.tolist, np.divmod(pairs, most)), strict=True)
    ]
    source = part.source.copy()
    source[at] = cut.add(cut.vocabulary.numbers(new), EDITABLE)[which]
    after = TextRows(cut, part.parents, source, part.offsets)
    if len(chosen) < len(part):
        after = after.take(chosen)
    places = at - np.repeat(part.offsets[:-1], wanted)
    said = as_json(new).take(pa.array(which))
    return positions_and_words(op.name, rows[chosen], after, places, said, offsets_of(wanted[chosen]))


def _said_by_category(op: MinedSynonym, part: TextRows, found: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of the words that were found the text's own category says."""
    cut = part.cut
    names, number = category_numbers(cut)
    at = np.flatnonzero(found)
    of = number[part.parents[owners(part.offsets)[at]]]
    pairs, which = np.unique(part.words[at] * len(names) + of, return_inverse=True)
    words = cut.vocabulary.words
    stays = [op.stays(CORES[words[pair // len(names)]], names[pair % len(names)]) for pair in pairs.tolist()]
    said = np.zeros(len(found), np.bool_)
    said[at] = np.array(stays, np.bool_)[which]
    return said


def category_numbers(cut: CutTexts) -> tuple[list[str], Ints]:
    """The distinct categories of the originals, and which each has."""
    known = cut.cache.get("category")
    if known is None:
        numbers: dict[str, int] = {}
        of = [numbers.setdefault(value, len(numbers)) for value in cut.originals.attribute("category")]
        known = cut.cache["category"] = (list(numbers), np.array(of, np.int64))
    return known


def word_insertion(op: WordInsertion, texts: Drawing) -> Edited[TextRows] | None:
    """`WordInsertion` on many texts."""
    rows, part, drawn, _ = texts
    cut = part.cut
    pool = _Pool(op, part)
    free = cut.states[part.source] != PROTECTED
    opened = free.copy()
    opened[:-1] |= free[1:]
    last = part.offsets[1:][part.sizes > 0] - 1
    opened[last] = free[last]  # behind a text's last word there is nothing to look at
    spare, before = counts(opened, part.offsets)
    wanted = np.minimum(texts.amount(*op.count_range), spare)
    wanted[pool.sizes == 0] = 0
    chosen = np.flatnonzero(wanted > 0)
    if not len(chosen):
        return None
    wanted = np.maximum(wanted, 0)
    ends, picks = drawn.sample(spare, wanted)
    at = np.flatnonzero(opened)[np.repeat(before[:-1], wanted) + picks]
    of = np.repeat(np.arange(len(part)), wanted)
    new, which = pool.words(of, drawn.below_runs(pool.sizes[of], ends))
    put_in = cut.add(cut.vocabulary.numbers(new), ADDED)[which]
    source = np.insert(part.source, at + 1, put_in)
    after = TextRows(cut, part.parents, source, part.offsets + ends)
    if len(chosen) < len(part):
        after = after.take(chosen)
    gaps = at + 1 - part.offsets[of]
    said = as_json(new).take(pa.array(which))
    return positions_and_words(op.name, rows[chosen], after, gaps, said, offsets_of(wanted[chosen]))


class _Pool:
    """What `WordInsertion` may insert into each text, as one run per text: synonyms, then the rest."""

    def __init__(self, op: WordInsertion, part: TextRows) -> None:
        self._part = part
        near = part.cut.originals.synonyms
        self._synonyms: Callable[[str], list[str]] = lambda word: [
            other for other in near.get(CORES[word], ()) if other.isalpha()
        ]

        def counted(words: Sequence[str]) -> NDArray[np.int64]:
            found = map(near.get, part.cut.vocabulary.cores[-len(words) :] if words else ())
            return np.array([sum(map(str.isalpha, row)) if row else 0 for row in found], np.int64)

        number = part.cut.vocabulary.table("inserted synonyms", counted)
        self._ends = offsets_of(np.where(part.editable, number[part.words], 0))
        names, of = category_numbers(part.cut)
        self._besides = [op.besides(name, chinese=False) for name in names]
        self._category = of[part.parents]
        more = np.array([len(words) for words in self._besides], np.int64)[self._category]
        self._first = self._ends[part.offsets[:-1]]
        self._near = self._ends[part.offsets[1:]] - self._first
        self.sizes = self._near + more
        """(n,) how many words there are for each text."""

    def words(self, of: Ints, picks: Ints) -> tuple[list[str], Ints]:
        """Distinct words, and which of them each pick from a text's run is."""
        near = picks < self._near[of]
        index = self._first[of] + picks
        place = np.searchsorted(self._ends, index, side="right") - 1
        place = np.where(near, place, 0)
        # One number per word of the vocabulary or category and index: the former even, the latter odd.
        inner = np.where(near, index - self._ends[place], picks - self._near[of])
        outer = np.where(near, 2 * self._part.words[place], 2 * self._category[of] + 1)
        most = int(inner.max(initial=0)) + 1
        pairs, which = np.unique(outer * most + inner, return_inverse=True)
        names, new = self._part.cut.vocabulary.words, []
        for pair in pairs.tolist():
            whose, number = divmod(pair, most)
            row = self._besides[whose // 2] if whose % 2 else self._synonyms(names[whose // 2])
            new.append(row[number])
        return new, which
