from __future__ import annotations

import pytest

from recsys.augment.constraints import Acceptance, Protection
from recsys.augment.example import HistoryExample, TextExample
from recsys.augment.tokens import language_of

GOLD = [
    ("Air-Max 90 size 10.5 500ml 4K", {}, ["Air-Max", "max"], ["90 size", "10.5 500ml 4K"]),
    ("soft towel without perfume oil inside", {}, ["inside"], ["without perfume oil"]),
    ("nice gluten free pasta for kids", {}, ["pasta"], ["gluten free"]),
    ("sugar-free candy in a bag", {}, ["candy"], ["sugar-free"]),
    ("warm navy coat, XL, for men", {}, ["coat"], ["navy", "XL,"]),
    ("small dress L for women", {}, ["dress"], ["small", "L"]),
    ("the Urban Decay eye pencil", {"brand": "urban decay"}, ["pencil"], ["Urban Decay"]),
    ("box of two pretty cups", {}, ["cups"], ["box", "two pretty"]),
    ("doesn't contain animal fat at all", {}, ["at"], ["doesn't contain animal"]),
    ("model XR-200/B phone holder", {}, ["holder"], ["XR-200/B phone"]),
]


@pytest.mark.parametrize(("text", "fields", "free", "spans"), GOLD)
def test_english_spans(text: str, fields: dict[str, str], free: list[str], spans: list[str]) -> None:
    found = Protection().spans(text, fields)
    assert set(spans) <= set(found)
    assert not [span for span in found for word in free if word.lower() in span.lower().split()]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("不含酒精的护肤水", "不含酒精"),
        ("饼干500克家庭装", "500克"),
        ("两件装纯棉短袖", "两件"),
        ("时尚酒红色上衣", "酒红色"),
        ("小米XR200手机壳", "XR200"),
        ("耐克运动鞋大码", "大码"),
    ],
)
def test_chinese_spans(text: str, kept: str) -> None:
    assert any(kept in span for span in Protection().spans(text))


def test_phrases_brands_and_own_brand() -> None:
    protection = Protection(phrases=["Gift Wrap", "家庭装"], brands=["Acme Tools", "耐克"])
    assert protection.spans("new acme tools hammer with gift wrap, cheap") == ["acme tools", "gift wrap,"]
    assert "家庭装" in "".join(protection.spans("好吃的饼干家庭装"))
    tokens = protection.tokenise("耐克跑步鞋舒适")
    assert tokens.states[0] == 1
    assert len(tokens.editable) > 0


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("red mug", "en"), ("", "none"), ("12 34", "none"), ("🎁", "none"), ("红色杯子", "zh"),
        ("Nike 耐克运动鞋", "zh"), ("Café crème mug", "en"), ("красный мяч", "other"),
        ("シャツ レッド", "other"), ("빨간 셔츠", "other"),
        ("Tasse mit Henkel für den Tisch ohne Deckel", "other"), ("Sac pour les enfants avec poche", "other"),
    ],
)  # fmt: skip
def test_language(text: str, language: str) -> None:
    assert language_of(text) == language


def test_unknown_language_has_no_editable_word() -> None:
    assert Protection().tokenise("очень красный мяч для детей").editable == ()


def judged(before: str, after: str, acceptance: Acceptance | None = None) -> str | None:
    protection = Protection()
    original = protection.prepare(TextExample("a", before))
    return (acceptance or Acceptance()).judge(original, TextExample("a", after))[0]


def test_text_acceptance_gives_reasons() -> None:
    assert judged("nice soft blue towel", "nice blue towel") is None
    assert judged("nice soft blue towel", "nice soft blue towel") == "unchanged"
    assert judged("nice soft blue towel", "nice soft red towel") == "protected_span_lost"
    assert judged("nice soft towel 12 oz", "nice towel 16 oz") == "protected_span_lost"
    assert judged("nice soft towel not for kids", "nice soft towel for kids") == "protected_span_lost"
    assert judged("nice soft blue towel", "something else") == "too_different"
    assert judged("nice soft towel", "", Acceptance(max_modification=1.0)) == "too_short"
    assert judged("a b c d", "a b", Acceptance(min_length=3)) == "too_short"


def history(*items: int, **changes: object) -> HistoryExample:
    base = HistoryExample("u", items, (0,) * len(items), tuple(range(len(items))), (99,))
    return base._replace(**changes)


def test_history_acceptance_gives_reasons() -> None:
    judge = Acceptance(min_length=2).judge
    assert judge(history(1, 2, 3, 4), history(1, 2, 3)) == (None, 0.25)
    assert judge(history(1, 2, 3), history(1, 2, 3))[0] == "unchanged"
    assert judge(history(1, 2, 3), history(1))[0] == "too_short"
    assert judge(history(1), history())[0] == "too_short"
    assert judge(history(1, 2, 3, 4), history(5, 6, 7, 4))[0] == "too_different"
    assert judge(history(1, 2, 3), history(1, 2, 99))[0] == "target_inserted"
    assert judge(history(1, 2, 3), history(1, 2, targets=(3,)))[0] == "target_changed"
    assert judge(history(1, 2, 3), history(1, 2, timestamps=(1,)))[0] == "ragged"
