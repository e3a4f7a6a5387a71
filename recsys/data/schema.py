"""The columns of the input contract, and what to say when one is missing."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

import pyarrow as pa

from recsys.data.columns import attribute_column
from recsys.data.report import Notes

INTERACTIONS = ("user_id", "item_id", "timestamp", "event_type", "value", "session_id")
ITEMS = (
    "item_id", "title", "description", "category", "brand", "tags", "price", "in_stock", "available_from",
)  # fmt: skip
RELATIONS = ("user_id", "friend_id")

_OTHER_NAMES = {
    "user_id": ("user", "uid", "customerid", "customer", "visitorid", "reviewerid", "memberid", "accountid"),
    "item_id": ("item", "iid", "productid", "product", "asin", "sku", "stockcode", "movieid", "id"),
    "timestamp": ("time", "ts", "date", "datetime", "createdat", "eventtime", "invoicedate"),
    "event_type": ("event", "action", "behavior", "behaviour", "type"),
    "value": ("quantity", "rating", "amount"),
    "session_id": ("session", "visitid"),
    "title": ("name", "itemname", "productname", "producttitle"),
    "description": ("desc", "text", "details", "summary"),
    "friend_id": ("friend", "followee", "followeeid"),
    "available_from": ("releasedate", "launchdate"),
}  # fmt: skip


def require_columns(names: Sequence[str], required: Sequence[str], notes: Notes) -> None:
    """Raise `InputError` for the first required column that is not there, with the likeliest other name."""
    for name in required:
        if name not in names:
            raise notes.refuse("column_missing", name, suggestion=suggestion(name, names))


def suggestion(wanted: str, names: Sequence[str]) -> str:
    """One sentence: which column may be meant, and which columns there are."""
    likely = _likely(wanted, names)
    there = "The columns are: " + ", ".join(names[:12]) + ("…" if len(names) > 12 else "") + "."
    return f"Did you mean '{likely}'? Rename it to '{wanted}'. {there}" if likely else there


def note_near_misses(names: Sequence[str], contract: Sequence[str], notes: Notes, rows: int) -> None:
    """Point at optional columns that are there under another name (`eventType`, `release_date`)."""
    others = {_plain(name): name for name in names if name not in contract}
    for meant in contract:
        candidates = (_plain(meant), *_OTHER_NAMES.get(meant, ()))
        found = next((others[name] for name in candidates if name in others), None)
        if meant not in names and found is not None:
            notes.add("column_near_miss", found, rows, f"rename it to {meant}")


def attributes(table: pa.Table, contract: Sequence[str], notes: Notes) -> dict[str, object]:
    """The columns outside the contract, as pandas holds them, in file order."""
    kept: dict[str, object] = {}
    for name in table.column_names:
        column = table.column(name)
        if name in contract:
            continue
        if column.null_count == len(column):
            notes.add("column_ignored", name, len(column))
            continue
        values = attribute_column(column, name, notes)
        if values is not None:
            kept[name] = values
    return kept


def _likely(wanted: str, names: Sequence[str]) -> str | None:
    plain = {_plain(name): name for name in names}
    for candidate in (_plain(wanted), *_OTHER_NAMES.get(wanted, ())):
        if candidate in plain:
            return plain[candidate]
    close = difflib.get_close_matches(_plain(wanted), list(plain), n=1, cutoff=0.75)
    return plain[close[0]] if close else None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
