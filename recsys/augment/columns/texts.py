"""Texts as columns: distinct words once, texts as runs of places in one pool of words.

The pool holds the originals' words in order, and behind them what ops put in; its words are numbers of a
vocabulary. An edited text is the places of its words, so that its words, their states, and which of the
original's words it still has all follow from one array.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.augment.asking import NO_ANSWERS, Answers
from recsys.augment.columns.runs import Ints, interleaved, places
from recsys.augment.constraints import Protection
from recsys.augment.example import NO_SYNONYMS, TextExample
from recsys.augment.fields import FieldRows
from recsys.augment.tokens import EDITABLE, Language, Tokens
from recsys.augment.wordbook import CORES

LANGUAGES: tuple[Language, ...] = ("en", "zh", "other", "none")
"""A text's language is a number of these."""
Table = Callable[[Sequence[str]], NDArray[Any]]
"""From words to what is known of each."""


class Vocabulary:
    """Distinct words by number; words may be added.

    Args:
        arrow: The first words.
        words: They, as Python has them.
    """

    def __init__(self, arrow: pa.Array, words: list[str]) -> None:
        self.arrow, self.words = arrow, words
        self._cores: list[str] = []
        self._tables: dict[Hashable, NDArray[Any]] = {}

    @property
    def cores(self) -> list[str]:
        """The core of each word."""
        known = self._cores
        if len(known) < len(self.words):
            known += map(CORES.__getitem__, self.words[len(known) :])
        return known

    def numbers(self, words: Sequence[str]) -> Ints:
        """The words' numbers; new ones are added."""
        said = pa.array(words, pa.string())
        found = pc.index_in(said, value_set=self.arrow)
        if not found.null_count:
            known: Ints = found.to_numpy(zero_copy_only=False).astype(np.int64)
            return known
        new = said.filter(pc.is_null(found)).dictionary_encode()
        numbers: Ints = pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64)
        numbers[numbers < 0] = new.indices.to_numpy().astype(np.int64) + len(self.words)
        self.words.extend(new.dictionary.to_pylist())
        self.arrow = pa.concat_arrays([self.arrow, new.dictionary])
        return numbers

    def table(self, key: Hashable, made: Table) -> NDArray[Any]:
        """What `made` says of each word, asked once per word and key."""
        known = self._tables.get(key)
        if known is None:
            known = self._tables[key] = made(self.words)
        elif len(known) < len(self.words):
            known = self._tables[key] = np.concatenate([known, made(self.words[len(known) :])])
        return known


@dataclass(frozen=True, slots=True)
class Originals:
    """The texts that are edited, and what their ops and gates read besides."""

    row_ids: Sequence[str]
    texts: Sequence[str]
    fields: Sequence[Mapping[str, str]]
    """Attributes of each row."""
    protection: Protection
    synonyms: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: NO_SYNONYMS)
    answers: Answers = field(default_factory=lambda: NO_ANSWERS)
    tokens: Sequence[Tokens] | None = None
    """The texts as they were cut before, where that is known."""

    def __len__(self) -> int:
        return len(self.texts)

    def attribute(self, name: str) -> list[str]:
        """One attribute of each row, empty where a row lacks it."""
        if isinstance(self.fields, FieldRows):
            return self.fields.column(name)
        return [row.get(name, "") for row in self.fields]

    def part(self, start: int, stop: int) -> Originals:
        """The rows `start` to `stop`."""
        if (start, stop) == (0, len(self)):
            return self
        span = slice(start, stop)
        tokens = None if self.tokens is None else self.tokens[span]
        columns = (self.row_ids[span], self.texts[span], self.fields[span])
        return Originals(*columns, self.protection, self.synonyms, self.answers, tokens)

    def examples(self) -> list[TextExample]:
        """The rows as single ops see them."""
        tokens = self.tokens or [
            self.protection.tokenise(text, fields)
            for text, fields in zip(self.texts, self.fields, strict=True)
        ]
        rows = zip(self.row_ids, self.texts, self.fields, tokens, strict=True)
        return [TextExample(*row, self.synonyms, self.answers) for row in rows]


