"""Item attributes as the text ops read them: brand, category, tags, and a price band of the catalogue."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, overload

import numpy as np

from recsys.augment.example import NOTHING
from recsys.augment.tokens import language_of

if TYPE_CHECKING:
    import pandas as pd

BANDS = {
    "en": ("low", "lower middle", "upper middle", "high"),
    "zh": ("低价", "中低价", "中高价", "高价"),
}
"""Names of the price quartiles."""
NOTHING_SAID: Mapping[int, Mapping[str, str]] = MappingProxyType({})
_LEVELS = re.compile(r"\s*[|>;]+\s*")


class ItemFields:
    """`brand`, `category`, `tags` and `price_band` of items, range by range; what an item lacks is absent.

    Levels of a category path are parted by commas. Price bands are the catalogue's quartiles, named in the
    item's language.

    Args:
        items: The catalogue.
    """

    def __init__(self, items: pd.DataFrame) -> None:
        self._columns: dict[str, list[str]] = {
            name: [value if isinstance(value, str) else "" for value in items[name].tolist()]
            for name in ("brand", "category", "tags", "title")
            if name in items
        }
        self._bands = _price_bands(items)

    def rows(self, start: int, stop: int) -> list[dict[str, str]]:
        """The attributes of items `start` to `stop`."""
        return [self.row(i) for i in range(start, stop)]

    def row(self, i: int) -> dict[str, str]:
        """The attributes of one item."""
        row = {
            name: _level(value[i])
            for name, value in self._columns.items()
            if name != "title" and value[i].strip()
        }
        if self._bands[i] >= 0:
            said = " ".join([value[i] for value in self._columns.values()])
            row["price_band"] = BANDS["zh" if language_of(said) == "zh" else "en"][self._bands[i]]
        return row

    def column(self, name: str, start: int, stop: int) -> list[str] | None:
        """One attribute of items `start` to `stop`, empty where an item lacks it; None: only rows have it."""
        if name == "price_band":
            return None
        if name not in self._columns or name == "title":
            return [""] * (stop - start)
        return [_level(value) for value in self._columns[name][start:stop]]

    def values(self, name: str) -> set[str]:
        """All that items say of one attribute."""
        return {_level(value) for value in set(self._columns.get(name, ()))} - {""}


class FieldRows(Sequence[Mapping[str, str]]):
    """The attributes of a range of items, row by row when they are read, or one of them as a column.

    Args:
        fields: Of the catalogue.
        start: First item.
        stop: Item after the last.
        said: What else is said of items, by their rows.
    """

    def __init__(
        self, fields: ItemFields, start: int, stop: int, said: Mapping[int, Mapping[str, str]] = NOTHING_SAID
    ) -> None:
        self._fields, self._start, self._stop, self._said = fields, start, stop, said
        self._rows: dict[int, Mapping[str, str]] = {}

    def __len__(self) -> int:
        return self._stop - self._start

    @overload
    def __getitem__(self, index: int) -> Mapping[str, str]: ...
    @overload
    def __getitem__(self, index: slice) -> FieldRows: ...
    def __getitem__(self, index: int | slice) -> Mapping[str, str] | FieldRows:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                raise ValueError("a range of items has no steps")
            return FieldRows(self._fields, self._start + start, self._start + stop, self._said)
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        item = self._start + index % len(self)
        row = self._rows.get(item)
        if row is None:
            more = self._said.get(item)
            row = self._fields.row(item)
            row = self._rows[item] = row if more is None else {**row, **more}
        return row

    def column(self, name: str) -> list[str]:
        """One attribute of each item, empty where an item lacks it."""
        rows = range(self._start, self._stop)
        found = self._fields.column(name, self._start, self._stop)
        if found is None:
            return [row.get(name, "") for row in self]
        if self._said:
            said = (self._said.get(row, NOTHING).get(name) for row in rows)
            return [value if other is None else other for value, other in zip(found, said, strict=True)]
        return found


def item_fields(items: pd.DataFrame) -> list[dict[str, str]]:
    """The attributes of all items; see `ItemFields`."""
    return ItemFields(items).rows(0, len(items))


@functools.lru_cache(maxsize=65_536)
def _level(value: str) -> str:
    return _LEVELS.sub(", ", value.strip())


def _price_bands(items: pd.DataFrame) -> list[int]:
    """The quartile of each price, -1 where there is none or where all prices are the same."""
    if "price" not in items or not len(items):
        return [-1] * len(items)
    prices = items["price"].to_numpy(dtype=np.float64, na_value=np.nan)
    known = np.isfinite(prices) & (prices > 0)
    if np.unique(prices[known]).size < 4:
        return [-1] * len(items)
    bands = np.searchsorted(np.quantile(prices[known], [0.25, 0.5, 0.75]), prices, side="left")
    return [int(band) for band in np.where(known, bands, -1)]
