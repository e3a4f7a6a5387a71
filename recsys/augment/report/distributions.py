"""How an expansion moved the data: lengths, popularity and mixes before and after.

Parts of the files are read one after the other: memory holds the catalogue and a few numbers per row.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.augment.report.compare import Mix, Numbers, Values, compare_labels, compare_numbers
from recsys.augment.report.tallies import batches, is_augmented, is_original
from recsys.augment.report.variety import Variety, text_variety, words_of
from recsys.randomness import generator

MOST_CUT = 10_000
"""Texts of each side that are cut into words: what words say is an estimate above it."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The items of an expansion, in catalogue order."""

    row_ids: pa.Array
    item_ids: pa.Array
    texts: pa.Array
    labels: dict[str, list[str | None]]
    """By field: the item's value, None where it has none."""

    def counts(self, name: str, by_item: NDArray[np.int64]) -> Counter[Hashable]:
        """How often each value of a field occurs, with so many occurrences per item."""
        found: Counter[Hashable] = Counter()
        for label, count in zip(self.labels[name], by_item.tolist(), strict=True):
            if label is not None and count:
                found[label] += count
        return found


def load_catalogue(folder: Path) -> Catalogue:
    """The originals of the texts."""
    columns = ["row_id", "item_id", "text", "fields"]
    parts = list(batches(folder / "texts.parquet", columns, is_original()))
    row_ids, item_ids, texts, fields = (
        pa.concat_arrays([part.column(i).cast(pa.string()) for part in parts] or [pa.array([], pa.string())])
        for i in range(len(columns))
    )
    rows = [json.loads(text) if text else {} for text in fields.to_pylist()]
    labels = {name: [row.get(name) for row in rows] for name in ("category", "price_band")}
    return Catalogue(row_ids, item_ids, texts, labels)


def text_figures(folder: Path, catalogue: Catalogue) -> tuple[list[Numbers], list[Mix], list[Variety]]:
    """Length in characters and in words, category and price band of the texts; how varied they are."""
    path = folder / "texts.parquet"
    before = pc.utf8_length(catalogue.texts).to_numpy(zero_copy_only=False).astype(np.float64)
    lengths: list[Values] = []
    by_item = np.zeros(len(before), np.int64)
    for batch in batches(path, ["item_id", "text"], is_augmented()):
        lengths.append(pc.utf8_length(batch.column(1)).to_numpy(zero_copy_only=False).astype(np.float64))
        by_item += _per_item(batch.column(0), catalogue)
    after = np.concatenate([np.empty(0), *lengths])
    parents, children = _pairs(path, catalogue, len(after))
    originals = [words_of(text) for text in _drawn(catalogue.texts, "originals").to_pylist()]
    words = [words_of(text) for text in children]
    numbers = [
        compare_numbers("text length, characters", before, after),
        compare_numbers("text length, words", _sizes(originals), _sizes(words)),
    ]
    return (
        numbers,
        _mixes(catalogue, np.ones_like(by_item), by_item, "texts"),
        text_variety(originals, parents, words),
    )


def history_figures(folder: Path, catalogue: Catalogue) -> tuple[list[Numbers], list[Mix]]:
    """Length of histories, popularity of what they hold, category and price band of their events.

    An item's popularity is the number n of the original histories' events on it; a history's is the mean of
    log(1 + n) over its events.
    """
    path = folder / "histories.parquet"
    size = len(catalogue.item_ids)
    events = [np.zeros(size, np.int64), np.zeros(size, np.int64)]
    for side, rows in enumerate((is_original(), is_augmented())):
        for batch in batches(path, ["item_ids"], rows):
            events[side] += _per_item(batch.column(0).flatten(), catalogue)
    weight = np.log1p(events[0].astype(np.float64))
    lengths: list[Values] = []
    popularity: list[Values] = []
    for rows in (is_original(), is_augmented()):
        parts: list[tuple[Values, Values]] = [(np.empty(0), np.empty(0))]
        parts += [
            _per_history(batch.column(0), catalogue, weight) for batch in batches(path, ["item_ids"], rows)
        ]
        lengths.append(np.concatenate([part[0] for part in parts]))
        popularity.append(np.concatenate([part[1] for part in parts]))
    numbers = [
        compare_numbers("history length, events", *lengths),
        compare_numbers("popularity of a history's items, mean of log(1 + events)", *popularity),
    ]
    return numbers, _mixes(catalogue, events[0], events[1], "events of histories")


def _mixes(catalogue: Catalogue, before: NDArray[np.int64], after: NDArray[np.int64], of: str) -> list[Mix]:
    return [
        compare_labels(
            f"{name.replace('_', ' ')}, {of}", catalogue.counts(name, before), catalogue.counts(name, after)
        )
        for name, values in catalogue.labels.items()
        if any(value is not None for value in values)
    ]


def _pairs(path: Path, catalogue: Catalogue, total: int) -> tuple[list[str], list[str]]:
    """Texts of parents and of their variants: all, or a keyed draw."""
    wanted = _positions(total, "variants")
    parents: list[str] = []
    children: list[str] = []
    start = 0
    for batch in batches(path, ["parent_id", "text"], is_augmented()):
        inside = wanted[(wanted >= start) & (wanted < start + len(batch))] - start
        start += len(batch)
        chosen = batch.take(pa.array(inside))
        places = pc.index_in(chosen.column(0), value_set=catalogue.row_ids)
        parents += catalogue.texts.take(places).fill_null("").to_pylist()
        children += chosen.column(1).to_pylist()
    return parents, children


def _drawn(values: pa.Array, key: str) -> pa.Array:
    return values.take(pa.array(_positions(len(values), key)))


def _positions(total: int, key: str) -> NDArray[np.int64]:
    """All positions, or `MOST_CUT` of them, ascending."""
    if total <= MOST_CUT:
        return np.arange(total)
    return np.sort(generator(0, "augment", "report", key).permutation(total)[:MOST_CUT])


def _per_item(item_ids: pa.Array, catalogue: Catalogue) -> NDArray[np.int64]:
    places = pc.index_in(item_ids.cast(pa.string()), value_set=catalogue.item_ids)
    rows = places.fill_null(-1).to_numpy(zero_copy_only=False)
    return np.bincount(rows[rows >= 0], minlength=len(catalogue.item_ids)).astype(np.int64)


def _per_history(item_ids: pa.Array, catalogue: Catalogue, weight: Values) -> tuple[Values, Values]:
    """Length and mean weight of each history; a masked event has a length but no weight."""
    lengths = pc.list_value_length(item_ids).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    places = pc.index_in(item_ids.flatten().cast(pa.string()), value_set=catalogue.item_ids)
    rows = places.fill_null(-1).to_numpy(zero_copy_only=False)
    owners = np.repeat(np.arange(len(lengths)), lengths)[rows >= 0]
    known = np.bincount(owners, minlength=len(lengths))
    sums = np.bincount(owners, weight[rows[rows >= 0]], len(lengths))
    means = np.where(known > 0, sums / np.maximum(known, 1), np.nan)
    return lengths.astype(np.float64), means


def _sizes(texts: Sequence[Sequence[str]]) -> Values:
    return np.array([len(words) for words in texts], np.float64)
