"""Items that stand in for one another because their texts are alike: who is near, and which ops ask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from recsys.augment.example import HistoryExample, Item
from recsys.augment.expand import expand_contexts
from recsys.augment.history import Insert, Substitute
from recsys.augment.neighbours import text_neighbours
from recsys.augment.policy import Policy, policy_from_plain
from recsys.cli import main
from recsys.contexts import Contexts, Vocabulary
from recsys.errors import LeakageError
from recsys.randomness import stream

GROUPS, SIZE = 10, 5
NUM_ITEMS = GROUPS * SIZE + 2
"""Ten groups of five texts that are alike; then a twin of item 0, and an item that no row has."""
VOCABULARY = Vocabulary([f"i{row}" for row in range(NUM_ITEMS)])


def group_vectors() -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    rows = np.zeros((NUM_ITEMS, GROUPS * 2 + NUM_ITEMS))
    for row in range(NUM_ITEMS - 2):
        rows[row, row // SIZE] = 1.0
        rows[row, GROUPS + row] = 0.6 + 0.1 * rng.random()
    rows[NUM_ITEMS - 2] = rows[0]
    rows[NUM_ITEMS - 2, GROUPS] += 0.05
    rows[NUM_ITEMS - 1] = rows[1]
    rows[NUM_ITEMS - 1, GROUPS + 2] = 0.4
    unit: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def strangers(count: int = 80, role: str = "fit") -> Contexts:
    """Everybody has other items, so that nothing goes together by co-visitation; the last item is not met."""
    rng = np.random.default_rng(2)
    rows = np.stack([rng.permutation(NUM_ITEMS - 1)[:7] for _ in range(count)])
    return Contexts(
        user_ids=np.array([f"u{i}" for i in range(count)]),
        moments=np.full(count, 1_000, np.int64),
        history_offsets=np.arange(0, 6 * count + 1, 6, dtype=np.int64),
        history_rows=rows[:, :6].reshape(-1).astype(np.int64),
        history_events=np.zeros(6 * count, np.int64),
        history_timestamps=np.tile(np.arange(6, dtype=np.int64), count),
        target_offsets=np.arange(count + 1, dtype=np.int64),
        target_rows=rows[:, 6].astype(np.int64),
        target_weights=np.ones(count, np.float32),
        weights=np.ones(count, np.float32),
        parents=np.full(count, -1, np.int64),
        role="fit" if role == "fit" else "held_out",
    )


def by_text(op: str = "substitute") -> Policy:
    ops = [{"op": op, "by": "text", "rate_range": [0.3, 0.6]}]
    return policy_from_plain(
        {"name": "alike", "history": {"ops": ops, "acceptance": {"max_modification": 1.0}}}
    )


def test_neighbours_are_of_the_same_group_and_no_twin_nor_stranger_is_among_them() -> None:
    near = text_neighbours(strangers(), group_vectors())
    assert set(near) == set(range(NUM_ITEMS - 1))
    for item, others in near.items():
        row = int(item)
        group = 0 if row == NUM_ITEMS - 2 else row // SIZE
        rest = set(range(group * SIZE, group * SIZE + SIZE)) - {row}
        twins = {0, NUM_ITEMS - 2}
        wanted = rest - twins if row in twins else rest | (twins if group == 0 else set())
        assert set(others) == wanted - {row}
    cosines = group_vectors() @ group_vectors().T
    assert all(list(o) == sorted(o, key=lambda j: -cosines[int(i), int(j)]) for i, o in near.items())
    assert text_neighbours(strangers(), group_vectors(), top=2)[7] == near[7][:2]


def test_only_training_rows_say_who_is_there() -> None:
    with pytest.raises(LeakageError):
        text_neighbours(strangers(role="held_out"), group_vectors())
    rows = strangers(3)
    met = {*rows.history_rows.tolist(), *rows.target_rows.tolist()}
    near = text_neighbours(rows, group_vectors())
    assert {int(other) for others in near.values() for other in others} <= met


@pytest.mark.parametrize("op", ["substitute", "insert"])
def test_an_expansion_asks_for_texts_only_where_an_op_does(op: str) -> None:
    contexts, vectors = strangers(), group_vectors()
    grown = expand_contexts(contexts, VOCABULARY, by_text(op), 0, created=0, text_vectors=vectors)
    assert grown.counts["accepted"] > 60
    for child in range(len(contexts), len(grown.contexts)):
        before = set(contexts.history(int(grown.contexts.parents[child])).rows.tolist())
        new = set(grown.contexts.history(child).rows.tolist()) - before
        assert new
        assert new.isdisjoint(grown.contexts.targets(child).tolist())
        groups = {0 if row == NUM_ITEMS - 2 else row // SIZE for row in before}
        assert {0 if row == NUM_ITEMS - 2 else row // SIZE for row in new} <= groups
    blind = expand_contexts(contexts, VOCABULARY, by_text(op), 0, created=0)
    assert blind.counts["accepted"] == 0
    assert blind.counts["skipped:text_neighbours"] == len(contexts)


def test_both_lists_are_drawn_from() -> None:
    near: dict[Item, tuple[Item, ...]] = {i: (i + 20, i + 21) for i in range(9)}
    alike: dict[Item, tuple[Item, ...]] = {i: (i + 40, i + 20) for i in range(9)}
    row = HistoryExample("u", tuple(range(9)), (0,) * 9, tuple(range(9)), (60,), near, text_neighbours=alike)
    kinds: dict[str, set[int]] = {}
    for by in ("covisitation", "text", "both"):
        op = Substitute.model_validate({"by": by, "rate_range": (1.0, 1.0), "top": 2})
        found = kinds.setdefault(by, set())
        for seed in range(40):
            plan = op.plan(row, stream(seed, "x"))
            assert plan is not None
            found |= {int(item) - position for position, item in zip(*plan.values, strict=True)}
    assert kinds == {"covisitation": {20, 21}, "text": {40, 20}, "both": {20, 21, 40}}


def test_the_setting_decides_what_is_read() -> None:
    assert Substitute().needs == {"neighbours"}
    assert Insert(by="text").needs == {"text_neighbours"}
    assert by_text().history.needs == {"text_neighbours"}
    assert policy_from_plain(by_text().to_plain()) == by_text()


def test_the_command_encodes_where_an_op_asks(tmp_path: Path) -> None:
    things = ["mug", "lamp", "shirt", "towel", "candle", "puzzle", "scarf", "teapot", "wallet", "kettle"]
    kinds = "red cotton|tall glass|old wooden|small travel|soft grey|kids party|garden|winter|sports|office"
    ends = ["for the kitchen", "gift set", "by hand", "with a lid"]
    titles = [f"{kind} {thing} {end}" for thing in things for kind in kinds.split("|") for end in ends]
    ids = [f"i{row}" for row in range(len(titles))]
    pd.DataFrame({"item_id": ids, "title": titles}).to_parquet(tmp_path / "items.parquet")
    events = [(f"u{u}", ids[(u * 31 + s * 7) % 400], 1_600_000_000 + s) for u in range(90) for s in range(6)]
    frame = pd.DataFrame(events, columns=["user_id", "item_id", "timestamp"])
    frame.to_parquet(tmp_path / "interactions.parquet")
    (tmp_path / "mine.toml").write_text(by_text().to_toml())
    out = tmp_path / "out"
    policy = str(tmp_path / "mine.toml")
    assert main(["augment", "run", "--data", str(tmp_path), "--policy", policy, "--out", str(out)]) == 0
    assert pq.read_table(out / "provenance.parquet").num_rows > 5
