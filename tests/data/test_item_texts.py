"""Item texts: plain, in one order, nothing said twice."""

from __future__ import annotations

import time
import unicodedata

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data.catalogue import MAX_ITEM_TEXT, item_texts, normalise_text


def one(**fields: str) -> str:
    names = ("title", "brand", "category", "description", "tags")
    return item_texts(pd.DataFrame([{name: fields.get(name, "") for name in names}]))[0]


def test_fields_in_order_as_sentences() -> None:
    text = one(
        title="Wool socks", brand="Tarn", category="Outdoor", description="Warm. Dry!", tags="red, 3-pack"
    )
    assert text == "Wool socks. Tarn. Outdoor. Warm. Dry! red, 3-pack"


def test_nothing_is_said_twice() -> None:
    assert one(title="Tarn wool socks", brand="TARN", category="Socks") == "Tarn wool socks"
    assert one(title="Smart lamp", brand="Art") == "Smart lamp. Art"
    assert one(title="北风羊毛袜", brand="北风") == "北风羊毛袜"
    assert one(title="Socks", description="Socks") == "Socks"


def test_absent_fields_and_columns_leave_no_trace() -> None:
    assert one() == ""
    assert one(description="Only this") == "Only this"
    assert item_texts(pd.DataFrame({"item_id": ["a"], "title": ["Mug"], "price": [3.5]})) == ["Mug"]


def test_texts_are_bounded() -> None:
    assert len(one(title="a" * 1500, description="b" * 1500)) <= MAX_ITEM_TEXT


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        ("<p>Hello<br/>world</p>", "Hello world"),
        ("H<sub>2</sub>O", "H2O"),
        ("Tom &amp;amp; Jerry", "Tom & Jerry"),
        ("M&M&#39;s &eacute;t&eacute;", "M&M's été"),
        ("a < b and c > d, I <3 you", "a < b and c > d, I <3 you"),
        ("Vector<int> and <Untitled>", "Vector<int> and <Untitled>"),
        ("<script>alert('x')</script>Mug", "Mug"),
        ("<!-- hidden -->Mug<!doctype html>", "Mug"),
        ("a\u200bb\ufeffc\u00add", "abcd"),
        ("tab\tnew\nline\u00a0nbsp\u3000wide", "tab new line nbsp wide"),
        ("e\u0301", "é"),
        ("", ""),
    ],
)
def test_normalise_text(raw: str, plain: str) -> None:
    assert normalise_text(raw) == plain


@given(st.text(max_size=200))
def test_normal_text_has_no_control_characters_and_single_blanks(raw: str) -> None:
    plain = normalise_text(raw)
    assert plain == " ".join(plain.split())
    assert not any(unicodedata.category(c) == "Cc" for c in plain)
    assert unicodedata.is_normalized("NFC", plain)


def test_a_hostile_megabyte_takes_no_time() -> None:
    start = time.process_time()  # what others do on the machine is no fault of the text
    for raw in (
        "<script>" * 130_000,
        "<a " * 350_000,
        "&" * 1_000_000,
        "<!--" * 250_000,
        " \u200b" * 500_000,
    ):
        assert len(normalise_text(raw)) <= 2000
    assert time.process_time() - start < 5, "what grows with the square of the length takes hours"
