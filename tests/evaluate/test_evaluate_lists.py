from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest

from recsys.contexts import Contexts, Vocabulary
from recsys.errors import InputError, LeakageError
from recsys.evaluate.answers import (
    AnswerSheet,
    Histories,
    ItemSets,
    answer_sheet,
    answers_from_contexts,
)
from recsys.evaluate.evaluate import compare, evaluate_lists
from recsys.evaluate.ranked import clean_lists, lists_from_frame, lists_to_frame
from recsys.evaluate.segments import item_segments

Split = tuple[AnswerSheet, Histories]


def small() -> AnswerSheet:
    history = pd.DataFrame(
        [("a", "x", 1), ("a", "y", 2), ("b", "x", 3), ("c", "z", 4), ("c", "x", 5)],
        columns=["user_id", "item_id", "timestamp"],
    )
    truth = pd.DataFrame([("a", "x"), ("a", "z"), ("b", "w"), ("d", "x")], columns=["user_id", "item_id"])
    return answer_sheet(history, truth, ["w", "x", "y", "z"])


def table(rows: list[tuple[str, str, float]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["user_id", "item_id", "rank"])


def test_sheet_holds_users_of_both_sides() -> None:
    sheet = small()
    assert list(sheet.users) == ["a", "b"]
    assert sheet.truth.rows.tolist() == [1, 3, 0]
    assert sheet.histories.rows.tolist() == [1, 2, 1]
    assert sheet.item_counts.tolist() == [0, 3, 1, 1]
    assert sheet.history_counts.tolist() == [2, 1]


def test_tasks_differ_in_what_the_user_had() -> None:
    sheet = small()
    lists = table([("a", "x", 1), ("a", "y", 2), ("a", "z", 3), ("b", "w", 1)])
    everything = evaluate_lists(lists, sheet, "all", ks=(1, 2))
    assert everything["recall@1"].mean == pytest.approx((0.5 + 1) / 2)
    novel = evaluate_lists(lists, sheet, "novel", ks=(1, 2))
    assert novel["hit@1"].mean == 1  # x and y go, z moves up


def test_array_and_table_forms_agree(split: Split) -> None:
    sheet, _ = split
    random = np.random.Generator(np.random.PCG64(1))
    lists = np.stack([random.permutation(len(sheet.items))[:30] for _ in range(len(sheet))])
    lists[4, 10:] = -1
    frame = lists_to_frame(lists, sheet.users, sheet.items).sample(frac=1, random_state=0)
    for task in ("all", "novel"):
        by_array = evaluate_lists(lists, sheet, task, replicates=50)
        by_table = evaluate_lists(frame, sheet, task, replicates=50)
        assert by_array.to_dict() == by_table.to_dict()


def test_duplicates_keep_their_best_rank_and_take_no_place() -> None:
    sheet = small()
    frame = table([("a", "y", 1), ("a", "y", 2), ("a", "x", 3), ("a", "y", 0.5)])
    assert lists_from_frame(frame, sheet, 3)[0].tolist() == [2, 1, -1]
    assert clean_lists(np.array([[2, 2, 1]]), 4, 3)[0].tolist() == [2, 1, -1]
    assert clean_lists(np.array([[-1, 2, 1, 0]]), 4, 2)[0].tolist() == [2, 1]


def test_a_user_without_a_list_counts_zero() -> None:
    evaluation = evaluate_lists(table([("b", "w", 1)]), small(), ks=(1,))
    assert evaluation["hit@1"].mean == 0.5


def test_segments_partition_users_and_answers(split: Split) -> None:
    sheet, _ = split
    lists = np.tile(np.arange(len(sheet.items)), (len(sheet), 1))
    evaluation = evaluate_lists(lists, sheet, replicates=0)
    history = [part for part in evaluation.segments if part.dimension == "history"]
    assert sum(map(len, history)) == len(evaluation.users)
    weighted = sum(part.figures["ndcg@10"].mean * len(part) for part in history if len(part))
    assert weighted / len(evaluation.users) == pytest.approx(evaluation["ndcg@10"].mean)
    assert len(evaluation.segment("coldness", "0")) > 0
    with pytest.raises(KeyError, match="coldness nothing"):
        evaluation.segment("coldness", "nothing")


def test_item_segment_counts_only_its_answers() -> None:
    sheet = small()
    parts = item_segments("category", ["tea", "", "tea", "cups"])
    assert [part.label for part in parts] == ["tea", "cups"]
    lists = table([("a", "z", 1), ("b", "z", 1)])
    evaluation = evaluate_lists(lists, sheet, ks=(1,), segments=parts)
    assert evaluation.segment("category", "cups").figures["recall@1"].mean == 1
    assert evaluation.segment("category", "tea").figures["recall@1"].mean == 0
    assert len(evaluation.segment("category", "tea")) == 1


def test_compare_is_paired_and_antisymmetric(split: Split) -> None:
    sheet, _ = split
    good = sheet.truth
    lists = np.full((len(sheet), 20), -1, np.int64)
    for user in range(len(sheet)):
        own = good.rows[good.offsets[user] : good.offsets[user + 1]][:20]
        lists[user, : len(own)] = own
    best = evaluate_lists(lists, sheet, name="best")
    worse = evaluate_lists(lists[:, ::-1].copy()[:, :2], sheet, name="worse")
    forward, back = compare(best, worse), compare(worse, best)
    assert forward["ndcg@10"].low > 0
    assert forward["ndcg@10"].mean == pytest.approx(best["ndcg@10"].mean - worse["ndcg@10"].mean)
    assert back["ndcg@10"].mean == pytest.approx(-forward["ndcg@10"].mean)
    assert back["ndcg@10"].low == pytest.approx(-forward["ndcg@10"].high, abs=1e-6)
    nothing = compare(best, best)
    assert (nothing["ndcg@10"].low, nothing["ndcg@10"].high) == (0, 0)


def test_compare_refuses_other_cases(split: Split) -> None:
    sheet, _ = split
    lists = np.tile(np.arange(20), (len(sheet), 1))
    with pytest.raises(ValueError, match="same cases"):
        compare(evaluate_lists(lists, sheet, "all"), evaluate_lists(lists, sheet, "novel"))
    with pytest.raises(ValueError, match="is another"):
        compare(evaluate_lists(lists, sheet), evaluate_lists(lists, sheet, ks=(5,)))


def test_augmented_rows_are_refused_everywhere() -> None:
    sheet = small()
    lists = table([("a", "x", 1), ("b", "x", 1)]).assign(parent_id=[None, "r17"])
    with pytest.raises(LeakageError, match=r"1 augmented rows.*'r17'"):
        evaluate_lists(lists, sheet)
    evaluate_lists(lists.assign(parent_id=None), sheet)  # a column of nulls says: all originals
    history = pd.DataFrame({"user_id": ["a"], "item_id": ["x"], "timestamp": [1]})
    truth = pd.DataFrame({"user_id": ["a"], "item_id": ["x"]})
    for frames in ((history.assign(parent_id=3), truth), (history, truth.assign(parent_id=3))):
        with pytest.raises(LeakageError):
            answer_sheet(*frames, ["x"])
    with pytest.raises(LeakageError, match="augmented"):
        answers_from_contexts(contexts(parents=[-1, 0]), Vocabulary(["w", "x"]), np.array([1, 1]))


def contexts(parents: list[int]) -> Contexts:
    n = len(parents)
    whole = np.arange(n + 1)
    return Contexts(
        user_ids=np.array(["a"] * n),
        moments=np.arange(n),
        history_offsets=whole,
        history_rows=np.zeros(n, np.int64),
        history_events=np.zeros(n, np.int64),
        history_timestamps=np.zeros(n, np.int64),
        target_offsets=whole,
        target_rows=np.ones(n, np.int64),
        target_weights=np.ones(n, np.float32),
        weights=np.ones(n, np.float32),
        parents=np.array(parents),
        role="held_out",
    )


def test_contexts_are_cases_of_their_users() -> None:
    sheet = answers_from_contexts(contexts([-1, -1, -1]), Vocabulary(["w", "x"]), np.array([3, 0]))
    evaluation = evaluate_lists(np.array([[1], [0], [1]]), sheet, "novel", ks=(1,))
    assert evaluation["hit@1"].mean == pytest.approx(2 / 3)
    # one user: every resample is that user, so the interval has no width
    assert (evaluation["hit@1"].low, evaluation["hit@1"].high) == pytest.approx((2 / 3, 2 / 3))
    with pytest.raises(ValueError, match="one case per user"):
        evaluate_lists(table([("a", "x", 1)]), sheet)


def test_bad_lists_are_explained() -> None:
    sheet = small()
    with pytest.raises(InputError, match=r"item_id.*outside the catalogue \(1 row\).*'q'"):
        evaluate_lists(table([("a", "q", 1), ("a", "x", 2)]), sheet)
    with pytest.raises(InputError, match="no list is for a user"):
        evaluate_lists(table([("nobody", "x", 1)]), sheet)
    with pytest.raises(InputError, match="ranks that are not numbers"):
        evaluate_lists(table([("a", "x", 1)]).assign(rank="first"), sheet)
    with pytest.raises(ValueError, match="task must be"):
        evaluate_lists(table([("a", "x", 1)]), sheet, "some")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="3 lists for 2 cases"):
        evaluate_lists(np.zeros((3, 1), np.int64), sheet)


