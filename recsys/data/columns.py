"""Arrow columns to clean NumPy columns. Work is done once per distinct value, not once per row.

A column of text is held as `Coded`: the distinct values, and for every row the position of its value. Ten
million events on a million items cost a million string operations.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.data.report import Notes

_EXACT = float(1 << 53)
_LIKE_MISSING = frozenset({"nan", "NaN", "None", "<NA>", "null", "NULL", "NaT"})
_SCIENTIFIC = re.compile(r"\d(\.\d+)?[eE]\+\d{2,}")
_ODD_ID = r"(?i)^[\s\p{Z}]*$|^[\s\p{Z}]|[\s\p{Z}]$|^(nan|none|<na>|null|nat)$|\de\+\d"
_WHOLE_FLOAT = re.compile(r"([+-]?\d+)\.0+")


@dataclass(frozen=True, slots=True)
class Coded:
    """A text column: row i has `texts[codes[i]]`, or nothing where the code is -1."""

    codes: NDArray[np.int32]
    texts: NDArray[np.object_]
    """Distinct strings; some may be unused."""

    def rows_per_value(self) -> NDArray[np.int64]:
        """How many rows hold each value."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.texts))

    def map(self, change: Callable[[str], str]) -> Coded:
        """The same rows with every distinct value changed; values that become equal share a code."""
        places: dict[str, int] = {}
        to_place = [places.setdefault(change(value), len(places)) for value in self.texts]
        codes = np.array([*to_place, -1], dtype=np.int32)[self.codes]
        return Coded(codes, _objects(places))

    def to_objects(self, missing: str | None = "") -> NDArray[np.object_]:
        """One shared Python string per distinct value, (rows,)."""
        return np.append(self.texts, _objects([missing]))[self.codes]

    def take(self, rows: NDArray[np.bool_]) -> Coded:
        """The rows where the mask is true."""
        return Coded(self.codes[rows], self.texts)

    def count(self, wanted: Callable[[str], bool]) -> tuple[int, str | None]:
        """Rows whose value satisfies a predicate, and the first such value."""
        hits = np.fromiter((wanted(value) for value in self.texts), bool, len(self.texts))
        if not hits.any():
            return 0, None
        rows = int(self.rows_per_value()[hits].sum())
        return rows, str(self.texts[hits.argmax()]) if rows else None


def text_column(column: pa.ChunkedArray, name: str, notes: Notes) -> Coded:
    """Any column as text: numbers written out, lists joined by commas, objects as JSON."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        notes.add("text_from_list", name, len(column) - column.null_count, _first(column))
        return _code(pa.chunked_array([_joined(column)]))
    if pa.types.is_nested(kind):
        notes.add("nested_column", name, len(column) - column.null_count, _first(column))
        return _code(pa.chunked_array([_as_json(column)]))
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        try:
            column = column.cast(pa.large_string())
        except pa.ArrowInvalid as error:
            raise notes.refuse("column_type", name, kind="raw byte", wanted="text") from error
    elif not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        notes.add("text_from_number", name, len(column) - column.null_count, _first(column))
    return _code(column)


def id_column(column: pa.ChunkedArray, name: str, notes: Notes) -> Coded:
    """Ids as text, exactly as they went in; empty ones have code -1.

    Raises:
        InputError: the column holds what cannot be an id, or numbers that have lost digits.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_floating(kind):
        coded = _ids_from_floats(column, name, notes)
    elif pa.types.is_integer(kind) or pa.types.is_decimal(kind) or _is_text(kind):
        coded = _code(column)
    else:
        shown = _first(column)
        raise notes.refuse("column_type", name, len(column), shown, kind=str(kind), wanted="text")
    odd = pc.match_substring_regex(pa.array(coded.texts, pa.large_string()), _ODD_ID)
    suspects = set(coded.texts[odd.to_numpy(zero_copy_only=False).astype(bool)])
    if not suspects:
        return coded
    blank = {value for value in suspects if not value.strip()}
    if blank:
        empty = np.fromiter((value in blank for value in coded.texts), bool, len(coded.texts))
        codes = np.where(np.append(empty, True)[coded.codes], -1, coded.codes).astype(np.int32)
        coded = Coded(codes, coded.texts)
    for code, kind_of in (
        ("id_padded", {value for value in suspects if value != value.strip()}),
        ("id_like_missing", suspects & _LIKE_MISSING),
        ("id_rounded", {value for value in suspects if _SCIENTIFIC.fullmatch(value)}),
    ):
        if kind_of:
            notes.add(code, name, *coded.count(kind_of.__contains__))
    return coded


