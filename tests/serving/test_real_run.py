"""The service over a real run directory: the same lists as the recommender, and no torch anywhere."""

import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fake_service import wait_ready
from fastapi.testclient import TestClient
from mini_run import write_run

from recsys.artifacts import promote
from recsys.batch import recommend_users
from recsys.cli import main
from recsys.loading import load_run
from recsys.rule_settings import RulesConfig
from recsys.text_search import SearchQuery
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


RULES = (
    {},
    {"pins": {"i50": 1, "i3": 4}, "diversity": 0.6},
    {"boost_items": {"i30": 3.0}, "max_per_category": 4, "within": 5},
    {"boost_brands": {"none": 1.0}, "max_price": 1000.0, "categories": ["ALL"]},
    {"categories": ["no such"]},
)


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("user", ["u1", "nobody knows"])
def test_http_batch_and_the_recommender_give_one_list_under_any_rules(client, runs, rules, user):
    loaded = load_run(runs / "live", 1)
    moment = int(time.time())
    wanted = RulesConfig.model_validate(rules).to_rules(frozenset(rules))
    table = recommend_users(loaded, ["u0", user, "u2"], 8, moment, exclude_seen=True, rules=wanted)
    batch = [row for row in table.to_pylist() if row["user_id"] == user]
    (features,) = loaded.snapshot().fetch([user])
    query = Query(8, moment, user, features, exclude_seen=True, available_at=moment, rules=wanted)
    single = loaded.recommender.recommend([query])[0]
    answer = post(client, user_id=user, k=8, exclude_seen=True, rules=rules)
    ids = [item["item_id"] for item in answer["items"]]
    assert ids == [row["item_id"] for row in batch] == [place.item_id for place in single.items]
    assert [item["score"] for item in answer["items"]] == pytest.approx(
        [p.score for p in single.items], abs=1e-5
    )
    assert (answer["fallback"], answer["notes"]) == (single.fallback, list(single.notes))
    assert len(ids) == (0 if rules.get("categories") == ["no such"] else 8)
    if "pins" in rules:
        assert (ids[0], ids[3]) == ("i50", "i3")


def test_explanations_over_http_are_those_of_a_batch(client, runs, tmp_path, capsys):
    out, users = tmp_path / "recs.parquet", tmp_path / "users.csv"
    users.write_text("user_id\nu2\nnobody\n")
    arguments = [
        "recommend",
        "--run",
        str(runs / "live"),
        "--users",
        str(users),
        "--k",
        "4",
        "--out",
        str(out),
    ]
    assert main([*arguments, "--explain", "--rule", "pins={i50 = 2}"]) == 0
    batch = [row for row in pq.read_table(out).to_pylist() if row["user_id"] == "u2"]
    moment = load_run(runs / "live", 1).moment
    answer = post(client, user_id="u2", k=4, explain=True, rules={"pins": {"i50": 2}}, at=moment)
    for row, item in zip(batch, answer["items"], strict=True):
        said, other = json.loads(row["explanation"]), item["explanation"]
        assert row["item_id"] == item["item_id"]
        assert said["match"] == pytest.approx(other["match"], abs=1e-5)
        assert said["proposed"] == other["proposed"]
        assert [one["item_id"] for one in said["history"]] == [one["item_id"] for one in other["history"]]
        total = sum(one["match"] for one in other["history"]) + other["others"]["match"] + other["augmented"]
        assert total == pytest.approx(other["match"], abs=1e-4)
        assert other["place_by_score"] - item["rank"] == sum(other["moves"].values())
    assert answer["items"][1]["item_id"] == "i50"
    assert "recsys_explained_total" in client.get("/metrics").text
    assert all(item["explanation"] is None for item in post(client, user_id="u2", k=4)["items"])
    assert main(arguments) == 0
    assert "explanation" not in pq.read_table(out).column_names


