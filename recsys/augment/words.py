"""Text ops that replace words: synonyms from the user's own lexicon, and typing errors."""

from __future__ import annotations

import functools
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from recsys.augment.constraints import EDGES
from recsys.augment.example import TextExample
from recsys.augment.op import Counts, Rates
from recsys.augment.text import TextOp, rebuilt, tokens_of
from recsys.randomness import Stream

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def _groups(groups: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    for group in groups:
        if len(group) < 2 or any(not word or len(word.split()) != 1 for word in group):
            raise ValueError(f"a group is two or more single words, got {list(group)}")
    return groups


class _ReplaceWords(TextOp):
    """Shared edit: words at positions give way to others."""

    parameters = ("positions", "words")

    def edit(self, example: TextExample, values: tuple[Any, ...]) -> TextExample:
        """Put the words in their places; the states stay, since only editable words are replaced."""
        tokens = tokens_of(example)
        words = list(tokens.words)
        for position, word in zip(*values, strict=True):
            words[position] = word
        return rebuilt(example, tokens, tuple(words), tokens.states)


class Synonym(_ReplaceWords):
    """Replaces words by synonyms from groups that an expert of the domain lists."""

    name = "synonym"

    groups: Annotated[tuple[tuple[str, ...], ...], AfterValidator(_groups)] = ()
    """Groups of words that mean the same in this shop, such as ["sofa", "couch"]; English or Chinese."""
    rate_range: Rates = (0.05, 0.2)
    """Share of the words that is replaced, if so many have a synonym; at least one."""

    @functools.cached_property
    def _others(self) -> dict[str, tuple[str, ...]]:
        others: dict[str, tuple[str, ...]] = {}
        for group in self.groups:
            for word in group:
                rest = tuple(w for w in group if w.lower() != word.lower())
                others[word.lower()] = (*others.get(word.lower(), ()), *rest)
        return others

    def sample(self, example: TextExample, rng: Stream, strength: float) -> tuple[Any, ...] | None:
        """Draw which of the words with synonyms are replaced, and by which."""
        tokens, others = tokens_of(example), self._others
        found = [i for i in tokens.editable if tokens.words[i].strip(EDGES).lower() in others]
        if not found:
            return None
        count = max(int(rng.uniform(*self.rate_range) * strength * len(tokens.words) + 0.5), 1)
        positions = tuple(found[i] for i in rng.sample(len(found), min(count, len(found))))
        words = []
        for position in positions:
            word = tokens.words[position]
            core = word.strip(EDGES)
            choice = _like(rng.choice(others[core.lower()]), core)
            words.append(word.replace(core, choice, 1))
        return positions, tuple(words)


class Typo(_ReplaceWords):
    """Mistypes letters of longer English words: exchanged, dropped, doubled, or the neighbouring key."""

    name = "typo"
    languages = frozenset({"en"})

    count_range: Counts = (1, 1)
    """How many words are mistyped; strength scales it. For queries rather than for item titles."""
    min_letters: int = Field(5, ge=3)
    """Shorter words stay: a typo there makes another word."""

    def sample(self, example: TextExample, rng: Stream, strength: float) -> tuple[Any, ...] | None:
        """Draw the words and how each is mistyped."""
        tokens = tokens_of(example)
        found = [i for i in tokens.editable if _mistypable(tokens.words[i], self.min_letters)]
        low, high = self.count_range
        count = min(int((low + rng.below(high - low + 1)) * strength + 0.5), len(found))
        if count < 1:
            return None
        positions = [found[i] for i in rng.sample(len(found), count)]
        pairs = [(i, mistyped(tokens.words[i], rng)) for i in positions]
        changed = [(i, word) for i, word in pairs if word != tokens.words[i]]
        return tuple(zip(*changed, strict=True)) if changed else None


def mistyped(word: str, rng: Stream) -> str:
    """A word with one typing error after its first letter, as fingers make them."""
    last = len(word.rstrip(EDGES)) - 1
    place = 1 + rng.below(last - 1)
    kind = rng.below(4)
    if kind == 0:
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    if kind == 1:
        return word[:place] + word[place + 1 :]
    if kind == 2:
        return word[: place + 1] + word[place:]
    keys = _beside(word[place].lower())
    return word[:place] + (_like(rng.choice(keys), word[place]) if keys else word[place]) + word[place + 1 :]


def _mistypable(word: str, min_letters: int) -> bool:
    core = word.rstrip(EDGES)
    return len(core) >= min_letters and core.isascii() and core.isalpha()


@functools.cache
def _beside(letter: str) -> tuple[str, ...]:
    for above, row in enumerate(_ROWS):
        place = row.find(letter)
        if place >= 0:
            same = row[max(place - 1, 0) : place] + row[place + 1 : place + 2]
            below = _ROWS[above + 1][max(place - 1, 0) : place + 1] if above + 1 < len(_ROWS) else ""
            return tuple(same + below)
    return ()


def _like(text: str, model: str) -> str:
    if model.isupper():
        return text.upper()
    return text.capitalize() if model[:1].isupper() else text
