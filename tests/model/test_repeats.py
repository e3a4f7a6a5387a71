"""What a user had before weighs less as a target: over all moments, whatever a history still holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recsys.config import with_settings
from recsys.model.repeats import weighing_repeats
from recsys.train import fit_towers


def owned_by(contexts, names, moments):
    return replace(contexts, user_ids=np.array(names), moments=np.array(moments, np.int64))


def test_the_first_time_counts_in_full_and_every_later_one_less(make):
    contexts = make([[0]] * 5, [[1, 2], [2, 3], [2], [2], [3, 1]])
    #                 a at 10    a at 20  a at 20  b at 30  a at 5
    contexts = owned_by(contexts, list("aaaba"), [10, 20, 20, 30, 5])
    found = weighing_repeats(contexts, 0.25).target_weights
    # 1 was had at 5, 2 first at 10; b is somebody else.
    np.testing.assert_array_equal(found, np.float32([0.25, 1.0, 0.25, 0.25, 0.25, 1.0, 1.0, 1.0]))


def test_one_moment_is_no_repeat(make):
    contexts = owned_by(make([[0]] * 2, [[4], [4]]), ["a", "a"], [7, 7])
    np.testing.assert_array_equal(weighing_repeats(contexts, 0.0).target_weights, [1.0, 1.0])


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_as_slow_loops_say_and_event_weights_stay(make, weight):
    rng = np.random.default_rng(4)
    targets = [rng.choice(9, size=rng.integers(1, 5), replace=False).tolist() for _ in range(200)]
    contexts = make([[0]] * 200, targets)
    contexts = owned_by(contexts, [f"u{i}" for i in rng.integers(12, size=200)], rng.integers(40, size=200))
    own = rng.choice([0.2, 1.0], size=len(contexts.target_rows)).astype(np.float32)
    contexts = replace(contexts, target_weights=own)
    first = {}
    for i in np.argsort(contexts.moments, kind="stable").tolist():
        for item in targets[i]:
            first.setdefault((contexts.user_ids[i], item), contexts.moments[i])
    slow = [
        weight if contexts.moments[i] > first[contexts.user_ids[i], item] else 1.0
        for i in range(200)
        for item in targets[i]
    ]
    assert sum(one == weight for one in slow) > 0
    found = weighing_repeats(contexts, weight)
    np.testing.assert_allclose(found.target_weights, own * np.float32(slow))
    assert found.target_weights.dtype == np.float32


def test_an_augmented_row_repeats_what_its_parent_repeats(make):
    contexts = owned_by(make([[0], [0, 1], [1]], [[1], [1], [1]]), list("aaa"), [1, 2, 2])
    grown = replace(contexts, parents=np.array([-1, -1, 1], np.int64))
    np.testing.assert_array_equal(weighing_repeats(grown, 0.25).target_weights, [1.0, 0.25, 0.25])


def test_towers_are_fitted_with_these_weights(make, unit_vectors, config, tmp_path):
    rng = np.random.default_rng(1)
    histories = [rng.integers(20, size=3).tolist() for _ in range(120)]
    targets = [[history[-1], int(rng.integers(20))] for history in histories]
    contexts = make(histories, targets)
    contexts = owned_by(contexts, [f"u{i % 15}" for i in range(120)], range(100, 220))
    counts = np.bincount(contexts.target_rows, minlength=24)

    def fitted(table, repeats):
        set_so = with_settings(config, {"train.repeat_weight": repeats})
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        return fit_towers(table, unit_vectors, counts, set_so, folder, epochs=2).item_vectors()

    quarter = fitted(contexts, 0.25)
    np.testing.assert_array_equal(quarter, fitted(weighing_repeats(contexts, 0.25), 1.0))
    assert not np.array_equal(quarter, fitted(contexts, 1.0))