@dataclass(slots=True)
class CutTexts:
    """Originals cut into words."""

    originals: Originals
    arrow: pa.Array
    """The texts."""
    vocabulary: Vocabulary
    words: Ints
    """The pool: numbers of words. It grows."""
    states: NDArray[np.uint8]
    """Their states."""
    offsets: Ints
    """(n + 1,) where each text's words begin in the pool."""
    languages: NDArray[np.uint8]
    """(n,) numbers of `LANGUAGES`."""
    cache: dict[Hashable, Any] = field(default_factory=dict)
    """What ops found out about the rows."""

    def add(self, words: Ints, states: NDArray[np.uint8] | int) -> Ints:
        """Put words into the pool; their places."""
        first = len(self.words)
        self.words = np.concatenate([self.words, words])
        self.states = np.concatenate([self.states, np.broadcast_to(np.uint8(states), len(words))])
        return np.arange(first, first + len(words))

    def codes(self) -> NDArray[np.uint8]:
        """Per word of the vocabulary its code (see `recsys.augment.wordbook`)."""
        code = self.originals.protection.book.__getitem__
        return self.vocabulary.table(
            "code", lambda words: np.fromiter(map(code, words), np.uint8, len(words))
        )

    def every(self) -> TextRows:
        """The originals as rows."""
        return TextRows(self, np.arange(len(self.languages)), np.arange(self.offsets[-1]), self.offsets)


class TextRows:
    """Texts, originals or edited, as places of their words in the pool.

    Args:
        cut: Where the words are.
        parents: (n,) the original of each.
        source: Places of the words, text after text.
        offsets: (n + 1,) where each text begins in `source`.
    """

    def __init__(self, cut: CutTexts, parents: Ints, source: Ints, offsets: Ints) -> None:
        self.cut, self.parents, self.source, self.offsets = cut, parents, source, offsets

    def __len__(self) -> int:
        return len(self.parents)

    @cached_property
    def sizes(self) -> Ints:
        """(n,) words per text."""
        return np.diff(self.offsets)

    @cached_property
    def words(self) -> Ints:
        """Numbers of the words."""
        return self.cut.words[self.source]

    @cached_property
    def editable(self) -> NDArray[np.bool_]:
        """Which words may change."""
        return np.equal(self.cut.states[self.source], EDITABLE)

    @cached_property
    def languages(self) -> NDArray[np.uint8]:
        """(n,) numbers of `LANGUAGES`."""
        return self.cut.languages[self.parents]

    def take(self, rows: Ints) -> Self:
        """These rows, in this order."""
        where, offsets = places(self.offsets, rows)
        return type(self)(self.cut, self.parents[rows], self.source[where], offsets)

    def merged(self, parts: Sequence[tuple[Ints, Self]]) -> Self:
        """The same rows, but those of the parts as the parts have them."""
        rest = np.ones(len(self), np.bool_)
        for rows, _ in parts:
            rest[rows] = False
        pieces = [(rows, part.source, part.offsets) for rows, part in parts]
        if len(pieces) == 1 and not rest.any():
            return parts[0][1]
        if rest.any():
            rows = np.flatnonzero(rest)
            where, offsets = places(self.offsets, rows)
            pieces.append((rows, self.source[where], offsets))
        return type(self)(self.cut, self.parents, *interleaved(pieces, len(self)))

    def texts(self) -> pa.Array:
        """The texts as they read."""
        said = self.cut.vocabulary.arrow.take(pa.array(self.words))
        lists = pa.ListArray.from_arrays(pa.array(self.offsets.astype(np.int32)), said)
        chinese = self.languages == LANGUAGES.index("zh")
        if not chinese.any():
            return pc.binary_join(lists, " ")
        return pc.binary_join(lists, pa.array(["", " "]).take(pa.array((~chinese).astype(np.int8))))

    def examples(self, texts: Sequence[str] | None = None) -> list[TextExample]:
        """The rows as single ops see them; `texts` is how they read, where that is known."""
        said = self.texts().to_pylist() if texts is None else texts
        of, names = self.cut.originals, self.cut.vocabulary.words
        words = [names[number] for number in self.words.tolist()]
        states = self.cut.states[self.source].tobytes()
        ends, made = self.offsets.tolist(), []
        for i, (parent, language) in enumerate(
            zip(self.parents.tolist(), self.languages.tolist(), strict=True)
        ):
            start, stop = ends[i], ends[i + 1]
            name = LANGUAGES[language]
            tokens = Tokens(tuple(words[start:stop]), states[start:stop], "" if name == "zh" else " ", name)
            fields = of.fields[parent]
            row_id = of.row_ids[parent]
            made.append(TextExample(row_id, said[i], fields, tokens, of.synonyms, of.answers))
        return made
