"""The column forms of text ops that leave words out or move them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.augment.columns.edits import Edited, Json, named, number_lists
from recsys.augment.columns.runs import Ints, counts, offsets_of, owners
from recsys.augment.columns.texts import LANGUAGES, TextRows
from recsys.augment.columns.texts_drawing import Drawing
from recsys.augment.text import ClauseShuffle, WordDropout, WordSwap
from recsys.augment.wordbook import CLAUSE_END


def word_dropout(op: WordDropout, texts: Drawing) -> Edited[TextRows]:
    """`WordDropout` on many texts."""
    rows, part, drawn, strengths = texts
    sizes = part.sizes
    spare, before = counts(part.editable, part.offsets)
    low, high = op.rate_range
    wanted = ((low + (high - low) * drawn.random()) * strengths * sizes + 0.5).astype(np.int64)
    wanted = np.where(wanted > 1, np.minimum(np.minimum(wanted, spare), sizes - op.min_keep), wanted)
    wanted[(wanted < 1) | (sizes <= op.min_keep) | (spare == 0)] = 0
    _, picks = drawn.sample(spare, wanted)
    gone = np.flatnonzero(part.editable)[np.repeat(before[:-1], wanted) + picks]
    kept = np.ones(len(part.source), np.bool_)
    kept[gone] = False
    chosen = np.flatnonzero(wanted)
    if len(chosen) < len(part):
        kept &= np.repeat(wanted > 0, sizes)
    positions = gone - np.repeat(part.offsets[:-1], wanted)
    left = offsets_of((sizes - wanted)[chosen])
    after = TextRows(part.cut, part.parents[chosen], part.source[kept], left)
    values = Json("[", number_lists(positions, offsets_of(wanted[chosen])), "]")
    return named(op.name, rows[chosen], after, values)


def word_swap(op: WordSwap, texts: Drawing) -> Edited[TextRows]:
    """`WordSwap` on many texts."""
    rows, part, drawn, _ = texts
    free = part.editable & ((part.cut.codes()[part.words] & CLAUSE_END) == 0)
    pairs = np.zeros(len(free), np.bool_)
    pairs[:-1] = free[:-1] & free[1:] & (part.words[:-1] != part.words[1:])
    pairs[part.offsets[1:][part.sizes > 0] - 1] = False  # the last word of a text has none behind it
    spare, before = counts(pairs, part.offsets)
    wanted = texts.amount(*op.count_range)
    offsets, order = drawn.shuffled(np.where(wanted > 0, spare, 0))
    lefts = np.flatnonzero(pairs)[np.repeat(before[:-1], np.diff(offsets)) + order]
    taken = _apart(lefts, offsets, wanted)
    source = part.source.copy()
    source[taken], source[taken + 1] = part.source[taken + 1], part.source[taken]
    of = owners(part.offsets)[taken]
    number = np.bincount(of, minlength=len(part))
    chosen = np.flatnonzero(number)
    after = TextRows(part.cut, part.parents, source, part.offsets)
    if len(chosen) < len(part):
        after = after.take(chosen)
    values = Json("[", number_lists(taken - part.offsets[of], offsets_of(number[chosen])), "]")
    return named(op.name, rows[chosen], after, values)


def _apart(lefts: Ints, offsets: Ints, wanted: Ints) -> Ints:
    """The first places of each run, so many as are wanted, none beside one before it; ascending."""
    sizes = np.diff(offsets)
    taken: list[Ints] = []
    marked = np.zeros(int(lefts.max(initial=0)) + 3, np.bool_)  # a place later, so that none is at -1
    missing = np.where(sizes > 0, wanted, 0)
    for step in range(int(sizes.max(initial=0))):
        rows = np.flatnonzero((missing > 0) & (sizes > step))
        if not len(rows):
            break
        at = lefts[offsets[rows] + step]
        fits = ~(marked[at] | marked[at + 2])
        marked[at[fits] + 1] = True
        missing[rows[fits]] -= 1
        taken.append(at[fits])
    return np.sort(np.concatenate(taken)) if taken else np.empty(0, np.int64)


def has_clauses(op: ClauseShuffle, texts: TextRows) -> NDArray[np.bool_]:
    """Whether a text has two units that `ClauseShuffle` may move: their ends are words that end a clause."""
    if (texts.languages == LANGUAGES.index("zh")).any():
        return np.ones(len(texts), np.bool_)
    marks = (texts.cut.codes()[texts.words] & CLAUSE_END) > 0
    marks[texts.offsets[1:][texts.sizes > 0] - 1] = False
    return counts(marks, texts.offsets)[0] > op.keep_first
