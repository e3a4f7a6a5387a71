"""By columns an op gives what it gives row by row: the same rows, ids, plans, chains, counts, refusals.

One line per op that has a column form, and a test that no form is missing here.
"""

from __future__ import annotations

import itertools
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.augment.columns import spans
from recsys.augment.columns.histories import SideColumns
from recsys.augment.columns.histories_grow import HISTORY_FORMS, by_columns, context_rows, grow_rows
from recsys.augment.example import Event
from recsys.augment.examples import context_examples
from recsys.augment.gates.gate import Evidence
from recsys.augment.gates.panel import gate_from_plain, sift
from recsys.augment.grow import Grown, grow
from recsys.augment.lending import HistorySide, history_side
from recsys.augment.neighbours import fit_covisitation
from recsys.augment.policy import Policy, policy_from_plain
from recsys.augment.provenance import parse_plan, provenance_table
from recsys.augment.shards import flat_histories
from recsys.contexts import Contexts

NUM_ITEMS = 30
USERS = ("u0", 'ü"\\', "u1", "u2", "u3")
OPS: dict[str, list[dict[str, Any]]] = {
    "backward_extension": [{}, {"max_length": 14, "min_confidence": 0.01, "taper": (2, 12)}],
    "borrow": [{}, {"max_length": 16, "count_range": (2, 6), "taper": (4, 15)}],
    "counterfactual": [{}, {"rate_range": (0.3, 1.0), "top": 2, "min_length": 1}],
    "crop": [{}, {"keep_range": (0.1, 0.9), "part": "any", "taper": (3, 9), "min_length": 1, "min_keep": 1}],
    "cross_domain_borrow": [{}, {"max_length": 16, "count_range": (0, 4)}],
    "insert": [
        {},
        {"by": "text", "rate_range": (0.3, 1.0)},
        {"by": "both", "top": 2, "rate_range": (0.6, 1.0)},
    ],
    "item_dropout": [{}, {"rate_range": (0.2, 1.0), "keep_newest": 0, "min_keep": 1, "min_length": 1}],
    "mask": [{}, {"rate_range": (0.3, 1.0), "keep_newest": 0, "min_keep": 1, "taper": (2, 12)}],
    "reorder": [{}, {"rate_range": (0.5, 1.0), "window_seconds": 2, "min_length": 1}],
    "social_borrow": [{}, {"max_length": 16, "count_range": (3, 3)}],
    "sub_history": [{}, {"decay": 1.0, "keep_range": (0.1, 0.9)}, {"decay": 0.3, "min_keep": 1}],
    "substitute": [{}, {"by": "text", "top": 1}, {"by": "both", "rate_range": (0.3, 1.0), "keep_newest": 0}],
}
"""Settings of each op that has a column form."""


def composites() -> list[dict[str, Any]]:
    leaves = [{"op": name, **OPS[name][-1]} for name in sorted(OPS)]
    return [
        {"op": "one_of", "p": 0.7, "weights": [float(i % 3) for i in range(len(leaves))], "ops": leaves},
        {"op": "one_of", "ops": leaves},
        {"op": "some_of", "count_range": (0, 3), "ops": leaves},
        {
            "op": "compose",
            "ops": [*leaves, {"op": "some_of", "count_range": (1, 9), "p": 0.5, "ops": leaves[:2]}],
        },
        {"op": "compose", "ops": [{"op": "one_of", "ops": []}, {"op": "some_of", "ops": []}, leaves[0]]},
    ]


GATED = [
    {"op": "substitute", "rate_range": (0.3, 1.0), "min_length": 1},
    {"op": "mask", "p": 0.5, "min_length": 1},
    {"op": "insert", "p": 0.5},
    {"op": "crop", "p": 0.5},
]
"""Ops after which gates have much to say."""
CASES = [
    *(
        {"op": name, "p": p, **one}
        for name, lines in sorted(OPS.items())
        for one in lines
        for p in (1.0, 0.6)
    ),
    *composites(),
]


Rows = list[tuple[list[int], list[int]]]
"""Histories and their targets."""


