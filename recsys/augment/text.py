"""Text ops, English and Chinese. None touches a protected span; a text in another language is left alone.

Word dropout, swap and their small rates follow EDA (Wei and Zou, arXiv:1901.11196), which strips every digit
and hyphen first: here numbers, sizes, brands and negations are protected.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from typing import Any, ClassVar, Literal

from pydantic import Field

from recsys.augment.constraints import CLAUSE_ENDS, Protection
from recsys.augment.example import TextExample
from recsys.augment.op import Counts, Kind, LeafOp, Plan, Rates
from recsys.augment.tokens import PROTECTED, Tokens
from recsys.randomness import Stream

_SENTENCE_ENDS = tuple(mark for mark in CLAUSE_ENDS if mark not in ",:，：、")
_ARROWS = (">", "＞", "›", "»")
"""They part the levels of a category path."""
_BUILT_IN = Protection()


class TextOp(LeafOp[TextExample]):
    """An op on a text."""

    kind: ClassVar[Kind | None] = "text"
    languages: ClassVar[frozenset[str]] = frozenset({"en", "zh"})

    min_words: int = Field(4, ge=0)
    """Texts with fewer words are left alone."""

    def plan(self, example: TextExample, rng: Stream) -> Plan | None:
        """Sample an edit of a long enough text in a known language."""
        if example.tokens is None:
            example = _BUILT_IN.prepare(example)
        tokens = tokens_of(example)
        size = len(tokens.words)
        if size < self.min_words or tokens.language not in self.languages:
            return None
        strength = 1.0 if self.taper is None else self.strength(size)
        if strength <= 0.0 or (self.p < 1.0 and not rng.chance(self.p)):
            return None
        values = self.sample(example, rng, strength)
        return None if values is None else Plan(self.name, values)

    @abstractmethod
    def sample(self, example: TextExample, rng: Stream, strength: float) -> tuple[Any, ...] | None:
        """The plan's values; the example's tokens are there."""


class WordDropout(TextOp):
    """Deletes a few words, never protected ones."""

    name = "word_dropout"
    parameters = ("positions",)

    rate_range: Rates = (0.05, 0.2)
    """Share of the words that is deleted."""
    min_keep: int = Field(3, ge=1)
    """Words that are kept at least."""

    def sample(self, example: TextExample, rng: Stream, strength: float) -> tuple[Any, ...] | None:
        """Draw the deleted positions."""
        tokens = tokens_of(example)
        editable, size = tokens.editable, len(tokens.words)
        if not tokens.joiner:  # in Chinese marks and blanks stand as words of their own
            size -= sum(map(_is_mark, tokens.words))
        low, high = self.rate_range
        count = int((low + (high - low) * rng.random()) * strength * size + 0.5)
        if count > 1:
            count = min(count, len(editable), size - self.min_keep)
        if count < 1 or size <= self.min_keep or not editable:
            return None
        if count == 1:
            return ((editable[rng.below(len(editable))],),)
        return (tuple([editable[i] for i in rng.sample(len(editable), count)]),)

    def edit(self, example: TextExample, values: tuple[Any, ...]) -> TextExample:
        """Delete the words, and in Chinese the marks between which nothing is left."""
        tokens = tokens_of(example)
        words, states = tokens.words, tokens.states
        gone = values[0] if tokens.joiner else _with_marks(words, values[0])
        for i in reversed(gone):
            words = words[:i] + words[i + 1 :]
            states = states[:i] + states[i + 1 :]
        return rebuilt(example, tokens, words, states)


class WordSwap(TextOp):
    """Exchanges neighbouring words, never protected ones nor across a comma."""

    name = "word_swap"
    parameters = ("positions",)

    count_range: Counts = (1, 2)
    """How many pairs are exchanged; strength scales it."""

    def sample(self, example: TextExample, rng: Stream, strength: float) -> tuple[Any, ...] | None:
        """Draw the left positions of pairs that do not overlap."""
        tokens = tokens_of(example)
        editable, words = tokens.editable, tokens.words
        pairs = [
            i
            for i, following in itertools.pairwise(editable)
            if following == i + 1 and words[i] != words[following] and _plain(words[i], words[following])
        ]
        low, high = self.count_range
        count = int((low + rng.below(high - low + 1)) * strength + 0.5)
        chosen: list[int] = []
        for i in rng.shuffled(pairs) if count else ():
            if len(chosen) < count and i - 1 not in chosen and i + 1 not in chosen:
                chosen.append(i)
        return (tuple(sorted(chosen)),) if chosen else None

    def edit(self, example: TextExample, values: tuple[Any, ...]) -> TextExample:
        """Exchange each word with the next; both are editable, so the states stay as they are."""
        tokens = tokens_of(example)
        words = list(tokens.words)
        for i in values[0]:
            words[i], words[i + 1] = words[i + 1], words[i]
        return rebuilt(example, tokens, tuple(words), tokens.states)


class ClauseShuffle(TextOp):
    """Puts the sentences or clauses after the first in another order."""

    name = "clause_shuffle"
    parameters = ("spans",)

    unit: Literal["sentence", "clause"] = "sentence"
    """What moves: sentences, or also, within a sentence, what commas and colons part."""
    keep_first: int = Field(1, ge=0)
    """How many units stay in front: the first one is mostly the title."""

    # A sentence's last clause stays, and a last sentence that nothing closes: else two would run together.
    def sample(self, example: TextExample, rng: Stream, strength: float) -> tuple[Any, ...] | None:
        """Draw an order of the units' (start, stop) ranges."""
        tokens = tokens_of(example)
        whole = (0, len(tokens.words))
        sentences = _units(tokens, whole, _SENTENCE_ENDS)
        groups = [_units(tokens, one, CLAUSE_ENDS) if self.unit == "clause" else [one] for one in sentences]
        before = [span for group in groups for span in group]
        kept, first = self.keep_first, 0
        while first < len(groups) and kept > 0:
            kept, first = kept - len(groups[first]), first + 1
        last = len(groups) - (not tokens.words[-1].endswith(_SENTENCE_ENDS))
        moving = rng.shuffled(groups[first:last]) if last - first > 1 else groups[first:last]
        order: list[tuple[int, int]] = []
        for group in (*groups[:first], *moving, *groups[max(first, last) :]):
            fixed = max(self.keep_first - len(order), 0) if group in groups[:first] else 0
            inner = group[fixed:-1]
            order += [*group[:fixed], *rng.shuffled(inner), *group[-1:]] if len(inner) > 1 else group
        return None if order == before else (tuple(order),)

    def edit(self, example: TextExample, values: tuple[Any, ...]) -> TextExample:
        """Join the ranges in their new order."""
        tokens = tokens_of(example)
        words = tuple([word for start, stop in values[0] for word in tokens.words[start:stop]])
        states = b"".join(tokens.states[start:stop] for start, stop in values[0])
        return rebuilt(example, tokens, words, states)