def id_key(value: str) -> str:
    """What two spellings of one id share: no blanks around, no `.0`. Leading zeros stay."""
    value = value.strip()
    whole = _WHOLE_FLOAT.fullmatch(value)
    return whole.group(1) if whole else value


def reconcile_ids(ids: Coded, known: NDArray[np.object_], name: str, notes: Notes) -> Coded:
    """Ids brought to the spelling of `known` where only the spelling differs; all others as they are."""
    exact = set(known)
    unknown = [value for value in ids.texts if value not in exact]
    if not unknown:
        return ids
    wanted = {id_key(value) for value in unknown}
    spelling: dict[str, str] = {}
    ambiguous: set[str] = set()
    for value in known:
        key = id_key(value)
        if key in wanted and spelling.setdefault(key, value) != value:
            ambiguous.add(key)

    def respelled(value: str) -> str:
        key = id_key(value)
        return value if value in exact or key in ambiguous else spelling.get(key, value)

    notes.add("id_reconciled", name, *ids.count(lambda value: respelled(value) != value))
    return ids.map(respelled)


def number_column(column: pa.ChunkedArray, name: str, notes: Notes) -> tuple[NDArray[np.float64], int]:
    """Numbers as float64, NaN where absent or unreadable, and how many were unreadable or infinite."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        numbers = column.cast(pa.float64(), safe=False).to_numpy().astype(np.float64)
        infinite = np.isinf(numbers)
        numbers[infinite] = np.nan
        return numbers, int(infinite.sum())
    coded = _code(column) if _is_text(kind) or pa.types.is_decimal(kind) else None
    if coded is None:
        raise notes.refuse("column_type", name, len(column), _first(column), kind=str(kind), wanted="numbers")
    parsed = np.fromiter((_number(value) for value in coded.texts), np.float64, len(coded.texts))
    numbers = np.append(parsed, np.nan)[coded.codes]
    filled = np.fromiter((bool(value.strip()) for value in coded.texts), bool, len(coded.texts))
    return numbers, int((np.append(filled, False)[coded.codes] & np.isnan(numbers)).sum())


def attribute_column(column: pa.ChunkedArray, name: str, notes: Notes) -> Any:
    """An extra column as pandas holds it; nested values as JSON text, None for a column of raw bytes."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        notes.add("binary_column", name, len(column) - column.null_count)
        return None
    if pa.types.is_nested(kind):
        notes.add("nested_column", name, len(column) - column.null_count, _first(column))
        return pa.chunked_array([_as_json(column)]).to_pandas()
    return column.to_pandas()


def _objects(values: Iterable[str | None]) -> NDArray[np.object_]:
    return np.fromiter(values, dtype=object)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind))


def _code(column: pa.ChunkedArray) -> Coded:
    """Encode first and write numbers out after: casting distinct values is cheaper."""
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):  # combine_chunks() keeps more than 2 GiB of text apart
        encoded = encoded.unify_dictionaries().combine_chunks()
    values = encoded.dictionary.cast(pa.large_string()).to_numpy(zero_copy_only=False).astype(object)
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int32)
    return Coded(codes, values)


def _ids_from_floats(column: pa.ChunkedArray, name: str, notes: Notes) -> Coded:
    column = column.cast(pa.float64())
    column = pc.if_else(pc.is_finite(column), column, pa.scalar(None, pa.float64()))
    encoded = column.combine_chunks().dictionary_encode()
    numbers = encoded.dictionary.to_numpy(zero_copy_only=False)
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int32)
    large = np.abs(numbers) >= _EXACT
    if large.any():
        raise notes.refuse("id_imprecise", name, int(large[codes].sum()), float(numbers[large.argmax()]))
    values = [str(int(number)) if number.is_integer() else repr(float(number)) for number in numbers]
    coded = Coded(codes, np.array(values, dtype=object))
    whole = np.append(numbers == np.floor(numbers), False)[codes]
    notes.add("id_from_number", name, int(whole.sum()), f"{numbers[0]}" if len(numbers) else None)
    return coded


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        return np.nan
    return number if np.isfinite(number) and "_" not in text else np.nan


def _joined(column: pa.ChunkedArray) -> pa.Array:
    rows = (
        row if row is None else ", ".join(str(v) for v in row if v is not None) for row in column.to_pylist()
    )
    return pa.array(rows, pa.string())


def _as_json(column: pa.ChunkedArray) -> pa.Array:
    rows = (
        row if row is None else json.dumps(row, ensure_ascii=False, default=str) for row in column.to_pylist()
    )
    return pa.array(rows, pa.string())


def _first(column: pa.ChunkedArray) -> object:
    present = column.drop_null()
    return present[0].as_py() if len(present) else None
