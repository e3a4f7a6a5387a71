"""Every op keeps the contract: one line per op in CASES, and a test that no op is missing from it."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_oracle import Scripted

from recsys.augment.constraints import Protection
from recsys.augment.example import Event, HistoryExample, TextExample
from recsys.augment.op import Op
from recsys.augment.provenance import parse_plan, plan_json
from recsys.augment.registry import OPS, op_from_plain
from recsys.contexts import MASKED
from recsys.randomness import stream

FIELDS = {
    "brand": "Urban Decay", "category": "Beauty, Make-up", "tags": "vegan, gift", "price_band": "high",
    "terms": "lipstick, brush, mascara, palette", "nearby_category": "Nails",
}  # fmt: skip
SYNONYMS = {"soft": ("gentle", "silky"), "shirt": ("tee",), "nice": ("pretty",), "短袖": ("半袖",)}
WORDNET = str(Path(__file__).parent / "wordnet")
NEIGHBOURS = {i: tuple(range(i + 1, i + 9)) for i in range(200)}
EARLIER = {i: ((i + 1, 0.6), (i + 2, 0.2)) for i in range(200)}
LENT = {
    name: (*(Event(110 + i, 2, 900 + 120 * i) for i in range(5)), Event(150, 0, 950))
    for name in ("similar", "friends", "elsewhere")
}


def lost_words(op: Any, before: TextExample, after: TextExample) -> bool:
    """At most the highest rate (rounded up) of the words is gone."""
    size = len(Protection().tokenise(before.text).words)
    gone = Counter(before.text.split()) - Counter(after.text.split())
    return gone.total() <= op.rate_range[1] * size + 0.5


def same_words(op: Any, before: TextExample, after: TextExample) -> bool:
    """Order is all that changed."""
    joined = "" if Protection().tokenise(before.text).joiner == "" else None
    split = list if joined == "" else str.split
    return Counter(split(before.text)) == Counter(split(after.text))


def kept_share(op: Any, before: HistoryExample, after: HistoryExample) -> bool:
    """At least the lowest share is kept, and never fewer than `min_keep`."""
    low = max(op.keep_range[0] * len(before.history) - 0.5, op.min_keep)
    return low <= len(after.history) < len(before.history)


def dropped_share(op: Any, before: HistoryExample, after: HistoryExample) -> bool:
    """At most the highest rate is deleted."""
    dropped = len(before.history) - len(after.history)
    return 0 < dropped <= op.rate_range[1] * len(before.history) + 0.5 and len(after.history) >= op.min_keep


def same_events(op: Any, before: HistoryExample, after: HistoryExample) -> bool:
    """Order is all that changed."""
    return Counter(before.history) == Counter(after.history) and after.timestamps == before.timestamps


def replaced_share(op: Any, before: HistoryExample, after: HistoryExample) -> bool:
    """At most the highest rate is replaced, the newest event never."""
    changed = sum(a != b for a, b in zip(before.history, after.history, strict=True))
    return (
        0 < changed <= op.rate_range[1] * len(before.history) + 0.5
        and after.history[-1] == before.history[-1]
    )


def masked_share(op: Any, before: HistoryExample, after: HistoryExample) -> bool:
    """At most the highest rate is masked, the newest event never; enough stays known, the rest as it was."""
    hidden = [i for i, item in enumerate(after.history) if item == MASKED]
    return (
        0 < len(hidden) <= op.rate_range[1] * len(before.history) + 0.5
        and len(before.history) - 1 not in hidden
        and len(before.history) - len(hidden) >= op.min_keep
        and all(item in (MASKED, old) for item, old in zip(after.history, before.history, strict=True))
        and after[2:] == before[2:]
    )


def inserted_share(op: Any, before: HistoryExample, after: HistoryExample) -> bool:
    """At most the highest rate is added, and what was there stays in order."""
    added = len(after.history) - len(before.history)
    rest = iter(after.history)
    return 0 < added <= op.rate_range[1] * len(before.history) + 0.5 and all(
        i in rest for i in before.history
    )


def sliced(op: Any, before: HistoryExample, after: HistoryExample) -> bool:
    """A contiguous part, within the kept share."""
    size, kept = len(before.history), len(after.history)
    starts = [i for i in range(size) if before.timestamps[i : i + kept] == after.timestamps]
    low = max(op.keep_range[0] * size - 0.5, op.min_keep)
    return bool(starts) and low <= kept < size


def extended(op: Any, before: HistoryExample, after: HistoryExample) -> bool:
    """A few items in front of a short history, dated earlier; the rest as it was."""
    added = len(after.history) - len(before.history)
    return (
        0 < added <= op.max_items
        and len(before.history) <= op.max_length
        and after.history[added:] == before.history
        and after.timestamps[added - 1] < before.timestamps[0]
    )


def idle_replaced(op: Any, before: HistoryExample, after: HistoryExample) -> bool:
    """What leads to a target stays; as many events; at most the highest rate changed."""
    targets = set(before.targets)
    pairs = list(zip(before.history, after.history, strict=True))
    led = [i for i in before.history if not targets.isdisjoint(NEIGHBOURS.get(i, ()))]
    return (
        all(a == b for a, b in pairs if a in led)
        and 0 < sum(a != b for a, b in pairs) <= op.rate_range[1] * len(pairs) + 0.5
    )


def borrowed(op: Any, before: HistoryExample, after: HistoryExample) -> bool:
    """A few lent events come in at their time, and what was there stays in order."""
    rest = iter(after.history)
    return (
        0 < len(after.history) - len(before.history) <= op.count_range[1]
        and len(before.history) <= op.max_length
        and all(item in rest for item in before.history)
    )


def replaced_words(op: Any, before: TextExample, after: TextExample) -> bool:
    """As many words, at most the highest rate (or one) replaced."""
    old, new = Protection().tokenise(before.text).words, Protection().tokenise(after.text).words
    if Protection().tokenise(before.text).language == "zh":
        return "半袖" in after.text
    changed = sum(a != b for a, b in zip(old, new, strict=True))
    return 0 < changed <= max(op.rate_range[1] * len(old) + 0.5, 1)


def mistyped_words(op: Any, before: TextExample, after: TextExample) -> bool:
    """As many words, each changed one within one letter of its length."""
    pairs = list(zip(before.text.split(), after.text.split(), strict=True))
    changed = [(a, b) for a, b in pairs if a != b]
    return 0 < len(changed) <= op.count_range[1] and all(abs(len(a) - len(b)) <= 1 for a, b in changed)


def one_more_letter(op: Any, before: TextExample, after: TextExample) -> bool:
    """As many words, each changed one of its length or with one letter more."""
    pairs = list(zip(before.text.split(), after.text.split(), strict=True))
    changed = [(a, b) for a, b in pairs if a != b]
    return 0 < len(changed) <= op.count_range[1] and all(0 <= len(b) - len(a) <= 1 for a, b in changed)


def other_characters(op: Any, before: TextExample, after: TextExample) -> bool:
    """As long, one character changed per word at most."""
    pairs = zip(" ".join(before.text.split()), after.text, strict=True)
    return 0 < sum(a != b for a, b in pairs) <= op.count_range[1]


def inserted_words(op: Any, before: TextExample, after: TextExample) -> bool:
    """What was there stays in order, and a few words are added."""
    split = list if Protection().tokenise(before.text).joiner == "" else str.split
    old, new = split(" ".join(before.text.split())), split(after.text)
    rest = iter(new)
    most = op.count_range[1] * (1 if split is str.split else 4)
    return 0 < len(new) - len(old) <= most and all(word in rest for word in old)


def appended_terms(op: Any, before: TextExample, after: TextExample) -> bool:
    """The original is a prefix, and a few terms follow."""
    start = " ".join(before.text.split())
    return after.text.startswith(start) and len(after.text[len(start) :].split()) <= op.count_range[1] * 2 + 2


def appended(op: Any, before: TextExample, after: TextExample) -> bool:
    """The original is a prefix, and the addition is bounded."""
    start = " ".join(before.text.split())
    return after.text.startswith(start) and len(after.text[len(start) :].split()) <= op.max_added + 1


def expected_words(op: Any, before: TextExample, after: TextExample) -> bool:
    """As many words or characters, at most the highest rate (or one) replaced."""
    old, new = Protection().tokenise(before.text), Protection().tokenise(after.text)
    if old.language == "zh":
        return len(" ".join(before.text.split())) == len(after.text)
    changed = sum(a != b for a, b in zip(old.words, new.words, strict=True))
    return 0 < changed <= max(op.rate_range[1] * len(old.words) + 0.5, 1)


def embedded(op: Any, before: TextExample, after: TextExample) -> bool:
    """What the scripted model does: the text as it was, with a few words around it."""
    old = " ".join(before.text.split())
    return old in after.text and len(after.text) < len(old) + 30


# One line per op: settings that make it act, and what bounds its strength.
CASES: dict[str, tuple[dict[str, Any], Callable[[Any, Any, Any], bool]]] = {
    "attribute_backfill": ({"max_words": 60}, appended),
    "back_translation": ({"to": "there", "back": "back"}, embedded),
    "backward_extension": ({}, extended),
    "borrow": ({}, borrowed),
    "chinese_noise": ({"count_range": (1, 2)}, other_characters),
    "clause_shuffle": ({"unit": "clause"}, same_words),
    "counterfactual": ({"rate_range": (0.3, 0.6)}, idle_replaced),
    "crop": ({"keep_range": (0.3, 0.8), "part": "any"}, kept_share),
    "cross_domain_borrow": ({}, borrowed),
    "insert": ({"rate_range": (0.2, 0.6)}, inserted_share),
    "item_dropout": ({"rate_range": (0.2, 0.6)}, dropped_share),
    "keyboard_noise": ({"count_range": (1, 2)}, one_more_letter),
    "llm_rewrite": ({"base_url": "http://localhost:1/v1", "model": "m"}, embedded),
    "mask": ({"rate_range": (0.2, 0.6)}, masked_share),
    "masked_lm": ({"model": "m"}, expected_words),
    "masked_lm_insertion": ({"model": "m"}, inserted_words),
    "mined_synonym": ({}, replaced_words),
    "reorder": ({"window_seconds": 10**6}, same_events),
    "social_borrow": ({}, borrowed),
    "sub_history": ({}, sliced),
    "substitute": ({"rate_range": (0.2, 0.6)}, replaced_share),
    "synonym": ({"groups": [["soft", "gentle"], ["shirt", "tee"], ["短袖", "半袖"]]}, replaced_words),
    "term_expansion": ({"max_words": 60}, appended_terms),
    "typo": ({"count_range": (1, 2)}, mistyped_words),
    "word_dropout": ({"rate_range": (0.1, 0.4)}, lost_words),
    "word_insertion": ({"words": ["pretty", "好看"]}, inserted_words),
    "word_swap": ({"count_range": (1, 3)}, same_words),
    "wordnet_synonym": ({"folder": WORDNET}, replaced_words),
}

TEXTS = [
    "Urban Decay Smoked 24/7 Glide-On Eye Pencil Set, soft and creamy, long lasting wear, without parabens",
    "OPI Start-to-finish Base Coat, Top Coat and Nail Strengthener, 0.5-Fluid Ounce. Dries fast. Not tested.",
    "large red cotton shirt for men; gluten free dinner plates; model XR-200 phone case; 2 pack",
    "红色纯棉短袖T恤 男士夏季宽松上衣 XL码，不含酒精，两件装，适合运动休闲日常穿着",
    "无糖饼干 500克 家庭装 早餐代餐 营养美味 儿童零食，好吃不贵；苹果手机壳",
    "🎁 cute gift 🎀 for girls and boys, funny party decoration 🎉 with lights",
]
EDGES = ["", " ", "mug", "杯子", "🎁", "12", "12 oz", "не очень большой красный мяч", "-- // --", "a" * 5000]
LONG = " ".join(f"word{chr(97 + i % 26)} thing, nice;" for i in range(300))


def op_of(name: str) -> Op[Any]:
    return OPS[name].model_validate(CASES[name][0])


def history_of(length: int, row_id: str = "u@1") -> HistoryExample:
    return HistoryExample(
        row_id,
        tuple(i * 3 % 100 for i in range(length)),
        tuple(i % 4 for i in range(length)),
        tuple(1000 + 60 * i for i in range(length)),
        (150, 151) if length != 5 else (15, 151),
        NEIGHBOURS,
        EARLIER,
        LENT,
    )


def text_of(text: str, row_id: str = "i1") -> TextExample:
    return TextExample(row_id, text, FIELDS, synonyms=SYNONYMS, answers=Scripted())


def samples(op: Op[Any]) -> list[Any]:
    if op.kind == "history":
        return [history_of(length) for length in (0, 1, 2, 3, 4, 5, 9, 20, 400)]
    return [text_of(text) for text in (*TEXTS, *EDGES, LONG)]


def runs(op: Op[Any], example: Any, tries: int = 12) -> list[tuple[Any, Any]]:
    """(plan, result) for several draws."""
    plans = [op.plan(example, stream(seed, "conformance", example.row_id)) for seed in range(tries)]
    return [(plan, op.apply(example, plan)) for plan in plans if plan is not None]


def visible(example: Any) -> Any:
    """What an op may change, without the cut tokens."""
    return (example.text, dict(example.fields)) if isinstance(example, TextExample) else example[:5]


def test_every_op_is_in_the_table() -> None:
    assert sorted(CASES) == sorted(OPS)


@pytest.mark.parametrize("name", sorted(CASES))
class TestConformance:
    def test_acts_on_something(self, name: str) -> None:
        op = op_of(name)
        assert any(visible(out) != visible(e) for e in samples(op) for _, out in runs(op, e))

    def test_same_key_same_plan(self, name: str) -> None:
        op = op_of(name)
        for example in samples(op):
            for seed in range(5):
                first = op.plan(example, stream(seed, "a", example.row_id))
                assert op.plan(example, stream(seed, "a", example.row_id)) == first

    def test_apply_has_no_randomness(self, name: str) -> None:
        op = op_of(name)
        for example in samples(op):
            for plan, out in runs(op, example):
                assert visible(op.apply(example, plan)) == visible(out)

    def test_run_is_plan_then_apply(self, name: str) -> None:
        op = op_of(name)
        for example in samples(op):
            done = op.run(example, stream(3, "conformance", example.row_id))
            plan = op.plan(example, stream(3, "conformance", example.row_id))
            assert (done is None) == (plan is None)
            if done is not None and plan is not None:
                assert done[1] == plan
                assert visible(done[0]) == visible(op.apply(example, plan))

    def test_inputs_are_never_mutated(self, name: str) -> None:
        op = op_of(name)
        for example in samples(op):
            if isinstance(example, TextExample):
                example = Protection().prepare(example)
                words, states = example.tokens.words, example.tokens.states
            before = copy.deepcopy(visible(example))
            runs(op, example)
            assert visible(example) == before
            if isinstance(example, TextExample):
                assert (example.tokens.words, example.tokens.states) == (words, states)

    def test_settings_round_trip(self, name: str) -> None:
        op = op_of(name)
        again = op_from_plain(json.loads(json.dumps(op.to_plain())))
        assert again == op
        for example in samples(op):
            assert [visible(out) for _, out in runs(again, example)] == [
                visible(out) for _, out in runs(op, example)
            ]

    def test_plans_round_trip(self, name: str) -> None:
        op = op_of(name)
        for example in samples(op):
            for plan, out in runs(op, example):
                again = parse_plan(op, plan_json(plan))
                assert again == plan
                assert visible(op.apply(example, again)) == visible(out)

    def test_steps_name_every_parameter(self, name: str) -> None:
        op = op_of(name)
        for example in samples(op):
            for plan, _ in runs(op, example, 3):
                (step,) = op.steps(plan)
                assert step.op == name
                assert tuple(step.parameters) == op.parameters

    def test_strength_is_bounded(self, name: str) -> None:
        op, (_, bounded) = op_of(name), CASES[name]
        for example in samples(op):
            for plan, out in runs(op, example, 30):
                assert bounded(op, example, out), (plan, visible(example), visible(out))

    def test_never_empties_and_keeps_the_rest(self, name: str) -> None:
        op = op_of(name)
        for example in samples(op):
            for _, out in runs(op, example):
                if isinstance(example, HistoryExample):
                    assert len(out.history) > 0
                    assert len(out.history) == len(out.event_types) == len(out.timestamps)
                    assert out.targets == example.targets
                    assert set(example.targets).isdisjoint(out.history)
                    assert list(out.timestamps) == sorted(out.timestamps)
                else:
                    assert out.text.strip() or not example.text.strip()
                    assert out.fields == example.fields
                assert out.row_id == example.row_id

    def test_chance_zero_is_never(self, name: str) -> None:
        op = op_of(name).model_copy(update={"p": 0.0})
        assert not any(runs(op, example) for example in samples(op))

    def test_taper_leaves_rich_rows_alone(self, name: str) -> None:
        op = op_of(name).model_copy(update={"taper": (1, 4)})
        rich = history_of(9) if op.kind == "history" else text_of(TEXTS[0])
        assert not runs(op, rich)

    def test_wrong_plan_is_refused(self, name: str) -> None:
        op = op_of(name)
        other = op_of(next(n for n in CASES if n != name and OPS[n].kind == op.kind))
        plan = next(plan for example in samples(other) for plan, _ in runs(other, example))
        with pytest.raises(ValueError, match="cannot be applied"):
            op.apply(samples(op)[-1], plan)


TEXT_OPS = sorted(name for name in CASES if OPS[name].kind == "text")
ENGLISH_WORDS = """
red blue nice soft warm cotton shirt plate dinner phone case for with new kids 12 oz 500ml 2 pack not no
without sugar free gluten-free Acme XL size 10.5 M large XR-200 bottle, water. lamp; 24/7 don't café
"""
CHINESE_WORDS = """
红色 黑色 纯棉 短袖 上衣 不含 酒精 无糖 饼干 五百 500克 两件 XL码 手机壳 适合 运动 休闲 ， 。 耐克 免洗 营养
"""
WORDS = st.sampled_from(ENGLISH_WORDS.split())
CHINESE = st.sampled_from(CHINESE_WORDS.split())


def contains_all(spans: list[str], text: str) -> bool:
    """Each span stands in the text at least as often as it was found."""
    flat = f" {' '.join(text.split())} "
    return all(flat.count(span) >= count for span, count in Counter(spans).items())


@pytest.mark.parametrize("name", TEXT_OPS)
@settings(max_examples=60, deadline=None)
@given(words=st.lists(WORDS, max_size=18), chinese=st.booleans(), data=st.data(), seed=st.integers(0, 10**6))
def test_protected_spans_survive(
    name: str, words: list[str], chinese: bool, data: st.DataObject, seed: int
) -> None:
    if chinese:
        words = data.draw(st.lists(CHINESE, max_size=14))
    text = ("" if chinese else " ").join(words)
    protection = Protection(phrases=["dinner plate", "运动休闲"])
    example = protection.prepare(
        TextExample(
            "x",
            text,
            {**FIELDS, "brand": "Acme" if not chinese else "耐克"},
            synonyms=SYNONYMS,
            answers=Scripted(),
        )
    )
    op = op_of(name)
    plan = op.plan(example, stream(seed, "p"))
    if plan is not None:
        out = op.apply(example, plan)
        spans = protection.spans(text, example.fields)
        assert contains_all(spans, out.text), (spans, text, out.text)


@pytest.mark.parametrize("name", sorted(name for name in CASES if OPS[name].kind == "history"))
@settings(max_examples=60, deadline=None)
@given(
    items=st.lists(st.integers(0, 40), max_size=60),
    targets=st.lists(st.integers(41, 60), min_size=1, max_size=3),
    seed=st.integers(0, 10**6),
)
def test_histories_are_never_emptied(name: str, items: list[int], targets: list[int], seed: int) -> None:
    example = HistoryExample(
        "u",
        tuple(items),
        (0,) * len(items),
        tuple(range(len(items))),
        tuple(targets),
        NEIGHBOURS,
        EARLIER,
        LENT,
    )
    op = op_of(name)
    plan = op.plan(example, stream(seed, "h"))
    if plan is not None:
        out = op.apply(example, plan)
        assert out.history
        assert set(targets).isdisjoint(out.history)
        assert len(out.history) == len(out.event_types) == len(out.timestamps)