def test_nobody_left_gives_undefined_figures_and_plain_json() -> None:
    sheet = small()
    none = AnswerSheet(
        sheet.users, sheet.items, ItemSets(np.zeros(3, np.int64), np.empty(0, np.int64)),
        sheet.histories, sheet.history_counts, sheet.item_counts,
    )  # fmt: skip
    evaluation = evaluate_lists(table([("a", "x", 1)]), none)
    assert np.isnan(evaluation["ndcg@10"].mean)
    assert evaluation.to_dict()["metrics"]["ndcg@10"] == {"mean": None, "low": None, "high": None}


def test_catalogue_metrics(split: Split, vectors: np.ndarray) -> None:
    sheet, _ = split
    lists = np.tile(np.arange(50), (len(sheet), 1))
    evaluation = evaluate_lists(lists, sheet, vectors=vectors, ks=(10, 50))
    expected = {f"{n}@{k}" for n in ("coverage", "gini", "novelty", "popularity_bias") for k in (10, 50)}
    assert set(evaluation.catalogue) == expected | {"diversity@10"}
    assert evaluation.catalogue["coverage@10"].mean == pytest.approx(10 / 60)
    assert evaluation.catalogue["coverage@50"].mean == pytest.approx(50 / 60)


def test_twenty_two_thousand_users_take_about_a_second() -> None:
    random = np.random.Generator(np.random.PCG64(0))
    num_users, num_items = 22_000, 12_000
    users, items = random.integers(0, num_users, 180_000), random.integers(0, num_items, 180_000)
    sheet = AnswerSheet(
        users=pd.Index([f"u{i}" for i in range(num_users)]),
        items=pd.Index([f"i{i}" for i in range(num_items)]),
        truth=ItemSets.from_pairs(users[:60_000], items[-60_000:], num_users, num_items),
        histories=Histories.from_events(users, items, np.zeros(180_000, np.int64), num_users),
        history_counts=np.bincount(users, minlength=num_users),
        item_counts=np.bincount(items, minlength=num_items),
    )
    lists = random.integers(0, num_items, (num_users, 50))
    start = time.process_time()
    evaluation = evaluate_lists(lists, sheet, "novel")
    assert time.process_time() - start < 8  # about 1.5 s; the bound is for slow machines
    assert len(evaluation.users) > 15_000
