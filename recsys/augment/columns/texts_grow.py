"""A branch of a policy run over many texts at once: what `recsys.augment.grow.grow` gives, from columns."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.augment.columns.edits import Edited
from recsys.augment.columns.lazy import Made, Numbers, Plans, Rows, Saying, Strings
from recsys.augment.columns.running import has_form, run
from recsys.augment.columns.runs import Ints
from recsys.augment.columns.texts import LANGUAGES, CutTexts, Originals, TextRows
from recsys.augment.columns.texts_cut import cut_texts
from recsys.augment.columns.texts_forms import FORMS
from recsys.augment.columns.texts_judge import ACCEPTED, REASONS, Judged, judge_texts
from recsys.augment.example import TextExample
from recsys.augment.grow import Grown, concatenated, grow
from recsys.randomness import row_states
from recsys.streams import Streams

if TYPE_CHECKING:
    from recsys.augment.policy import Branch

FEWEST = 100
"""Fewer candidates are quicker one by one: columns take about a millisecond however short they are."""
_WORDS = 400_000
"""Words that are in columns at one time, about: they bound the memory."""


def in_columns(branch: Branch, size: int) -> bool:
    """Whether so many texts are edited by columns: every op has such a form, and it pays."""
    return size * branch.copies >= FEWEST and has_form(branch.ops, FORMS)


def grow_texts(
    originals: Originals, branch: Branch, seed: int, stage: str, policy_id: str, first: int = 0
) -> Grown[TextExample]:
    """`grow` over texts, and the languages that they are in as `language:<name>` among the counts.

    Args:
        originals: The texts and what goes with them.
        branch: Ops, copies and acceptance.
        seed: The run's seed.
        stage: Keeps the draws of histories and texts apart.
        policy_id: Goes into the children's ids.
        first: Position of the first text, when these are a chunk of more.
    """
    if not in_columns(branch, len(originals)):
        examples = originals.examples()
        grown = grow(examples, branch, seed, stage, policy_id, first)
        grown.counts.update(languages_of(examples))
        return grown
    parts = []
    for start, stop in _spans(originals, branch.copies):
        cut = cut_texts(originals.part(start, stop))
        parts.append(_grown(cut, branch, seed, stage, policy_id, first + start))
    return concatenated(parts)


def languages_of(examples: Iterable[TextExample]) -> dict[str, int]:
    """How many cut texts are in which language, as `language:<name>`."""
    languages = Counter(example.tokens.language for example in examples if example.tokens)
    return {f"language:{name}": count for name, count in languages.items()}


def _spans(originals: Originals, copies: int) -> list[tuple[int, int]]:
    """Ranges of texts, about so many words each with their copies."""
    sizes = np.fromiter(map(len, originals.texts), np.int64, len(originals))
    number = (np.cumsum(sizes) * copies) // (6 * _WORDS)  # a word and its space: six characters
    edges = np.flatnonzero(np.diff(number)) + 1
    ends = [0, *edges.tolist(), len(sizes)]
    return list(itertools.pairwise(ends))


def _grown(
    cut: CutTexts, branch: Branch, seed: int, stage: str, policy_id: str, first: int
) -> Grown[TextExample]:
    """What ops and acceptance leave of some texts."""
    ids, copies = cut.originals.row_ids, branch.copies
    states = np.stack([row_states(ids, seed, "augment", stage, copy) for copy in range(copies)], axis=1)
    batch = cut.every()
    if copies > 1:
        batch = batch.take(np.repeat(np.arange(len(ids)), copies))
    grown: Grown[TextExample] = Grown()
    done = run(branch.ops, batch, Streams(states.reshape(-1)), FORMS)
    edited = 0
    if done is not None:
        edited = len(done.rows)
        judged = judge_texts(branch.acceptance, done.batch)
        _count_refusals(grown, done, judged)
        suffixes = [f"~{policy_id}.{copy}" for copy in range(copies)]
        _fill(grown, branch, done, judged, suffixes, first)
    left_alone = len(batch) - edited
    grown.counts.update(rows=len(ids), left_alone=left_alone, accepted=len(grown.row_ids))
    for name, count in zip(LANGUAGES, np.bincount(cut.languages, minlength=len(LANGUAGES)), strict=True):
        if count:
            grown.counts[f"language:{name}"] = int(count)
    return grown


def _count_refusals(grown: Grown[TextExample], done: Edited[TextRows], judged: Judged) -> None:
    pairs = done.chains.codes * len(REASONS) + judged.reasons
    for pair, count in zip(*np.unique(pairs[judged.reasons != ACCEPTED], return_counts=True), strict=True):
        chain, reason = divmod(int(pair), len(REASONS))
        grown.counts[f"rejected:{REASONS[reason]}"] += int(count)
        grown.refusals[done.chains.names[chain], REASONS[reason]] += int(count)


def _fill(
    grown: Grown[TextExample],
    branch: Branch,
    done: Edited[TextRows],
    judged: Judged,
    suffixes: list[str],
    first: int,
) -> None:
    """Put the accepted candidates into the columns."""
    good = judged.reasons == ACCEPTED
    kept: Ints = np.flatnonzero(good)
    index = pa.array(kept)

    def taken(column: pa.Array) -> pa.Array:
        return column if good.all() else column.take(index)

    cut, parents = done.batch.cut, done.batch.parents[kept]
    ids = pa.array(cut.originals.row_ids, pa.string())
    parent_ids = ids if _each(parents, len(ids)) else ids.take(pa.array(parents))
    ends = suffixes[0]
    if len(suffixes) > 1:
        ends = pa.array(suffixes).take(pa.array(done.rows[kept] % len(suffixes)))
    grown.parents = Numbers(parents + first)
    grown.row_ids = Strings(pc.binary_join_element_wise(parent_ids, ends, ""))
    grown.parent_ids = Strings(parent_ids)
    grown.originals = Made(parents, lambda rows: _originals_at(cut, rows))
    texts = Strings(taken(judged.texts))
    grown.children = Saying(kept, lambda rows: _edited(done.batch, judged.texts, rows), texts)
    grown.plans = Plans(branch.ops, Strings(taken(done.plans.whole())))
    grown.chains = Strings(taken(done.chains.texts()))
    grown.modification = Numbers(judged.gone[kept])


def _each(rows: Ints, count: int) -> bool:
    """Whether ascending rows are each of so many, once."""
    return len(rows) == count and bool((np.diff(rows) == 1).all())


def _edited(batch: TextRows, texts: pa.Array, rows: Rows) -> list[TextExample]:
    return batch.take(rows).examples(texts.take(pa.array(rows)).to_pylist())


def _originals_at(cut: CutTexts, rows: Rows) -> list[TextExample]:
    """Some originals as single ops see them; one that is asked for twice is one object."""
    texts, distinct = cut.originals.texts, np.unique(rows)
    made = cut.every().take(distinct).examples([texts[row] for row in distinct.tolist()])
    known = dict(zip(distinct.tolist(), made, strict=True))
    return [known[row] for row in rows.tolist()]