def _is_mark(word: str) -> bool:
    return not any(map(str.isalnum, word))


def _with_marks(words: tuple[str, ...], gone: tuple[int, ...]) -> tuple[int, ...]:
    """The deleted positions, and those of marks that would follow upon others; a sentence's end stays."""
    out, left = set(gone), list[int]()
    bare = False
    """Whether something was deleted since the last word that stays."""
    for i, word in enumerate(words):
        if i in out:
            bare = True
        elif not _is_mark(word):
            left, bare = [], False
        elif not bare:
            left.append(i)
        elif left and not any(words[j] in _SENTENCE_ENDS for j in left) and word in _SENTENCE_ENDS:
            out.update(left)
            left, bare = [i], False
        elif left:
            out.add(i)
        else:
            left, bare = [i], False
    return tuple(sorted(out))


def tokens_of(example: TextExample) -> Tokens:
    """The example's tokens, cut now if nobody has."""
    return example.tokens or _BUILT_IN.tokenise(example.text, example.fields)


def rebuilt(example: TextExample, tokens: Tokens, words: tuple[str, ...], states: bytes) -> TextExample:
    """The example with other words and their states; `tokens` are those it had."""
    joiner = tokens.joiner
    cut = Tokens(words, states, joiner, tokens.language)
    text = joiner.join(words)
    return TextExample(example.row_id, text, example.fields, cut, example.synonyms, example.answers)


def _plain(left: str, right: str) -> bool:
    return not left.endswith(CLAUSE_ENDS) and not right.endswith(CLAUSE_ENDS)


def _units(tokens: Tokens, within: tuple[int, int], ends: tuple[str, ...]) -> list[tuple[int, int]]:
    """Ranges that end after these marks and the white space behind them; a path `A > B, C > D` is one."""
    words, states = tokens.words, tokens.states
    spans: list[tuple[int, int]] = []
    start, stop = within
    arrows = [i for i in range(start, stop) if words[i].strip() in _ARROWS]
    i = start
    while i < stop:
        word, i = words[i], i + 1
        # Between two protected words there may be one span: "5 oz. bottle" is not cut at its full stop.
        inside = i < stop and states[i - 1] == states[i] == PROTECTED and len(word.strip("".join(ends))) > 0
        if not word.endswith(ends) or inside or _in_path(words, i, arrows):
            continue
        while i < stop and words[i].isspace():
            i += 1
        spans.append((start, i))
        start = i
    return [*spans, (start, stop)] if start < stop else spans


def _in_path(words: tuple[str, ...], place: int, arrows: list[int]) -> bool:
    """Whether a path goes on behind a mark: one arrow before it, one after, and no sentence's end between."""
    before = [arrow for arrow in arrows if arrow < place]
    after = [arrow for arrow in arrows if arrow >= place]
    return bool(before and after) and not any(
        word.endswith(_SENTENCE_ENDS) for word in words[before[-1] : after[0]]
    )
