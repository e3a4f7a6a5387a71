import time

import pytest
from fake_service import NOW, FakeBackend, make_release
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys.terms import Boosts, Rules

URL = "/v1/recommendations"


def ask(client, **body):
    response = client.post(URL, json=body)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.fixture
def service(serve):
    release = make_release()
    return serve(release), release


def test_known_user(service):
    client, release = service
    before = int(time.time())
    answer = ask(client, user_id="anna", k=3)
    assert answer["run_id"] == release.run_id
    assert [item["item_id"] for item in answer["items"]] == ["i0", "i1", "i2"]
    assert [item["rank"] for item in answer["items"]] == [1, 2, 3]
    assert answer["items"][0]["title"] == "Title of i0"
    assert answer["items"][0]["sources"] == ["popular"]
    assert answer["fallback"] is None
    assert answer["degraded"] == []
    assert set(answer["timings_ms"]) == {"features", "augment", "recommend", "total"}
    assert answer["timings_ms"]["total"] >= answer["timings_ms"]["recommend"] > 0
    (query,) = release.backend.asked
    assert query.features.history.item_ids == ("i3", "i5")
    assert before <= query.moment <= time.time()
    assert release.features.reads == ["anna"], "one feature read per request"


def test_unknown_user_gets_a_flagged_list(service):
    client, _ = service
    answer = ask(client, user_id="nobody knows", k=7)
    assert answer["fallback"] == "unknown_user"
    assert len(answer["items"]) == 7


def test_nobody_needs_no_feature_read(service):
    client, release = service
    assert ask(client)["fallback"] == "no_history"
    assert release.features.reads == []


def test_history_in_the_request(service):
    client, release = service
    history = [
        {"item_id": "i8", "timestamp": NOW - 50},
        {"item_id": "i7", "event_type": "cart", "timestamp": NOW - 90},
        {"item_id": "i9", "event_type": "return", "timestamp": NOW - 10},
        {"item_id": "i4"},
    ]
    answer = ask(client, history=history, k=4)
    assert answer["fallback"] is None
    (query,) = release.backend.asked
    assert query.features.history.item_ids == ("i7", "i8", "i4"), "by time; a return is no positive event"
    assert query.features.history.event_types == ("cart", "interaction", "interaction")
    assert all(at < query.moment for at in query.features.history.timestamps)
    assert query.features.owned.item_ids == ("i7", "i8", "i4")
    assert query.features.num_events == 3
    assert release.features.reads == []


def test_request_events_are_added_to_the_stored_history(service):
    client, release = service
    told_twice = {"item_id": "i5", "event_type": "purchase", "timestamp": NOW - 1000}
    ask(client, user_id="anna", history=[told_twice, {"item_id": "i6"}, {"item_id": "i3"}])
    (query,) = release.backend.asked
    assert query.features.history.item_ids == ("i3", "i5", "i6", "i3")
    assert dict(zip(query.features.owned.item_ids, query.features.owned.counts, strict=True)) == {
        "i3": 2,
        "i5": 1,
        "i6": 1,
    }
    assert query.features.num_events == 4


def test_exclusions_reach_the_recommender(service):
    client, _ = service
    answer = ask(client, user_id="anna", k=5, exclude=["i0", "i2"], exclude_seen=True)
    assert [item["item_id"] for item in answer["items"]] == ["i1", "i4", "i6", "i7", "i8"]


def test_a_named_moment_hides_what_came_later(service):
    client, release = service
    ask(client, user_id="anna", history=[{"item_id": "i9", "timestamp": NOW - 10}], at=NOW - 2000)
    (query,) = release.backend.asked
    assert query.moment == NOW - 2000
    assert query.features.history.item_ids == ("i3",)
    assert query.available_at is None


def test_a_clock_that_runs_ahead_is_put_right(service):
    client, release = service
    ask(client, history=[{"item_id": "i9", "timestamp": NOW + 5000}])
    (query,) = release.backend.asked
    assert query.features.history.timestamps == (query.moment - 1,)


def test_store_down_is_degraded_not_failed(service):
    client, release = service
    release.features.down = True
    answer = ask(client, user_id="anna", k=6)
    assert answer["degraded"] == ["features_unavailable"]
    assert answer["fallback"] == "features_unavailable", "nobody said that anna is unknown"
    assert len(answer["items"]) == 6
    with_history = ask(client, user_id="anna", history=[{"item_id": "i1"}], k=6)
    assert with_history["degraded"] == ["features_unavailable"]
    assert with_history["fallback"] is None
    text = client.get("/metrics").text
    assert 'recsys_degraded_total{reason="features_unavailable"} 2.0' in text
    assert 'recsys_fallbacks_total{reason="features_unavailable"} 1.0' in text


def test_stale_features_are_marked(serve):
    client = serve(make_release(ttl_days=0.001))
    assert ask(client, user_id="anna")["degraded"] == ["stale_features"]


def test_an_old_run_answers_as_of_its_end(serve):
    end = NOW - 400 * 86_400
    release = make_release(moment=end)
    client = serve(release)
    assert ask(client, k=2)["degraded"] == ["stale_run"]
    assert release.backend.asked[-1].moment == end
    assert release.backend.asked[-1].available_at >= NOW
    ask(client, history=[{"item_id": "i1"}, {"item_id": "i2"}])
    assert release.backend.asked[-1].features.history.timestamps == (end - 2, end - 1)
    assert ask(client, user_id="anna")["degraded"] == ["stale_run"]
    assert release.backend.asked[-1].moment == NOW - 999, "just after the newest event known"
    assert ask(client, at=NOW)["degraded"] == []


