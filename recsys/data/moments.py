"""Times of any spelling to Unix seconds, UTC. Units are known by size; day/month order is never guessed.

Seconds of the years 1973 to 5138 have 9 to 11 digits, milliseconds 12 to 14, and so on: the ranges do not
overlap for any time a shop can have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.data.report import Notes

_UNITS = (("milliseconds", 1e11, 1_000), ("microseconds", 1e14, 1_000_000), ("nanoseconds", 1e17, 10**9))
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 10**9}
CALENDAR = (19_700_102, 21_001_231)
"""Between these, numbers may be days: YYYYMMDD."""
_NUMERAL = r"^\s*[+-]?\d+(\.\d*)?([eE][+-]?\d+)?\s*$"
_OFFSET = r"\d:\d\d.*([zZ]|[+-]\d\d(:?\d\d)?)$"
_YEAR_FIRST = r"^\s*\d{4}[-/.年]"


@dataclass(frozen=True, slots=True)
class Moments:
    """A column of times: `seconds` is meaningful where `known`."""

    seconds: NDArray[np.int64]
    known: NDArray[np.bool_]

    def to_float(self) -> NDArray[np.float64]:
        """Seconds, NaN where unknown."""
        return np.where(self.known, self.seconds.astype(np.float64), np.nan)


def moment_column(column: pa.ChunkedArray, name: str, notes: Notes) -> Moments:
    """A column of times as Unix seconds; what cannot be read is not `known`.

    Raises:
        InputError: the column is of a type that cannot hold times.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_timestamp(kind):
        return _from_ticks(column, _PER_SECOND[kind.unit], name, notes)
    if pa.types.is_date(kind):
        return _from_ticks(column.cast(pa.timestamp("s")), 1, name, notes)
    if pa.types.is_decimal(kind):
        column, kind = column.cast(pa.float64()), pa.float64()
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _from_numbers(column, name, notes)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind):
        return _from_text(column.cast(pa.large_string()), name, notes)
    shown = column.drop_null()
    example = shown[0].as_py() if len(shown) else None
    raise notes.refuse("column_type", name, len(column), example, kind=str(kind), wanted="Unix seconds")


def _from_ticks(column: pa.ChunkedArray, per_second: int, name: str, notes: Notes) -> Moments:
    known = column.is_valid().to_numpy()
    ticks = pc.fill_null(column.cast(pa.int64()), 0).to_numpy()
    seconds = ticks // per_second
    cut = seconds * per_second != ticks
    _note_fraction(cut, name, notes, int(ticks[cut.argmax()]) / per_second if cut.any() else None)
    return Moments(seconds, known)


def _from_numbers(column: pa.ChunkedArray, name: str, notes: Notes) -> Moments:
    if pa.types.is_integer(column.type):
        known = column.is_valid().to_numpy()
        # Beyond int64 there is no time; a uint64 column with such a value wraps to a negative one.
        whole = pc.fill_null(column.cast(pa.int64(), safe=False), 0).to_numpy().copy()
        cut = np.zeros(len(whole), bool)
        per_second = _units(whole.astype(np.float64), known, name, notes)
        seconds = whole // per_second
        cut = seconds * per_second != whole
        numbers = whole.astype(np.float64)
    else:
        numbers = column.cast(pa.float64()).to_numpy().astype(np.float64)
        known = np.isfinite(numbers) & (np.abs(numbers) < 9e18)
        numbers = np.where(known, numbers, 0.0)
        per_second = _units(numbers, known, name, notes)
        seconds = np.floor(numbers / per_second).astype(np.int64)
        cut = seconds * per_second.astype(np.float64) != numbers
    _note_fraction(cut & known, name, notes, float(numbers[cut.argmax()]) if cut.any() else None)
    return _from_calendar(Moments(seconds, known), numbers, name, notes)


def _units(
    numbers: NDArray[np.float64], known: NDArray[np.bool_], name: str, notes: Notes
) -> NDArray[np.int64]:
    per_second = np.ones(len(numbers), np.int64)
    for unit, least, ticks in _UNITS:
        here = known & (numbers >= least)
        per_second[here] = ticks
        last = here & (numbers < least * 1_000)
        notes.add("time_unit", name, int(last.sum()), f"{numbers[last.argmax()]:.0f} ({unit})")
    return per_second


