"""What an op edits: one history or one text, immutable, with the side data of the row travelling with it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from recsys.augment.asking import NO_ANSWERS, Answers
from recsys.augment.tokens import Tokens

Item = str | int
"""An item's id, or its row: ops only compare them. In a history, `recsys.contexts.MASKED` stands for none."""

NOTHING: Mapping[str, str] = MappingProxyType({})
NO_NEIGHBOURS: Mapping[Item, tuple[Item, ...]] = MappingProxyType({})
NO_SYNONYMS: Mapping[str, tuple[str, ...]] = MappingProxyType({})


class Event(NamedTuple):
    """One event of a history."""

    item: Item
    event_type: str | int
    timestamp: int
    """Unix seconds."""
    lender: str = ""
    """Whose event it is, where it is lent by another user."""


NO_EARLIER: Mapping[Item, tuple[tuple[Item, float], ...]] = MappingProxyType({})
NOTHING_LENT: Mapping[str, tuple[Event, ...]] = MappingProxyType({})


class HistoryExample(NamedTuple):
    """A user's history before a moment, oldest first; the three tuples have one length."""

    row_id: str
    """Stable name of the row: the key of everything that is drawn for it."""
    history: tuple[Item, ...]
    event_types: tuple[str | int, ...]
    timestamps: tuple[int, ...]
    """Unix seconds, not descending."""
    targets: tuple[Item, ...] = ()
    """What the row is trained to predict: never edited, and never put into the history."""
    neighbours: Mapping[Item, tuple[Item, ...]] = NO_NEIGHBOURS
    """Correlated items, nearest first; shared by all rows and read-only."""
    earlier: Mapping[Item, tuple[tuple[Item, float], ...]] = NO_EARLIER
    """What came right before an item, with its probability, likeliest first; shared by all rows."""
    lent: Mapping[str, tuple[Event, ...]] = NOTHING_LENT
    """Events of others from before the row's moment, by who lends them: `similar`, `friends`, `elsewhere`."""
    text_neighbours: Mapping[Item, tuple[Item, ...]] = NO_NEIGHBOURS
    """Items whose texts are alike, nearest first; shared by all rows and read-only."""


class TextExample(NamedTuple):
    """A text and the attributes of what it describes."""

    row_id: str
    """Stable name of the row: the key of everything that is drawn for it."""
    text: str
    fields: Mapping[str, str] = NOTHING
    """Attributes by name (`brand`, `category`, `tags`, `price_band`, `terms`, …); read-only."""
    tokens: Tokens | None = None
    """The text cut once and its protected words; ops cut it themselves where this is None."""
    synonyms: Mapping[str, tuple[str, ...]] = NO_SYNONYMS
    """Words that the catalogue uses alike, by word in lower case; shared by all rows and read-only."""
    answers: Answers = NO_ANSWERS
    """What models said to the ops that ask one; shared by all rows."""


Example = HistoryExample | TextExample
