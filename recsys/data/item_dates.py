"""When items came out, as far as their catalogue tells.

`available_from` bars an item from answers before its day. A column such as `release_date` is an attribute:
what is out since 2006 may be on sale here since yesterday. But new items of the past tell how long after (or
before) that day their first buyers came, so it helps to order the new items of today (`recsys.newcomers`).
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from recsys.data.moments import moment_column
from recsys.data.report import Notes
from recsys.data.schema import ITEMS
from recsys.errors import InputError

DATE_COLUMNS = (
    "releasedate", "released", "launchdate", "publicationdate", "publishdate", "publisheddate", "publishedat",
    "datefirstavailable", "onsaledate", "dateadded", "addedat", "uploaddate", "uploadedat", "createdat",
    "releaseyear", "publicationyear", "year",
)  # fmt: skip
"""Names, in lower case and without marks, of columns that tell when an item came out, the likeliest first."""
_YEARS = (1000, 2200)
_LEAST_NUMBER = 1e8
"""A number that says 1973 or earlier in seconds is a flag or a count, and no date."""


def date_column(names: list[str]) -> str | None:
    """The column of the catalogue, beside `available_from`, that may tell when its items came out."""
    plain = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in names if name not in ITEMS}
    return next((plain[name] for name in DATE_COLUMNS if name in plain), None)


def came_out(items: pd.DataFrame) -> NDArray[np.float64]:
    """(items,) Unix seconds of the day each item came out, NaN where nothing tells.

    It is `available_from`, else what the `date_column` says; a year is its first day.
    """
    known = items["available_from"].to_numpy(np.float64, na_value=np.nan)
    name = date_column(list(items.columns))
    return known if name is None else np.where(np.isnan(known), _read(items[name]), known)


def note_dates(items: pd.DataFrame, notes: Notes) -> None:
    """Say in the report which column orders new items, and how many of its dates could not be read."""
    if (name := date_column(list(items.columns))) is None:
        return
    column, read = items[name], ~np.isnan(_read(items[name]))
    lost = column.notna().to_numpy() & ~read & (column.astype(str).str.strip() != "").to_numpy()
    for code, rows in (("item_date", read), ("item_date_unreadable", lost)):
        notes.add(code, name, int(rows.sum()), str(column.iloc[int(rows.argmax())]) if rows.any() else None)


def _read(column: pd.Series[Any]) -> NDArray[np.float64]:
    """Unix seconds; NaN where there is no date to be read, or no way to tell the day from the month."""
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    years = np.isfinite(numbers) & (numbers >= _YEARS[0]) & (numbers <= _YEARS[1])
    if years.any() and years.sum() == column.notna().sum():
        first_days = np.where(years, numbers, 1970).astype(np.int64) - 1970
        seconds = first_days.astype("datetime64[Y]").astype("datetime64[s]").astype(np.float64)
        return np.where(years, seconds, np.nan)
    try:
        values = pa.chunked_array([pa.Array.from_pandas(column)])
        seconds = moment_column(values, str(column.name), Notes("items")).to_float()
    except (InputError, pa.ArrowInvalid, pa.ArrowTypeError):
        # Mixed types, or days and months that nobody can tell apart: an attribute, and no date.
        return np.full(len(column), np.nan)
    counts = np.isfinite(numbers) & (np.abs(seconds) < _LEAST_NUMBER)
    return np.where(counts, np.nan, seconds)
