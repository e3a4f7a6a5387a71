import json
import threading
import time

import pytest
from fake_service import FakeBackend, make_release, wait_ready
from fastapi.testclient import TestClient

from recsys.artifacts import SCHEMA_VERSION, promote
from recsys.errors import ArtifactError
from serving.app import create_app
from serving.settings import Settings

POLL = 0.02


def make_run(runs, name):
    run = runs / name
    run.mkdir()
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "run_id": name,
        "created": "2026-01-01T00:00:00Z",
        "finished": "2026-01-01T01:00:00Z",
        "config_digest": "",
    }
    (run / "manifest.json").write_text(json.dumps(manifest))
    return run


def until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(POLL)


@pytest.fixture
def world(tmp_path):
    """Two runs of different size, `live` on the first, and a loader that can be made to fail or to wait."""

    class World:
        runs = tmp_path

        def __init__(self):
            self.loads, self.broken, self.gate = [], set(), threading.Event()

        def load(self, path, settings):
            self.loads.append(path.name)
            self.gate.wait(10)
            if path.name in self.broken:
                raise ArtifactError(f"{path.name} is damaged")
            return make_release(path, backend=FakeBackend({"first": 30, "second": 60}.get(path.name, 90)))

    world = World()
    world.gate.set()
    for name in ("first", "second"):
        make_run(tmp_path, name)
    promote(tmp_path / "first")
    app = create_app(Settings(run=tmp_path / "live", poll_seconds=POLL), world.load)
    with TestClient(app) as client:
        wait_ready(client)
        world.client = client
        yield world


def run_id(client):
    return client.post("/v1/recommendations", json={"k": 3}).json()["run_id"]


def test_a_promotion_is_followed_without_a_gap(world):
    client, statuses, seen = world.client, set(), []
    stop = threading.Event()

    def keep_asking():
        while not stop.is_set():
            response = client.post("/v1/recommendations", json={"k": 3})
            statuses.add(response.status_code)
            seen.append(response.json()["run_id"])

    asker = threading.Thread(target=keep_asking)
    asker.start()
    world.gate.clear()
    promote(world.runs / "second")
    until(lambda: world.loads == ["first", "second"])
    assert run_id(client) == "first", "the old run answers while the new one loads"
    world.gate.set()
    until(lambda: run_id(client) == "second")
    stop.set()
    asker.join()
    assert statuses == {200}
    assert seen == sorted(seen), "once the new run answers, the old one never does again"
    assert client.get("/readyz").json()["num_items"] == 60
    text = client.get("/metrics").text
    assert 'recsys_run_info{run_id="second"} 1.0' in text
    assert 'run_id="first"' not in text


def test_a_run_that_cannot_be_loaded_leaves_the_old_one_and_is_reported(world):
    client = world.client
    world.broken.add("second")
    promote(world.runs / "second")
    until(lambda: client.get("/readyz").json()["problem"])
    ready = client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["run_id"] == "first"
    assert "second is damaged" in ready.json()["problem"]
    assert run_id(client) == "first"
    time.sleep(5 * POLL)
    assert world.loads == ["first", "second"], "not tried again at every look"
    assert 'recsys_run_loads_total{outcome="failed"} 1.0' in client.get("/metrics").text
    promote(world.runs / "first")
    until(lambda: client.get("/readyz").json()["problem"] is None)
    make_run(world.runs, "third")
    promote(world.runs / "third")
    until(lambda: run_id(client) == "third")


def test_a_failed_run_is_tried_again_in_the_end(world):
    world.broken.add("second")
    promote(world.runs / "second")
    until(lambda: world.client.get("/readyz").json()["problem"])
    world.broken.clear()
    until(lambda: run_id(world.client) == "second")


def test_a_vanished_link_leaves_the_old_run(world):
    (world.runs / "live").unlink()
    until(lambda: world.client.get("/readyz").json()["problem"])
    assert run_id(world.client) == "first"


def test_a_run_that_fails_its_warm_up_is_not_taken(world):
    load = world.load

    def load_lame(path, settings):
        release = load(path, settings)
        if path.name == "second":
            release.backend.recommend = lambda queries: 1 / 0
        return release

    world.client.app.state.service.releases._load = load_lame
    promote(world.runs / "second")
    until(lambda: world.client.get("/readyz").json()["problem"])
    assert "ZeroDivisionError" in world.client.get("/readyz").json()["problem"]
    assert run_id(world.client) == "first"


def test_nothing_to_serve_yet_then_a_first_promotion(tmp_path):
    app = create_app(Settings(run=tmp_path, poll_seconds=POLL), lambda path, settings: make_release(path))
    with TestClient(app) as client:
        until(lambda: "neither a run directory" in (client.get("/readyz").json()["problem"] or ""))
        assert client.get("/readyz").status_code == 503
        assert client.get("/livez").status_code == 200
        promote(make_run(tmp_path, "first"))
        wait_ready(client)
        assert run_id(client) == "first"
