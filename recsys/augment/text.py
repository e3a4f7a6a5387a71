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
        """Delete the words."""
        tokens = tokens_of(example)
        words, states = tokens.words, tokens.states
        for i in reversed(values[0]):
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
    """What moves: sentences, or also what commas and colons part."""
    keep_first: int = Field(1, ge=0)
    """How many units stay in front: the first one is mostly the title."""

    def sample(self, example: TextExample, rng: Stream, strength: float) -> tuple[Any, ...] | None:
        """Draw an order of the units' (start, stop) ranges."""
        tokens = tokens_of(example)
        ends = _SENTENCE_ENDS if self.unit == "sentence" else CLAUSE_ENDS
        spans = _units(tokens, ends)
        moving = spans[self.keep_first :]
        if len(moving) < 2:
            return None
        order = rng.shuffled(moving)
        return None if order == moving else ((*spans[: self.keep_first], *order),)

    def edit(self, example: TextExample, values: tuple[Any, ...]) -> TextExample:
        """Join the ranges in their new order."""
        tokens = tokens_of(example)
        words = tuple([word for start, stop in values[0] for word in tokens.words[start:stop]])
        states = b"".join(tokens.states[start:stop] for start, stop in values[0])
        return rebuilt(example, tokens, words, states)


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


def _units(tokens: Tokens, ends: tuple[str, ...]) -> list[tuple[int, int]]:
    words, states = tokens.words, tokens.states
    spans: list[tuple[int, int]] = []
    start = 0
    for i, word in enumerate(words):
        last = i + 1 == len(words)
        # Between two protected words there may be one span: "5 oz. bottle" is not cut at its full stop.
        inside = not last and states[i] == states[i + 1] == PROTECTED and len(word.strip("".join(ends))) > 0
        if last or (word.endswith(ends) and not inside):
            spans.append((start, i + 1))
            start = i + 1
    return spans
