from __future__ import annotations

from recsys.randomness import Stream, row_streams, stream


def test_fork_does_not_move_the_parent_and_is_keyed() -> None:
    parent = stream(1, "a")
    children = [parent.fork(key).bits() for key in range(1000)]
    assert parent.bits() == stream(1, "a").bits()
    assert len(set(children)) == 1000
    assert children == [stream(1, "a").fork(key).bits() for key in range(1000)]


def test_forks_are_uniform_and_uncorrelated() -> None:
    forks = [stream(2, str(i)) for i in range(4000)]
    left = [s.fork(11).random() for s in forks]
    right = [s.fork(12).random() for s in forks]
    mean = sum(left) / 4000
    covariance = sum((a - 0.5) * (b - 0.5) for a, b in zip(left, right, strict=True)) / 4000
    assert abs(mean - 0.5) < 0.02
    assert abs(covariance) * 12 < 0.06


def test_fork_differs_from_the_parents_own_draws() -> None:
    assert Stream(5).fork(0).bits() != Stream(5).bits()
    assert Stream(0).fork(0).bits() != Stream(0).fork(1).bits()


def test_row_streams_depend_on_the_id_alone() -> None:
    forwards = row_streams(3, "stage")
    backwards = row_streams(3, "stage")
    ids = [f"row{i}" for i in range(100)]
    first = {name: forwards(name).bits() for name in ids}
    assert {name: backwards(name).bits() for name in reversed(ids)} == first
    assert len(set(first.values())) == 100
    assert row_streams(4, "stage")("row0").bits() != first["row0"]
    assert row_streams(3, "other")("row0").bits() != first["row0"]
