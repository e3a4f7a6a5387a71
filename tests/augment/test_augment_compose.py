from __future__ import annotations

import pytest

from recsys.augment.compose import Compose, OneOf, SomeOf
from recsys.augment.example import HistoryExample, TextExample
from recsys.augment.history import Crop, ItemDropout, Reorder
from recsys.augment.registry import op_from_plain
from recsys.augment.text import ClauseShuffle, WordDropout, WordSwap
from recsys.errors import ConfigError
from recsys.randomness import row_streams, stream

LONG = HistoryExample("u", tuple(range(40)), (0,) * 40, tuple(range(40)))
TEXT = TextExample("i", "nice soft warm cotton shirt for men. good gift idea; wash with care. dry in shade")
DROPOUT, CROP, REORDER = ItemDropout(), Crop(), Reorder(window_seconds=100)


def test_empty_is_identity() -> None:
    for empty in (Compose(), OneOf(), SomeOf()):
        assert empty.run(LONG, stream(0)) is None
        assert empty.plan(LONG, stream(0)) is None


@pytest.mark.parametrize("composite", [Compose, SomeOf])
def test_run_equals_apply_of_its_plan(composite: type) -> None:
    pipeline = composite(ops=(DROPOUT, CROP, Compose(ops=(REORDER,))))
    for seed in range(20):
        done = pipeline.run(LONG, stream(seed))
        assert done is not None
        assert pipeline.apply(LONG, done[1]) == done[0]
        assert pipeline.parse([done[1].op, [list(pair) for pair in done[1].values]]) == done[1]


def plans_of(pipeline: Compose, name: str) -> list[object]:
    """What each row's op of that name drew, over many rows."""
    stream_of = row_streams(7, "history")
    found = []
    for row in range(50):
        done = pipeline.run(LONG, stream_of(f"u{row}"))
        plans = [] if done is None else [p for _, p in done[1].values if p.op == name]
        found.append(plans[0] if plans else None)
    return found


def test_siblings_do_not_share_draws() -> None:
    # The reorder in front keeps the length, so that what the dropout draws depends on its stream alone.
    with_sibling = Compose(ops=(REORDER, DROPOUT))
    alone = Compose(ops=(DROPOUT,))
    after = Compose(ops=(DROPOUT, CROP))
    assert plans_of(with_sibling, "item_dropout") == plans_of(alone, "item_dropout")
    assert plans_of(after, "item_dropout") == plans_of(alone, "item_dropout")
    assert len(set(plans_of(alone, "item_dropout"))) > 20


def test_twins_draw_differently() -> None:
    twins = Compose(ops=(Reorder(window_seconds=100), Reorder(window_seconds=100)))
    done = [twins.run(LONG, stream(seed)) for seed in range(10)]
    assert any(
        d is not None and len(d[1].values) == 2 and d[1].values[0][1] != d[1].values[1][1] for d in done
    )


def test_one_of_follows_weights() -> None:
    pipeline = OneOf(ops=(DROPOUT, CROP), weights=(3.0, 1.0))
    stream_of = row_streams(1, "w")
    picks = [pipeline.run(LONG, stream_of(str(i)))[1].values[0][0] for i in range(2000)]
    assert 0.70 < picks.count(0) / 2000 < 0.80
    assert {len(OneOf(ops=(DROPOUT, CROP), weights=(0.0, 1.0)).run(LONG, stream(1))[1].values)} == {1}


def test_some_of_counts_and_order() -> None:
    pipeline = SomeOf(ops=(DROPOUT, CROP, REORDER), count_range=(2, 2))
    for seed in range(30):
        done = pipeline.run(LONG, stream(seed))
        numbers = [number for number, _ in done[1].values]
        assert numbers == sorted(set(numbers))
        assert len(numbers) <= 2


def test_chance_is_each_ops_own() -> None:
    stream_of = row_streams(1, "p")
    hits = sum(Compose(ops=(CROP,), p=0.3).run(LONG, stream_of(str(i))) is not None for i in range(2000))
    assert 0.26 < hits / 2000 < 0.34


def test_kinds_cannot_mix() -> None:
    with pytest.raises(ValueError, match="one pipeline"):
        Compose(ops=(CROP, WordSwap()))
    with pytest.raises(ValueError, match="weights"):
        OneOf(ops=(CROP,), weights=(1.0, 2.0))


def test_repr_is_a_tree_and_plain_round_trips() -> None:
    tree = Compose(ops=(OneOf(ops=(WordDropout(p=0.5), WordSwap()), weights=(2.0, 1.0)), ClauseShuffle()))
    assert repr(tree).splitlines() == [
        "compose()",
        "  one_of(weights=[2.0, 1.0])",
        "    word_dropout(p=0.5)",
        "    word_swap()",
        "  clause_shuffle()",
    ]
    assert op_from_plain(tree.to_plain()) == tree
    first, second = tree.run(TEXT, stream(4)), op_from_plain(tree.to_plain()).run(TEXT, stream(4))
    assert first is not None
    assert first[0].text == second[0].text


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        ({"op": "nope"}, ["nope", "word_dropout"]),
        ({"op": "crop", "keep_rnge": [0, 1]}, ["crop.keep_rnge", "keep_range"]),
        ({"op": "crop", "keep_range": [0.9, 0.1]}, ["crop.keep_range", "low, high"]),
        ({"op": "crop", "keep_range": [0.9, 1.1]}, ["crop.keep_range", "1.1"]),
        ({"op": "crop", "p": 2}, ["crop.p", "2"]),
        ({"op": "compose", "ops": [{"op": "crop"}, {"op": "word_swap"}]}, ["compose", "one pipeline"]),
        ({"op": "one_of", "ops": [{"op": "crop", "min_keep": 0}]}, ["one_of.ops[0]", "crop.min_keep"]),
        ({"op": "compose", "ops": 3}, ["compose.ops", "list"]),
        ("crop", ["table"]),
    ],
)
def test_errors_name_op_and_field(plain: object, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        op_from_plain(plain)
    assert all(word in str(caught.value) for word in words), str(caught.value)
