"""Text ops that append: what a thin or missing text lacks, and words of items bought together.

What is appended comes from the row's attributes and from what its neighbours in behaviour say; which of the
two it is stands in front of it. Nothing is taken from items that behaviour does not connect.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from recsys.augment.example import TextExample
from recsys.augment.op import Counts
from recsys.augment.text import TextOp, rebuilt, tokens_of
from recsys.augment.tokens import ADDED, flat, language_of
from recsys.randomness import Stream
from recsys.thin import THIN_WORDS

_LABELS = {
    "en": {
        "category": "category", "brand": "brand", "tags": "tags", "price_band": "price",
        "nearby_category": "bought with", "nearby_brand": "often with", "terms": "goes with",
    },
    "zh": {
        "category": "类别", "brand": "品牌", "tags": "标签", "price_band": "价位",
        "nearby_category": "常与同购", "nearby_brand": "常搭品牌", "terms": "搭配",
    },
}  # fmt: skip
SEPARATOR = ", "
"""Parts the levels of an attribute's value, and the terms of `terms`."""


class _Append(TextOp):
    """Shared edit: a composed addition goes behind the text."""

    parameters = ("addition",)
    needs = frozenset({"behaviour"})

    def edit(self, example: TextExample, values: tuple[Any, ...]) -> TextExample:
        """Append the addition; its words are not edited again."""
        tokens = tokens_of(example)
        if not tokens.words:
            added = (values[0],)
        elif tokens.joiner:
            added = tuple(values[0].split())
        else:
            added = ("。" + values[0],)
        states = tokens.states + bytes([ADDED]) * len(added)
        return rebuilt(example, tokens, tokens.words + added, states)


class AttributeBackfill(_Append):
    """Composes what a thin text lacks from attributes, price band and what items bought with it say."""

    name = "attribute_backfill"
    languages = frozenset({"en", "zh", "none"})

    min_words: int = Field(0, ge=0)
    """Texts with fewer words are left alone; a missing text has none."""
    max_words: int = Field(THIN_WORDS, ge=0)
    """Longer texts are left alone."""
    fields: tuple[str, ...] = (
        "category", "brand", "tags", "nearby_category", "nearby_brand", "terms", "price_band",
    )  # fmt: skip
    """Attributes to use, if the row has them and its text does not already say them."""
    max_added: int = Field(24, ge=1)
    """Words that are added at most."""

    def sample(self, example: TextExample, rng: Stream, strength: float) -> tuple[Any, ...] | None:
        """Draw the order of the attributes and compose the addition, which the plan holds as text."""
        tokens = tokens_of(example)
        if len(tokens.words) > self.max_words:
            return None
        said = flat(example.text)
        present = []
        for name in self.fields:
            if value := _unsaid(example.fields.get(name, ""), said):
                present.append((name, value))
                said += flat(value)
        if not any(name != "price_band" for name, _ in present):
            return None  # a price alone says nothing of what the item is
        language = tokens.language
        if language == "none":
            language = language_of(" ".join(value for _, value in present))
        if language not in _LABELS:
            return None
        labels = _LABELS[language]
        colon, stop, joiner = ("：", "；", "") if language == "zh" else (": ", "; ", " ")
        parts = [f"{labels.get(name, name)}{colon}{value}" for name, value in rng.shuffled(present)]
        addition = stop.join(parts)
        words = addition.split()[: self.max_added]
        # A Chinese word is about two characters.
        return (joiner.join(words) if joiner else addition[: 2 * self.max_added],)


class TermExpansion(_Append):
    """Appends words of items that are bought together with this one, where they say more than chance."""

    name = "term_expansion"

    min_words: int = Field(1, ge=0)
    """Texts with fewer words are left alone."""
    max_words: int = Field(12, ge=0)
    """Texts with more words say enough by themselves."""
    count_range: Counts = (2, 6)
    """How many terms are appended, the strongest being as likely as the others that are kept."""

    def sample(self, example: TextExample, rng: Stream, strength: float) -> tuple[Any, ...] | None:
        """Draw the terms; an item whose neighbours say nothing has none and is left alone."""
        tokens = tokens_of(example)
        if len(tokens.words) > self.max_words:
            return None
        terms = _unsaid(example.fields.get("terms", ""), flat(example.text)).split(SEPARATOR)
        if terms == [""]:
            return None
        low, high = self.count_range
        count = min(int((low + rng.below(high - low + 1)) * strength + 0.5), len(terms))
        if count < 1:
            return None
        chosen = [terms[i] for i in rng.sample(len(terms), count)]
        colon, comma = ("：", "、") if tokens.language == "zh" else (": ", SEPARATOR)
        return (_LABELS[tokens.language]["terms"] + colon + comma.join(chosen),)


def _unsaid(value: str, said: str) -> str:
    """The levels of a value that are not said yet; a Chinese one may stand inside a run of characters."""
    levels = [" ".join(level.split()) for level in value.split(SEPARATOR)]
    unsaid = []
    for level in levels:
        plain = flat(level)
        if plain.strip() and (plain if level.isascii() else plain.strip()) not in said:
            unsaid.append(level)
    return SEPARATOR.join(unsaid)
