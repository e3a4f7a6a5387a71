"""What comes out of a good folder: one form, whatever the files looked like."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.config import DataConfig
from recsys.data.columns import id_key, number_column
from recsys.data.interactions import id_strings, load_dataset
from recsys.data.items import price_number
from recsys.data.moments import moment_column
from recsys.data.report import Notes
from recsys.errors import InputError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
START = 1_700_000_000


def shared(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not on this machine")
    return folder


def moments(values: Any, kind: pa.DataType | None = None) -> list[int | None]:
    column = pa.chunked_array([pa.array(values, kind)])
    found = moment_column(column, "timestamp", Notes("file"))
    return [int(s) if known else None for s, known in zip(found.seconds, found.known, strict=True)]


def test_columns_types_order_and_digests(shop: Any) -> None:
    shop.events["timestamp"] = [START + (7 * i) % 12 // 2 for i in range(12)]
    shop.events["invoice"] = [f"n{i}" for i in range(12)]
    shop.items["colour"] = list("abcde")
    dataset = shop.load()
    events, items = dataset.interactions, dataset.items
    assert list(events) == ["user_id", "item_id", "timestamp", "event_type", "value", "invoice"]
    assert events.timestamp.dtype == np.int64
    assert events.value.dtype == np.float64
    assert events.index.tolist() == list(range(12))
    expected = sorted(range(12), key=lambda i: (shop.events["timestamp"][i], i))
    assert events.invoice.tolist() == [f"n{i}" for i in expected]
    assert list(items) == [
        "item_id", "title", "description", "category", "brand", "tags",
        "price", "in_stock", "available_from", "colour",
    ]  # fmt: skip
    assert items.description.tolist() == [""] * 5
    assert items.in_stock.dtype == bool
    assert items.in_stock.all()
    assert items.available_from.isna().all()
    path = shop.folder / "items.parquet"
    assert dataset.digests["items.parquet"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert set(dataset.digests) == {"items.parquet", "interactions.parquet"}
    assert dataset.relations is None


def test_three_formats_give_one_dataset(shop: Any, tmp_path: Path) -> None:
    shop.events["session_id"] = [f"s{i // 3}" for i in range(12)]
    frames = []
    for kind in ("parquet", "csv", "jsonl"):
        other = type(shop)(tmp_path / kind)
        other.folder.mkdir()
        other.events, other.items = shop.events, shop.items
        for stem, table in (("interactions", shop.events), ("items", shop.items)):
            if kind == "jsonl":
                rows = zip(*table.values(), strict=True)
                text = "\n".join(json.dumps(dict(zip(table, row, strict=True))) for row in rows)
                other.text(f"{stem}.jsonl", text)
            else:
                getattr(other, kind)(stem, table)
        frames.append(other.load())
    for other_set in frames[1:]:
        pd.testing.assert_frame_equal(frames[0].interactions, other_set.interactions)
        pd.testing.assert_frame_equal(frames[0].items, other_set.items)


def test_missing_optional_columns_get_their_defaults(shop: Any) -> None:
    del shop.events["event_type"], shop.events["value"]
    events = shop.load().interactions
    assert set(events.event_type) == {"interaction"}
    assert events.value.isna().all()


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
@settings(max_examples=25, deadline=None)
@given(
    ids=st.lists(
        st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=12),
        min_size=3,
        max_size=8,
        unique=True,
    )
)
def test_ids_come_out_exactly_as_they_went_in(
    ids: list[str], kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("ids")
    events = pd.DataFrame(
        {"user_id": ids[::-1], "item_id": ids, "timestamp": [START + i for i in range(len(ids))]}
    )
    items = pd.DataFrame({"item_id": ids, "title": "socks"})
    for stem, table in (("interactions", events), ("items", items)):
        if kind == "parquet":
            table.to_parquet(folder / f"{stem}.parquet")
        elif kind == "csv":
            table.to_csv(folder / f"{stem}.csv", index=False)
        else:
            table.to_json(folder / f"{stem}.jsonl", orient="records", lines=True, force_ascii=False)
    dataset = load_dataset(folder, DataConfig())
    assert dataset.items.item_id.tolist() == ids
    assert dataset.interactions.item_id.tolist() == ids
    assert dataset.interactions.user_id.tolist() == ids[::-1]


def test_leading_zeros_are_part_of_an_id(shop: Any) -> None:
    shop.items["item_id"] = ["00123", "123", "0", "7", "007"]
    shop.events["item_id"] = [shop.items["item_id"][i % 5] for i in range(12)]
    shop.csv("interactions", shop.events)
    shop.csv("items", shop.items)
    dataset = shop.load()
    assert dataset.items.item_id.tolist() == ["00123", "123", "0", "7", "007"]
    assert dataset.interactions.item_id.tolist() == shop.events["item_id"]
    assert id_key("00123") == "00123"
    assert id_key(" 123.0 ") == "123"


def test_padded_user_ids_stay_and_are_counted(shop: Any) -> None:
    shop.events["user_id"][0] = " u0"
    dataset = shop.load()
    assert dataset.report.count("id_padded", "user_id") == 1
    assert dataset.interactions.user_id[0] == " u0"


def test_ambiguous_spellings_are_not_merged(shop: Any) -> None:
    shop.items["item_id"][:2] = ["7", "7.0"]
    shop.events["item_id"] = ["i2", "i3", "7 "] * 4
    dataset = shop.load()
    assert dataset.report.count("item_unknown") == 4
    assert dataset.report.count("id_reconciled") == 0


def test_ids_of_another_file_are_spelled_alike() -> None:
    assert id_strings([3, 4], "users.parquet") == ["3", "4"]
    assert id_strings(pd.Series([3.0, 4.0]), "users.parquet") == ["3", "4"]
    assert id_strings(pd.Series(["03", "x"]), "users.parquet") == ["03", "x"]
    with pytest.raises(InputError, match=r"users\.parquet.*1 row.*row 2"):
        id_strings(["a", None], "users.parquet")


def test_times_of_every_spelling() -> None:
    paris = timezone(timedelta(hours=2))
    expected = int(datetime(2024, 5, 31, 12, 0, tzinfo=UTC).timestamp())
    assert (
        moments(
            ["2024-05-31T12:00:00Z", "2024-05-31 12:00:00", "2024-05-31T14:00:00+02:00", "2024/5/31 12:00"]
        )
        == [expected] * 4
    )
    assert moments(["2024年5月31日 12:00", "2024.05.31 12:00:00"]) == [expected] * 2
    assert moments([datetime(2024, 5, 31, 12)]) == [expected]  # naive means UTC
    assert moments([datetime(2024, 5, 31, 14, tzinfo=paris)]) == [expected]
    assert moments([date(2024, 5, 31)]) == [expected - 12 * 3600]
    assert moments([expected * 1000 + 999], pa.timestamp("ms")) == [expected]
    assert moments([str(expected), None, ""]) == [expected, None, None]
    assert moments([f"{expected}.0", f"{expected}"]) == [expected] * 2
    assert moments([expected * 10**9 + 1, expected * 1000, expected]) == [expected] * 3
    assert moments([str(expected * 10**9 + 999_999_999)]) == [expected]
    assert moments([20240531, 20240601]) == [expected - 12 * 3600, expected + 12 * 3600]
    assert moments([20240531, 20241399]) == [20240531, 20241399]  # no such day: then they are seconds
    assert moments([float("nan"), float("inf"), 1e30, float(expected)]) == [None, None, None, expected]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(200_000_000, 4_000_000_000), min_size=1, max_size=20),
    st.sampled_from([1, 1000, 10**6, 10**9]),
)
def test_units_are_undone_exactly(seconds: list[int], per_second: int) -> None:
    assert moments([s * per_second for s in seconds]) == seconds


@pytest.mark.parametrize(
    ("text", "price"),
    [
        ("£1,299.00", 1299.0), ("1.299,00 €", 1299.0), ("$5", 5.0), ("5 USD", 5.0), ("1 299,50", 1299.5),
        ("12,5", 12.5),
        ("1,299", 1299.0), ("1.299.000", 1299000.0), ("¥199", 199.0), ("199元", 199.0),
        ("Rs. 1,00,000", 100000.0),
        ("-3.50", -3.5), ("(3.50)", -3.5), ("CHF 1'200.-", 1200.0), (".5", 0.5), ("0.99", 0.99),
    ],
)  # fmt: skip
def test_prices_as_people_write_them(text: str, price: float) -> None:
    assert price_number(text) == price


@pytest.mark.parametrize("text", ["ask", "", "10-20", "1.2.3,4.5", "from 5 to 6", "12 34 a 5"])
def test_what_is_no_single_price(text: str) -> None:
    assert np.isnan(price_number(text))


def test_numbers_in_text() -> None:
    values, unreadable = number_column(
        pa.chunked_array([["1", " 2.5", "", None, "x", "1_0", "inf"]]), "value", Notes("f")
    )
    np.testing.assert_array_equal(values, [1, 2.5, np.nan, np.nan, np.nan, np.nan, np.nan])
    assert unreadable == 3


def test_newlines_quotes_and_delimiters_inside_csv_values(shop: Any) -> None:
    shop.items["title"][0] = 'Socks, "warm"\nand red'
    shop.csv("items", shop.items)
    assert shop.load().items.title[0] == 'Socks, "warm" and red'


def test_a_file_that_may_not_be_read(shop: Any) -> None:
    shop.write()
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (shop.folder / "items.parquet").chmod(0)
    with pytest.raises(InputError, match=r"items\.parquet.*cannot be read.*permissions"):
        shop.load()


def test_nothing_usable_is_an_error(shop: Any) -> None:
    shop.events["user_id"] = [None] * 6 + ["u"] * 6
    shop.events["timestamp"] = [START] * 6 + [0] * 6
    with pytest.raises(InputError, match="no usable row is left"):
        shop.load()


def test_relations_are_brought_to_the_users_spelling(shop: Any) -> None:
    shop.events["user_id"] = [str(i % 4) for i in range(12)]
    shop.parquet("relations", {"user_id": [0.0, 1.0], "friend_id": ["1", "2.0"]})
    relations = shop.load().relations
    assert relations is not None
    assert relations.to_dict("list") == {"user_id": ["0", "1"], "friend_id": ["1", "2"]}


@pytest.mark.parametrize(
    ("name", "events", "items"),
    [
        ("online_retail", 399_687, 3_676),
        ("amazon_beauty_2014", 198_502, 12_101),
        ("steam_reviews_au", 48_011, 32_523),
        ("completejourney_sample", 75_000, 92_336),
    ],
)
def test_real_sets_load_whole(name: str, events: int, items: int) -> None:
    dataset = load_dataset(shared(name), DataConfig())
    assert len(dataset.interactions) == events
    assert len(dataset.items) == items
    raw = pd.read_parquet(SHARED / name / "interactions.parquet")
    assert set(dataset.interactions.user_id) == set(raw.user_id)
    assert len(raw) - events == dataset.report.count("event_duplicate")
    assert dataset.interactions.timestamp.is_monotonic_increasing