def test_nothing_allowed_is_an_honest_empty_answer(client):
    answer = post(client, user_id="u1", rules={"min_price": 1_000_000})
    assert (answer["items"], answer["fallback"]) == ([], "nothing_allowed")
    text = client.get("/metrics").text
    assert 'recsys_fallbacks_total{reason="nothing_allowed"}' in text
    assert 'recsys_rules_total{rule="filters"}' in text


def test_a_file_of_rules_is_followed_while_the_service_runs(runs, tmp_path):
    file = tmp_path / "rules.toml"
    file.write_text('block = ["i0"]\n')
    app = create_app(Settings(run=runs / "live", feature_source="snapshot", rules=file, poll_seconds=0.02))
    with TestClient(app) as client:
        wait_ready(client)
        assert post(client, k=2)["items"][0]["item_id"] == "i1"
        file.write_text('block = ["i0", "i1"]\n')
        until = time.monotonic() + 10
        while post(client, k=2)["items"][0]["item_id"] != "i2":
            assert time.monotonic() < until
            time.sleep(0.02)
        file.write_text("blocked = 3\n")
        while "no rule 'blocked'" not in str(client.get("/readyz").json()["problem"]):
            assert time.monotonic() < until
            time.sleep(0.02)
        assert post(client, k=2)["items"][0]["item_id"] == "i2", "the rules before stay"


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
        found = client.post("/v1/search", json={"query": "item 7", "user_id": "u1"})
    assert found.json()["items"][0]["item_id"] == "i7", found.text
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


def test_search_over_http_gives_what_the_run_gives(client, runs):
    loaded = load_run(runs / "live", 1)
    search = loaded.text_search(1)
    moment = int(time.time())
    (features,) = loaded.snapshot().fetch(["u2"])
    for text, user in (("item 17", None), ("itme 17", None), ("item", "u2"), ("x" * 900, None)):
        mine = features if user else None
        expected = search.search([SearchQuery(text, Query(6, moment, user, mine))])[0]
        body = {"query": text, "k": 6, "at": moment} | ({"user_id": user} if user else {})
        answer = client.post("/v1/search", json=body).json()
        assert [i["item_id"] for i in answer["items"]] == [i.item_id for i in expected.items.items]
        assert [i["score"] for i in answer["items"]] == pytest.approx([i.score for i in expected.items.items])
        assert answer["personal"] is expected.personal is (user is not None)
        if "17" in text:
            assert answer["items"][0]["item_id"] == "i17"


def test_a_run_without_an_encoder_recommends_all_the_same(tmp_path):
    run = write_run(tmp_path / "run", int(time.time()))
    (run / "text_encoder.onnx").unlink()
    with TestClient(create_app(Settings(run=run, feature_source="snapshot", verify=False))) as client:
        wait_ready(client)
        assert len(post(client, k=3)["items"]) == 3
        assert client.post("/v1/search", json={"query": "item"}).status_code == 503


def test_the_command_line_searches(runs, capsys):
    run = str(runs / "live")
    assert main(["search", "--run", run, "item 17", "--k", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [place["rank"] for place in found["items"]] == [1, 2, 3]
    assert found["items"][0]["item_id"] == "i17"
    assert main(["search", "--run", run, "item", "--user", "u1", "--rule", 'block=["i1"]']) == 0
    assert "Item" in capsys.readouterr().out
    assert main(["search", "--run", run, "  "]) == 2
    assert main(["search", "--run", run, "item", "--user", "who?"]) == 2
    capsys.readouterr()
    assert main(["evaluate", "--search"]) == 2
    assert main(["evaluate", "--recs", "x.parquet"]) == 2
    capsys.readouterr()
    arguments = ["evaluate", "--search", "--run", run, "--queries", "20", "--no-baselines", "--json"]
    assert main(arguments) == 0
    figures = json.loads(capsys.readouterr().out)["search"][0]["figures"]
    assert figures["title"]["recall@1"]["mean"] == 1.0
