"""Item attributes as the text ops read them: brand, category, tags, and a price band of the catalogue."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

import numpy as np

from recsys.augment.tokens import language_of

if TYPE_CHECKING:
    import pandas as pd

BANDS = {
    "en": ("low", "lower middle", "upper middle", "high"),
    "zh": ("低价", "中低价", "中高价", "高价"),
}
"""Names of the price quartiles."""
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
        rows: list[dict[str, str]] = []
        for i in range(start, stop):
            row = {
                name: _level(value[i])
                for name, value in self._columns.items()
                if name != "title" and value[i].strip()
            }
            if self._bands[i] >= 0:
                said = " ".join([value[i] for value in self._columns.values()])
                row["price_band"] = BANDS["zh" if language_of(said) == "zh" else "en"][self._bands[i]]
            rows.append(row)
        return rows

    def values(self, name: str) -> set[str]:
        """All that items say of one attribute."""
        return {_level(value) for value in set(self._columns.get(name, ()))} - {""}


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
