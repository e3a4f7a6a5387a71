import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.model.whitening import SMALL_DIM, Whitening


def cone(count, hidden, seed=0):
    rng = np.random.default_rng(seed)
    scales = np.linspace(3, 0.1, hidden)
    return (rng.normal(size=(count, hidden)) * scales + 5).astype(np.float32)


def test_the_whitened_catalogue_is_centred_and_isotropic():
    vectors = cone(4000, 32)
    fitted = Whitening.fit(vectors)
    projected = (vectors - fitted.mean) @ fitted.projection
    assert np.abs(projected.mean(axis=0)).max() < 0.01
    covariance = np.cov(projected.T)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 0.01
    np.testing.assert_allclose(np.diag(covariance)[:8], 1, atol=0.02)


def test_cosines_spread_out():
    vectors = cone(500, 32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    white = Whitening.fit(vectors).apply(vectors)
    off = ~np.eye(500, dtype=bool)
    assert (unit @ unit.T)[off].mean() > 0.5
    assert abs((white @ white.T)[off].mean()) < 0.01


def test_repeated_and_empty_texts_do_not_count():
    vectors = cone(200, 8)
    repeated = np.concatenate([vectors, vectors[:50], np.zeros((9, 8), np.float32)])
    a, b = Whitening.fit(vectors), Whitening.fit(repeated)
    np.testing.assert_array_equal(a.projection, b.projection)
    white = b.apply(repeated)
    assert not white[-9:].any()
    np.testing.assert_allclose(np.linalg.norm(white[:-9], axis=1), 1, rtol=1e-5)


def test_a_small_catalogue_keeps_fewer_components():
    assert Whitening.fit(cone(400, 384)).dim == SMALL_DIM
    assert Whitening.fit(cone(800, 384)).dim == 384
    assert Whitening.fit(cone(800, 384), 64).dim == 64
    assert Whitening.fit(cone(20, 384)).dim == 19


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 6), st.integers(2, 10), st.integers(0, 100))
def test_tiny_catalogues_give_finite_vectors(count, hidden, seed):
    vectors = cone(count, hidden, seed)
    white = Whitening.fit(vectors).apply(vectors)
    assert np.isfinite(white).all()
    assert white.shape[0] == count
    assert (np.linalg.norm(white, axis=1) < 1 + 1e-5).all()


def test_arrays_round_trip():
    fitted = Whitening.fit(cone(50, 8))
    again = Whitening.from_arrays(fitted.arrays())
    vectors = cone(7, 8, seed=3)
    np.testing.assert_array_equal(fitted.apply(vectors), again.apply(vectors))
