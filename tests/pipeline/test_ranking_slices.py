"""What teaches the ranker: parts of the validation slice, each as of its beginning, by the same towers."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from whole_run import Made

from recsys.artifacts import load_array
from recsys.config import RankConfig, load_config
from recsys.data.interactions import load_dataset
from recsys.data.split import temporal_cuts
from recsys.fit import INDEX, Shop
from recsys.loading import FACTS_FILE, FEATURE_MEANS
from recsys.model.ranker import RankingLists, joined, labelled_lists, load_lists, save_lists, split_lists
from recsys.ranking import (
    Slice,
    drawn_users,
    fit_form,
    joined_lists,
    refit_ranker,
    teaching_lists,
    train_ranker,
)
from recsys.ranking_slices import ranking_slices, slice_cuts
from recsys.scorer import OnnxScorer
from recsys.types import Query


@given(st.lists(st.integers(0, 50), max_size=60), st.integers(1, 6))
def test_parts_are_in_order_begin_within_the_slice_and_none_is_empty(times: list[int], num: int) -> None:
    cuts = slice_cuts(np.array(times, np.int64), 10, 40, num)
    assert cuts[0] == 10
    assert cuts == sorted(set(cuts))
    assert len(cuts) <= num
    for begin, end in list(pairwise([*cuts, 40]))[1:]:
        assert any(begin <= time < end for time in times)


def test_parts_have_as_many_events_each() -> None:
    times = np.concatenate([np.arange(100), np.array([500])])
    cuts = slice_cuts(times, 0, 100, 4)
    assert cuts == [0, 25, 50, 75]
    assert slice_cuts(np.full(9, 7), 0, 10, 3) == [0, 7]  # one moment cannot be cut


@pytest.fixture(scope="module")
def fit(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(made.run.path, tmp_path_factory.mktemp("fits") / "select"))


def test_a_later_part_knows_what_came_before_it_and_has_the_same_towers(made: Made, fit: Path) -> None:
    config = load_config(None, [*made.settings, "rank.slices=3"])
    shop = Shop(load_dataset(made.data, config.data), config)
    start, end = temporal_cuts(shop.dataset.interactions["timestamp"].to_numpy(np.int64), config.split)
    slices = ranking_slices(fit, shop, config, start, end)
    times = shop.dataset.interactions["timestamp"].to_numpy(np.int64)
    cuts = slice_cuts(times, start, end, 3)
    assert len(slices) == len(cuts) == 3
    for number, (one, begin, finish) in enumerate(zip(slices, cuts, [*cuts[1:], end], strict=True)):
        assert {query.moment for query in one.queries} == {begin}
        answers = shop.answers(begin, finish)
        assert [query.user_id for query in one.queries] == sorted(answers)
        for query, rows in zip(one.queries, one.targets, strict=True):
            np.testing.assert_array_equal(rows, answers[str(query.user_id)])
        if number:
            folder = fit.with_name(f"select-{number + 1}")
            counts = load_array(folder / FACTS_FILE)["count"]
            np.testing.assert_array_equal(counts, shop.item_counts(begin))
            assert (folder / INDEX).samefile(fit / INDEX)
            for query in one.queries:
                assert query.features is not None
                assert max(query.features.history.timestamps) < begin
    facts = fit.with_name("select-2") / FACTS_FILE
    before = facts.stat().st_mtime_ns
    ranking_slices(fit, shop, config, start, end)
    assert facts.stat().st_mtime_ns == before  # found again
    shutil.copy(fit / INDEX, fit / "other")
    (fit / "other").replace(fit / INDEX)  # other towers
    ranking_slices(fit, shop, config, start, end)
    assert facts.stat().st_mtime_ns > before
    assert (fit.with_name("select-2") / INDEX).samefile(fit / INDEX)


def test_lists_of_one_user_are_joined_and_never_on_both_sides(made: Made, fit: Path) -> None:
    config = load_config(None, [*made.settings, "rank.slices=3"])
    shop = Shop(load_dataset(made.data, config.data), config)
    start, end = temporal_cuts(shop.dataset.interactions["timestamp"].to_numpy(np.int64), config.split)
    slices = ranking_slices(fit, shop, config, start, end)
    everybody = {str(query.user_id) for one in slices for query in one.queries}
    lists = joined_lists(slices, everybody)
    assert len(lists) == sum(len(one.queries) for one in slices) > len(everybody)
    assert len(np.unique(lists.users)) == len(everybody)
    assert lists.parts is not None
    assert lists.parts.tolist() == [number for number, one in enumerate(slices) for _ in one.queries]
    some = set(sorted(everybody)[:5])
    few = joined_lists(slices, some)
    assert len(few) == sum(query.user_id in some for one in slices for query in one.queries)
    assert few.offsets[-1] == len(few.features) == len(few.labels)

    owners = np.repeat(np.arange(40), 2)
    labels = np.tile([1.0, 0.0], 80).astype(np.float32)
    twice = RankingLists(
        np.zeros((160, 2), np.float32), labels, np.ones(160, bool), np.arange(0, 161, 2), owners
    )
    save_lists(twice, fit.parent / "lists.npz")
    again = load_lists(fit.parent / "lists.npz")
    np.testing.assert_array_equal(again.owners, owners)
    np.testing.assert_array_equal(again.labels, labels)
    assert again.parts is None
    fit_on, judged = split_lists(twice, 0)
    assert not set(owners[fit_on]) & set(owners[judged])
    assert len(fit_on) + len(judged) == 80


def test_the_served_ranker_learns_from_newer_slices_too(
    made: Made, fit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recsys.ranking.MIN_LISTS", 12)  # a shop of some hundred users
    config = load_config(None, [*made.settings, "rank.slices=2", "rank.epochs=2", "rank.trees=5"])
    shop = Shop(load_dataset(made.data, config.data), config)
    start, end = temporal_cuts(shop.dataset.interactions["timestamp"].to_numpy(np.int64), config.split)
    newest = Path(shutil.copytree(fit, tmp_path / "report"))
    older = ranking_slices(fit, shop, config, start, end)
    newer = ranking_slices(newest, shop, config, end, shop.end)
    path, kept = tmp_path / "ranker.onnx", tmp_path / "lists.npz"
    chosen = train_ranker(older, config.rank, 0, path, lists_to=kept)
    before = path.read_bytes()
    served = refit_ranker(kept, newer, chosen, config.rank, 0, path)
    assert served["kept"]
    found, said = teaching_lists(newer, config.rank, 0)
    assert found is not None
    assert said["users"] == served["users"]
    both = joined([load_lists(kept), found])
    assert both.parts is not None
    assert sorted(set(both.parts.tolist())) == [0, 1, 2, 3]
    assert served["lists"] == len(labelled_lists(both)) > len(labelled_lists(found))
    np.testing.assert_allclose(served[FEATURE_MEANS], both.features.mean(axis=0), rtol=1e-5)
    form = fit_form(both, chosen["trees_share"], chosen["best_epoch"], config.rank, 0)
    score = OnnxScorer(path, 1).score(found.features)
    np.testing.assert_allclose(score, form.score(found.features), atol=1e-3)
    assert path.read_bytes() != before

    unchanged = path.read_bytes()
    monkeypatch.setattr("recsys.ranking.MIN_LISTS", 10_000)
    few = refit_ranker(kept, newer, chosen, config.rank, 0, path)
    assert not few["kept"]
    assert "10000 of 10 users needed" in few["why"]
    assert path.read_bytes() == unchanged


@pytest.mark.parametrize(("owners", "enough"), [(9, False), (10, True)])
def test_many_lists_of_few_users_teach_nothing(
    owners: int, enough: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = RankingLists(
        np.zeros((120, 2), np.float32), np.tile([1.0, 0.0], 60).astype(np.float32), np.ones(120, bool),
        np.arange(0, 121, 2), np.arange(60) % owners,
    )  # fmt: skip
    monkeypatch.setattr("recsys.ranking.joined_lists", lambda slices, users: lists)
    queries = [Query(k=1, moment=0, user_id=str(user)) for user in range(30)]
    asked = [Slice(None, queries, [np.arange(1)] * 30)]  # nothing asks the recommender here
    found, said = teaching_lists(asked, RankConfig(), 0)
    assert (found is not None) == enough
    if not enough:
        assert said["why"] == "60 lists of 9 users hold a label, 20 of 10 users needed"


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(1, 3)), st.integers(1, 40))
def test_users_are_drawn_until_their_lists_are_enough(num_lists: dict[str, int], most: int) -> None:
    drawn = drawn_users(num_lists, most, 0)
    taken = sum(num_lists[user] for user in drawn)
    assert taken <= max(most, 0)
    if sum(num_lists.values()) <= most:
        assert drawn == set(num_lists)
    else:
        assert taken > most - 3
