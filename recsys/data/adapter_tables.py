"""The publishers' tables, column by column, in the contract's form. What is left out is counted."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import pandas as pd

from recsys.errors import DependencyError, InputError

_RETAIL_COLUMNS = (
    "InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Converted:
    """Two tables of the contract, and what was left out on the way."""

    interactions: pd.DataFrame
    items: pd.DataFrame
    left_out: dict[str, int]
    """Rows by reason."""


def movielens(files: dict[str, IO[bytes]]) -> Converted:
    """MovieLens with CSV files (latest-small, 25M, 32M): ratings become reviews, genres become tags."""
    ratings = _csv(files["ratings.csv"], ("userId", "movieId", "rating", "timestamp"), "ratings.csv")
    movies = _csv(files["movies.csv"], ("movieId", "title", "genres"), "movies.csv")
    return _movielens(ratings, movies)


def movielens_1m(files: dict[str, IO[bytes]]) -> Converted:
    """MovieLens 1M: `::` between values, ISO 8859-1."""
    ratings = _double_colon(files["ratings.dat"], ("userId", "movieId", "rating", "timestamp"))
    movies = _double_colon(files["movies.dat"], ("movieId", "title", "genres"))
    return _movielens(ratings, movies)


def online_retail(files: dict[str, IO[bytes]]) -> Converted:
    """UCI Online Retail: invoice lines become purchases, cancelled invoices (C...) become returns.

    Lines without a customer, and codes that are no product (postage, fees, samples), are left out. An
    item's title is its most frequent description, its price the median positive unit price. The shop's
    local clock is read as UTC.
    """
    name, file = next(iter(files.items()))
    lines = _sheet(file) if name.endswith(".xlsx") else _csv(file, _RETAIL_COLUMNS, name)
    lines["StockCode"] = lines["StockCode"].astype(str).str.strip().str.upper()
    anonymous = lines["CustomerID"].isna() | (lines["CustomerID"].astype(str).str.strip() == "")
    no_product = ~anonymous & ~lines["StockCode"].str.match(r"\d")
    lines = lines[~anonymous & ~no_product].reset_index(drop=True)
    times = pd.to_datetime(lines["InvoiceDate"], format="mixed", dayfirst=False)
    price = pd.to_numeric(lines["UnitPrice"])
    cancelled = lines["InvoiceNo"].astype(str).str.startswith("C")
    interactions = pd.DataFrame(
        {
            "user_id": lines["CustomerID"].astype(str).str.removesuffix(".0"),
            "item_id": lines["StockCode"],
            "timestamp": times.to_numpy().astype("datetime64[s]").astype("int64"),
            "event_type": cancelled.map({True: "return", False: "purchase"}),
            "value": pd.to_numeric(lines["Quantity"]).astype("float64"),
            "unit_price": price.astype("float64"),
            "invoice_no": lines["InvoiceNo"].astype(str),
            "country": lines["Country"].astype(str),
        }
    ).sort_values("timestamp", kind="stable", ignore_index=True)
    left_out = {
        "lines without a customer": int(anonymous.sum()),
        "codes that are no product": int(no_product.sum()),
    }
    return Converted(interactions, _retail_items(lines, price), left_out)


def _retail_items(lines: pd.DataFrame, price: pd.Series[float]) -> pd.DataFrame:
    described = lines[["StockCode", "Description"]].dropna()
    counted = (
        described.value_counts().reset_index().sort_values(["count", "Description"], ascending=[False, True])
    )
    titles = counted.drop_duplicates("StockCode").set_index("StockCode")["Description"].str.strip()
    prices = price[price > 0].groupby(lines["StockCode"]).median()
    items = pd.DataFrame({"item_id": sorted(lines["StockCode"].unique())})
    return items.assign(title=items["item_id"].map(titles), price=items["item_id"].map(prices))


def _movielens(ratings: pd.DataFrame, movies: pd.DataFrame) -> Converted:
    interactions = pd.DataFrame(
        {
            "user_id": ratings["userId"],
            "item_id": ratings["movieId"],
            "timestamp": ratings["timestamp"].astype("int64"),
            "event_type": "review",
            "value": ratings["rating"].astype("float64"),
        }
    ).sort_values("timestamp", kind="stable", ignore_index=True)
    genres = movies["genres"].where(movies["genres"] != "(no genres listed)", "")
    title = movies["title"].str.strip()
    items = pd.DataFrame(
        {
            "item_id": movies["movieId"],
            "title": title,
            "category": genres.str.split("|").str[0],
            "tags": genres.str.replace("|", ", ", regex=False),
            "year": pd.to_numeric(title.str.extract(r"\((\d{4})\)$")[0], errors="coerce"),
        }
    )
    return Converted(interactions, items, {})


def _csv(file: IO[bytes], columns: tuple[str, ...], name: str) -> pd.DataFrame:
    table = pd.read_csv(file, dtype=str, encoding="utf-8-sig")
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise InputError(
            f"the column is missing; there are {', '.join(table.columns)}", file=name, column=missing[0]
        )
    return table[list(columns)]


def _double_colon(file: IO[bytes], columns: tuple[str, ...]) -> pd.DataFrame:
    rows = [
        line.split("::") for line in io.TextIOWrapper(file, encoding="latin-1").read().splitlines() if line
    ]
    if any(len(row) != len(columns) for row in rows):
        raise InputError(f"a line does not have {len(columns)} values between '::'", file=str(file.name))
    return pd.DataFrame(rows, columns=list(columns), dtype=str)


def _sheet(file: IO[bytes]) -> pd.DataFrame:
    try:
        import openpyxl
    except ImportError as error:
        raise DependencyError(
            "the archive holds an Excel sheet, which needs openpyxl: pip install openpyxl, "
            "or export the sheet as 'Online Retail.csv' and give that with --from"
        ) from error
    book = openpyxl.load_workbook(io.BytesIO(file.read()), read_only=True, data_only=True)
    rows: Iterator[tuple[object, ...]] = book.worksheets[0].iter_rows(values_only=True)
    header = [str(cell) for cell in next(rows)]
    missing = [column for column in _RETAIL_COLUMNS if column not in header]
    if missing:
        raise InputError(f"the column is missing; there are {', '.join(header)}", column=missing[0])
    return pd.DataFrame(rows, columns=header)[list(_RETAIL_COLUMNS)]
