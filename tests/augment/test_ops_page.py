"""The page of all ops says what the ops are, and its examples are what they do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from recsys.augment.ops_examples import MODELS, NO_EXAMPLE, SETTINGS, WHEN, text_rows
from recsys.augment.ops_page import cost_of, ops_page
from recsys.augment.registry import COMPOSITES, OPS
from recsys.augment.representation import REPRESENTATION_OPS
from recsys.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "ops.md"
EVERY = {*OPS, *COMPOSITES, *REPRESENTATION_OPS}


def sections() -> dict[str, str]:
    parts = re.split(r"^### ", ops_page(), flags=re.M)[1:]
    return {part.partition("\n")[0]: part for part in parts}


def test_the_page_is_made_from_the_ops(capsys: pytest.CaptureFixture[str]) -> None:
    page = ops_page()
    assert PAGE.read_text(encoding="utf-8") == page, "run `make docs`"
    assert main(["augment", "ops", "--markdown"]) == 0
    assert capsys.readouterr().out == page
    assert ops_page() == page, "the same each time"


def test_every_op_says_when_to_use_it_and_shows_itself() -> None:
    assert set(WHEN) == EVERY
    assert set(sections()) == EVERY
    for name, text in sections().items():
        assert f"* For: {WHEN[name].use}\n* Not for: {WHEN[name].leave}\n* Cost: " in text
        shown = "\nbefore  " in text
        assert shown == (name not in NO_EXAMPLE and name not in REPRESENTATION_OPS), name
        changed = "{+" in text or "[-" in text
        assert changed == shown, name
        settings = {**OPS, **COMPOSITES, **REPRESENTATION_OPS}[name].model_fields
        assert all(f"| `{key}` |" in text for key in settings if key not in ("p", "taper"))
    assert set(NO_EXAMPLE) | set(SETTINGS) | MODELS <= EVERY


def test_text_ops_show_both_languages_where_they_know_them() -> None:
    english = {"typo", "keyboard_noise", "back_translation"}
    for name, text in sections().items():
        if name in OPS and OPS[name].kind == "text" and name not in NO_EXAMPLE:
            block = text.partition("```text")[2]
            assert ("Acme" in block) == (name != "chinese_noise"), name
            assert ("红色" in block) == (name not in english), name
    assert all(row.tokens is not None for row in text_rows())


def test_costs_follow_what_is_read() -> None:
    assert cost_of(OPS["crop"]) == "cheap"
    assert cost_of(OPS["borrow"]) == "side data (`similar`)"
    assert cost_of(OPS["masked_lm"]) == "model"
    assert cost_of(OPS["llm_rewrite"]) == "paid"
    assert cost_of(REPRESENTATION_OPS["fgm"]) == "1 forward and 1 backward passes more per step"


def test_two_forms_at_once_are_refused() -> None:
    assert main(["augment", "ops", "--json", "--markdown"]) != 0
