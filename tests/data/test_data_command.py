"""`recsys data` from the outside, and the page that describes it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from recsys.cli import main
from recsys.cli.data import command
from recsys.data.adapters import PUBLIC_SETS
from recsys.data.report import REFUSALS, REPAIRS, DataReport
from recsys.data.sample import SIZES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "data.md").read_text(encoding="utf-8")


def test_sample_then_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "sample", "--size", "tiny", "--out", str(tmp_path), "--seed", "5"]) == 0
    assert "2,000 events, 400 users, 300 items" in capsys.readouterr().out
    assert main(["data", "check", str(tmp_path)]) == 0
    assert "Nothing to repair." in capsys.readouterr().out


def test_check_as_json(shop: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shop.items["title"][0] = "<b>[red] socks</b>"
    shop.write()
    assert main(["data", "check", str(shop.folder), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["summary"]["events"] == 12
    (finding,) = report["findings"]
    assert finding == {
        "code": "text_html",
        "file": "items.parquet",
        "column": "title",
        "count": 1,
        "example": "<b>[red] socks</b>",
        "sentence": REPAIRS["text_html"],
    }
    assert main(["data", "check", str(shop.folder)]) == 0
    assert "[red] socks" in capsys.readouterr().out  # not taken for a terminal style


def test_a_refusal_is_one_line_and_status_2(shop: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shop.events["userId"] = shop.events.pop("user_id")
    shop.write()
    assert main(["data", "check", str(shop.folder)]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.count("\n") == 1
    assert "interactions.parquet, column 'user_id'" in error
    assert "Did you mean 'userId'" in error


def test_settings_reach_the_check(shop: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shop.write()
    assert main(["data", "check", str(shop.folder), "--set", "data.max_text_chars=16", "--json"]) == 0
    assert main(["data", "check", str(shop.folder), "--set", "data.nothing=1"]) == 2
    assert "no setting 'data.nothing'" in capsys.readouterr().err


def test_choices_agree_with_the_library() -> None:
    choices = {
        (name, parameter.name): set(parameter.type.choices)
        for name, sub in command.commands.items()
        for parameter in sub.params
        if hasattr(parameter.type, "choices")
    }
    assert choices == {("sample", "size"): set(SIZES), ("fetch", "name"): set(PUBLIC_SETS)}


def test_the_page_lists_every_repair_and_refusal() -> None:
    done, _, refused = PAGE.partition("## What is refused")
    assert listed(done) == {code: [sentence] for code, sentence in REPAIRS.items()}
    assert {code: cells[0] for code, cells in listed(refused).items()} == {
        code: re.sub(r"\{.*?\}", "…", problem) for code, (problem, _) in REFUSALS.items()
    }


def listed(part: str) -> dict[str, list[str]]:
    rows = [line.strip("|").split("|") for line in part.splitlines() if line.startswith("| `")]
    return {row[0].strip().strip("`"): [cell.strip() for cell in row[1:]] for row in rows}


def test_a_report_refuses_unknown_codes() -> None:
    with pytest.raises(ValueError, match="no such finding"):
        DataReport().count("typo")
