"""Ops over columns of texts give what they give row by row: rows, ids, plans, states, shares, counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.augment.columns import texts_grow
from recsys.augment.columns.running import has_form
from recsys.augment.columns.texts import Originals, TextRows
from recsys.augment.columns.texts_cut import cut_texts
from recsys.augment.columns.texts_forms import FORMS
from recsys.augment.columns.texts_grow import grow_texts
from recsys.augment.columns.texts_judge import REASONS, judge_texts
from recsys.augment.constraints import Acceptance, Protection
from recsys.augment.example import TextExample
from recsys.augment.fields import FieldRows, ItemFields
from recsys.augment.grow import Grown, grow, texts_of
from recsys.augment.policy import Branch, policy_from_plain
from recsys.augment.provenance import plan_json, provenance_table
from recsys.augment.registry import OPS

WORDNET = str(Path(__file__).parent / "wordnet")
GROUPS = [["soft", "gentle", "smooth"], ["shirt", "tee"], ["短袖", "半袖"], ["bottle", "flask"]]
CASES: dict[str, list[dict[str, Any]]] = {
    "attribute_backfill": [{"max_words": 30}, {"max_added": 3, "fields": ("tags", "terms")}],
    "chinese_noise": [{"count_range": (1, 3)}],
    "clause_shuffle": [{}, {"unit": "clause", "keep_first": 0}],
    "keyboard_noise": [{"count_range": (1, 3), "slip": 0.5}, {"min_letters": 3}],
    "mined_synonym": [{"rate_range": (0.1, 0.6)}],
    "synonym": [{"groups": GROUPS, "rate_range": (0.1, 0.9)}, {"groups": GROUPS[:2]}],
    "term_expansion": [{"max_words": 30}],
    "typo": [{"count_range": (1, 4), "min_letters": 3}, {}],
    "word_dropout": [{"rate_range": (0.1, 0.9)}, {"rate_range": (0.3, 0.5), "min_keep": 1}],
    "word_insertion": [{"words": ["pretty", "good one", "好看"]}, {"count_range": (0, 5)}],
    "word_swap": [{}, {"count_range": (0, 6)}],
    "wordnet_synonym": [{"folder": WORDNET, "rate_range": (0.1, 0.9)}],
}
"""Settings by op: every text op that asks no model."""
FIELDS = (
    {"brand": "Acme", "category": "Beauty, Make-up", "tags": "vegan, gift", "price_band": "high",
     "terms": "lipstick, brush, mascara", "nearby_category": "Nails"},
    {"brand": "Soft Line", "category": "Kitchen, soft Goods", "terms": "plates, garden hose"},
    {"brand": "耐克", "category": "服装, 上衣", "price_band": "低价", "terms": "跑鞋, 袜子"},
    {"brand": "Unheard Of", "category": "Garden"},
    {},
)  # fmt: skip
SYNONYMS = {"soft": ("gentle", "silky"), "shirt": ("tee", "top"), "kitchen": ("cook",), "短袖": ("半袖",)}
SAID = """
red Nice soft SOFT warm cotton shirt shirt, plate dinner phone case for with and the of 12 oz 500ml 2 pack not
no without sugar free. gluten-free Acme Unheard Of XL size 10.5 XR-200 large bottle, water. lamp; don't café
Soft-touch creamy (hydrating) "gloss" NAIL polish remover - & a! kitchen Soft Line der die und mit ” “smooth”
Keyboard letter's x y aa aaaa three hundred > Home Kitchen > Dry. Gift! warm, light. Easy; clean.
"""
CHINESE = """
红色 纯棉 短袖 上衣 不含 酒精 无糖 饼干 500克 两件 手机壳 运动 休闲 ， 。 耐克 ： （ ） 夏季 宽松
"""
ODD = [
    "",
    " ",
    "  soft  shirt\tfor the\nkitchen ",
    "a\x1cb c\x1dd soft shirt",
    "12 oz",
    "- - !",
    "мяч большой",
    "café au lait soft shirt",
]
PROTECTION = Protection(
    ["dinner plate", "soft warm cotton", "soft warm", "运动休闲"], ["Soft Line", "耐克", "The"]
)


@pytest.fixture(autouse=True, scope="module")
def _columns_for_few() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(texts_grow, "FEWEST", 1)
        yield


def some_texts(seed: int, count: int = 40) -> list[str]:
    rng = Random(seed)
    made = []
    for _ in range(count):
        size = rng.choice((0, 1, 2, 3, 5, 8, 8, 13, 30))
        kind = rng.random()
        if kind < 0.1:
            made.append(rng.choice(ODD))
        elif kind < 0.25:
            made.append("".join(rng.choices(CHINESE.split(), k=size)) + rng.choice(("", " soft", "。")))
        else:
            made.append(
                rng.choice((" ", " ", "  ")).join(rng.choices(SAID.split(), k=size))
                + rng.choice(("", ".", " "))
            )
    return made


def originals_of(texts: Sequence[str]) -> Originals:
    ids = [f"item:i{number}" for number in range(len(texts))]
    fields = [FIELDS[number % len(FIELDS)] for number in range(len(texts))]
    return Originals(ids, texts, fields, PROTECTION, SYNONYMS)


def branch_of(ops: list[dict[str, Any]], copies: int = 1, **acceptance: Any) -> Branch:
    return policy_from_plain(
        {"name": "columns", "text": {"copies": copies, "ops": ops, "acceptance": acceptance}}
    ).text


def shown(example: TextExample) -> Any:
    tokens = example.tokens
    assert tokens is not None
    cut = (tokens.words, tokens.states, tokens.joiner, tokens.language)
    return example.row_id, example.text, dict(example.fields), cut, example.synonyms is SYNONYMS


def table_of(grown: Grown[Any], chains: Any) -> Any:
    return provenance_table(
        kind="text", row_ids=grown.row_ids, parent_ids=grown.parent_ids, policy_id="p", plans=grown.plans,
        seed=3, scores={"modification": grown.modification}, created=7, chains=chains,
    )  # fmt: skip


def assert_same(texts: Sequence[str], branch: Branch) -> Grown[TextExample]:
    """Columns against rows; gives what both made."""
    rows = originals_of(texts)
    assert texts_grow.in_columns(branch, len(texts))
    fast = grow_texts(rows, branch, 3, "text", "p", 5)
    slow = grow(rows.examples(), branch, 3, "text", "p", 5)
    for name in ("parents", "row_ids", "parent_ids", "plans", "chains", "modification"):
        assert list(getattr(fast, name)) == list(getattr(slow, name)), name
    for name in ("originals", "children"):
        assert list(map(shown, getattr(fast, name))) == list(map(shown, getattr(slow, name))), name
    assert list(texts_of(fast.children)) == [child.text for child in slow.children]
    assert table_of(fast, fast.chains).equals(table_of(slow, None))
    languages = {name: count for name, count in fast.counts.items() if name.startswith("language:")}
    assert sum(languages.values()) == len(texts)
    assert +fast.counts == slow.counts + type(slow.counts)(languages)
    assert +fast.refusals == slow.refusals
    return fast


strengths = st.fixed_dictionaries(
    {},
    optional={
        "p": st.sampled_from([0.0, 0.3, 0.8]),
        "taper": st.sampled_from([(0, 8), (5, 20), (8, 8), (100, 200)]),
        "min_words": st.sampled_from([0, 1, 9]),
    },
)
acceptances = st.fixed_dictionaries(
    {}, optional={"min_length": st.integers(1, 9), "max_modification": st.sampled_from([0.0, 0.1, 0.3, 1.0])}
)


def test_every_text_op_that_asks_nobody_has_a_column_form() -> None:
    free = {name for name, op in OPS.items() if op.kind == "text" and "oracle" not in op.needs}
    assert free == {op.name for op in FORMS} == set(CASES)


@pytest.mark.parametrize("name", sorted(CASES))
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_an_op_does_by_columns_what_it_does_row_by_row(name: str, data: st.DataObject) -> None:
    op = {"op": name, **data.draw(st.sampled_from(CASES[name])), **data.draw(strengths)}
    branch = branch_of([op], data.draw(st.integers(1, 3)), **data.draw(acceptances))
    assert_same(some_texts(data.draw(st.integers(0, 10**6))), branch)


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_cases_of_an_op_are_not_empty(name: str) -> None:
    for case in CASES[name]:
        assert assert_same(some_texts(1, 200), branch_of([{"op": name, **case}])).counts["accepted"] > 5


leaf = st.sampled_from([{"op": name, **cases[0]} for name, cases in sorted(CASES.items())])


def composite(children: Any) -> Any:
    ops = st.lists(children, min_size=1, max_size=3)
    chance = st.sampled_from([{}, {"p": 0.5}])
    compose = st.builds(lambda ops, p: {"op": "compose", "ops": ops, **p}, ops, chance)
    some = st.builds(
        lambda ops, p, low: {"op": "some_of", "ops": ops, "count_range": (low, 2), **p},
        ops, chance, st.integers(0, 2),
    )  # fmt: skip
    one = st.builds(
        lambda ops, p, weights: {"op": "one_of", "ops": ops, **p, "weights": weights[: len(ops)]},
        ops, chance, st.sampled_from([[], [1.0, 0.0, 3.0]]),
    )  # fmt: skip
    return compose | some | one


@given(
    ops=st.lists(st.recursive(leaf, composite, max_leaves=6), min_size=1, max_size=3),
    seed=st.integers(0, 10**6),
    copies=st.integers(1, 3),
    acceptance=acceptances,
)
@settings(max_examples=60, deadline=None)
def test_trees_of_ops_do_too(ops: list[dict[str, Any]], seed: int, copies: int, acceptance: Any) -> None:
    assert_same(some_texts(seed, 40), branch_of(ops, copies, **acceptance))


@given(st.lists(st.text(alphabet="aB3 \t\n\x1c\x85\xa0\u2003.,é中不-", max_size=30), min_size=1, max_size=12))
@settings(max_examples=200, deadline=None)
def test_texts_are_cut_as_one_by_one(texts: list[str]) -> None:
    rows = originals_of(texts)
    cut = cut_texts(rows).every().examples(texts)
    assert list(map(shown, cut)) == list(map(shown, rows.examples()))


@given(st.integers(0, 10**6), acceptances, st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_acceptance_judges_what_no_op_of_ours_would_do(seed: int, bounds: Any, share: float) -> None:
    """Words are lost at random, protected ones too, and put in, some of them as protected."""
    rng = np.random.default_rng(seed)
    cut = cut_texts(originals_of(some_texts(seed, 30)))
    whole = cut.every()
    kept = rng.random(len(whole.source)) < share
    put_in = cut.add(rng.choice(cut.words, 40) if len(cut.words) else np.empty(0, np.int64), 0)
    cut.states[put_in[:3]] = 1
    pieces = []
    for row in range(len(whole)):
        span = slice(int(whole.offsets[row]), int(whole.offsets[row + 1]))
        words = whole.source[span][kept[span]]
        if len(put_in) and rng.random() < 0.3:
            words = np.append(words, rng.choice(put_in))
        pieces.append(rng.permutation(words) if rng.random() < 0.3 else words)
    offsets = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])])
    edited = TextRows(cut, whole.parents, np.concatenate(pieces), offsets)
    judged = judge_texts(Acceptance(**bounds), edited)
    pairs = zip(whole.examples(cut.originals.texts), edited.examples(), strict=True)
    wanted = [Acceptance(**bounds).judge(*pair) for pair in pairs]
    assert [REASONS[reason] or None for reason in judged.reasons.tolist()] == [reason for reason, _ in wanted]
    assert judged.gone.tolist() == [gone for _, gone in wanted]


def test_a_range_in_pieces_gives_what_it_gives_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = some_texts(4, 400)
    branch = branch_of([{"op": "some_of", "ops": [{"op": "word_swap"}, {"op": "typo"}]}], 2)
    whole = assert_same(texts, branch)
    monkeypatch.setattr(texts_grow, "_WORDS", 50)
    assert len(texts_grow._spans(originals_of(texts), 2)) > 20
    parts = assert_same(texts, branch)
    assert table_of(parts, parts.chains).equals(table_of(whole, whole.chains))


def test_few_texts_and_ops_without_a_form_go_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    dropout = branch_of([{"op": "word_dropout"}])
    monkeypatch.setattr(texts_grow, "FEWEST", 50)
    assert not texts_grow.in_columns(dropout, 49)
    assert texts_grow.in_columns(dropout, 50)
    assert texts_grow.in_columns(branch_of([{"op": "word_dropout"}], 2), 25)
    grown = grow_texts(originals_of(some_texts(2, 30)), dropout, 3, "text", "p")
    assert isinstance(grown.children, list)
    assert sum(count for name, count in grown.counts.items() if name.startswith("language:")) == 30
    asking = branch_of([{"op": "compose", "ops": [{"op": "masked_lm", "model": "m"}, {"op": "typo"}]}])
    assert not has_form(asking.ops, FORMS)


def test_reading_a_column_makes_no_example_of_another_row() -> None:
    grown = grow_texts(originals_of(some_texts(9)), branch_of([{"op": "word_dropout"}]), 3, "text", "p")
    plans, texts = list(grown.plans), list(texts_of(grown.children))
    grown.keep([3, 1])
    assert list(grown.plans) == [plans[3], plans[1]]
    assert [child.text for child in grown.children] == [texts[3], texts[1]]
    assert [plan_json(plan) for plan in grown.plans] == list(grown.plans.texts)  # type: ignore[attr-defined]


def test_attributes_by_column_are_those_by_row() -> None:
    pd = pytest.importorskip("pandas")
    items = pd.DataFrame(
        {
            "item_id": list("abcdef"),
            "title": ["x"] * 6,
            "brand": [" Acme ", "", None, "Soft Line", ">", "B"],
            "category": ["A > B", "C|D", "", None, "E", "F"],
            "price": [1.0, 2.0, 3.0, 4.0, None, 9.0],
        }
    )
    said = {2: {"terms": "t"}, 4: {"nearby_brand": "N"}}
    rows = FieldRows(ItemFields(items), 1, 6, said)
    for part, first in ((rows, 1), (rows[1:4], 2)):
        for name in ("brand", "category", "price_band", "terms", "nearby_brand", "tags"):
            assert part.column(name) == [row.get(name, "") for row in part]
        wanted = ItemFields(items).rows(first, first + len(part))
        assert [dict(row) for row in part] == [row | said.get(first + i, {}) for i, row in enumerate(wanted)]
    with pytest.raises(IndexError):
        rows[5]