identifiers = st.text(min_size=1, max_size=256).filter(lambda text: text.isprintable() or text.isascii())
events = st.fixed_dictionaries(
    {"item_id": st.one_of(st.sampled_from([f"i{n}" for n in range(160)]), identifiers)},
    optional={
        "event_type": st.sampled_from(["view", "purchase", "return", "whatever"]),
        "timestamp": st.integers(0, 4_102_444_800),
    },
)
requests = st.fixed_dictionaries(
    {"k": st.integers(1, 100)},
    optional={
        "user_id": st.one_of(st.just("anna"), identifiers),
        "history": st.lists(events, max_size=30),
        "exclude": st.lists(st.sampled_from([f"i{n}" for n in range(50)]), max_size=50),
        "at": st.integers(0, 4_102_444_800),
    },
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=requests)
def test_any_bounded_request_gets_exactly_k_distinct_items_of_the_catalogue(service, body):
    client, release = service
    ids = [item["item_id"] for item in ask(client, **body)["items"]]
    assert len(ids) == len(set(ids)) == body["k"]
    assert set(ids) <= set(release.backend.vocabulary.item_ids) - set(body.get("exclude", ()))
    query = release.backend.asked[-1]
    if query.features is not None:
        times = query.features.history.timestamps
        assert all(at < query.moment for at in times)
        assert list(times) == sorted(times)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"k": 0}, "body.k"),
        ({"k": 101}, "body.k"),
        ({"k": "ten"}, "body.k"),
        ({"user_id": ""}, "body.user_id"),
        ({"user_id": "x" * 257}, "body.user_id"),
        ({"history": [{"item_id": "i1"}] * 501}, "body.history"),
        ({"history": [{"event_type": "view"}]}, "body.history.0.item_id"),
        ({"history": [{"item_id": "i1", "timestamp": 1700000000000}]}, "body.history.0.timestamp"),
        ({"exclude": ["i1"] * 1001}, "body.exclude"),
        ({"at": -1}, "body.at"),
        ({"users": "anna"}, "body.users"),
        ([], "body"),
    ],
)
def test_out_of_bounds_is_refused_with_its_place(service, body, where):
    client, release = service
    response = client.post(URL, json=body)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["code"] == "invalid_request"
    assert problem["errors"][0]["where"] == where
    assert release.backend.asked == []


def test_a_thousand_errors_are_not_listed(service):
    client, _ = service
    response = client.post(URL, json={"exclude": [""] * 1000})
    assert len(response.json()["errors"]) == 10
    assert len(response.content) < 3000


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b'{"k": NaN}', b'{"k": 1e999}', b"\xff\xfe", b'{"user_id": "\\ud800"}', b"[" * 5000],
)
def test_broken_bodies_are_422(service, content):
    client, _ = service
    response = client.post(URL, content=content, headers={"Content-Type": "application/json"})
    assert response.status_code in (400, 422), response.text
    assert response.headers["content-type"] == "application/problem+json"


def test_large_bodies_are_refused(serve):
    client = serve(max_body_bytes=2048)
    assert client.post(URL, json={"exclude": ["x" * 200] * 5}).status_code == 200
    response = client.post(URL, json={"exclude": ["x" * 200] * 20})
    assert response.status_code == 413
    assert response.json()["code"] == "too_large"
    chunked = client.post(URL, content=(b"x" * 500 for _ in range(10)))
    assert (chunked.status_code, chunked.json()["code"]) == (413, "too_large")


def test_odd_ids_come_out_as_they_went_in(serve):
    odd = ["a/b", "ü 灯", "<script>", '"; DROP', "%2e%2e", "\x00", "..", "x" * 256]
    backend = FakeBackend(0)
    backend.vocabulary = type(backend.vocabulary)(odd)
    client = serve(make_release(backend=backend))
    assert [item["item_id"] for item in ask(client, k=8)["items"]] == odd


def test_a_bug_in_the_backend_is_a_bare_500(serve):
    release = make_release()
    client = serve(release)
    release.backend.recommend = lambda queries: 1 / 0
    response = client.post(URL, json={})
    assert response.status_code == 500
    assert response.json()["code"] == "internal"
    assert "ZeroDivision" not in response.text


def test_rules_reach_the_recommender_and_are_counted(service):
    client, release = service
    rules = {"pins": {"i7": 2}, "boost_brands": {"oak": 0.5}, "max_per_brand": 2, "diversity": 0.5}
    ask(client, user_id="anna", rules={**rules, "categories": ["lamps"], "max_price": 9})
    (query,) = release.backend.asked
    assert query.rules == Rules(
        pins={"i7": 2},
        boosts=Boosts({}, {}, {"oak": 0.5}),
        max_per_brand=2,
        diversity=0.5,
        categories=frozenset({"lamps"}),
        max_price=9,
    )
    text = client.get("/metrics").text
    for kind in ("filters", "pins", "boosts", "diversity", "caps"):
        assert f'recsys_rules_total{{rule="{kind}"}} 1.0' in text


@pytest.mark.parametrize(
    "rules",
    [
        {"pins": {"i1": 1, "i2": 1}},
        {"pins": {"i1": 101}},
        {"pins": {"": 1}},
        {"boost_items": {"i1": 11}},
        {"diversity": 1.01},
        {"max_per_brand": 0},
        {"within": 101},
        {"min_price": 3, "max_price": 2},
        {"min_price": -1},
        {"categories": ["x"] * 201},
        {"brand": ["x"]},
    ],
)
def test_rules_are_bounded(service, rules):
    client, release = service
    response = client.post(URL, json={"user_id": "anna", "rules": rules})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    assert not release.backend.asked
