"""Views of one history, one thin text: inside a budget, keyed, marked, and never more than the run stores."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from online_world import (
    DAY,
    FULL,
    MOMENT,
    NUM_ITEMS,
    VOCABULARY,
    Ticking,
    ask,
    augmenter,
    shop_contexts,
    stored_side,
)

from recsys.artifacts import write_array
from recsys.augment.history import Insert, ItemDropout
from recsys.augment.lending import earlier_items
from recsys.augment.neighbours import covisitation_neighbours
from recsys.augment.online import FAILED, REASONS, NoAugmenter, OnlineAugmenter
from recsys.augment.online_side import NO_SIDE, POLICY, OnlineSide, load_side, write_online
from recsys.augment.policy import PRESETS, load_policy, policy_from_plain
from recsys.augment.servable import servable
from recsys.config import OnlineConfig
from recsys.errors import ArtifactError
from recsys.types import History, Query, UserFeatures


@pytest.fixture(scope="module")
def side(tmp_path_factory: pytest.TempPathFactory) -> OnlineSide:
    return stored_side(tmp_path_factory.mktemp("run"))


def test_views_are_made_marked_and_kept_apart_from_the_history(side: OnlineSide) -> None:
    query = ask(["i5", "i9", "i14"])
    grown = augmenter(side).augment(query)
    assert replace(grown, views=None) == query, "nothing else of the query changes"
    assert grown.views is not None
    note = grown.views.note
    assert note.views == len(grown.views.histories) == 4
    assert grown.views.weight == 0.5
    assert note.policy_id == FULL.policy_id
    assert note.reason is None
    assert 0 < note.ms < 1000
    assert set(note.ops) <= {"insert", "backward_extension", "item_dropout"}
    assert note.ops
    for view in grown.views.histories:
        assert view != query.features.history
        assert list(view.timestamps) == sorted(view.timestamps)
        assert view.timestamps[-1] < MOMENT
        assert all(item in VOCABULARY for item in view.item_ids)


def test_invented_events_go_with_what_is_there(side: OnlineSide) -> None:
    insert = policy_from_plain(
        {"name": "i", "history": {"ops": [{"op": "insert", "rate_range": [1.0, 1.0]}]}}
    )
    near = covisitation_neighbours(shop_contexts(), NUM_ITEMS)
    grown = augmenter(side, insert, views=8).augment(ask(["i5", "i20", "i33"]))
    assert grown.views is not None
    invented = [set(view.item_ids) - {"i5", "i20", "i33"} for view in grown.views.histories]
    allowed = {f"i{other}" for row in (5, 20, 33) for other in near[row]}
    assert all(invented)
    assert set().union(*invented) <= allowed


def test_equal_requests_get_equal_views_and_others_their_own(side: OnlineSide) -> None:
    items = ["i5", "i9", "i14"]
    one, other = augmenter(side), augmenter(side)
    views = one.augment(ask(items)).views.histories
    assert views == other.augment(ask(items)).views.histories
    assert views != one.augment(ask(items, user="bob")).views.histories
    assert views != augmenter(side, seed=1).augment(ask(items)).views.histories
    nobody = one.augment(ask(items, user=None)).views.histories
    assert nobody == one.augment(ask(items, user=None)).views.histories
    later = ask(items, user=None)
    shifted = replace(
        later.features.history, timestamps=tuple(t + 7 for t in later.features.history.timestamps)
    )
    moved = replace(later, moment=MOMENT + 7, features=replace(later.features, history=shifted))
    assert [view.item_ids for view in one.augment(moved).views.histories] == [
        view.item_ids for view in nobody
    ], "a request a moment later is the same request"


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        (Query(10, MOMENT, "who"), "no_history"),
        (ask([]), "no_history"),
        (ask(["nothing we sell"]), "no_history"),
        (ask(["i1", "i2", "i3"], num_events=5), "rich_user"),
        (ask([f"i{row}" for row in range(9)]), "rich_user"),
    ],
)
def test_who_needs_no_views_gets_none_and_is_told(side: OnlineSide, query: Query, reason: str) -> None:
    grown = augmenter(side, below=5).augment(query)
    assert (grown.views.note.reason, grown.views.histories, grown.views.note.views) == (reason, (), 0)
    assert reason in REASONS


def test_the_threshold_counts_events_ever_not_the_ones_told(side: OnlineSide) -> None:
    under = augmenter(side, below=5).augment(ask(["i1", "i2"], num_events=4))
    assert under.views.note.reason is None


def test_unknown_items_are_no_part_of_a_view(side: OnlineSide) -> None:
    grown = augmenter(side).augment(ask(["gone", "i5", "i9"]))
    assert grown.views.histories
    assert all("gone" not in view.item_ids for view in grown.views.histories)


@pytest.mark.parametrize("reads", range(1, 14))
def test_when_the_budget_is_spent_nothing_is_done_at_all(side: OnlineSide, reads: int) -> None:
    """Wherever in the work the time runs out: never half of the views."""
    patient = Ticking(0.0)
    whole = augmenter(side, clock=patient).augment(ask(["i5", "i9", "i14"]))
    assert len(whole.views.histories) == 4
    clock = Ticking(1.0)
    made = augmenter(side, clock=clock, budget_ms=1000.0 * reads).augment(ask(["i5", "i9", "i14"]))
    assert patient.reads > 14
    assert made.views.histories == ()
    assert made.views.note.reason == "budget_spent"
    assert made.views.note.ops == ()
    assert made.degraded == ()
    assert clock.reads <= reads + 3, "it stops at the first look at the clock that is too late"


def test_no_budget_at_all_is_no_work_at_all(side: OnlineSide) -> None:
    assert augmenter(side, budget_ms=0).augment(ask(["i5"])).views.note.reason == "budget_spent"


def test_a_batch_has_no_deadline(side: OnlineSide) -> None:
    hurried = augmenter(side, clock=Ticking(1.0), budget_ms=1.0)
    assert hurried.augment(ask(["i5", "i9"])).views.note.reason == "budget_spent"
    assert hurried.augment(ask(["i5", "i9"]), limited=False).views.histories == (
        augmenter(side).augment(ask(["i5", "i9"])).views.histories
    )


def test_an_op_that_raises_costs_the_views_and_nothing_else(
    side: OnlineSide, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("i14 is broken")

    monkeypatch.setattr(ItemDropout, "sample", broken)
    made = augmenter(side)
    with caplog.at_level(logging.WARNING):
        answers = [made.augment(ask(["i5", "i9", "i14"], degraded=("stale_features",))) for _ in range(9)]
    for answer in answers:
        assert answer.views.histories == ()
        assert answer.views.note.reason == "failed"
        assert answer.degraded == ("stale_features", FAILED)
    assert len(caplog.records) == 3, "a fault in every request does not fill the disk"
    assert "ZeroDivisionError" in caplog.text
    assert "i14" not in caplog.text


def test_ops_that_leave_a_row_alone_are_said_to_and_count_as_the_history(side: OnlineSide) -> None:
    never = policy_from_plain({"name": "n", "history": {"ops": [{"op": "item_dropout", "min_length": 9}]}})
    assert augmenter(side, never).augment(ask(["i1", "i2"])).views.note.reason == "left_alone"
    half = policy_from_plain({"name": "h", "history": {"ops": [{"op": "insert", "p": 0.5}]}})
    sizes = set()
    for user in range(20):
        views = augmenter(side, half).augment(ask(["i1", "i2", "i3"], user=f"u{user}")).views
        assert views.weight == pytest.approx(0.5 * len(views.histories) / 4)
        sizes.add(len(views.histories))
    assert len(sizes) > 2


def test_what_acceptance_refuses_is_no_view(side: OnlineSide) -> None:
    strict = policy_from_plain(
        {
            "name": "s",
            "history": {
                "acceptance": {"max_modification": 0.1},
                "ops": [{"op": "item_dropout", "rate_range": [0.5, 0.5], "min_length": 2, "min_keep": 1}],
            },
        }
    )
    assert augmenter(side, strict).augment(ask(["i1", "i2"])).views.note.reason == "left_alone"


def test_hidden_events_are_left_out_of_a_view(side: OnlineSide) -> None:
    mask = policy_from_plain(
        {"name": "m", "history": {"ops": [{"op": "mask", "rate_range": [0.4, 0.6], "min_keep": 1}]}}
    )
    views = augmenter(side, mask).augment(ask(["i1", "i2", "i3", "i4"])).views
    assert views.histories
    for view in views.histories:
        assert len(view) < 4
        assert set(view.item_ids) < {"i1", "i2", "i3", "i4"}


def test_what_a_request_cannot_run_is_left_out_with_the_reason() -> None:
    policy = policy_from_plain(
        {
            "name": "mixed",
            "history": {
                "ops": [
                    {"op": "borrow"},
                    {
                        "op": "one_of",
                        "weights": [1.0, 2.0, 3.0],
                        "ops": [{"op": "social_borrow"}, {"op": "insert"}, {"op": "crop", "min_length": 2}],
                    },
                ],
                "gates": [{"gate": "related"}],
            },
            "text": {
                "ops": [{"op": "mined_synonym"}, {"op": "attribute_backfill"}],
                "gates": [{"gate": "meaning"}],
            },
        }
    )
    kept, skipped = servable(policy, frozenset({"neighbours"}))
    assert set(skipped) == {"borrow", "social_borrow", "mined_synonym", "related", "meaning"}
    assert all(skipped.values())
    (choice,) = kept.history.ops.ops
    assert [op.name for op in choice.ops] == ["insert", "crop"]
    assert choice.weights == (2.0, 3.0)
    assert [op.name for op in kept.text.ops.ops] == ["attribute_backfill"]
    assert kept.policy_id != policy.policy_id
    assert "insert" in servable(policy, frozenset())[1]
    assert servable(FULL, frozenset({"neighbours", "earlier"})) == (FULL, {})
    alone = policy_from_plain(
        {
            "name": "z",
            "history": {
                "ops": [{"op": "one_of", "weights": [1.0, 0.0], "ops": [{"op": "borrow"}, {"op": "crop"}]}]
            },
        }
    )
    assert servable(alone, frozenset())[0].history.ops.ops == (), "what is left has no weight"


def test_an_op_that_asks_a_model_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Insert, "needs", frozenset({"oracle"}))
    _, skipped = servable(FULL, frozenset({"neighbours", "earlier"}))
    assert "model" in skipped["insert"]


def test_without_side_data_or_policy_nothing_is_done_and_the_reason_is_told() -> None:
    needy = policy_from_plain({"name": "n", "history": {"ops": [{"op": "insert"}]}})
    assert augmenter(NO_SIDE, needy).augment(ask(["i1"])).views.note.reason == "no_side_data"
    assert augmenter(NO_SIDE, load_policy("off")).augment(ask(["i1"])).views.note.reason == "no_policy"
    off = NoAugmenter("switched_off").augment(ask(["i1"])).views
    assert (off.note.reason, off.note.policy_id, off.histories) == ("switched_off", None, ())


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_tried_online(name: str, side: OnlineSide) -> None:
    made = augmenter(side, load_policy(name), below=20).augment(ask([f"i{row}" for row in range(6)]))
    assert made.views.note.reason in (None, "left_alone", "no_policy", "no_side_data")
    assert made.degraded == ()


def test_the_default_policy_runs_whole_and_reaches_a_user_of_one_event(side: OnlineSide) -> None:
    made = augmenter(side, load_policy(OnlineConfig().policy))
    assert made.skipped == {}
    reached = [made.augment(ask([f"i{row}"], user=f"u{row}")).views.histories for row in range(NUM_ITEMS)]
    assert sum(map(bool, reached)) == NUM_ITEMS


def test_many_threads_get_what_one_gets(side: OnlineSide) -> None:
    made = augmenter(side)
    queries = [ask([f"i{n % 40}", f"i{(n * 7 + 1) % 40}"], user=f"u{n}") for n in range(200)]
    alone = [made.augment(query, limited=False).views.histories for query in queries]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda query: made.augment(query, limited=False).views.histories, queries))
    assert together == alone


def test_what_is_stored_is_what_training_read(tmp_path: Path) -> None:
    names = write_online(tmp_path, FULL, shop_contexts(), NUM_ITEMS)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    side = load_side(tmp_path, VOCABULARY)
    near, earlier = covisitation_neighbours(shop_contexts(), NUM_ITEMS), earlier_items(shop_contexts())
    assert dict(side.neighbours) == {
        f"i{row}": tuple(f"i{o}" for o in others) for row, others in near.items()
    }
    assert len(side.neighbours) == len(near)
    assert {item: [other for other, _ in steps] for item, steps in side.earlier.items()} == {
        f"i{row}": [f"i{other}" for other, _ in steps] for row, steps in earlier.items()
    }
    for item, steps in side.earlier.items():
        chances = [chance for _, chance in earlier[VOCABULARY.row(str(item))]]
        np.testing.assert_allclose([chance for _, chance in steps], chances, rtol=1e-6)
    assert side.neighbours.get("nothing we sell") is None
    assert side.neighbours.get(-1) is None
    assert load_policy(tmp_path / POLICY) == FULL


def test_only_what_the_policy_reads_is_stored(tmp_path: Path) -> None:
    assert write_online(tmp_path, load_policy("light"), shop_contexts(), NUM_ITEMS) == [POLICY]
    assert load_side(tmp_path, VOCABULARY) == NO_SIDE


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("online_neighbours_offsets", np.zeros(3, np.int64)),
        ("online_neighbours_rows", np.array([1], np.int32)),
        ("online_earlier_chances", np.array([1], np.float32)),
    ],
)
def test_side_data_of_another_catalogue_is_refused(tmp_path: Path, name: str, array: np.ndarray) -> None:
    write_online(tmp_path, FULL, shop_contexts(), NUM_ITEMS)
    write_array(tmp_path / f"{name}.npy", array)
    with pytest.raises(ArtifactError, match="online_"):
        load_side(tmp_path, VOCABULARY)


def test_rows_outside_the_catalogue_are_refused(tmp_path: Path) -> None:
    write_online(tmp_path, FULL, shop_contexts(), NUM_ITEMS)
    rows = np.load(tmp_path / "online_neighbours_rows.npy")
    rows[3] = NUM_ITEMS
    write_array(tmp_path / "online_neighbours_rows.npy", rows)
    with pytest.raises(ArtifactError, match="outside the catalogue"):
        load_side(tmp_path, VOCABULARY)


TEXT = load_policy(OnlineConfig().policy)


def texter(**settings: object) -> OnlineAugmenter:
    return augmenter(NO_SIDE, TEXT, **settings)


def test_a_thin_chinese_text_says_what_its_attributes_say() -> None:
    made = texter(
        budget_ms=60_000
    )  # the first Chinese text of a process waits for the segmenter's dictionary
    grown = made.expand_text("保温杯", {"category": "厨房", "brand": "小象"})
    assert grown.text.startswith("保温杯。")
    assert "厨房" in grown.text
    assert "小象" in grown.text
    assert grown.note.ops == ("attribute_backfill",)
    assert (grown.note.views, grown.note.reason) == (1, None)
    assert made.expand_text("保温杯", {"category": "厨房", "brand": "小象"}).text == grown.text


def test_a_thin_english_text_likewise_and_a_rich_one_stays() -> None:
    grown = texter().expand_text("Desk lamp", {"category": "Lighting, Lamps", "brand": "Oakwood"})
    assert grown.text.startswith("Desk lamp ")
    assert "Oakwood" in grown.text
    rich = "Oak desk lamp with a heavy base, a warm light and a cable of two metres"
    stays = texter().expand_text(rich, {"category": "Lighting"})
    assert (stays.text, stays.note.reason) == (rich, "left_alone")


def test_texts_fail_and_run_out_of_time_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    late = texter(clock=Ticking(1.0), budget_ms=1.0).expand_text("Lamp", {"category": "Lighting"})
    assert (late.text, late.note.reason) == ("Lamp", "budget_spent")
    from recsys.augment.backfill import AttributeBackfill

    def broken(*_: object) -> None:
        raise KeyError("broken")

    monkeypatch.setattr(AttributeBackfill, "sample", broken)
    failed = texter().expand_text("Lamp", {"category": "Lighting"})
    assert (failed.text, failed.note.reason) == ("Lamp", "failed")
    nothing = augmenter(NO_SIDE, load_policy("off")).expand_text("Lamp")
    assert (nothing.text, nothing.note.reason) == ("Lamp", "no_policy")


def test_a_view_is_dated_before_the_moment_even_for_events_of_just_now(side: OnlineSide) -> None:
    now = History(("i5",), ("view",), (MOMENT - 1,))
    query = Query(5, MOMENT, None, UserFeatures("", now, 1))
    for view in augmenter(side).augment(query).views.histories:
        assert max(view.timestamps) < MOMENT
        assert min(view.timestamps) >= MOMENT - 4 * DAY
