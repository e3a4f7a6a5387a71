"""`POST /v1/search`: bounded, filtered, personal where the user is known, and counted."""

import pytest
from fake_service import make_release

from recsys.terms import Rules

URL = "/v1/search"


@pytest.fixture
def service(serve):
    release = make_release()
    client = serve(release)
    release.search.asked.clear()
    return client, release


def find(client, query, **body):
    response = client.post(URL, json={"query": query, **body})
    assert response.status_code == 200, response.text
    return response.json()


def test_the_encoder_is_warm_before_the_service_is_ready(serve):
    release = make_release()
    serve(release)
    assert len(release.search.asked) >= 2
    assert {one.query.features is None for one in release.search.asked} == {True, False}


def test_found_items_come_with_their_titles(service):
    client, release = service
    answer = find(client, "i3 or i9 or what", k=5)
    assert [item["item_id"] for item in answer["items"]] == ["i3", "i9"]
    assert answer["items"][0]["title"] == "Title of i3"
    assert (answer["personal"], answer["fallback"], answer["degraded"]) == (False, None, [])
    assert set(answer["timings_ms"]) == {"features", "search", "total"}
    assert release.features.reads == [], "nobody is asked about where nobody is named"


def test_a_known_user_a_history_and_filters_reach_the_search(service):
    client, release = service
    filters = {"categories": ["lamps"], "min_price": 2, "max_price": 9, "in_stock_only": False}
    who = {"user_id": "anna", "history": [{"item_id": "i8"}], "exclude": ["i1"]}
    answer = find(client, "i3", filters=filters, k=7, **who)
    assert answer["personal"] is True
    (asked,) = release.search.asked
    assert asked.text == "i3"
    assert asked.query.k == 7
    assert asked.query.exclude == {"i1"}
    assert asked.query.features.history.item_ids == ("i3", "i5", "i8")
    assert asked.query.rules == Rules(
        categories=frozenset({"lamps"}), min_price=2, max_price=9, in_stock_only=False
    )
    text = client.get("/metrics").text
    assert 'recsys_searches_total{order="personal"} 1.0' in text
    assert 'recsys_rules_total{rule="filters"} 1.0' in text
    assert 'recsys_stage_seconds_count{stage="search"} 1.0' in text
    assert 'recsys_requests_total{route="/v1/search",status="200"} 1.0' in text


def test_a_store_that_is_down_degrades_the_order_alone(service):
    client, release = service
    release.features.down = True
    answer = find(client, "i4", user_id="anna")
    assert answer["degraded"] == ["features_unavailable"]
    assert answer["personal"] is False
    assert [item["item_id"] for item in answer["items"]] == ["i4"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"query": ""},
        {"query": " \n\t "},
        {"query": "x" * 1001},
        {"query": "x", "k": 0},
        {"query": "x", "k": 101},
        {"query": "x", "filters": {"min_price": 3, "max_price": 2}},
        {"query": "x", "filters": {"pins": {"i1": 1}}},
        {"query": "x", "rules": {}},
        {"query": ["x"]},
    ],
)
def test_requests_are_bounded(service, body):
    client, release = service
    response = client.post(URL, json=body)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    assert not release.search.asked


@pytest.mark.parametrize("odd", ["灯", "a\\u0000b", "'; drop table", "<b>x</b>", "🦆" * 500, "\\ud800"])
def test_odd_text_is_only_text(service, odd):
    """As JSON spells it; half a surrogate pair is text to JSON and to nobody else."""
    client, _ = service
    content = ('{"query": "' + odd + '"}').encode()
    response = client.post(URL, content=content, headers={"Content-Type": "application/json"})
    assert response.status_code in (200, 422)


def test_a_service_without_an_encoder_says_so(serve):
    client = serve(make_release(search=None))
    response = client.post(URL, json={"query": "lamp"})
    assert (response.status_code, response.json()["code"]) == (503, "dependency_failed")
    assert "text encoder" in response.json()["detail"]


def test_keys_are_asked_for(serve):
    client = serve(api_keys="0123456789abcdef")
    assert client.post(URL, json={"query": "lamp"}).status_code == 401
