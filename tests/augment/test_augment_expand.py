from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from recsys.augment import expand
from recsys.augment.examples import context_examples, text_examples
from recsys.augment.expand import expand_contexts, expand_texts
from recsys.augment.explain import explain, replay, word_diff
from recsys.augment.neighbours import covisitation_neighbours
from recsys.augment.policy import Policy, load_policy, policy_from_plain
from recsys.augment.provenance import SCHEMA
from recsys.contexts import Contexts, Vocabulary
from recsys.errors import InputError, LeakageError

NUM_ITEMS = 60
VOCABULARY = Vocabulary([f"i{row}" for row in range(NUM_ITEMS)])
EVERYTHING = policy_from_plain(
    {
        "name": "everything",
        "history": {
            "copies": 2,
            "ops": [
                {"op": "item_dropout", "p": 0.7},
                {"op": "some_of", "count_range": [1, 2], "ops": [{"op": "substitute"}, {"op": "insert"}]},
                {"op": "one_of", "ops": [{"op": "crop"}, {"op": "reorder", "window_seconds": 10**6}]},
            ],
        },
        "text": {
            "copies": 2,
            "ops": [
                {"op": "attribute_backfill"},
                {"op": "word_dropout"},
                {"op": "one_of", "ops": [{"op": "word_swap"}, {"op": "clause_shuffle"}]},
            ],
        },
    }
)


