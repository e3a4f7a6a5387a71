"""Columns that are made when they are read: as lists are, whatever was taken, kept and joined before."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from recsys.augment.columns.lazy import Column, Made, Numbers, Plans, Strings, joined, strings_of, taken
from recsys.augment.grow import Grown, concatenated
from recsys.augment.op import Plan
from recsys.augment.provenance import plan_json
from recsys.augment.registry import op_from_plain

OP = op_from_plain({"op": "word_dropout"})
PLANS = [Plan("word_dropout", ((i, i + 2),)) for i in range(5)]
LISTS = {
    "strings": ["a", "b", "", "ä", "e"],
    "numbers": [0.25, 1.0, 0.1, 3.0, 4.0],
    "plans": PLANS,
    "made": ["0", "1", "4", "9", "16"],
}


def column_of(kind: str) -> Column[object]:
    columns = {
        "strings": Strings(pa.array(LISTS["strings"])),
        "numbers": Numbers(np.array(LISTS["numbers"])),
        "plans": Plans(OP, Strings(pa.array([plan_json(plan) for plan in PLANS]))),
        "made": Made(np.arange(5), lambda rows: [str(row**2) for row in rows.tolist()]),
    }
    return columns[kind]


@pytest.mark.parametrize("kind", sorted(LISTS))
def test_a_column_reads_as_its_list(kind: str) -> None:
    column, plain = column_of(kind), LISTS[kind]
    assert list(column) == plain == column[:]
    assert len(column) == 5
    assert (column[1], column[-1], column[1:3]) == (plain[1], plain[-1], plain[1:3])
    assert type(column[1]) is type(plain[1])
    assert list(taken(column, [4, 0])) == [plain[4], plain[0]] == taken(plain, [4, 0])


@pytest.mark.parametrize("kind", sorted(LISTS))
def test_joined_columns_read_as_joined_lists(kind: str) -> None:
    both = joined([column_of(kind), taken(column_of(kind), [3, 2])])
    plain = [*LISTS[kind], LISTS[kind][3], LISTS[kind][2]]
    assert list(both) == plain
    assert list(taken(both, [6, 1, 5])) == [plain[6], plain[1], plain[5]]
    mixed = joined([column_of(kind), LISTS[kind][:2]])
    assert list(taken(mixed, [6, 0])) == [plain[1], plain[0]]


def test_plans_stay_texts_and_texts_stay_arrays() -> None:
    both = joined([column_of("plans"), column_of("plans")])
    assert isinstance(both, Plans)
    assert strings_of(both.texts).to_pylist() == 2 * [plan_json(plan) for plan in PLANS]
    assert strings_of(["x"]).to_pylist() == ["x"]


def test_values_are_made_once_and_only_when_read() -> None:
    asked: list[int] = []

    def make(rows: np.ndarray) -> list[int]:
        asked.append(len(rows))
        return rows.tolist()

    column = Made(np.arange(9), make).take(np.array([8, 2]))
    assert len(column) == 2
    assert asked == []
    assert (list(column), column[0], asked) == ([8, 2], 8, [2])


def test_grown_parts_are_one_after_the_other() -> None:
    parts = [
        Grown(
            parents=[0, 1],
            row_ids=Strings(pa.array(["a~1", "b~1"])),
            modification=Numbers(np.array([0.5, 0.1])),
        ),
        Grown(parents=[2], row_ids=["c~1"], modification=[0.25]),
    ]
    for number, part in enumerate(parts):
        rest = Made(np.array(part.parents), lambda rows: rows.tolist())
        part.parent_ids = part.originals = part.children = part.plans = part.chains = rest
        part.counts.update(rows=3, accepted=2 - number)
    whole = concatenated(parts)
    assert (list(whole.parents), list(whole.row_ids)) == ([0, 1, 2], ["a~1", "b~1", "c~1"])
    assert (list(whole.modification), whole.counts["rows"]) == ([0.5, 0.1, 0.25], 6)
    whole.keep([2, 0])
    assert (list(whole.row_ids), list(whole.modification)) == (["c~1", "a~1"], [0.25, 0.5])
