"""Arms differ in augmentation alone; placebos keep the number of rows and steps."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from whole_run import Made

from recsys.arms import Arm, Trials
from recsys.augment.policy import Policy, policy_from_plain
from recsys.config import AugmentConfig, with_settings
from recsys.contexts import Contexts
from recsys.data.contexts_from import contexts_before
from recsys.errors import LeakageError
from recsys.model.validation import ranking_figures, validation_positions
from recsys.placebo import INSERTED, PLACEBOS, Placebo, placebo_rows, placebo_texts


@pytest.fixture(scope="module")
def trials(made: Made, prepared: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Trials:
    work = prepared(tmp_path_factory.mktemp("arms") / "work")
    return Trials.prepare(made.data, work, made.plain)


def dropout(low: float, high: float) -> Policy:
    op = {"op": "item_dropout", "rate_range": [low, high], "min_length": 2}
    return policy_from_plain({"name": "dropping", "history": {"ops": [op]}})


def test_an_arm_is_repeatable_and_seeds_differ(trials: Trials) -> None:
    first, again, other = (trials.run(Arm("d", dropout(0.3, 0.6)), seed, epochs=2) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.lists, again.lists)
    assert (first.lists != other.lists).any()
    assert first.counts["history"]["accepted"] > 0
    assert first.epochs == 2


def test_a_policy_that_changes_nothing_is_off(trials: Trials) -> None:
    idle = policy_from_plain(
        {"name": "idle", "history": {"ops": [{"op": "item_dropout", "min_length": 400}]}}
    )
    off, same = trials.run(Arm.of("off"), 0, epochs=2), trials.run(Arm("idle", idle), 0, epochs=2)
    assert same.counts["history"].get("accepted", 0) == 0
    np.testing.assert_array_equal(off.lists, same.lists)


def test_duplicates_under_mix_are_off(trials: Trials) -> None:
    off = trials.run(Arm.of("off"), 0, epochs=2)
    doubled = trials.run(Arm.of("off")._replace(name="double", placebo="duplicate"), 0, epochs=2)
    np.testing.assert_array_equal(off.lists, doubled.lists)


def test_shuffled_labels_teach_less_than_off(trials: Trials) -> None:
    """Judged on the rows themselves: the few held-out users of so small a shop would say nothing."""
    fusion = AugmentConfig(mix_probability=1.0, clean_tail=0.0)
    # Shuffled labels still say what is popular, which a bias would learn from them.
    plain = with_settings(trials.config, {"model.item_bias": False, "train.learning_rate": 0.02})
    prepared = trials.prepared
    rows = contexts_before(prepared.contexts, prepared.cut_validation, prepared.grain)
    positions = validation_positions(rows, 1000, 0)
    reached = {}
    for arm in (Arm.of("off"), Arm("n", Arm.of("off").policy, fusion, "shuffled_labels")):
        towers = trials.fit(arm, 0, "validation", epochs=8, config=plain).towers
        users, items = towers.user_vectors(rows, positions), towers.item_vectors()
        reached[arm.name] = ranking_figures(users, items, rows, positions)["ndcg@10"]
    assert len(positions) > 100
    assert reached["n"] < 0.8 * reached["off"]


def test_lists_leave_out_what_the_user_had(trials: Trials) -> None:
    outcome = trials.run(Arm.of("off"), 0, when="report", epochs=1)
    sheet = trials.sheet("report")
    for case in range(len(sheet)):
        had = sheet.histories.rows[sheet.histories.offsets[case] : sheet.histories.offsets[case + 1]]
        assert not set(outcome.lists[case].tolist()) & set(had.tolist())
    assert set(outcome.figures) >= {"ndcg@10", "recall@20"}


def test_a_figure_after_each_epoch_may_stop_the_arm(trials: Trials) -> None:
    told: list[int] = []

    def enough(epoch: int, figure: float) -> bool:
        told.append(epoch)
        assert 0 <= figure <= 1
        return epoch == 2

    outcome = trials.run(Arm.of("off"), 0, epochs=3, on_epoch=enough)
    assert (told, outcome.stopped, outcome.epochs, len(outcome.curve)) == ([1, 2], True, 2, 2)


def test_a_share_of_the_users_trains_and_all_are_judged(trials: Trials) -> None:
    whole, part = (trials.run(Arm.of("off"), 0, epochs=1, share=share) for share in (1.0, 0.3))
    assert list(whole.users) == list(part.users)
    assert (whole.lists != part.lists).any()


@pytest.mark.parametrize("kind", PLACEBOS)
def test_a_placebo_has_one_child_per_original(trials: Trials, kind: Placebo) -> None:
    fit = trials.prepared.contexts
    rows = placebo_rows(kind, fit, AugmentConfig(), seed=0)
    originals = rows.contexts.take(np.arange(len(fit)))
    children = rows.contexts.take(np.arange(len(fit), 2 * len(fit)))
    assert len(children) == len(fit)
    assert rows.fusion is not None
    assert rows.fusion.num_children == len(fit)
    np.testing.assert_array_equal(originals.history_rows, fit.history_rows)
    np.testing.assert_array_equal(children.user_ids, fit.user_ids)
    if kind == "shuffled_labels":
        assert sorted(children.target_rows.tolist()) == sorted(fit.target_rows.tolist())
        assert (children.target_rows != fit.target_rows).any()
    if kind == "random_insert":
        check_inserted(fit, children)


def test_a_placebo_takes_training_rows_only(trials: Trials) -> None:
    with pytest.raises(LeakageError):
        placebo_rows("duplicate", trials.prepared.validation, AugmentConfig(), 0)


def check_inserted(before: Contexts, after: Contexts) -> None:
    added = len(after.history_rows) / len(before.history_rows) - 1
    assert abs(added - INSERTED) < 0.1
    for i in range(len(before)):
        old = before.history_rows[before.history_offsets[i] : before.history_offsets[i + 1]].tolist()
        rest = iter(after.history_rows[after.history_offsets[i] : after.history_offsets[i + 1]].tolist())
        assert all(item in rest for item in old)
        times = after.history_timestamps[after.history_offsets[i] : after.history_offsets[i + 1]]
        assert (np.diff(times) >= 0).all()
        assert (times < after.moments[i]).all()


WITHOUT_FEAST = """
import sys
from pathlib import Path