def table(rows: Rows, gaps: list[int], codes: list[int]) -> Contexts:
    """Contexts of these rows; gaps between events, and event types."""
    sizes, wanted = [len(history) for history, _ in rows], [len(targets) for _, targets in rows]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    times = [np.cumsum(gaps[low:high]) + 100 for low, high in itertools.pairwise(offsets.tolist())]
    return Contexts(
        user_ids=np.array([USERS[i % len(USERS)] for i in range(len(rows))], np.str_),
        moments=np.array([1000 + i for i in range(len(rows))], np.int64),
        history_offsets=offsets,
        history_rows=np.array([item for history, _ in rows for item in history], np.int64),
        history_events=np.array(codes, np.int64),
        history_timestamps=np.array([time for part in times for time in part], np.int64),
        target_offsets=np.concatenate([[0], np.cumsum(wanted)]).astype(np.int64),
        target_rows=np.array([item for _, targets in rows for item in targets], np.int64),
        target_weights=np.ones(sum(wanted), np.float32),
        weights=np.ones(len(rows), np.float32),
        parents=np.full(len(rows), -1, np.int64),
    )


@st.composite
def tables(draw: st.DrawFn) -> Contexts:
    """Contexts with repeats and ties, empty histories, and several targets that may have been met before."""
    items = st.integers(0, NUM_ITEMS - 1)
    row = st.tuples(st.lists(items, max_size=14), st.lists(items, min_size=1, max_size=3))
    rows = draw(st.lists(row, max_size=8))
    events = sum(len(history) for history, _ in rows)
    gaps = draw(st.lists(st.integers(0, 3), min_size=events, max_size=events))
    return table(rows, gaps, draw(st.lists(st.integers(0, 2), min_size=events, max_size=events)))


def world(count: int = 120) -> Contexts:
    """Rows of all lengths to 16 that hardly repeat an item."""
    draw = Random(5)
    rows = [
        (draw.sample(range(NUM_ITEMS), i % 17), draw.sample(range(NUM_ITEMS), 1 + i % 2))
        for i in range(count)
    ]
    events = sum(len(history) for history, _ in rows)
    return table(rows, draw.choices(range(4), k=events), draw.choices(range(3), k=events))


def side_of(contexts: Contexts) -> HistorySide:
    """Lists of different lengths, that meet each other and leave some items without any."""
    near = {
        i: tuple((i + step) % NUM_ITEMS for step in range(1, 2 + i % 8)) for i in range(NUM_ITEMS) if i % 5
    }
    alike = {i: tuple((i + step) % NUM_ITEMS for step in range(3, 6)) for i in range(0, NUM_ITEMS, 2)}
    earlier = {
        i: tuple(((i + step) % NUM_ITEMS, 0.7 / (step + i % 3)) for step in range(1, 5))
        for i in range(NUM_ITEMS)
        if i % 4
    }
    friends = {user: ["u1", "nobody", "u0", "u2"] for user in USERS[1:]}
    elsewhere = {
        user: [Event((7 * i) % NUM_ITEMS, i % 3, 98 + 3 * i) for i in range(14)] for user in USERS[:2]
    }
    needs = frozenset({"similar", "friends", "elsewhere"})
    side = history_side(contexts, NUM_ITEMS, needs, near, friends, elsewhere)
    return side._replace(earlier=earlier, text_neighbours=alike)


def both(
    contexts: Contexts, policy: Policy, side: HistorySide, start: int, stop: int
) -> tuple[Grown[Any], Grown[Any]]:
    """Row by row, and by columns."""
    branch, policy_id = policy.history, policy.policy_id
    assert by_columns(branch)
    alone = grow(context_examples(contexts, start, stop, side), branch, 7, "history", policy_id, start)
    rows = context_rows(contexts, start, stop, SideColumns(side, NUM_ITEMS))
    return alone, grow_rows(rows, branch, 7, policy_id, start)


def assert_same(alone: Grown[Any], columns: Grown[Any], policy: Policy) -> None:
    for name in (
        "parents",
        "row_ids",
        "parent_ids",
        "originals",
        "children",
        "plans",
        "chains",
        "modification",
    ):
        assert list(getattr(columns, name)) == getattr(alone, name), name
    assert columns.counts == alone.counts
    assert columns.refusals == alone.refusals
    for left, right in zip(
        flat_histories(columns.children)[1], flat_histories(alone.children)[1], strict=True
    ):
        assert left.tolist() == right.tolist()
    said = [
        provenance_table(
            kind="history", row_ids=one.row_ids, parent_ids=one.parent_ids, policy_id="p", plans=one.plans,
            seed=7, scores={"modification": one.modification}, created=5, chains=one.chains,
        )
        for one in (alone, columns)
    ]  # fmt: skip
    assert said[0].equals(said[1])
    ops = policy.history.ops
    for original, child, plan in zip(
        columns.originals, columns.children, said[1]["plan"].to_pylist(), strict=True
    ):
        assert ops.apply(original, parse_plan(ops, plan)) == child


