"""The rows of `interactions`: who, what, when, and how."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from recsys.config import DataConfig
from recsys.data.columns import Coded, id_column, number_column, reconcile_ids, text_column
from recsys.data.moments import moment_column
from recsys.data.reading import read_table
from recsys.data.report import Notes
from recsys.data.schema import INTERACTIONS, attributes, note_near_misses, require_columns
from recsys.types import NEGATIVE_EVENTS, POSITIVE_DEFAULT

MAX_FUTURE_SHARE = 0.01
"""A few devices have wrong clocks; with a larger share in the future, the whole file's times are wrong."""
MAX_SET_ASIDE = 0.5
"""When more rows than this share are unusable for one reason, the file is not what it was taken for."""

_CONTRACT_TYPES = frozenset({"interaction", "view", "click", "cart", "purchase", "review", "share", "return"})
_ALIASES = {
    "buy": "purchase", "bought": "purchase", "order": "purchase", "transaction": "purchase",
    "add_to_cart": "cart", "add-to-cart": "cart", "addtocart": "cart", "add to cart": "cart",
    "refund": "return", "refunded": "return", "returned": "return", "returns": "return",
    "pageview": "view", "page_view": "view", "viewed": "view", "clicked": "click", "purchased": "purchase",
    "rating": "review", "rated": "review", "reviewed": "review", "shared": "share",
}  # fmt: skip

_Column = Coded | NDArray[np.float64] | pd.Series
"""What `_ordered` can put in order: text, numbers, or a column as pandas holds it."""


