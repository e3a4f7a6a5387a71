"""The catalogue's rows: ids, clean text, prices, stock; one row per item."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from recsys.config import DataConfig
from recsys.data.columns import Coded, id_column, number_column, text_column
from recsys.data.item_dates import note_dates
from recsys.data.moments import moment_column
from recsys.data.reading import read_table
from recsys.data.report import Notes
from recsys.data.schema import ITEMS, attributes, note_near_misses, require_columns, suggestion
from recsys.data.text import clean_text_column

TEXT_COLUMNS = ("title", "description", "category", "brand", "tags")

_IN_STOCK = frozenset(
    {"true", "t", "yes", "y", "on", "in_stock", "in stock", "instock", "in-stock", "available"}
    | {"是", "有", "有货", "现货", "在售"}
)
_OUT_OF_STOCK = frozenset(
    {"false", "f", "no", "n", "off", "out_of_stock", "out of stock", "outofstock", "out-of-stock"}
    | {"unavailable", "sold out", "sold_out", "soldout", "否", "无", "无货", "缺货", "售罄", "下架"}
)
_AMOUNT = re.compile(r"\d[\d.,\s'’]*|[.,]\d+")
_WHOLE = re.compile(r"\d*|\d{1,3}([.,\s'’]\d{2,3})*[.,\s'’]\d{3}")


def load_items(path: Path, config: DataConfig, notes: Notes) -> pd.DataFrame:
    """Every item once, in file order, columns as `Dataset.items` promises.

    Raises:
        InputError: no usable row, or a column that is missing or of an impossible type.
    """
    table = read_table(path, notes)
    names = table.column_names
    require_columns(names, ("item_id",), notes)
    if "title" not in names and "description" not in names:
        raise notes.refuse("text_columns_missing", suggestion=suggestion("title", names))
    note_near_misses(names, ITEMS, notes, table.num_rows)
    ids = id_column(table.column("item_id"), "item_id", notes)
    columns: dict[str, object] = {"item_id": ids.to_objects()}
    for name in TEXT_COLUMNS:
        columns[name] = _text(table, name, config, notes)
    columns["price"] = _prices(table, notes)
    columns["in_stock"] = _stock(table, notes)
    columns["available_from"] = _available_from(table, notes)
    columns.update(attributes(table, ITEMS, notes))
    items = _with_ids(pd.DataFrame(columns), ids, notes)
    items = _one_row_each(items, notes)
    note_dates(items, notes)
    bare = (items["title"] == "") & (items["description"] == "")
    notes.add(
        "item_without_text", "title", int(bare.sum()), items["item_id"][bare].iloc[0] if bare.any() else None
    )
    return items


def price_number(text: str) -> float:
    """A price written by people: `£1,299.00`, `1.299,00 €`, `USD 5`; NaN where it is no single amount."""
    found = _AMOUNT.findall(text)
    before, _, after = text.partition(found[0]) if len(found) == 1 else ("", "", "")
    if len(found) != 1 or len(before) + len(after) > 12:
        return np.nan
    digits = found[0].strip().rstrip(".,")
    last = max(digits.rfind("."), digits.rfind(","))
    mark = digits[last] if last >= 0 else "."
    alone = digits.count(".") + digits.count(",") == 1
    if digits.count(mark) > 1 or (mark == "," and alone and len(digits) - last == 4):
        last = len(digits)  # 1,299 and 1.299.000: thousands, no decimals
    whole, fraction = digits[: max(last, 0) if last >= 0 else None], digits[last + 1 :] if last >= 0 else ""
    if not _WHOLE.fullmatch(whole) or not (fraction or "0").isdecimal():
        return np.nan
    price = float(f"{re.sub(r'[^0-9]', '', whole) or '0'}.{fraction or '0'}")
    return -price if before.rstrip().endswith(("-", "−")) or text.strip().startswith(("-", "(")) else price


def _text(table: pa.Table, name: str, config: DataConfig, notes: Notes) -> NDArray[np.object_]:
    if name not in table.column_names:
        return np.full(table.num_rows, "", dtype=object)
    coded = text_column(table.column(name), name, notes)
    return clean_text_column(coded, name, config.max_text_chars, notes).to_objects()


def _prices(table: pa.Table, notes: Notes) -> NDArray[np.float64]:
    if "price" not in table.column_names:
        return np.full(table.num_rows, np.nan)
    column = table.column("price")
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        prices, unreadable = number_column(column, "price", notes)
        example: str | None = "inf"
    else:
        quiet = Notes(notes.file)  # a price written as text is a finding of its own below
        coded = text_column(column, "price", quiet)
        parsed = np.array([price_number(value) for value in coded.texts], dtype=np.float64)
        prices = np.append(parsed, np.nan)[coded.codes]
        plain = {value for value in coded.texts if re.fullmatch(r"\s*[+-]?\d+(\.\d+)?\s*", value)}
        known = {value for value, price in zip(coded.texts, parsed, strict=True) if not np.isnan(price)}
        notes.add("price_text", "price", *coded.count(lambda value: value in known and value not in plain))
        unreadable, example = coded.count(lambda value: bool(value.strip()) and value not in known)
    notes.add("price_unreadable", "price", unreadable, example)
    negative = prices < 0
    notes.add(
        "price_negative", "price", int(negative.sum()), prices[negative.argmax()] if negative.any() else None
    )
    prices[negative] = np.nan
    return prices


def _stock(table: pa.Table, notes: Notes) -> NDArray[np.bool_]:
    if "in_stock" not in table.column_names:
        return np.ones(table.num_rows, bool)
    column = table.column("in_stock")
    if (
        pa.types.is_boolean(column.type)
        or pa.types.is_integer(column.type)
        or pa.types.is_floating(column.type)
    ):
        numbers, _ = number_column(column, "in_stock", notes)
        return np.asarray(np.isnan(numbers) | (numbers > 0))
    coded = text_column(column, "in_stock", Notes(notes.file))
    flags = [_flag(value) for value in coded.texts]
    notes.add(
        "stock_unreadable",
        "in_stock",
        *coded.count(lambda value: bool(value.strip()) and _flag(value) is None),
    )
    return np.array([flag is not False for flag in flags] + [True])[coded.codes]


def _flag(text: str) -> bool | None:
    word = text.strip().lower()
    if word in _IN_STOCK:
        return True
    if word in _OUT_OF_STOCK:
        return False
    try:
        return float(word) > 0  # a quantity
    except ValueError:
        return None


def _available_from(table: pa.Table, notes: Notes) -> NDArray[np.float64]:
    if "available_from" not in table.column_names:
        return np.full(table.num_rows, np.nan)
    column = table.column("available_from")
    moments = moment_column(column, "available_from", notes)
    lost = column.is_valid().to_numpy() & ~moments.known
    shown = column[int(lost.argmax())].as_py() if lost.any() else None
    if isinstance(shown, str):
        blank = np.array([value is None or not str(value).strip() for value in column.to_pylist()])
        lost &= ~blank
        shown = column[int(lost.argmax())].as_py()
    notes.add("available_from_unreadable", "available_from", int(lost.sum()), shown)
    return moments.to_float()


def _with_ids(items: pd.DataFrame, ids: Coded, notes: Notes) -> pd.DataFrame:
    missing = ids.codes < 0
    if missing.sum() * 2 > len(items):
        raise notes.refuse("id_mostly_missing", "item_id", int(missing.sum()))
    notes.add("id_missing", "item_id", int(missing.sum()), f"row {int(missing.argmax()) + 1}")
    return items[~missing].reset_index(drop=True) if missing.any() else items


def _one_row_each(items: pd.DataFrame, notes: Notes) -> pd.DataFrame:
    repeated = items["item_id"].duplicated(keep=False)
    if not repeated.any():
        return items
    identical = items[repeated].duplicated()
    notes.add("item_duplicate", "item_id", int(identical.sum()), _example(items[repeated], identical))
    items = items.drop(index=identical.index[identical]).reset_index(drop=True)
    conflict = items["item_id"].duplicated()
    if not conflict.any():
        return items
    notes.add("item_conflict", "item_id", int(conflict.sum()), _example(items, conflict))
    concerned = items[items["item_id"].duplicated(keep=False)]
    texts = {name: concerned[name].mask(concerned[name] == "") for name in TEXT_COLUMNS}
    merged = concerned.assign(**texts).groupby("item_id", sort=False).first()
    merged[list(TEXT_COLUMNS)] = merged[list(TEXT_COLUMNS)].fillna("")
    first = items[~conflict].set_index("item_id")
    first.loc[merged.index, merged.columns] = merged
    return first.astype({"in_stock": bool, "price": float, "available_from": float}).reset_index()


def _example(items: pd.DataFrame, rows: pd.Series[bool]) -> str | None:
    return str(items["item_id"][rows].iloc[0]) if rows.any() else None
