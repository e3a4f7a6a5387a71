"""Towers carried to another shop, and histories that go on where another shop's or friends' events lie."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from whole_run import quick_settings, write_tiny_bert

from recsys.artifacts import load_manifest
from recsys.cli import main
from recsys.config import ModelConfig
from recsys.contexts import Contexts
from recsys.data.sample_two import HALVES, write_two_shops
from recsys.errors import InputError
from recsys.model.fitted import TowersFit
from recsys.model.popularity import HALF_LIVES
from recsys.model.towers import UserTower
from recsys.transfer.run import HISTORY, HISTORY_PLACEBO, OWN, ROWS, _exchanged
from recsys.transfer.social import exchanged
from recsys.transfer.systems import Lent, carried, merged, ranked, untrained, widened

CONFIG = ModelConfig(history_length=4, item_bias=False)


def contexts(histories: list[list[tuple[int, int]]], users: list[str], moment: int = 100) -> Contexts:
    """Judged rows: (item row, time) per user, oldest first."""
    sizes = [len(history) for history in histories]
    rows = [row for history in histories for row, _ in history]
    times = [time for history in histories for _, time in history]
    n = len(users)
    return Contexts(
        user_ids=np.array(users),
        moments=np.full(n, moment),
        history_offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        history_rows=np.array(rows, np.int64),
        history_events=np.ones(len(rows), np.int64),
        history_timestamps=np.array(times, np.int64),
        target_offsets=np.arange(n + 1),
        target_rows=np.zeros(n, np.int64),
        target_weights=np.ones(n, np.float32),
        weights=np.ones(n, np.float32),
        parents=np.full(n, -1),
        role="held_out",
    )


def towers(vectors: np.ndarray, seed: int = 0) -> TowersFit:
    """A fit with residuals and a recency pool that training could have left behind."""
    random = np.random.Generator(np.random.PCG64(seed))
    state = {
        f"user.{name}": random.normal(size=value.shape).astype(np.float32)
        for name, value in UserTower(4, 0.9).state_dict().items()
    }
    for table in ("target_residual", "history_residual"):
        state[table] = random.normal(size=vectors.shape).astype(np.float32)
    state["log_temperature"] = np.array(-2.0, np.float32)
    return TowersFit(state, vectors, np.arange(len(vectors)), CONFIG, 1, (), (), 0.0, lift=0.4)


def unit(n: int, dim: int = 8, seed: int = 1) -> np.ndarray:
    rows = np.random.Generator(np.random.PCG64(seed)).normal(size=(n, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_only_the_recency_pool_is_carried_over() -> None:
    there = unit(7, dim=5, seed=2)
    fit = towers(unit(10))
    moved = carried(fit, there)
    np.testing.assert_allclose(moved.item_vectors(), there, atol=1e-6)
    np.testing.assert_allclose(moved.history_vectors(), there, atol=1e-6)
    for name in ("user.lag_bias", "user.event_bias", "user.gap_bias"):
        np.testing.assert_array_equal(moved.state[name], fit.state[name])
    plain = untrained(moved)
    np.testing.assert_allclose(plain.state["user.lag_bias"], np.arange(4) * np.log(0.9), atol=1e-6)
    assert not plain.state["user.gap_bias"].any()
    assert fit.state["target_residual"].any()  # the first shop's fit stays as it was


def test_a_history_elsewhere_finds_what_its_text_says() -> None:
    """Here the user has nothing; there they had an item whose text is that of item 5."""
    vectors = unit(9)
    fit = carried(towers(vectors), vectors)
    wide = widened(fit, vectors[5:6])
    nothing = contexts([[], [(2, 50)]], ["ann", "bob"])
    assert (ranked(wide, nothing, 9, None)[0] == -1).all()
    lent = {"ann": [Lent(9, 0, 60)], "bob": [Lent(9, 0, 100)]}
    lists = ranked(wide, merged(nothing, lent, 50), 9, None)
    assert lists[0, 0] == 5
    assert lists[1, 0] == 2  # what is lent to Bob is not earlier than his moment
    assert lists.max() < 9  # items of the other shop are never recommended


def test_widening_changes_nothing_for_who_borrows_nothing() -> None:
    vectors = unit(9)
    fit = towers(vectors)
    rows = contexts([[(1, 10), (3, 20)], [(0, 5)]], ["ann", "bob"])
    np.testing.assert_array_equal(
        ranked(widened(fit, unit(4, seed=3)), rows, 9, None), ranked(fit, rows, 9, None)
    )


def test_a_bias_stays_in_its_shop_and_no_item_from_elsewhere_has_one() -> None:
    vectors = unit(9)
    vectors[:, -1] = 0
    plain = towers(vectors)
    learned = {"bias": np.ones(9, np.float32), "bias_slopes": np.full(len(HALF_LIVES), 0.5, np.float32)}
    config = CONFIG.model_copy(update={"item_bias": True})
    sold = np.random.default_rng(5).random((9, len(HALF_LIVES)), np.float32)
    fit = replace(plain, state={**plain.state, **learned}, config=config, popularity=sold)
    assert fit.item_vectors()[1:, -1].all()
    there = unit(7, seed=2)
    there[:, -1] = 0
    assert not carried(fit, there).item_vectors()[:, -1].any()
    wide = widened(fit, there)
    np.testing.assert_array_equal(wide.item_vectors()[:9], fit.item_vectors())
    assert not wide.item_vectors()[9:, -1].any()


events = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 120)), max_size=6)


@given(st.lists(st.tuples(events, events), min_size=1, max_size=4), st.integers(1, 8))
@settings(max_examples=80, deadline=None)
def test_merged_histories_are_those_of_the_loop(
    cases: list[tuple[list[tuple[int, int]], list[tuple[int, int]]]], length: int
) -> None:
    users = [f"u{i}" for i in range(len(cases))]
    own = [sorted([(r, t) for r, t in mine if t < 100], key=lambda e: e[1])[-length:] for mine, _ in cases]
    lent = {
        user: [Lent(row + 20, 3, time) for row, time in more]
        for user, (_, more) in zip(users, cases, strict=True)
    }
    table = merged(contexts(own, users), lent, length)
    for i, user in enumerate(users):
        usable = [(e.timestamp, 0, e.row, 3) for e in lent[user] if e.timestamp < 100]
        expected = sorted([*usable, *[(time, 1, row, 1) for row, time in own[i]]], key=lambda e: e[:2])[
            -length:
        ]
        history = table.history(i)
        assert history.timestamps.tolist() == [e[0] for e in expected]
        assert history.rows.tolist() == [e[2] for e in expected]
        assert history.event_codes.tolist() == [e[3] for e in expected]


def test_placebos_lack_only_the_person() -> None:
    users = [f"u{i}" for i in range(9)]
    mine = {user: [(i, 0, i)] for i, user in enumerate(users)}
    others = _exchanged(users, mine, 0)
    assert sorted(others) == users
    assert sorted(map(str, others.values())) == sorted(map(str, mine.values()))
    assert all(others[user] != mine[user] for user in users)
    friends = {"u1": ["u2", "u3"], "u4": ["u5"]}
    strangers = exchanged(friends, users, 0)
    assert strangers == exchanged(friends, [*users], 0)
    assert strangers.keys() == friends.keys()
    assert all(len(strangers[user]) <= len(friends[user]) for user in friends)
    assert all(user not in strangers[user] for user in friends)


def test_two_shops_share_people_and_no_item(tmp_path: Path) -> None:
    _, counts = write_two_shops(tmp_path, "tiny", 3)
    items, people, total = [], [], 0
    for half in HALVES:
        items.append(set(pd.read_parquet(tmp_path / half / "items.parquet")["item_id"]))
        log = pd.read_parquet(tmp_path / half / "interactions.parquet")
        people.append(set(log["user_id"]))
        assert set(log["item_id"]) <= items[-1]
        assert len(log) == counts[half]
        total += len(log)
    assert not items[0] & items[1]
    assert len(people[0] & people[1]) > 100
    assert total == len(pd.read_parquet(tmp_path / "whole" / "interactions.parquet"))


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shops")
    assert main(["data", "sample", "--size", "tiny", "--seed", "3", "--two-shops", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    tiny = write_tiny_bert(tmp_path_factory.mktemp("bert") / "bert")
    kept = [one for one in quick_settings(tiny) if not one.startswith(("finetune", "rank"))]
    return [part for setting in kept for part in ("--set", setting)]


@pytest.mark.slow
def test_the_whole_transfer(
    shops: Path, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    asked = ["--from", str(shops / "one"), "--to", str(shops / "other"), "--out", str(out), "--seeds", "2"]
    assert main(["transfer", *asked, "--same-users", *options]) == 0
    said = capsys.readouterr().out
    record = json.loads((out / "transfer.json").read_text(encoding="utf-8"))
    assert {"carried", "untrained", OWN, HISTORY, HISTORY_PLACEBO, ROWS, "popular_30d", "text_whitened"} <= (
        record["systems"].keys()
    )
    pairs = {(one["arm"], one["reference"]) for one in record["findings"] if one["verdict"]}
    assert pairs == {
        ("carried", "untrained"), ("carried", OWN), ("carried", "text_whitened"), ("carried", "popular_30d"),
        (HISTORY, OWN), (ROWS, OWN),
    }  # fmt: skip
    assert record["users"]["users shared"] > 0
    assert all(len(one["differences"]["ndcg@10"]["by_seed"]) in (0, 2) for one in record["findings"])
    assert "Paired differences by user" in said
    assert "carried against untrained over all users" in (out / "transfer.md").read_text(encoding="utf-8")
    assert not leaked(shops / "other", out)


def leaked(target: Path, out: Path) -> bool:
    """Whether the first shop was looked at after the moment that the second is judged from."""
    (run,) = [path.parent for path in (out / "work" / "to").glob("*/manifest.json")]
    (first,) = [path.parent for path in (out / "work" / "from").glob("*/manifest.json")]
    cut = load_manifest(run).stages["features"]["cut_report"]
    log = pd.read_parquet(target / "interactions.parquet")
    assert cut <= log["timestamp"].max()
    seen = Contexts.load(first / "work" / "contexts")
    return bool((seen.moments >= cut).any() or (seen.history_timestamps >= cut).any())


@pytest.mark.slow
@pytest.mark.parametrize("same_users", [True, False])
def test_people_who_are_not_shared_lend_nothing(
    shops: Path, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], same_users: bool
) -> None:
    """Ids that differ, or that coincide while nobody says that they mean the same people."""
    strange = tmp_path / "strange"
    strange.mkdir()
    log = pd.read_parquet(shops / "one" / "interactions.parquet")
    prefix = "x" if same_users else ""
    log.assign(user_id=prefix + log["user_id"]).to_parquet(strange / "interactions.parquet", index=False)
    pd.read_parquet(shops / "one" / "items.parquet").to_parquet(strange / "items.parquet", index=False)
    out = tmp_path / "out"
    asked = ["--from", str(strange), "--to", str(shops / "other"), "--out", str(out), "--seeds", "1"]
    flag = ["--same-users"] if same_users else []
    assert main(["transfer", *asked, *flag, *options, "--task", "all"]) == 0
    said = capsys.readouterr().out
    assert ("No user is in both datasets" in said) == same_users
    assert ("user ids are in both datasets" in said) != same_users
    record = json.loads((out / "transfer.json").read_text(encoding="utf-8"))
    assert HISTORY not in record["systems"]
    assert "users shared" not in record["users"]


@pytest.mark.slow
def test_the_whole_of_social(
    shops: Path, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["social", "--data", str(shops / "whole"), "--out", str(out), "--seeds", "1", *options]) == 0
    record = json.loads((out / "social.json").read_text(encoding="utf-8"))
    assert set(record["systems"]) == {
        "without relations", "rows of friends", "rows of strangers", "history of friends",
        "history of strangers",
    }  # fmt: skip
    assert record["augmented"]["rows of friends"]["accepted"] > 0
    assert record["users"]["users with friends"] > 0
    assert record["users"]["users new, with friends"] > 0
    capsys.readouterr()
    lonely = tmp_path / "lonely"
    lonely.mkdir()
    for name in ("items", "interactions"):
        pd.read_parquet(shops / "one" / f"{name}.parquet").to_parquet(lonely / f"{name}.parquet", index=False)
    assert main(["social", "--data", str(lonely), "--out", str(tmp_path / "none"), *options]) == 2
    assert "there are no relations" in capsys.readouterr().err


def test_a_shop_in_the_others_future_is_refused(shops: Path, options: list[str], tmp_path: Path) -> None:
    from recsys.config import load_config
    from recsys.transfer.side import prepare_side

    config = load_config(None, options[1::2])
    with pytest.raises(InputError, match="all its events are newer"):
        prepare_side(shops / "one", tmp_path / "work", config, before=1_000)
