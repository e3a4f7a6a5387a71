"""The service over a real run directory: the same lists as the recommender, and no torch anywhere."""

import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from fake_service import wait_ready
from fastapi.testclient import TestClient
from mini_run import write_run

from recsys.artifacts import promote
from recsys.loading import load_run
from recsys.types import Query
from serving.app import create_app
from serving.settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    promote(write_run(runs / "20260101-000000-abcdef", int(time.time()) - 3600))
    return runs


@pytest.fixture(scope="module")
def client(runs):
    app = create_app(Settings(run=runs / "live", feature_source="snapshot"))
    with TestClient(app) as client:
        wait_ready(client)
        yield client


def post(client, **body):
    response = client.post("/v1/recommendations", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_http_gives_what_the_recommender_gives(client, runs):
    loaded = load_run(runs / "live", 1)
    moment = int(time.time())
    (features,) = loaded.snapshot().fetch(["u2"])
    (expected,) = loaded.recommender.recommend([Query(20, moment, "u2", features, exclude_seen=True)])
    answer = post(client, user_id="u2", k=20, exclude_seen=True, at=moment)
    assert [(i["item_id"], i["rank"]) for i in answer["items"]] == [
        (i.item_id, i.rank) for i in expected.items
    ]
    assert [i["score"] for i in answer["items"]] == pytest.approx([i.score for i in expected.items], rel=1e-6)
    assert answer["fallback"] is None
    assert answer["degraded"] == []
    assert not {"i2", "i3"} & {i["item_id"] for i in answer["items"]}
    assert answer["items"][0]["title"].startswith("Item ")


def test_unknown_users_get_the_popular_list(client):
    answer = post(client, user_id="who?", k=5)
    assert [item["item_id"] for item in answer["items"]] == ["i0", "i1", "i2", "i3", "i4"]
    assert answer["fallback"] == "unknown_user"
    assert post(client, history=[{"item_id": "nothing we sell"}], k=5)["fallback"] == "unknown_items"


def test_a_history_alone_is_personal(client):
    answer = post(client, history=[{"item_id": "i40"}, {"item_id": "i41"}], k=5)
    assert answer["fallback"] is None
    assert {"i40", "i41"} <= {item["item_id"] for item in answer["items"]}


@pytest.mark.parametrize("k", [1, 59, 60, 100])
def test_k_places_or_the_whole_catalogue(client, k):
    for body in ({"user_id": "u1"}, {}, {"history": [{"item_id": "i9"}]}):
        ids = [item["item_id"] for item in post(client, k=k, **body)["items"]]
        assert len(ids) == len(set(ids)) == min(k, 60)


def test_similar(client):
    answer = client.get("/v1/items/i7/similar", params={"k": 100}).json()
    assert len(answer["items"]) == 59
    assert "i7" not in {item["item_id"] for item in answer["items"]}
    assert client.get("/v1/items/i60/similar").status_code == 404


def test_no_feature_store_is_degraded(runs):
    with TestClient(create_app(Settings(run=runs / "live"))) as client:
        wait_ready(client)
        answer = post(client, user_id="u1", k=4)
        assert answer["degraded"] == ["features_unavailable"]
        assert len(answer["items"]) == 4


def test_a_damaged_run_is_not_served(tmp_path):
    run = write_run(tmp_path / "run", int(time.time()))
    (run / "item_vectors.npy").write_bytes(b"damaged")
    with TestClient(create_app(Settings(run=run))) as client:
        until = time.monotonic() + 10
        while "digest" not in (problem := client.get("/readyz").json()["problem"]):
            assert time.monotonic() < until, problem
            time.sleep(0.01)
        assert client.get("/readyz").status_code == 503


def test_a_request_is_answered_where_torch_cannot_be_imported(runs):
    code = """
    import sys, time

    class Fence:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] in ("torch", "transformers"):
                raise ImportError(f"{name} is fenced off")

    sys.meta_path.insert(0, Fence())
    import serving.app
    heavy = {"feast", "faiss", "onnxruntime", "pandas"} & set(sys.modules)
    assert not heavy, f"importing serving.app loaded {heavy}"
    from fastapi.testclient import TestClient
    with TestClient(serving.app.app) as client:
        until = time.monotonic() + 30
        while client.get("/readyz").status_code != 200 and time.monotonic() < until:
            time.sleep(0.02)
        response = client.post("/v1/recommendations", json={"user_id": "u1", "k": 3})
    assert response.status_code == 200, response.text
    assert not {"torch", "transformers"} & set(sys.modules)
    print(response.text)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        env={"PATH": "", "RECSYS_RUN": str(runs / "live"), "RECSYS_FEATURE_SOURCE": "snapshot"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert len(answer["items"]) == 3
    assert answer["fallback"] is None