def _from_calendar(moments: Moments, numbers: NDArray[np.float64], name: str, notes: Notes) -> Moments:
    """20240531 is a day, not a moment in August 1970: only when every number of the column reads so."""
    present = numbers[moments.known]
    if not is_calendar(present):
        return moments
    days, dates = _as_days(present)
    notes.add("time_calendar", name, len(present), int(present[0]))
    ticks = dates.to_numpy().astype("datetime64[s]").astype(np.int64)
    places = np.searchsorted(days, numbers).clip(0, len(days) - 1)
    return Moments(np.where(moments.known, ticks[places], 0), moments.known)


def is_calendar(numbers: NDArray[np.float64]) -> bool:
    """Whether there are numbers, and all of them read as days (20240531)."""
    if not len(numbers) or numbers.min() < CALENDAR[0] or numbers.max() > CALENDAR[1]:
        return False
    return not _as_days(numbers)[1].isna().any()


def _as_days(numbers: NDArray[np.float64]) -> tuple[NDArray[np.float64], pd.Series[pd.Timestamp]]:
    days = np.unique(numbers)
    text = pd.Series(days.astype(np.int64).astype(str))
    return days, pd.to_datetime(text, format="%Y%m%d", errors="coerce")


def _from_text(column: pa.ChunkedArray, name: str, notes: Notes) -> Moments:
    """Numerals as numbers, everything else as dates; each distinct text is read once."""
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.unify_dictionaries().combine_chunks()
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    numeral = pc.match_substring_regex(encoded.dictionary, _NUMERAL).to_numpy(zero_copy_only=False)
    rows = np.append(numeral, False)[codes]
    seconds, known = np.zeros(len(codes), np.int64), np.zeros(len(codes), bool)
    for here, read in ((rows, _numerals), (~rows, _dates)):
        if here.any():
            part = _from_ticks_or_numbers(read(encoded.dictionary, codes[here]), name, notes)
            seconds[here], known[here] = part.seconds, part.known
    return Moments(seconds, known)


def _from_ticks_or_numbers(column: pa.Array, name: str, notes: Notes) -> Moments:
    chunked = pa.chunked_array([column])
    if pa.types.is_timestamp(column.type):
        return _from_ticks(chunked, _PER_SECOND[column.type.unit], name, notes)
    return _from_numbers(chunked, name, notes)


def _numerals(values: pa.Array, codes: NDArray[np.int64]) -> pa.Array:
    used, places = np.unique(codes, return_inverse=True)
    texts = pd.Series(values.take(pa.array(used)).to_numpy(zero_copy_only=False), dtype=object).str.strip()
    if texts.str.fullmatch(
        r"[+-]?\d{1,18}|[0-8]\d{18}"
    ).all():  # integers stay exact: nanoseconds do not fit a float
        return pa.array(texts.astype("int64").to_numpy()[places])
    return pa.array(pd.to_numeric(texts, errors="coerce").to_numpy(np.float64)[places])


def _dates(values: pa.Array, codes: NDArray[np.int64]) -> pa.Array:
    ticks, readable = _parse_dates(values)
    known = np.append(readable, False)[codes]
    return pa.array(np.append(ticks, 0)[codes], mask=~known).cast(pa.timestamp("us"))


def _parse_dates(values: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Microseconds and readability of ISO 8601 texts; slashes, dots and 年月日 are read as dashes."""
    year_first = pc.match_substring_regex(values, _YEAR_FIRST)
    plain = pc.utf8_trim_whitespace(pc.if_else(year_first, values, ""))
    head = pc.replace_substring_regex(plain, r"^(\d{4})[/.年](\d{1,2})[/.月](\d{1,2})日?", r"\1-\2-\3")
    padded = pc.replace_substring_regex(head, r"^(\d{4}-)(\d)-", r"\10\2-")
    texts = padded.to_numpy(zero_copy_only=False)
    ticks = np.full(len(texts), np.datetime64("NaT"), "datetime64[us]")
    offset = pc.match_substring_regex(padded, _OFFSET).to_numpy(zero_copy_only=False)
    for here in (offset, ~offset):  # apart: next to an offset, pandas reads a naive time in that offset too
        if here.any():
            parsed = pd.to_datetime(
                pd.Series(texts[here], dtype=object), format="ISO8601", utc=True, errors="coerce"
            )
            ticks[here] = parsed.dt.tz_localize(None).to_numpy().astype("datetime64[us]")
    known = ~np.isnat(ticks)
    return np.where(known, ticks.astype(np.int64), 0), known


def _note_fraction(cut: NDArray[np.bool_], name: str, notes: Notes, example: float | None) -> None:
    notes.add("time_fraction", name, int(cut.sum()), example)