def policy_of(case: dict[str, Any], copies: int = 2) -> Policy:
    acceptance = {"min_length": 2, "max_modification": 0.6}
    return policy_from_plain(
        {"name": "case", "history": {"ops": [case], "copies": copies, "acceptance": acceptance}}
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["op"]))
@settings(max_examples=30, deadline=None)
@given(contexts=tables())
def test_columns_are_the_rows_one_by_one(case: dict[str, Any], contexts: Contexts) -> None:
    policy = policy_of(case)
    assert_same(*both(contexts, policy, side_of(contexts), 0, len(contexts)), policy)


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["op"]))
def test_each_case_edits_rows_and_leaves_others(case: dict[str, Any]) -> None:
    contexts = world()
    alone, columns = both(contexts, policy_of(case), side_of(contexts), 0, len(contexts))
    assert len(columns.children) == alone.counts["accepted"] > 5
    assert alone.counts["left_alone"] > 0
    assert_same(alone, columns, policy_of(case))
    assert_same(*both(contexts, policy_of(case), HistorySide(), 0, len(contexts)), policy_of(case))


@pytest.mark.parametrize("gate", ["label_consistency", "related"])
@settings(max_examples=60, deadline=None)
@given(contexts=tables(), bound=st.floats(0.05, 1.0))
def test_gates_say_of_columns_what_they_say_of_rows(gate: str, contexts: Contexts, bound: float) -> None:
    bounds = {"label_consistency": "min_ratio", "related": "min_share"}
    judge = gate_from_plain({"gate": gate, bounds[gate]: bound})
    policy = policy_from_plain(
        {"name": "case", "history": {"ops": GATED, "copies": 3, "acceptance": {"max_modification": 1.0}}}
    )
    evidence = Evidence(covisitation=fit_covisitation(contexts, NUM_ITEMS, min_users=1))
    alone, columns = both(contexts, policy, side_of(contexts), 0, len(contexts))
    for one in (alone, columns):
        sift(one, [judge], evidence)
    assert list(columns.scores[gate]) == list(alone.scores[gate])
    assert_same(alone, columns, policy)


@settings(max_examples=30, deadline=None)
@given(contexts=tables(), cut=st.integers(0, 8))
def test_any_split_gives_the_same_rows(contexts: Contexts, cut: int) -> None:
    policy, cut = policy_of(composites()[3], 1), min(cut, len(contexts))
    side = side_of(contexts)
    _, whole = both(contexts, policy, side, 0, len(contexts))
    parts = [both(contexts, policy, side, *span)[1] for span in ((0, cut), (cut, len(contexts)))]
    assert [row for part in parts for row in part.row_ids] == list(whole.row_ids)
    assert [row for part in parts for row in part.children] == list(whole.children)
    assert [row for part in parts for row in part.parents] == list(whole.parents)


@settings(max_examples=30, deadline=None)
@given(contexts=tables(), keep=st.lists(st.booleans(), min_size=60, max_size=60))
def test_rows_are_kept_in_every_column(contexts: Contexts, keep: list[bool]) -> None:
    policy = policy_of(composites()[3], 3)
    alone, columns = both(contexts, policy, side_of(contexts), 0, len(contexts))
    rows = [i for i in range(len(alone.row_ids)) if keep[i % len(keep)]]
    alone.keep(rows)
    columns.keep(np.array(rows, np.int64))
    assert_same(alone, columns, policy)


def test_long_lists_are_read_as_short_ones_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "_WIDEST", 2)
    contexts = world()
    for name in ("counterfactual", "insert", "substitute", "backward_extension"):
        policy = policy_of({"op": name, **OPS[name][-1]})
        assert_same(*both(contexts, policy, side_of(contexts), 0, len(contexts)), policy)


def test_neighbours_may_be_items_that_nobody_had() -> None:
    contexts, far = world(), HistorySide({i: (NUM_ITEMS + 5 + i, i) for i in range(NUM_ITEMS)})
    ops = [{"op": name, "rate_range": (0.5, 1.0)} for name in ("insert", "substitute")]
    policy = policy_of({"op": "compose", "ops": ops})
    assert_same(*both(contexts, policy, far, 0, len(contexts)), policy)


def test_every_form_is_here_and_a_subclass_has_none() -> None:
    assert {op.name for op in HISTORY_FORMS} == set(OPS)
    branch = policy_of(CASES[0]).history

    class Harmful(type(branch.ops.ops[0])):  # type: ignore[misc]
        pass

    assert not by_columns(
        branch.model_copy(update={"ops": branch.ops.model_copy(update={"ops": (Harmful(),)})})
    )
