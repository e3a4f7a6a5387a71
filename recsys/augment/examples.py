"""Training contexts and item texts as the examples that ops edit."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recsys.augment.constraints import Protection
from recsys.augment.corpus import TextSide
from recsys.augment.example import NOTHING_LENT, HistoryExample, TextExample
from recsys.augment.fields import item_fields
from recsys.augment.gates.distance import WordPairs
from recsys.augment.gates.drift import Sample
from recsys.augment.gates.gate import Evidence
from recsys.augment.grow import Grown, texts_of
from recsys.augment.lending import NO_SIDE, HistorySide
from recsys.augment.policy import Policy
from recsys.augment.tokens import cut, language_of
from recsys.contexts import MASKED, Contexts

if TYPE_CHECKING:
    import pandas as pd


_EVENTS = 1_000_000
"""Events that are counted at one time."""
_ROWS = 65_536
"""Histories that are measured at one time."""


def context_examples(
    contexts: Contexts, start: int, stop: int, side: HistorySide = NO_SIDE
) -> Iterator[HistoryExample]:
    """Contexts `start` to `stop` as examples of item rows and event codes."""
    lent = side.lent(start, stop) if side.lenders else None
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
            side.neighbours,
            side.earlier,
            NOTHING_LENT if lent is None else lent[i],
            side.text_neighbours,
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


def history_samples(contexts: Contexts, children: Contexts, num_items: int) -> tuple[Sample, Sample]:
    """What drift watches of histories: how long they are, and how popular (log count) what they hold is."""
    popularity = item_popularity(contexts, num_items)
    return history_sample(contexts, popularity), history_sample(children, popularity)


def item_popularity(contexts: Contexts, num_items: int) -> NDArray[np.float64]:
    """(num_items,) log count of each item among histories and targets."""
    counts = np.zeros(num_items, np.int64)
    for rows in (contexts.history_rows, contexts.target_rows):
        for start in range(0, len(rows), _EVENTS):
            part = rows[start : start + _EVENTS]
            counts += np.bincount(part[part != MASKED], minlength=num_items)
    return np.log1p(counts.astype(np.float64))


def history_sample(contexts: Contexts, popularity: NDArray[np.float64]) -> Sample:
    """What drift watches of some histories; `popularity` as `item_popularity` gives it."""
    lengths = np.diff(contexts.history_offsets)
    means = np.full(len(contexts), np.nan)
    for start in range(0, len(contexts), _ROWS):
        sizes = lengths[start : start + _ROWS]
        first = contexts.history_offsets[start]
        rows = contexts.history_rows[first : first + sizes.sum()]
        owners, known = np.repeat(np.arange(len(sizes)), sizes), rows != MASKED
        said = popularity[rows[known]]
        sums, counts = (np.bincount(owners[known], weights, len(sizes)) for weights in (said, None))
        means[start : start + _ROWS] = np.where(counts > 0, sums / np.maximum(counts, 1.0), np.nan)
    return Sample({"length": lengths.astype(np.float64), "popularity": means})


def item_sample(items: pd.DataFrame, texts: Sequence[str]) -> Sample:
    """What drift watches of item texts: length in characters, price, category."""
    size = len(texts)
    prices = (
        items["price"].to_numpy(np.float64, na_value=np.nan) if "price" in items else np.full(size, np.nan)
    )
    categories: list[Hashable] = [None] * size
    if "category" in items:
        categories = [value if isinstance(value, str) and value else None for value in items["category"]]
    lengths = np.array([len(text) for text in texts], np.float64)
    return Sample({"length": lengths, "price": prices}, {"category": categories})


def text_samples(
    items: pd.DataFrame, texts: Sequence[str], grown: Grown[TextExample], evidence: Evidence, vectors: bool
) -> tuple[Sample, Sample]:
    """What drift watches of texts and of their variants; vectors too, where asked for and an encoder is."""
    before = item_sample(items, texts)
    after = before.take(np.asarray(grown.parents, np.int64))
    children = texts_of(grown.children)
    after.numbers["length"] = np.array([len(text) for text in children], np.float64)
    if vectors and len(children) and (encoded := evidence.encoded([*texts, *children])) is not None:
        size = len(texts)
        before.vectors, after.vectors = np.stack(encoded[:size]), np.stack(encoded[size:])
    return before, after


def put_pairs(before: Sample, after: Sample, texts: Sequence[str], children: Iterable[str]) -> None:
    """Cut originals and variants into neighbouring words, for drift that asks how varied they are."""
    before.pairs, after.pairs = (
        WordPairs.of(cut(text.lower(), language_of(text))[0] for text in part) for part in (texts, children)
    )
