"""Text ops that put in other words: synonyms by an expert, by the catalogue or by WordNet, and insertion."""

from __future__ import annotations

import functools
import itertools
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from recsys.augment import wordnet
from recsys.augment.constraints import EDGES
from recsys.augment.example import TextExample
from recsys.augment.op import Counts, Rates
from recsys.augment.text import TextOp, rebuilt, tokens_of
from recsys.augment.tokens import ADDED, PROTECTED, flat
from recsys.augment.wordbook import CORES
from recsys.randomness import Stream

Synonyms = Mapping[str, tuple[str, ...]]
"""Words used alike, by word in lower case."""


def _groups(groups: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    for group in groups:
        if len(group) < 2 or any(not word or len(word.split()) != 1 for word in group):
            raise ValueError(f"a group is two or more single words, got {list(group)}")
    return groups


class ReplaceWords(TextOp):
    """Shared edit: words at positions give way to others."""

    parameters = ("positions", "words")

    def edit(self, example: TextExample, values: tuple[Any, ...]) -> TextExample:
        """Put the words in their places; the states stay, since only editable words are replaced."""
        tokens = tokens_of(example)
        words = list(tokens.words)
        for position, word in zip(*values, strict=True):
            words[position] = word
        return rebuilt(example, tokens, tuple(words), tokens.states)


class InsertWords(TextOp):
    """Shared edit: words go into gaps."""

    parameters = ("gaps", "words")

    def edit(self, example: TextExample, values: tuple[Any, ...]) -> TextExample:
        """Insert each word before the word at its gap; inserted words are not edited again."""
        tokens = tokens_of(example)
        words, states = tokens.words, tokens.states
        for gap, word in reversed(list(zip(*values, strict=True))):
            words = (*words[:gap], word, *words[gap:])
            states = states[:gap] + bytes([ADDED]) + states[gap:]
        return rebuilt(example, tokens, words, states)


class SwapSynonyms(ReplaceWords):
    """Shared draw: some of the words that have a synonym give way to one."""

    rate_range: Rates = (0.05, 0.2)
    """Share of the words that is replaced, if so many have a synonym; at least one."""

    @abstractmethod
    def known(self, mined: Synonyms) -> Callable[[str], tuple[str, ...] | None]:
        """Gives the synonyms of a word in lower case; `mined` is what the examples carry."""

    def stays(self, word: str, category: str) -> bool:
        """Whether a word that has synonyms is left alone in texts of a category."""
        return False

    def sample(self, example: TextExample, rng: Stream, strength: float) -> tuple[Any, ...] | None:
        """Draw which of the words with synonyms are replaced, and by which."""
        tokens = tokens_of(example)
        found, words_of, known = [], tokens.words, self.known(example.synonyms)
        category = example.fields.get("category", "")
        for i in tokens.editable:  # a word that may change has more to it than signs
            core = CORES[words_of[i]]
            if (others := known(core)) and not self.stays(core, category):
                found.append((i, words_of[i].strip(EDGES), others))
        if not found:
            return None
        count = max(int(rng.uniform(*self.rate_range) * strength * len(tokens.words) + 0.5), 1)
        positions, words = [], []
        for number in rng.sample(len(found), min(count, len(found))):
            position, core, others = found[number]
            positions.append(position)
            words.append(put_in_place(tokens.words[position], core, rng.choice(others)))
        return tuple(positions), tuple(words)


class Synonym(SwapSynonyms):
    """Replaces words by synonyms from groups that an expert of the domain lists."""

    name = "synonym"

    groups: Annotated[tuple[tuple[str, ...], ...], AfterValidator(_groups)] = ()
    """Groups of words that mean the same in this shop, such as ["sofa", "couch"]; English or Chinese."""
    lexicon: str = Field("", exclude=True)
    """A text file with a group per line, words parted by spaces, `#` for remarks; read into `groups`."""

    @model_validator(mode="before")
    @classmethod
    def _read(cls, settings: Any) -> Any:
        # The groups themselves become the setting: the policy's id follows the file's content, and a stored
        # policy stands alone.
        if isinstance(settings, dict) and (path := settings.get("lexicon")):
            groups = [list(group) for group in settings.get("groups", ())]
            settings = {key: value for key, value in settings.items() if key != "lexicon"}
            return {**settings, "groups": [*groups, *read_lexicon(Path(path))]}
        return settings

    @functools.cached_property
    def _others(self) -> dict[str, tuple[str, ...]]:
        others: dict[str, tuple[str, ...]] = {}
        for group in self.groups:
            for word in group:
                rest = tuple(w for w in group if w.lower() != word.lower())
                others[word.lower()] = (*others.get(word.lower(), ()), *rest)
        return others

    def known(self, mined: Synonyms) -> Callable[[str], tuple[str, ...] | None]:
        """The rest of the word's groups."""
        return self._others.get


class MinedSynonym(SwapSynonyms):
    """Replaces words by ones that this catalogue uses alike, in text and in what is bought together."""

    name = "mined_synonym"
    needs = frozenset({"synonyms"})

    def known(self, mined: Synonyms) -> Callable[[str], tuple[str, ...] | None]:
        """What was mined."""
        return mined.get

    def stays(self, word: str, category: str) -> bool:
        """A word of the item's own category is what the item is."""
        return word in flat(category)


class WordnetSynonym(SwapSynonyms):
    """Replaces English words by synonyms of their commonest meaning, where WordNet is installed."""

    name = "wordnet_synonym"
    languages = frozenset({"en"})

    folder: str = ""
    """Folder of WordNet's `index.*` and `data.*` files; empty looks where they are usually installed."""

    @functools.cached_property
    def _wordnet(self) -> wordnet.WordNet | None:
        return wordnet.open_wordnet(self.folder)

    def known(self, mined: Synonyms) -> Callable[[str], tuple[str, ...] | None]:
        """Single words of the first sense; none at all where WordNet is not installed."""
        return _nothing if self._wordnet is None else self._wordnet.synonyms


class WordInsertion(InsertWords):
    """Inserts a synonym of one of the text's words, or a word of its category, at a random place."""

    name = "word_insertion"
    needs = frozenset({"synonyms"})

    count_range: Counts = (1, 2)
    """How many words are inserted; strength scales it."""
    words: tuple[str, ...] = ()
    """Words to insert besides, such as harmless ones of the domain; for a placebo, random ones."""

    def sample(self, example: TextExample, rng: Stream, strength: float) -> tuple[Any, ...] | None:
        """Draw gaps outside of protected spans, and a word for each."""
        tokens = tokens_of(example)
        near, words_of = example.synonyms, tokens.words
        pool = [word for i in tokens.editable for word in near.get(CORES[words_of[i]], ())]
        pool = [word for word in pool if word.isalpha()]
        pool += self.besides(example.fields.get("category", ""), tokens.language == "zh")
        gaps = open_gaps(tokens.states)
        low, high = self.count_range
        count = min(int((low + rng.below(high - low + 1)) * strength + 0.5), len(gaps))
        if count < 1 or not pool:
            return None
        chosen = tuple(gaps[i] for i in rng.sample(len(gaps), count))
        return chosen, tuple(rng.choice(pool) for _ in chosen)

    def besides(self, category: str, chinese: bool) -> list[str]:
        """Words to insert that are no synonyms: the category's and the settings', in the text's language."""
        own = category.replace(",", " ").split()
        return [word for word in (*own, *self.words) if is_chinese(word) == chinese and word.isalpha()]


def _nothing(word: str) -> None:
    """No synonym of any word."""


def read_lexicon(path: Path) -> list[list[str]]:
    """The groups of a lexicon file: one per line, words parted by white space, `#` starts a remark."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: the lexicon cannot be read ({error})") from error
    return [words for line in lines if (words := line.partition("#")[0].split())]


def put_in_place(word: str, core: str, other: str) -> str:
    """A word whose core gave way to another, written like it."""
    return word.replace(core, like(other, core), 1)


def like(text: str, model: str) -> str:
    """A word in the case of another: all capitals, a capital first, or as it is."""
    if model.isupper() and (len(model) > 1 or len(text) == 1):
        return text.upper()
    return text.capitalize() if model[:1].isupper() else text


def open_gaps(states: bytes) -> list[int]:
    """Every gap in which a word may go, as `gap_is_open` says, ascending."""
    pairs = itertools.pairwise(states + bytes([PROTECTED]))
    return [i for i, (left, right) in enumerate(pairs, 1) if left != PROTECTED or right != PROTECTED]


def gap_is_open(states: bytes, gap: int) -> bool:
    """Whether a word may go before position `gap`: never into or at the end of a protected span."""
    left = states[gap - 1]
    right = states[gap] if gap < len(states) else PROTECTED
    return left != PROTECTED or (gap < len(states) and right != PROTECTED)


def is_chinese(word: str) -> bool:
    """Whether a word has a Chinese character in it."""
    return any("\u4e00" <= char <= "\u9fff" for char in word)
