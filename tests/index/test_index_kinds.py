"""The conformance suite: a kind of index enrols with one line in `KINDS`."""

import threading
from typing import get_args

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.config import IndexConfig
from recsys.errors import ArtifactError
from recsys.index import Kind, build_index, load_index, recall_against_exact, sample_queries, write_index

KINDS = {
    "flat": IndexConfig(kind="flat"),
    "hnsw": IndexConfig(kind="hnsw"),
    "ivf": IndexConfig(kind="ivf"),
}


def test_every_kind_is_enrolled():
    assert set(KINDS) == set(get_args(Kind))


def brute_force(vectors, queries, k, allowed=None):
    scores = queries.astype(np.float64) @ vectors.T.astype(np.float64)
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, 1), order


@pytest.fixture(scope="module", params=list(KINDS))
def built(request, make_vectors):
    vectors = make_vectors(3000)
    index, facts = build_index(vectors, KINDS[request.param], seed=1, threads=1)
    return request.param, vectors, index, facts


def test_kind_and_manifest_facts(built):
    kind, vectors, index, facts = built
    assert (index.kind, index.size, index.dim) == (kind, *vectors.shape)
    assert facts["kind"] == kind
    assert facts["recall_at_100"] >= 0.9
    assert facts["seconds"] >= 0
    assert "refused" not in facts


def test_finds_what_brute_force_finds(built):
    _, vectors, index, _ = built
    queries = sample_queries(vectors, seed=7, count=50)
    scores, rows = index.search(queries, 20)
    expected, _ = brute_force(vectors, queries, 20)
    assert (scores >= expected[:, -1:] - 1e-5).mean() >= 0.9
    np.testing.assert_allclose(scores, np.einsum("qd,qkd->qk", queries, vectors[rows]), atol=1e-5)
    assert (np.diff(scores, axis=1) <= 0).all()
    assert all(len(set(row)) == 20 for row in rows.tolist())


def test_an_item_finds_itself(built):
    _, vectors, index, _ = built
    _, rows = index.search(vectors[:100], 1)
    assert (rows[:, 0] == np.arange(100)).mean() >= 0.97


@pytest.mark.parametrize("share", [0.001, 0.02, 0.5, 1.0])
def test_filtered_search_answers_only_what_is_allowed(built, share):
    kind, vectors, index, _ = built
    allowed = np.zeros(len(vectors), np.bool_)
    allowed[:: max(1, round(1 / share))] = True
    queries = sample_queries(vectors, seed=3, count=20)
    scores, rows = index.search(queries, 30, allowed)
    reachable = min(30, int(allowed.sum()))
    assert (rows[:, :reachable] >= 0).all()
    assert (rows[:, reachable:] == -1).all()
    assert allowed[rows[:, :reachable]].all()
    best, _ = brute_force(vectors, queries, reachable, allowed)
    found = (scores[:, :reachable] >= best[:, -1:] - 1e-5).mean()
    assert found == 1.0 if kind == "flat" else found >= 0.85


def test_nothing_allowed(built):
    _, vectors, index, _ = built
    scores, rows = index.search(vectors[:2], 5, np.zeros(len(vectors), np.bool_))
    assert (rows == -1).all()
    assert np.isneginf(scores).all()


def test_empty_queries_and_zero_k(built):
    _, vectors, index, _ = built
    assert index.search(vectors[:0], 5)[1].shape == (0, 5)
    assert index.search(vectors[:3], 0)[0].shape == (3, 0)


def test_a_zero_query_is_answered(built):
    _, vectors, index, _ = built
    scores, rows = index.search(np.zeros((1, vectors.shape[1]), np.float32), 10)
    assert (rows >= 0).all()
    assert (scores == 0).all()


def test_wrong_shapes_are_refused(built):
    _, vectors, index, _ = built
    with pytest.raises(ValueError, match="queries"):
        index.search(vectors[0], 5)
    with pytest.raises(ValueError, match="queries"):
        index.search(vectors[:1, :5], 5)
    with pytest.raises(ValueError, match="allowed"):
        index.search(vectors[:1], 5, np.ones(3, np.bool_))
    with pytest.raises(ValueError, match="k"):
        index.search(vectors[:1], -1)


