import threading
import time

import pytest

from recsys.errors import DependencyError
from recsys.types import History, UserFeatures
from serving.guard import FAILURES, GuardedFeatures


class Source:
    def __init__(self):
        self.calls = 0
        self.error: Exception | None = None
        self.gate: threading.Event | None = None

    def fetch(self, user_ids):
        self.calls += 1
        if self.gate is not None:
            self.gate.wait(10)
        if self.error is not None:
            raise self.error
        return [UserFeatures(u, History(), 0) if u == "anna" else None for u in user_ids]


@pytest.fixture
def source():
    return Source()


def guarded(source, clock=time.monotonic, **changes):
    return GuardedFeatures(
        lambda: source, **{"timeout_seconds": 5.0, "cooldown_seconds": 10.0, "clock": clock, **changes}
    )


def test_reads_pass_through(source):
    reader = guarded(source)
    assert reader.read("anna").user_id == "anna"
    assert reader.read("bert") is None


@pytest.mark.parametrize(
    "error", [RuntimeError("boom"), OSError("disk"), DependencyError("gone"), KeyError("x")]
)
def test_any_failure_becomes_a_dependency_error(source, error):
    source.error = error
    with pytest.raises(DependencyError, match="did not answer"):
        guarded(source).read("anna")


def test_a_store_that_hangs_costs_no_more_than_the_time_limit(source):
    source.gate = threading.Event()
    reader = guarded(source, timeout_seconds=0.05)
    started = time.perf_counter()
    with pytest.raises(DependencyError, match="TimeoutError"):
        reader.read("anna")
    assert time.perf_counter() - started < 2
    source.gate.set()
    reader.close()


def test_after_repeated_failures_the_store_is_left_alone_and_then_tried_again(source):
    now = [0.0]
    reader = guarded(source, clock=lambda: now[0])
    source.error = RuntimeError("down")
    for _ in range(FAILURES + 5):
        with pytest.raises(DependencyError):
            reader.read("anna")
    assert source.calls == FAILURES
    now[0] = 11.0
    with pytest.raises(DependencyError, match="did not answer"):
        reader.read("anna")
    with pytest.raises(DependencyError, match="left alone"):
        reader.read("anna")
    assert source.calls == FAILURES + 1, "one trial after each pause"
    now[0], source.error = 22.0, None
    assert reader.read("anna") is not None
    source.error = RuntimeError("once")
    with pytest.raises(DependencyError):
        reader.read("anna")
    source.error = None
    assert reader.read("anna") is not None, "a single failure closes nothing"


def test_a_source_that_cannot_be_built_is_tried_again():
    attempts = []

    def make():
        attempts.append(1)
        if len(attempts) < 3:
            raise DependencyError("no store here yet")
        return Source()

    reader = GuardedFeatures(make, 5.0, 0.0)
    reader.warm()
    with pytest.raises(DependencyError):
        reader.read("anna")
    assert reader.read("anna") is not None
    assert len(attempts) == 3


def test_closed_readers_refuse(source):
    reader = guarded(source)
    reader.close()
    with pytest.raises(DependencyError):
        reader.read("anna")
