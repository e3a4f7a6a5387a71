# ruff: noqa: E501 - one case per line reads as the table that it is
"""Every kind of bad input, with its clear refusal or its counted repair.

A refusal must name the file (and the column, the number of rows and an example where there are any) and say
what to do. A repair must be one row of the report, and the loaded data must be what the row says.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from recsys.config import DataConfig
from recsys.data.interactions import Dataset, load_dataset
from recsys.data.report import REFUSALS, REPAIRS
from recsys.errors import InputError

DAY = 86_400
START = 1_700_000_000
NOW = START + 100 * DAY
Shop = Any  # tests/data/conftest.py


@dataclass
class Refused:
    """Break the shop with `how`; the message must hold every one of `says`."""

    name: str
    how: Callable[[Shop], None]
    code: str
    says: tuple[str, ...]


@dataclass
class Repaired:
    """Break the shop with `how`; the report must count `count` rows of `code` in `column`, and `then` must hold."""

    name: str
    how: Callable[[Shop], None]
    code: str
    column: str | None
    count: int
    then: Callable[[Dataset], bool]
    example: str | None = None


def put(table: str, column: str, row: int, value: object) -> Callable[[Shop], None]:
    def how(shop: Shop) -> None:
        getattr(shop, table)[column][row] = value

    return how


def column(table: str, name: str, values: object) -> Callable[[Shop], None]:
    def how(shop: Shop) -> None:
        getattr(shop, table)[name] = values(shop) if callable(values) else values

    return how


def drop(table: str, name: str) -> Callable[[Shop], None]:
    return lambda shop: getattr(shop, table).pop(name)


def rename(table: str, old: str, new: str) -> Callable[[Shop], None]:
    def how(shop: Shop) -> None:
        getattr(shop, table)[new] = getattr(shop, table).pop(old)

    return how


def file(name: str, content: str | bytes) -> Callable[[Shop], None]:
    return lambda shop: shop.text(name, content)


def json_lines(table: dict[str, list[object]]) -> str:
    rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def events_csv(change: Callable[[str], str | bytes]) -> Callable[[Shop], None]:
    def how(shop: Shop) -> None:
        lines = [
            ",".join(shop.events),
            *(",".join(map(str, row)) for row in zip(*shop.events.values(), strict=True)),
        ]
        shop.text("interactions.csv", change("\n".join(lines) + "\n"))

    return how


def both_files(shop: Shop) -> None:
    shop.csv("interactions", shop.events)
    shop.parquet("interactions", shop.events)


def all_rows(name: str, change: Callable[[Any], object]) -> Callable[[Shop], None]:
    return column("events", name, lambda shop: [change(value) for value in shop.events[name]])


def two_columns(shop: Shop) -> None:
    shop.parquet("items", pa.table([["i0"], ["a"], ["b"]], names=["item_id", "title", "title"]))


def stripped_zeros(shop: Shop) -> None:
    shop.items["item_id"] = [f"000{i}7" for i in range(5)]
    shop.events["item_id"] = [int(f"{i % 5}7") for i in range(12)]


REFUSED = [
    Refused("one required column missing", rename("events", "user_id", "userId"), "column_missing", ("interactions.parquet", "'user_id'", "Did you mean 'userId'", "Rename it")),
    Refused("a column under another usual name", rename("events", "item_id", "product_id"), "column_missing", ("'item_id'", "Did you mean 'product_id'")),
    Refused("no time at all", drop("events", "timestamp"), "column_missing", ("'timestamp'", "The columns are: user_id")),
    Refused("items without an id column", rename("items", "item_id", "sku"), "column_missing", ("items.parquet", "Did you mean 'sku'")),
    Refused("items without any text column", rename("items", "title", "name"), "text_columns_missing", ("items.parquet", "neither 'title' nor 'description'", "Did you mean 'name'")),
    Refused("two columns of one name", two_columns, "column_duplicate", ("items.parquet", "'title'", "Rename one")),
    Refused("two files hold one table", both_files, "file_ambiguous", ("interactions.parquet, interactions.csv", "Keep one")),
    Refused("an empty file", file("interactions.csv", b""), "file_empty", ("interactions.csv", "empty")),
    Refused("blank lines only", file("interactions.csv", b"\n\n\n"), "file_empty", ("interactions.csv", "empty")),
    Refused("a header and nothing else", file("interactions.csv", "user_id,item_id,timestamp\n"), "header_only", ("interactions.csv", "no rows")),
    Refused("a Parquet table without rows", lambda s: s.parquet("items", pa.table({"item_id": pa.array([], pa.string()), "title": pa.array([], pa.string())})), "header_only", ("items.parquet", "no rows")),
    Refused("a folder where a file should be", lambda s: (s.folder / "items.parquet").mkdir(), "file_is_folder", ("items.parquet", "is a folder", "Merge")),
    Refused("text under a Parquet name", file("items.parquet", "item_id,title\ni0,Socks\n"), "file_broken", ("items.parquet", "not a readable Parquet file")),
    Refused("a Parquet file cut short", lambda s: (s.parquet("items", s.items), s.text("items.parquet", (s.folder / "items.parquet").read_bytes()[:-20])), "file_broken", ("items.parquet", "Parquet")),
    Refused("a CSV line with too many values", events_csv(lambda t: t + "u1,i1,1700000000,view,1,extra\n"), "line_broken", ("interactions.csv", "line 14", "6 values where the header has 5", "u1,i1")),
    Refused("a CSV in Latin-1", events_csv(lambda t: t.replace("u3", "jos\u00e9", 1).encode("latin-1")), "file_not_utf8", ("interactions.csv", "line 5", "UTF-8")),
    Refused("a CSV header in Latin-1", events_csv(lambda t: t.replace("value", "catégorie").encode("latin-1")), "file_not_utf8", ("interactions.csv", "line 1")),
    Refused("NUL bytes in a CSV", file("interactions.csv", b"\0\0user_id,item_id\n"), "file_broken", ("interactions.csv", "NUL")),
    Refused("a broken JSON line", file("items.jsonl", '{"item_id":"i0","title":"a"}\n{"item_id":"i1",\n'), "line_broken", ("items.jsonl", "line 2", "not valid JSON")),
    Refused("a JSON line that is no object", file("items.jsonl", '{"item_id":"i0","title":"a"}\n[1,2]\n'), "line_broken", ("items.jsonl", "line 2", "object")),
    Refused("JSON Lines that are not UTF-8", file("items.jsonl", b'{"item_id":"i0","title":"caf\xe9"}\n'), "file_not_utf8", ("items.jsonl", "line 1")),
    Refused("ids that are true and false", column("events", "user_id", [True, False] * 6), "column_type", ("'user_id'", "12 rows", "bool", "Export it as text")),
    Refused("ids that are dates", column("events", "item_id", [datetime(2024, 1, 1, tzinfo=UTC)] * 12), "column_type", ("'item_id'", "timestamp")),
    Refused("large ids stored as floats", column("items", "item_id", [1e17 + i * 64 for i in range(5)]), "id_imprecise", ("items.parquet", "'item_id'", "5 rows", "lost digits")),
    Refused("most ids missing", column("events", "user_id", [None] * 9 + ["u1"] * 3), "id_mostly_missing", ("'user_id'", "9 rows", "row 1")),
    Refused("times that are words", column("events", "timestamp", ["yesterday"] * 12), "time_mostly_unreadable", ("'timestamp'", "12 rows", "'yesterday'", "ISO 8601")),
    Refused("dates whose day and month are anyone's guess", column("events", "timestamp", ["03/04/2024"] * 12), "time_mostly_unreadable", ("'03/04/2024'", "never guessed")),
    Refused("times that are booleans", column("events", "timestamp", [True] * 12), "column_type", ("'timestamp'", "bool", "Unix seconds")),
    Refused("an unset clock everywhere", column("events", "timestamp", [0] * 12), "time_mostly_before_1970", ("'timestamp'", "12 rows", "1970")),
    Refused("future dates", all_rows("timestamp", lambda t: t + 400 * DAY), "time_future", ("'timestamp'", "12 rows", "in the future", "future_tolerance_days", "2024-12")),
    Refused("ids of another kind in the two files", all_rows("item_id", lambda i: f"SKU-{i}"), "item_mostly_unknown", ("interactions.parquet", "'item_id'", "12 rows", "SKU-i0", "'i0'")),
    Refused("leading zeros lost by a spreadsheet", stripped_zeros, "item_mostly_unknown", ("leading zeros", "as text")),
    Refused("lists where numbers should be", column("events", "value", [[1.0]] * 12), "column_type", ("'value'", "list", "numbers")),
    Refused("a catalogue that is missing", lambda s: (s.parquet("interactions", s.events), s.text("items.xlsx", b"x")), "file_missing", ("no items.parquet, items.csv or items.jsonl", "items.xlsx")),
]  # fmt: skip


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_refused_with_a_clear_error(case: Refused, shop: Shop) -> None:
    case.how(shop)
    with pytest.raises(InputError) as caught:
        shop.load()
    message = str(caught.value)
    missing = [part for part in case.says if part not in message]
    assert not missing, message
    start = REFUSALS[case.code][0].split("{")[0]
    assert start in message
    assert caught.value.exit_code == 2


def with_duplicates(shop: Shop) -> None:
    for values in shop.events.values():
        values.extend([values[0], values[0], values[3]])


def html_titles(shop: Shop) -> None:
    shop.items["title"][0] = "<b>Wool</b> socks<br>&amp; more"
    shop.items["title"][1] = "&lt;i&gt;Red&lt;/i&gt; mug"


def number_ids(shop: Shop) -> None:
    shop.items["item_id"] = [str(10 + i) for i in range(5)]
    shop.events["item_id"] = [float(10 + i % 5) for i in range(11)] + [None]


def text_float_ids(shop: Shop) -> None:
    shop.items["item_id"] = [10 + i for i in range(5)]
    shop.events["item_id"] = [f"{10 + i % 5}.0" for i in range(12)]


def conflicting_items(shop: Shop) -> None:
    shop.items = {
        "item_id": ["i0", "i0", "i1", "i2", "i3", "i4"],
        "title": ["", "Wool socks", "Red mug", "Desk lamp", "Yoga mat", "Dog bed"],
        "price": [9.0, 8.0, 1.0, 1.0, 1.0, 1.0],
    }


def twice_the_item(shop: Shop) -> None:
    for values in shop.items.values():
        values.append(values[1])


def mixed_json(shop: Shop) -> None:
    shop.items["item_id"] = [0, "1", "2", 3, "4"]
    shop.events["item_id"] = [str(i % 5) for i in range(12)]
    shop.text("items.jsonl", json_lines(shop.items))


def many_events(shop: Shop, late: int) -> None:
    size = 400
    shop.events = {
        "user_id": [f"u{i % 40}" for i in range(size)],
        "item_id": [f"i{i % 5}" for i in range(size)],
        "timestamp": [START + i * 60 for i in range(size - late)] + [NOW + 30 * DAY] * late,
    }


def links(shop: Shop) -> None:
    shop.parquet("relations", {"user_id": ["u0", "u0", "u1", "u2"], "friend_id": ["u1", "u1", "u1", "zz"]})


REPAIRED = [
    Repaired("duplicated events", with_duplicates, "event_duplicate", None, 3, lambda d: len(d.interactions) == 12, "u0 i0 1700000000"),
    Repaired("milliseconds", all_rows("timestamp", lambda t: t * 1000), "time_unit", "timestamp", 12, lambda d: d.interactions.timestamp[0] == START, "milliseconds"),
    Repaired("microseconds", all_rows("timestamp", lambda t: t * 10**6), "time_unit", "timestamp", 12, lambda d: d.interactions.timestamp[0] == START, "microseconds"),
    Repaired("nanoseconds", all_rows("timestamp", lambda t: t * 10**9 + 1), "time_unit", "timestamp", 12, lambda d: d.interactions.timestamp[0] == START, "nanoseconds"),
    Repaired("seconds and milliseconds in one column", put("events", "timestamp", 5, (START + 5 * DAY) * 1000), "time_unit", "timestamp", 1, lambda d: d.interactions.timestamp[5] == START + 5 * DAY),
    Repaired("fractions of a second", all_rows("timestamp", lambda t: t + 0.25), "time_fraction", "timestamp", 12, lambda d: d.interactions.timestamp[0] == START),
    Repaired("calendar numbers", column("events", "timestamp", [20231100 + i for i in range(1, 13)]), "time_calendar", "timestamp", 12, lambda d: d.interactions.timestamp[0] == 1698796800, "20231101"),
    Repaired("one time that is a word", lambda s: column("events", "timestamp", ["2023-11-20T10:00:00Z"] * 11 + ["soon"])(s), "time_unreadable", "timestamp", 1, lambda d: len(d.interactions) == 11, "soon"),
    Repaired("one time missing", put("events", "timestamp", 3, None), "time_unreadable", "timestamp", 1, lambda d: len(d.interactions) == 11),
    Repaired("one unset clock", put("events", "timestamp", 3, 0), "time_before_1970", "timestamp", 1, lambda d: len(d.interactions) == 11, "0"),
    Repaired("one time before 1970", put("events", "timestamp", 3, -5_000), "time_before_1970", "timestamp", 1, lambda d: d.interactions.timestamp.min() > 0, "-5000"),
    Repaired("a few wrong clocks in the future", lambda s: many_events(s, 3), "time_future", "timestamp", 3, lambda d: d.interactions.timestamp.max() < NOW),
    Repaired("ids missing", put("events", "user_id", 2, None), "id_missing", "user_id", 1, lambda d: len(d.interactions) == 11, "row 3"),
    Repaired("blank ids", put("events", "item_id", 4, "  "), "id_missing", "item_id", 1, lambda d: len(d.interactions) == 11, "row 5"),
    Repaired("an item without an id", put("items", "item_id", 4, None), "id_missing", "item_id", 1, lambda d: len(d.items) == 4, "row 5"),
    Repaired("ids that are floats in one file", number_ids, "id_from_number", "item_id", 11, lambda d: set(d.interactions.item_id) == {"10", "11", "12", "13", "14"}, "10.0"),
    Repaired("ids that are text in one file, numbers in the other", text_float_ids, "id_reconciled", "item_id", 12, lambda d: set(d.interactions.item_id) <= set(d.items.item_id), "10.0"),
    Repaired("blanks around an id", put("events", "item_id", 0, " i0 "), "id_reconciled", "item_id", 1, lambda d: d.interactions.item_id[0] == "i0"),
    Repaired("a user called null", put("events", "user_id", 0, "null"), "id_like_missing", "user_id", 1, lambda d: d.interactions.user_id[0] == "null"),
    Repaired("an id that a spreadsheet rounded", put("items", "item_id", 4, "1.23E+12"), "id_rounded", "item_id", 1, lambda d: "1.23E+12" in set(d.items.item_id)),
    Repaired("numbers and text in one JSON column", mixed_json, "mixed_types", "item_id", 5, lambda d: set(d.items.item_id) == set("01234")),
    Repaired("unknown items", put("events", "item_id", 7, "gone"), "item_unknown", "item_id", 1, lambda d: "gone" not in set(d.interactions.item_id), "gone"),
    Repaired("identical item rows", twice_the_item, "item_duplicate", "item_id", 1, lambda d: d.items.item_id.is_unique and len(d.items) == 5, "i1"),
    Repaired("item rows that disagree", conflicting_items, "item_conflict", "item_id", 1, lambda d: (d.items.title[0], d.items.price[0]) == ("Wool socks", 9.0), "i0"),
    Repaired("an item without text", put("items", "title", 2, None), "item_without_text", "title", 1, lambda d: d.items.title[2] == "", "i2"),
    Repaired("HTML in titles", html_titles, "text_html", "title", 2, lambda d: list(d.items.title[:2]) == ["Wool socks & more", "Red mug"]),
    Repaired("control characters", put("items", "title", 0, "Wool\x07\u200b socks\x00"), "text_control", "title", 1, lambda d: d.items.title[0] == "Wool socks"),
    Repaired("decomposed accents", put("items", "title", 0, "Cafe\u0301 cups"), "text_unicode", "title", 1, lambda d: d.items.title[0] == "Café cups"),
    Repaired("runs of white space", put("items", "title", 0, " Wool \t\n socks  "), "text_whitespace", "title", 1, lambda d: d.items.title[0] == "Wool socks"),
    Repaired("a title of a megabyte", put("items", "title", 0, "sock " * 200_000), "text_too_long", "title", 1, lambda d: 1990 <= len(d.items.title[0]) <= 2000),
    Repaired("words for nothing", put("items", "title", 0, "NaN"), "text_placeholder", "title", 1, lambda d: d.items.title[0] == ""),
    Repaired("titles that are numbers", column("items", "title", [1984, 300, 7, 8, 9]), "text_from_number", "title", 5, lambda d: d.items.title[0] == "1984"),
    Repaired("tags as lists", column("items", "tags", [["warm", "wool"], ["red"], [], None, ["dog"]]), "text_from_list", "tags", 4, lambda d: list(d.items.tags[:4]) == ["warm, wool", "red", "", ""]),
    Repaired("prices as text", column("items", "price", ["£1,299.00", "1.299,50 €", "12", "USD 7.50", "1,299"]), "price_text", "price", 4, lambda d: list(d.items.price) == [1299.0, 1299.5, 12.0, 7.5, 1299.0]),
    Repaired("prices that are no numbers", column("items", "price", ["ask us", "10-20", "5", "6", ""]), "price_unreadable", "price", 2, lambda d: int(d.items.price.isna().sum()) == 3),
    Repaired("infinite prices", put("items", "price", 0, float("inf")), "price_unreadable", "price", 1, lambda d: np.isnan(d.items.price[0])),
    Repaired("negative prices", put("items", "price", 0, -3.0), "price_negative", "price", 1, lambda d: np.isnan(d.items.price[0]), "-3.0"),
    Repaired("stock flags nobody can read", column("items", "in_stock", ["yes", "no", "0", "maybe", None]), "stock_unreadable", "in_stock", 1, lambda d: list(d.items.in_stock) == [True, False, False, True, True], "maybe"),
    Repaired("availability nobody can read", column("items", "available_from", ["2023-01-01", "soon", None, "2023-02-01", ""]), "available_from_unreadable", "available_from", 1, lambda d: d.items.available_from[0] == 1672531200.0, "soon"),
    Repaired("event types in capitals", put("events", "event_type", 0, " Purchase "), "event_type_case", "event_type", 1, lambda d: set(d.interactions.event_type) == {"purchase"}),
    Repaired("a refund", put("events", "event_type", 0, "Refund"), "event_type_alias", "event_type", 1, lambda d: d.interactions.event_type[0] == "return", "refund"),
    Repaired("event types missing", put("events", "event_type", 0, None), "event_type_missing", "event_type", 1, lambda d: d.interactions.event_type[0] == "interaction"),
    Repaired("event types nobody knows", put("events", "event_type", 0, "wave"), "event_type_unknown", "event_type", 1, lambda d: d.interactions.event_type[0] == "wave", "wave"),
    Repaired("values that are no numbers", column("events", "value", ["1"] * 11 + ["many"]), "value_unreadable", "value", 1, lambda d: np.isnan(d.interactions.value[11]), "many"),
    Repaired("infinite values", put("events", "value", 0, float("inf")), "value_unreadable", "value", 1, lambda d: np.isnan(d.interactions.value[0])),
    Repaired("negative quantity of a purchase", put("events", "value", 0, -2.0), "value_negative", "value", 1, lambda d: d.interactions.value[0] == -2.0, "-2.0"),
    Repaired("a byte-order mark", events_csv(lambda t: b"\xef\xbb\xbf" + t.encode()), "file_encoding", None, 1, lambda d: len(d.interactions) == 12),
    Repaired("UTF-16", events_csv(lambda t: t.encode("utf-16")), "file_encoding", None, 1, lambda d: len(d.interactions) == 12, "utf-16"),
    Repaired("semicolons instead of commas", events_csv(lambda t: t.replace(",", ";")), "file_delimiter", None, 1, lambda d: len(d.interactions) == 12, ";"),
    Repaired("an optional column under another word", column("items", "Release Date", ["2006-09-01"] * 5), "column_near_miss", "Release Date", 5, lambda d: "Release Date" in d.items and d.items.available_from.isna().all(), "rename it to available_from"),
    Repaired("dates that order new items", column("items", "year", [2001, 2002, None, 2004, 2005]), "item_date", "year", 4, lambda d: "year" in d.items and d.items.available_from.isna().all(), "2001"),
    Repaired("such dates that nobody can read", column("items", "launch_date", ["2006-09-01", "soon", None, "", "2007-01-01"]), "item_date_unreadable", "launch_date", 1, lambda d: "launch_date" in d.items, "soon"),
    Repaired("an optional column under another spelling", rename("events", "event_type", "eventType"), "column_near_miss", "eventType", 12, lambda d: "eventType" in d.interactions),
    Repaired("an attribute that is always empty", column("items", "colour", [None] * 5), "column_ignored", "colour", 5, lambda d: "colour" not in d.items),
    Repaired("nested attributes", column("items", "sizes", [{"s": 1}] * 5), "nested_column", "sizes", 5, lambda d: json.loads(d.items.sizes[0]) == {"s": 1}),
    Repaired("pictures among the attributes", column("items", "image", [b"\xff\xd8"] * 5), "binary_column", "image", 5, lambda d: "image" not in d.items),
    Repaired("links to oneself", links, "relation_self", "friend_id", 1, lambda d: d.relations is not None and len(d.relations) == 2, "u1"),
    Repaired("repeated links", links, "relation_duplicate", "friend_id", 1, lambda d: d.relations is not None and len(d.relations) == 2),
    Repaired("links to strangers", links, "relation_unknown_user", "friend_id", 1, lambda d: d.relations is not None, "zz"),
]  # fmt: skip


@pytest.mark.parametrize("case", REPAIRED, ids=lambda case: case.name)
def test_repaired_and_counted(case: Repaired, shop: Shop) -> None:
    case.how(shop)
    dataset = shop.load()
    found = [f for f in dataset.report.findings if f.code == case.code and f.column == case.column]
    assert [f.count for f in found] == [case.count], dataset.report.findings
    if case.example is not None:
        assert case.example in (found[0].example or "")
    assert case.then(dataset)


def test_duplicates_can_be_kept_and_are_still_counted(shop: Shop) -> None:
    with_duplicates(shop)
    dataset = shop.load(duplicates="keep")
    assert dataset.report.count("event_duplicate_kept") == 3
    assert len(dataset.interactions) == 15


def test_more_than_a_few_future_events_are_refused(shop: Shop) -> None:
    many_events(shop, 5)
    with pytest.raises(InputError, match="in the future"):
        shop.load()
    assert len(shop.load(future_tolerance_days=40).interactions) == 400


def test_the_folder_itself(tmp_path: Any) -> None:
    with pytest.raises(InputError, match="no such folder"):
        load_dataset(tmp_path / "nowhere", DataConfig())
    (tmp_path / "data").write_text("x")
    with pytest.raises(InputError, match="is a file, not a folder"):
        load_dataset(tmp_path / "data", DataConfig())
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="it holds nothing"):
        load_dataset(tmp_path / "empty", DataConfig())


def test_nothing_is_dropped_silently(shop: Shop) -> None:
    """Rows in = rows out + rows that the report set aside."""
    with_duplicates(shop)
    shop.events["user_id"][1] = None
    shop.events["timestamp"][2] = 0
    shop.events["item_id"][4] = "gone"
    dataset = shop.load()
    aside = ("event_duplicate", "id_missing", "time_before_1970", "item_unknown")
    assert len(dataset.interactions) + sum(dataset.report.count(code) for code in aside) == 15


def test_a_good_dataset_has_nothing_to_report(shop: Shop) -> None:
    assert shop.load().report.findings == ()


def test_every_code_is_shown_by_a_case() -> None:
    shown = {case.code for case in REPAIRED} | {"event_duplicate_kept"}
    elsewhere = {"id_padded"}  # tests/data/test_data_loading.py
    assert set(REPAIRS) == shown | elsewhere
    refused = {case.code for case in REFUSED} | {"folder_missing", "folder_is_file"}
    elsewhere = {"file_unreadable", "id_missing_here", "nothing_left", "too_few_moments"}
    assert set(REFUSALS) == refused | elsewhere