def contexts_of(count: int = 200, role: str = "fit") -> Contexts:
    rng = np.random.default_rng(3)
    lengths = rng.integers(0, 15, count)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    targets = rng.integers(1, 3, count)
    target_offsets = np.concatenate([[0], np.cumsum(targets)]).astype(np.int64)
    times = np.concatenate([np.sort(rng.integers(0, 9000, n)) for n in lengths]).astype(np.int64)
    return Contexts(
        user_ids=np.array([f"u{i}" for i in range(count)]),
        moments=np.full(count, 10_000, np.int64),
        history_offsets=offsets,
        history_rows=rng.integers(0, NUM_ITEMS // 2, offsets[-1]),
        history_events=rng.integers(0, 4, offsets[-1]),
        history_timestamps=times,
        target_offsets=target_offsets,
        target_rows=rng.integers(NUM_ITEMS // 2, NUM_ITEMS, target_offsets[-1]),
        target_weights=np.ones(target_offsets[-1], np.float32),
        weights=np.ones(count, np.float32),
        parents=np.full(count, -1, np.int64),
        role=role,  # type: ignore[arg-type]
    )


ITEMS = pd.DataFrame(
    {
        "item_id": ["a", "b", "c", "d", "e", "f"],
        "title": ["Mug", "", "Warm winter coat for men and boys, very soft inside", "红色杯子", "мяч", ""],
        "brand": ["Acme", "Acme", "", "耐克", "", ""],
        "category": ["Kitchen|Mugs", "Kitchen", "", "厨房", "Спорт", ""],
        "tags": ["", "", "", "", "", ""],
        "price": [1.0, 2.0, 3.0, 4.0, 5.0, np.nan],
    }
)


def arrays(contexts: Contexts) -> dict[str, object]:
    return {f.name: np.asarray(getattr(contexts, f.name)).tolist() for f in dataclasses.fields(contexts)}


@pytest.mark.parametrize("policy", [load_policy("off"), Policy(name="empty")])
def test_off_is_the_identity(policy: Policy) -> None:
    contexts = contexts_of()
    expanded = expand_contexts(contexts, VOCABULARY, policy, 0)
    assert arrays(expanded.contexts) == arrays(contexts)
    assert expanded.provenance.num_rows == 0
    texts = expand_texts(ITEMS, ITEMS["title"].tolist(), policy, 0)
    assert texts.texts == ITEMS["title"].tolist()
    assert texts.provenance.num_rows == 0


def test_children_stand_behind_untouched_originals() -> None:
    contexts = contexts_of()
    expanded = expand_contexts(contexts, VOCABULARY, EVERYTHING, 0, max_expansion=2.0, created=5)
    whole = expanded.contexts
    assert arrays(whole.take(np.arange(len(contexts)))) == arrays(contexts)
    children = np.arange(len(contexts), len(whole))
    assert len(children) > 100
    for child in children:
        parent = int(whole.parents[child])
        assert whole.user_ids[child] == whole.user_ids[parent]
        assert whole.moments[child] == whole.moments[parent]
        assert whole.targets(child).tolist() == whole.targets(parent).tolist()
        history = whole.history(child)
        assert len(history.rows) > 0
        assert set(whole.targets(child).tolist()).isdisjoint(history.rows.tolist())
        assert (history.timestamps < whole.moments[child]).all()
        assert (np.diff(history.timestamps) >= 0).all()
    assert expanded.provenance.schema == SCHEMA
    assert expanded.provenance.num_rows == len(children)
    assert len(expanded.strengths) == len(expanded.confidences) == len(whole)
    assert (expanded.confidences == 1.0).all(), "no gates"
    counts = expanded.counts
    assert counts["rows"] == len(contexts)
    rejected = sum(count for name, count in counts.items() if name.startswith("rejected:"))
    assert counts["accepted"] + counts["left_alone"] + rejected == 2 * len(contexts)


def test_rows_do_not_depend_on_the_company() -> None:
    contexts = contexts_of()
    picked = np.arange(1, 200, 3)
    few = expand_contexts(contexts.take(picked), VOCABULARY, load_policy("standard"), 0, created=0)
    many = expand_contexts(contexts, VOCABULARY, load_policy("standard"), 0, created=0)
    plans = dict(zip(many.provenance["row_id"].to_pylist(), many.provenance["plan"].to_pylist(), strict=True))
    assert few.provenance.num_rows > 10
    for row_id, plan in zip(
        few.provenance["row_id"].to_pylist(), few.provenance["plan"].to_pylist(), strict=True
    ):
        assert plans[row_id] == plan


@pytest.mark.parametrize(("chunk", "events"), [(7, 10**9), (10**9, 90), (3, 40)])
def test_rows_come_in_ranges_that_change_nothing(
    monkeypatch: pytest.MonkeyPatch, chunk: int, events: int
) -> None:
    contexts = contexts_of(60)
    whole = expand_contexts(contexts, VOCABULARY, EVERYTHING, 5, created=0, max_expansion=9)
    monkeypatch.setattr(expand, "_CHUNK", chunk)
    monkeypatch.setattr(expand, "_EVENTS", events)
    parts = expand_contexts(contexts, VOCABULARY, EVERYTHING, 5, created=0, max_expansion=9)
    assert parts.provenance.equals(whole.provenance)
    assert arrays(parts.contexts) == arrays(whole.contexts)
    assert (parts.counts, parts.strengths.tolist()) == (whole.counts, whole.strengths.tolist())


def test_seeds_differ_and_repeat() -> None:
    contexts = contexts_of()
    first, again, other = (
        expand_contexts(contexts, VOCABULARY, load_policy("standard"), seed, created=0) for seed in (0, 0, 1)
    )
    assert first.provenance.equals(again.provenance)
    assert arrays(first.contexts) == arrays(again.contexts)
    assert not first.provenance.equals(other.provenance)


@pytest.mark.parametrize("cap", [0.0, 0.25, 1.0])
def test_expansion_is_capped_and_counted(cap: float) -> None:
    contexts = contexts_of()
    expanded = expand_contexts(contexts, VOCABULARY, EVERYTHING, 0, max_expansion=cap)
    assert len(expanded.contexts) - len(contexts) <= cap * len(contexts)
    assert expanded.counts["rejected:over_max_expansion"] > 0
    assert expanded.counts["accepted"] == expanded.provenance.num_rows


def test_replay_gives_every_history_again() -> None:
    contexts = contexts_of()
    expanded = expand_contexts(contexts, VOCABULARY, EVERYTHING, 0, max_expansion=2.0)
    originals = list(context_examples(contexts, 0, len(contexts)))
    for offset, row in enumerate(expanded.provenance.to_pylist()):
        child = len(contexts) + offset
        again = replay(row, originals[int(expanded.contexts.parents[child])], EVERYTHING)
        stored = expanded.contexts.history(child)
        assert again.history == tuple(stored.rows.tolist())
        assert again.event_types == tuple(stored.event_codes.tolist())
        assert again.timestamps == tuple(stored.timestamps.tolist())


def test_replay_and_explanation_of_every_text() -> None:
    titles = ITEMS["title"].tolist()
    expanded = expand_texts(ITEMS, titles, EVERYTHING, 0, max_expansion=2.0, created=1_700_000_000)
    originals = {example.row_id: example for example in text_examples(ITEMS, titles, EVERYTHING)}
    assert expanded.provenance.num_rows >= 6
    for text, row in zip(expanded.texts[len(titles) :], expanded.provenance.to_pylist(), strict=True):
        assert replay(row, originals[row["parent_id"]], EVERYTHING).text == text
        shown = explain(row, originals[row["parent_id"]], EVERYTHING)
        assert row["op"] == ">".join(step.op for step in shown.steps)
        assert "{+" in shown.diff or "[-" in shown.diff
        assert "2023-11-14" in str(shown)
        json.loads(row["plan"])


def test_thin_texts_are_backfilled_in_their_language() -> None:
    policy = policy_from_plain({"name": "fill", "text": {"ops": [{"op": "attribute_backfill"}]}})
    titles = ITEMS["title"].tolist()
    expanded = expand_texts(ITEMS, titles, policy, 0)
    by_row = dict(zip(expanded.parents[6:].tolist(), expanded.texts[6:], strict=True))
    assert set(by_row) == {0, 1, 3}
    assert by_row[0].startswith("Mug ")
    assert "category: Kitchen" in by_row[0]
    assert "brand: Acme" in by_row[1]
    assert by_row[3].startswith("红色杯子。")
    assert "品牌：耐克" in by_row[3]
    assert expanded.counts["language:other"] == 1


def test_augmented_and_held_out_rows_are_stopped() -> None:
    expanded = expand_contexts(contexts_of(), VOCABULARY, load_policy("standard"), 0)
    with pytest.raises(LeakageError, match="augmented rows reached evaluation"):
        expanded.contexts.require_original()
    with pytest.raises(ValueError, match="augmented already"):
        expand_contexts(expanded.contexts, VOCABULARY, load_policy("standard"), 0)
    for policy in ("off", "standard"):
        with pytest.raises(LeakageError, match="held-out"):
            expand_contexts(contexts_of(role="held_out"), VOCABULARY, load_policy(policy), 0)
    with pytest.raises(LeakageError):
        covisitation_neighbours(expanded.contexts, NUM_ITEMS)


def test_replay_refuses_another_policy_or_parent() -> None:
    contexts = contexts_of()
    row = expand_contexts(contexts, VOCABULARY, load_policy("standard"), 0).provenance.to_pylist()[0]
    originals = {e.row_id: e for e in context_examples(contexts, 0, len(contexts))}
    with pytest.raises(InputError, match="policy"):
        replay(row, originals[row["parent_id"]], load_policy("light"))
    other = next(e for name, e in originals.items() if name != row["parent_id"])
    with pytest.raises(InputError, match="parent"):
        replay(row, other, load_policy("standard"))


def test_neighbours_are_what_went_together() -> None:
    # Items 2k and 2k + 1 always come as a pair, so each is the other's only neighbour.
    pairs = np.arange(40) % 10
    contexts = dataclasses.replace(
        contexts_of(40),
        history_offsets=np.arange(41, dtype=np.int64),
        history_rows=2 * pairs,
        history_events=np.zeros(40, np.int64),
        history_timestamps=np.zeros(40, np.int64),
        target_offsets=np.arange(41, dtype=np.int64),
        target_rows=2 * pairs + 1,
        target_weights=np.ones(40, np.float32),
    )
    nearest = covisitation_neighbours(contexts, NUM_ITEMS)
    assert nearest == {i: (i ^ 1,) for i in range(20)}


def test_a_long_stretch_of_items_that_nobody_had_has_no_neighbours() -> None:
    contexts = contexts_of()
    few = covisitation_neighbours(contexts, NUM_ITEMS)
    assert covisitation_neighbours(contexts, 3 * 4096) == few
    assert few


def test_word_diff() -> None:
    assert word_diff(["a", "b", "c"], ["a", "c", "d"]) == "a [-b-] c {+d+}"
    assert word_diff([], ["a"]) == "{+a+}"