@dataclass(slots=True)
class Whole:
    """The file that a table is all of, or a part of: what was set aside in the parts before counts too."""

    rows: int
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Rows set aside so far, by code and column."""

    def too_many(self, code: str, column: str, count: int, share: float) -> bool:
        """Whether so many more rows are too large a share of the file."""
        return self.counts[code, column] + count > share * self.rows

    def add(self, notes: Notes, code: str, column: str, count: int, example: object, refusal: str) -> None:
        """Count rows that are set aside; refuse when they are most of the file."""
        if self.too_many(code, column, count, MAX_SET_ASIDE):
            raise notes.refuse(refusal, column, self.counts[code, column] + count, example)
        notes.add(code, column, count, example)
        self.counts[code, column] += count


@dataclass(slots=True)
class _Rows:
    """Which rows of the table are still in use."""

    keep: NDArray[np.bool_]
    notes: Notes
    whole: Whole

    def set_aside(
        self, bad: NDArray[np.bool_], code: str, column: str, example: object, refusal: str
    ) -> None:
        """Count rows and leave them out; refuse when they are most of the file."""
        bad = bad & self.keep
        self.whole.add(self.notes, code, column, int(bad.sum()), example, refusal)
        self.keep &= ~bad


def load_events(
    path: Path,
    item_ids: NDArray[np.object_],
    config: DataConfig,
    now: int,
    notes: Notes,
    whole: Whole | None = None,
) -> pd.DataFrame:
    """Every usable event on a known item, sorted by time, columns as `Dataset.interactions` promises.

    Args:
        path: The file.
        item_ids: The catalogue's.
        config: How much future is tolerated, what happens to duplicates.
        now: Unix seconds that count as the present.
        notes: Takes what was found.
        whole: What this file is a part of; it may then have no usable row.

    Raises:
        InputError: a required column is missing, most rows are unusable, or times lie in the future.
    """
    table = read_table(path, notes)
    require_columns(table.column_names, INTERACTIONS[:3], notes)
    note_near_misses(table.column_names, INTERACTIONS, notes, table.num_rows)
    rows = _Rows(np.ones(table.num_rows, bool), notes, whole or Whole(table.num_rows))
    ids = {name: _ids(table, name, rows) for name in ("user_id", "item_id")}
    seconds = _times(table, rows, config, now)
    ids["item_id"] = _known_items(ids["item_id"], item_ids, rows)
    if whole is None and not rows.keep.any():
        raise notes.refuse("nothing_left")
    columns: dict[str, _Column] = {
        **ids,
        "timestamp": pd.Series(seconds),
        "event_type": _event_types(table, config, notes),
        "value": _values(table, notes),
    }
    _note_negative_values(columns, notes)
    if "session_id" in table.column_names:
        columns["session_id"] = id_column(table.column("session_id"), "session_id", Notes(notes.file))
    columns.update(attributes(table, INTERACTIONS, notes))  # type: ignore[arg-type]
    _duplicates(columns, rows, config)
    kept = np.flatnonzero(rows.keep)
    order = kept[np.argsort(seconds[kept], kind="stable")]
    return pd.DataFrame({name: _ordered(column, order) for name, column in columns.items()})


def _ids(table: pa.Table, name: str, rows: _Rows) -> Coded:
    ids = id_column(table.column(name), name, rows.notes)
    missing = ids.codes < 0
    rows.set_aside(missing, "id_missing", name, f"row {int(missing.argmax()) + 1}", "id_mostly_missing")
    return ids


def _times(table: pa.Table, rows: _Rows, config: DataConfig, now: int) -> NDArray[np.int64]:
    column = table.column("timestamp")
    moments = moment_column(column, "timestamp", rows.notes)
    unreadable = ~moments.known
    shown = column[int(unreadable.argmax())].as_py()
    rows.set_aside(unreadable, "time_unreadable", "timestamp", shown or "(empty)", "time_mostly_unreadable")
    early = moments.known & (moments.seconds <= 0)
    shown = column[int(early.argmax())].as_py()
    rows.set_aside(early, "time_before_1970", "timestamp", shown, "time_mostly_before_1970")
    late = rows.keep & (moments.seconds > now + config.future_tolerance_days * 86_400)
    if late.any():
        count, shown = int(late.sum()), column[int(late.argmax())].as_py()
        example = f"{shown} ({_date(moments.seconds[late.argmax()])})"
        if rows.whole.too_many("time_future", "timestamp", count, MAX_FUTURE_SHARE):
            days = config.future_tolerance_days
            raise rows.notes.refuse("time_future", "timestamp", count, example, days=days)
        rows.set_aside(late, "time_future", "timestamp", example, "time_future")
    return moments.seconds


def _date(seconds: int) -> str:
    if seconds >= 253_402_300_800:
        return "after the year 9999"
    return pd.Timestamp(int(seconds), unit="s").strftime("%Y-%m-%d")


def _known_items(ids: Coded, known: NDArray[np.object_], rows: _Rows) -> Coded:
    ids = reconcile_ids(ids, known, "item_id", rows.notes)
    exact = set(known)
    in_catalogue = np.fromiter((value in exact for value in ids.texts), bool, len(ids.texts))
    unknown = (ids.codes >= 0) & ~np.append(in_catalogue, False)[ids.codes] & rows.keep
    if not unknown.any():
        return ids
    example = str(ids.texts[ids.codes[unknown.argmax()]])
    if rows.whole.too_many("item_unknown", "item_id", int(unknown.sum()), MAX_SET_ASIDE):
        said = f"The catalogue's ids look like {str(known[0])!r}: do both files use the same kind of id?"
        if {value.lstrip("0") for value in ids.texts} & {str(value).lstrip("0") for value in known}:
            said = f"They differ in leading zeros ({str(known[0])!r}): export both columns as text."
        raise rows.notes.refuse(
            "item_mostly_unknown", "item_id", int(unknown.sum()), example, suggestion=said
        )
    rows.set_aside(unknown, "item_unknown", "item_id", example, "item_mostly_unknown")
    return ids


def _event_types(table: pa.Table, config: DataConfig, notes: Notes) -> Coded:
    if "event_type" not in table.column_names:
        values = np.array([POSITIVE_DEFAULT], dtype=object)
        return Coded(np.zeros(table.num_rows, np.int32), values)
    given = text_column(table.column("event_type"), "event_type", notes)
    notes.add("event_type_case", "event_type", *given.count(lambda v: v != v.strip().lower()))
    trimmed = given.map(lambda value: value.strip().lower())
    known = _CONTRACT_TYPES | set(config.event_weights)
    aliases = {old: new for old, new in _ALIASES.items() if old not in known}
    notes.add("event_type_alias", "event_type", *trimmed.count(aliases.__contains__))
    types = trimmed.map(lambda value: aliases.get(value, value))
    notes.add("event_type_unknown", "event_type", *types.count(lambda v: bool(v) and v not in known))
    empty = int((types.codes < 0).sum()) + types.count(lambda value: not value)[0]
    notes.add("event_type_missing", "event_type", empty)
    filled = types.map(lambda value: value or POSITIVE_DEFAULT)
    if (filled.codes >= 0).all():
        return filled
    values = np.append(filled.texts, np.array([POSITIVE_DEFAULT], dtype=object))
    return Coded(np.where(filled.codes < 0, len(values) - 1, filled.codes).astype(np.int32), values).map(str)


def _values(table: pa.Table, notes: Notes) -> NDArray[np.float64]:
    if "value" not in table.column_names:
        return np.full(table.num_rows, np.nan)
    column = table.column("value")
    values, unreadable = number_column(column, "value", notes)
    if unreadable:
        lost = np.isnan(values) & column.is_valid().to_numpy()
        notes.add("value_unreadable", "value", unreadable, column[int(lost.argmax())].as_py())
    return values


def _note_negative_values(columns: dict[str, _Column], notes: Notes) -> None:
    types, values = columns["event_type"], columns["value"]
    assert isinstance(types, Coded)
    assert isinstance(values, np.ndarray)
    positive = np.array([value not in NEGATIVE_EVENTS for value in types.texts] + [True])[types.codes]
    odd = positive & (values < 0)
    notes.add("value_negative", "value", int(odd.sum()), values[odd.argmax()] if odd.any() else None)


def _duplicates(columns: dict[str, _Column], rows: _Rows, config: DataConfig) -> None:
    """Rows equal in every column: hashed first, then compared, so that ten million rows stay cheap."""
    kept = np.flatnonzero(rows.keep)
    codes = {name: _codes(column)[kept] for name, column in columns.items()}
    mixed = np.zeros(len(kept), np.uint64)
    for column in codes.values():
        mixed = (mixed ^ column.view(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    suspects = np.flatnonzero(pd.Series(mixed).duplicated(keep=False).to_numpy())
    if not len(suspects):
        return
    frame = pd.DataFrame({name: column[suspects] for name, column in codes.items()})
    again = kept[suspects[frame.duplicated().to_numpy()]]
    if not len(again):
        return
    example = " ".join(str(_ordered(columns[n], again[:1])[0]) for n in INTERACTIONS[:3])
    code = "event_duplicate" if config.duplicates == "drop" else "event_duplicate_kept"
    rows.notes.add(code, None, len(again), example)
    if config.duplicates == "drop":
        rows.keep[again] = False


def _codes(column: _Column) -> NDArray[np.int64]:
    """Equal numbers for equal values."""
    if isinstance(column, Coded):
        return column.codes.astype(np.int64)
    values: NDArray[Any] = column.to_numpy() if isinstance(column, pd.Series) else column
    if values.dtype == np.int64:
        return values
    if values.dtype == np.float64:
        return np.where(np.isnan(values), np.nan, values + 0.0).view(np.int64)
    return pd.factorize(values, use_na_sentinel=True)[0].astype(np.int64)


def _ordered(column: _Column, order: NDArray[np.int64]) -> Any:
    if isinstance(column, Coded):
        return Coded(column.codes[order], column.texts).to_objects()
    if isinstance(column, pd.Series):
        return column.take(order).array
    return column[order]
