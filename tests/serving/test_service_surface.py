"""Similar items, health, metrics, security, overload, and the documents against the code."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
from fake_service import FakeBackend, make_release
from fastapi.testclient import TestClient

from recsys.errors import ConfigError
from serving import schemas
from serving.app import create_app
from serving.settings import Settings, load_settings

URL = "/v1/recommendations"
KEY = "0123456789abcdef"


def test_similar_items(serve):
    client = serve()
    answer = client.get("/v1/items/i1/similar", params={"k": 3}).json()
    assert [item["item_id"] for item in answer["items"]] == ["i0", "i2", "i3"]
    assert answer["item_id"] == "i1"
    assert len(client.get("/v1/items/i1/similar").json()["items"]) == 20


def test_unknown_item_is_404(serve):
    response = serve().get("/v1/items/none/similar")
    assert response.status_code == 404
    assert response.json()["code"] == "unknown_item"
    assert "'none'" in response.json()["detail"]


@pytest.mark.parametrize("odd", ["a/b", "/", "ü 灯", "a similar/similar", "?x=1", "#", "%"])
def test_similar_takes_any_id(serve, odd):
    backend = FakeBackend(0)
    backend.vocabulary = type(backend.vocabulary)([odd, "other"])
    client = serve(make_release(backend=backend))
    answer = client.get(f"/v1/items/{quote(odd, safe='')}/similar").json()
    assert answer["item_id"] == odd
    assert [item["item_id"] for item in answer["items"]] == ["other"]


@pytest.mark.parametrize(
    "path", [f"/v1/items/{'x' * 257}/similar", "/v1/items/i1/similar?k=0", "/v1/items/i1/similar?k=x"]
)
def test_similar_is_bounded(serve, path):
    assert serve().get(path).status_code == 422


def test_paths_nobody_knows(serve):
    client = serve()
    for response in (client.get("/none"), client.get(URL), client.post("/v1/items/../../etc/passwd")):
        assert response.status_code in (404, 405)
        assert response.headers["content-type"] == "application/problem+json"


def test_health_and_metrics(serve):
    client = serve()
    assert client.get("/livez").json() == {"status": "ok"}
    ready = client.get("/readyz").json()
    assert ready == {"ready": True, "run_id": "one", "num_items": 150, "problem": None}
    client.post(URL, json={"user_id": "anna"})
    client.get("/secret/path/of/a/stranger")
    client.get("/v1/items/i1/similar")
    text = client.get("/metrics").text
    assert 'recsys_requests_total{route="/v1/recommendations",status="200"} 1.0' in text
    assert 'recsys_request_seconds_count{route="/v1/items/{item_id:path}/similar"} 1.0' in text
    assert 'route="other",status="404"' in text
    assert "stranger" not in text
    assert 'recsys_run_info{run_id="one"} 1.0' in text
    assert "recsys_index_items 150.0" in text
    assert 'recsys_stage_seconds_count{stage="features"} 1.0' in text


def test_not_ready_before_a_run_is_loaded(run_folder):
    gate = threading.Event()

    def load(path, settings):
        gate.wait(10)
        return make_release()

    with TestClient(create_app(Settings(run=run_folder), load)) as client:
        assert client.get("/livez").status_code == 200
        assert client.get("/readyz").status_code == 503
        refused = client.post(URL, json={})
        assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")
        assert refused.headers["Retry-After"]
        gate.set()


def test_overload_is_refused_at_once_and_health_still_answers(serve):
    release = make_release()
    client = serve(release, max_in_flight=3, concurrency=1)
    gate, entered = threading.Event(), threading.Event()
    answer = release.backend.recommend

    def slow(queries):
        entered.set()
        gate.wait(10)
        return answer(queries)

    release.backend.recommend = slow
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(client.post, URL, json={}) for _ in range(3)]
        assert entered.wait(10)
        while "recsys_in_flight 3.0" not in client.get("/metrics").text:
            pass
        refused = client.post(URL, json={})
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        assert refused.headers["Retry-After"] == "1"
        assert client.get("/livez").status_code == 200
        gate.set()
        assert [future.result().status_code for future in waiting] == [200, 200, 200]
    assert client.post(URL, json={}).status_code == 200, "places are given back"
    text = client.get("/metrics").text
    assert "recsys_refusals_total 1.0" in text
    assert "recsys_in_flight 0.0" in text


def test_keys_are_asked_for_under_v1_only(serve):
    client = serve(api_keys=f"{KEY}, another-key-of-16+")
    for headers in (
        {},
        {"X-API-Key": ""},
        {"X-API-Key": KEY[:-1]},
        {"X-API-Key": KEY + "x"},
        {"X-API-Key": "ü"},
    ):
        encoded = {name: value.encode() for name, value in headers.items()}
        for response in (
            client.post(URL, json={}, headers=encoded),
            client.get("/v1/items/i1/similar", headers=encoded),
        ):
            assert (response.status_code, response.json()["code"]) == (401, "unauthorised")
    for key in (KEY, "another-key-of-16+"):
        assert client.post(URL, json={}, headers={"X-API-Key": key}).status_code == 200
    assert client.get("/livez").status_code == client.get("/metrics").status_code == 200


def test_settings_are_checked_and_secrets_not_repeated(monkeypatch):
    monkeypatch.setenv("RECSYS_API_KEYS", "tooshort")
    with pytest.raises(ConfigError, match=r"RECSYS_API_KEYS: .*16 characters") as caught:
        load_settings()
    assert "tooshort" not in str(caught.value)
    monkeypatch.setenv("RECSYS_API_KEYS", KEY)
    monkeypatch.setenv("RECSYS_THREADS", "0")
    with pytest.raises(ConfigError, match="RECSYS_THREADS"):
        load_settings()
    monkeypatch.setenv("RECSYS_THREADS", "3")
    settings = load_settings()
    assert settings.threads == 3
    assert KEY not in repr(settings)


def test_every_answer_has_the_security_headers(serve):
    client = serve()
    responses = [
        client.get("/livez"),
        client.post(URL, json={}),
        client.post(URL, json={"k": 0}),
        client.get("/none"),
        client.get("/docs"),
    ]
    for response in responses:
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["X-Frame-Options"] == "DENY"
    assert "default-src 'none'" in responses[1].headers["Content-Security-Policy"]


def test_openapi_examples_fit_their_schemas(serve):
    client = serve()
    described = client.get("/openapi.json").json()["components"]["schemas"]
    checked = 0
    for name, schema in described.items():
        if "examples" in schema:
            for example in getattr(schemas, name).model_json_schema()["examples"]:
                getattr(schemas, name).model_validate(example)
                checked += 1
    assert checked >= 6
    for example in described["RecommendationRequest"]["examples"]:
        assert client.post(URL, json=example).status_code == 200


def test_docs_name_every_endpoint_setting_and_code(serve):
    text = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
    paths = serve().get("/openapi.json").json()["paths"]
    for path, methods in paths.items():
        for method in methods:
            assert f"{method.upper()} {path}" in text, f"docs/api.md does not have {method.upper()} {path}"
    named = set(re.findall(r"^#+ `(GET|POST) (\S+)`", text, re.M))
    assert named == {(method.upper(), path) for path, methods in paths.items() for method in methods}
    for field in Settings.model_fields:
        assert f"`RECSYS_{field.upper()}`" in text, f"docs/api.md does not have RECSYS_{field.upper()}"
    for metric in re.findall(r"^# TYPE (recsys_\w+?)(?:_created)? ", serve().get("/metrics").text, re.M):
        assert metric in text, f"docs/api.md does not have {metric}"
