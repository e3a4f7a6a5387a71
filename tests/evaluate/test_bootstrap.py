from __future__ import annotations

import numpy as np
import pytest

from recsys.evaluate.bootstrap import intervals


def test_matches_the_normal_interval_of_a_mean() -> None:
    random = np.random.Generator(np.random.PCG64(0))
    values = random.normal(3, 2, (2000, 1))
    (bounds,) = intervals([(np.arange(2000), values)], np.arange(2000), replicates=2000)
    half = 1.96 * values.std() / np.sqrt(2000)
    assert bounds[:, 0] == pytest.approx([values.mean() - half, values.mean() + half], abs=0.15 * half)


def test_same_seed_same_interval_and_order_of_slices_is_free() -> None:
    values = np.random.Generator(np.random.PCG64(1)).random((50, 3))
    part = np.arange(0, 50, 5)
    first = intervals([(np.arange(50), values), (part, values[part])], np.arange(50), 200, seed=4)
    again = intervals([(part, values[part]), (np.arange(50), values)], np.arange(50), 200, seed=4)
    other = intervals([(np.arange(50), values)], np.arange(50), 200, seed=5)
    np.testing.assert_allclose(first[0], again[1], rtol=1e-5)
    np.testing.assert_allclose(first[1], again[0], rtol=1e-5)
    assert not np.allclose(first[0], other[0])


def test_constant_values_have_no_width_and_empty_slices_are_undefined() -> None:
    bounds = intervals(
        [(np.arange(9), np.full((9, 1), 0.25)), (np.arange(0), np.empty((0, 1)))], np.arange(9)
    )
    assert bounds[0].ravel() == pytest.approx([0.25, 0.25])
    assert np.isnan(bounds[1]).all()
    assert np.isnan(intervals([(np.arange(0), np.empty((0, 2)))], np.arange(0))[0]).all()


def test_a_slice_of_one_case_survives_replicates_that_miss_it() -> None:
    bounds = intervals([(np.array([3]), np.array([[0.5]]))], np.arange(10), 300)
    assert bounds[0].ravel() == pytest.approx([0.5, 0.5])


def test_cases_of_one_user_are_drawn_together() -> None:
    """Ten copies of each user's value carry no more evidence than one."""
    random = np.random.Generator(np.random.PCG64(2))
    values = random.random((40, 1))
    (single,) = intervals([(np.arange(40), values)], np.arange(40), 2000)
    copies = np.repeat(values, 10, axis=0)
    (clustered,) = intervals([(np.arange(400), copies)], np.repeat(np.arange(40), 10), 2000)
    (naive,) = intervals([(np.arange(400), copies)], np.arange(400), 2000)
    width = float(np.diff(single, axis=0)[0, 0])
    assert float(np.diff(clustered, axis=0)[0, 0]) == pytest.approx(width, rel=0.01)
    assert float(np.diff(naive, axis=0)[0, 0]) < 0.5 * width
