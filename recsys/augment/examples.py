"""Training contexts and item texts as the examples that ops edit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from recsys.augment.constraints import Protection
from recsys.augment.corpus import TextSide
from recsys.augment.example import NO_NEIGHBOURS, HistoryExample, Item, TextExample
from recsys.augment.fields import item_fields
from recsys.augment.policy import Policy
from recsys.contexts import Contexts

if TYPE_CHECKING:
    import pandas as pd


def context_examples(
    contexts: Contexts, start: int, stop: int, neighbours: Mapping[Item, tuple[Item, ...]] = NO_NEIGHBOURS
) -> Iterator[HistoryExample]:
    """Contexts `start` to `stop` as examples of item rows and event codes."""
    offsets = contexts.history_offsets[start : stop + 1].tolist()
    targets_at = contexts.target_offsets[start : stop + 1].tolist()
    span, target_span = slice(offsets[0], offsets[-1]), slice(targets_at[0], targets_at[-1])
    rows = tuple(contexts.history_rows[span].tolist())
    events = tuple(contexts.history_events[span].tolist())
    times = tuple(contexts.history_timestamps[span].tolist())
    targets = tuple(contexts.target_rows[target_span].tolist())
    names = zip(contexts.user_ids[start:stop].tolist(), contexts.moments[start:stop].tolist(), strict=True)
    base, target_base = offsets[0], targets_at[0]
    for i, (user_id, moment) in enumerate(names):
        low, high = offsets[i] - base, offsets[i + 1] - base
        yield HistoryExample(
            f"user:{user_id}@{moment}",
            rows[low:high],
            events[low:high],
            times[low:high],
            targets[targets_at[i] - target_base : targets_at[i + 1] - target_base],
            neighbours,
        )


def catalogue_protection(fields: Sequence[Mapping[str, str]], policy: Policy) -> Protection:
    """Protected spans of a catalogue: the policy's phrases and all its brands."""
    return Protection(policy.protect, (values.get("brand", "") for values in fields))


def text_examples(items: pd.DataFrame, texts: Sequence[str], policy: Policy) -> Iterator[TextExample]:
    """Item texts as examples, cut once, with the policy's phrases and the catalogue's brands protected."""
    fields = item_fields(items)
    protection = catalogue_protection(fields, policy)
    for item_id, text, values in zip(items["item_id"].tolist(), texts, fields, strict=True):
        yield protection.prepare(TextExample(f"item:{item_id}", text, values))


def with_side(examples: Sequence[TextExample], side: TextSide) -> Iterator[TextExample]:
    """The same examples, carrying what the catalogue and its buyers say."""
    for row, example in enumerate(examples):
        fields = {**example.fields, **side.fields[row]} if row in side.fields else example.fields
        yield example._replace(fields=fields, synonyms=side.synonyms)