def test_round_trip_keeps_kind_breadth_and_answers(built, tmp_path):
    kind, vectors, index, _ = built
    write_index(index, tmp_path / "index.faiss")
    loaded = load_index(tmp_path / "index.faiss", threads=1)
    assert (loaded.kind, loaded.size, loaded.breadth) == (kind, index.size, index.breadth)
    for ours, theirs in zip(index.search(vectors[:30], 15), loaded.search(vectors[:30], 15), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [path.name for path in tmp_path.iterdir()] == ["index.faiss"]


def test_threads_are_pinned_in_every_calling_thread(built):
    _, vectors, index, _ = built
    seen = []

    def search():
        faiss.omp_set_num_threads(2)
        index.search(vectors[:1], 5)
        seen.append(faiss.omp_get_max_threads())

    thread = threading.Thread(target=search)
    thread.start()
    thread.join()
    assert seen == [1]


def test_same_seed_same_answers(built, make_vectors):
    kind, vectors, index, _ = built
    again, _ = build_index(vectors, KINDS[kind], seed=1, threads=1)
    queries = sample_queries(vectors, seed=9, count=20)
    np.testing.assert_array_equal(index.search(queries, 20)[1], again.search(queries, 20)[1])


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("size", [0, 1, 2, 7])
def test_catalogue_smaller_than_k(kind, size, make_vectors):
    vectors = make_vectors(size)
    index, _ = build_index(vectors, KINDS[kind], seed=0, threads=1)
    queries = make_vectors(3, seed=5)
    scores, rows = index.search(queries, 10)
    assert rows.shape == (3, 10)
    assert [sorted(row[row >= 0].tolist()) for row in rows] == [list(range(size))] * 3
    assert (rows[:, size:] == -1).all()
    assert np.isneginf(scores[:, size:]).all()


@pytest.mark.parametrize("kind", list(KINDS))
def test_duplicated_and_zero_vectors(kind, make_vectors):
    vectors = np.repeat(make_vectors(3), 50, axis=0)
    vectors[-10:] = 0
    index, facts = build_index(vectors, KINDS[kind], seed=0, threads=1)
    scores, rows = index.search(vectors[:1], 150)
    assert sorted(rows[0].tolist()) == list(range(150))
    assert (scores[0, :50] > 0.999).all()
    assert facts["recall_at_100"] >= 0.9
    assert rows[0, :50].tolist() == list(range(50)), "equal scores come in order of row"


@pytest.mark.parametrize("kind", list(KINDS))
def test_all_vectors_zero(kind):
    index, _ = build_index(np.zeros((40, 8), np.float32), KINDS[kind], seed=0, threads=1)
    _, rows = index.search(np.ones((1, 8), np.float32), 40)
    assert sorted(rows[0].tolist()) == list(range(40))


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 40),
    k=st.integers(1, 60),
    seed=st.integers(0, 1000),
    kind=st.sampled_from(list(KINDS)),
    allow=st.floats(0, 1),
)
def test_places_are_distinct_allowed_and_complete(make_vectors, size, k, seed, kind, allow):
    vectors = make_vectors(size, dim=8, seed=seed)
    index, _ = build_index(vectors, KINDS[kind], seed=0, threads=1)
    allowed = np.random.default_rng(seed).random(size) < allow
    _, rows = index.search(vectors[:2], k, allowed)
    for row in rows.tolist():
        real = [place for place in row if place >= 0]
        assert len(real) == len(set(real)) == min(k, int(allowed.sum()))
        assert set(real) <= set(np.flatnonzero(allowed).tolist())


def test_kind_follows_size():
    config = IndexConfig(exact_limit=100)
    from recsys.index import choose_kind

    assert [choose_kind(n, config) for n in (1, 100, 101, 1000, 1001)] == [
        "flat", "flat", "hnsw", "hnsw", "ivf",
    ]  # fmt: skip
    assert choose_kind(5, IndexConfig(kind="ivf")) == "ivf"


def test_an_index_that_misses_too_much_is_replaced_by_the_exact_one(caplog, make_vectors):
    vectors = make_vectors(6000, dim=48, clusters=6000)  # no structure at all: hard for every approximation
    config = IndexConfig(kind="ivf", nprobe=8, min_recall=0.999)
    index, facts = build_index(vectors, config, seed=0, threads=1)
    assert index.kind == facts["kind"] == "flat"
    assert facts["refused"] == "ivf"
    assert facts["refused_recall_at_100"] < 0.999
    assert facts["recall_at_100"] == 1.0
    assert "exact search is built instead" in caplog.text


def test_breadth_is_widened_before_an_index_is_given_up(make_vectors):
    vectors = make_vectors(4000)
    index, facts = build_index(vectors, IndexConfig(kind="ivf", nprobe=3, min_recall=0.95), seed=0, threads=1)
    assert index.kind == "ivf"
    assert facts["breadth"] == index.breadth > 2
    assert facts["recall_at_100"] >= 0.95


def test_recall_falls_when_the_index_looks_at_less(make_vectors):
    vectors = make_vectors(4000, clusters=400)
    queries = sample_queries(vectors, seed=0)
    narrow, _ = build_index(vectors, IndexConfig(kind="ivf", nprobe=4, min_recall=0), seed=0, threads=1)
    wide, _ = build_index(vectors, IndexConfig(kind="ivf", nprobe=64, min_recall=0), seed=0, threads=1)
    assert recall_against_exact(narrow, queries) < recall_against_exact(wide, queries)


def test_queries_are_of_unit_norm(make_vectors):
    queries = sample_queries(make_vectors(50), seed=0, count=30)
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-5)


def test_damaged_files_are_artifact_errors(tmp_path):
    with pytest.raises(ArtifactError, match="no index"):
        load_index(tmp_path / "index.faiss")
    (tmp_path / "index.faiss").write_bytes(b"not an index at all")
    with pytest.raises(ArtifactError, match="not a readable index"):
        load_index(tmp_path / "index.faiss")
    faiss.write_index(faiss.IndexFlatL2(4), str(tmp_path / "other.faiss"))
    with pytest.raises(ArtifactError, match="inner product"):
        load_index(tmp_path / "other.faiss")


def test_vectors_that_are_not_finite_are_refused(make_vectors):
    vectors = make_vectors(5)
    vectors[2, 0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        build_index(vectors, IndexConfig(), seed=0, threads=1)