class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("feast", "ibis", "duckdb", "dask"):
            raise ImportError(f"{name} is not on this machine")


sys.meta_path.insert(0, Blocked())
import recsys.pipeline
from recsys.arms import Arm, Trials
from recsys.config import load_config

data, work, config = map(Path, sys.argv[1:])
outcome = Trials.prepare(data, work, load_config(config)).run(Arm.of("off"), 0, epochs=1)
print(outcome.evaluation["ndcg@10"].mean)
"""


def test_what_is_prepared_trains_where_there_is_no_feast(made: Made, trials: Trials, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(trials.config.to_toml())
    command = [sys.executable, "-c", WITHOUT_FEAST, str(made.data), str(trials.work.parent), str(config)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    here = trials.run(Arm.of("off"), 0, epochs=1).evaluation["ndcg@10"].mean
    assert float(done.stdout) == pytest.approx(here)


def test_a_placebos_texts_say_nothing_of_the_item() -> None:
    texts = ["red tea cup", "", "blue lamp", "soap", "oil for wood"]
    sold = np.array([0, 1, 2, 3])
    assert placebo_texts("duplicate", texts, sold, 0) == {}
    shuffled = placebo_texts("shuffled_labels", texts, sold, 0)
    assert sorted(text for one in shuffled.values() for text in one) == ["blue lamp", "red tea cup", "soap"]
    inserted = placebo_texts("random_insert", texts, sold, 0)
    assert set(inserted) == {0, 2, 3}, "a blank text stays blank, and nobody reads what was not sold"
    for row, (text,) in inserted.items():
        words, added = texts[row].split(), text.split()
        assert len(added) == len(words) + 1
        assert any(added[:i] + added[i + 1 :] == words for i in range(len(added)))
    assert (
        inserted
        == placebo_texts("random_insert", texts, sold, 0)
        != placebo_texts("random_insert", texts, sold, 1)
    )
