"""Views of short histories as the service uses them: as batch does, as the run decided, never silently."""

import json
import logging
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fake_service import wait_ready
from fastapi.testclient import TestClient
from mini_run import write_run

from recsys.artifacts import promote
from recsys.augment.online import REASONS, OnlineAugmenter
from recsys.batch import recommend_users
from recsys.loading import load_run
from serving.app import create_app
from serving.schemas import AugmentationNote
from serving.settings import Settings

ROOT = Path(__file__).parents[2]
MOMENT = int(time.time()) - 3600
KEPT = {"kept": True, "why": "lists got better"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("augmented") / "20260101-000000-abcdef", MOMENT, online=KEPT)


@pytest.fixture(scope="module")
def client(run):
    with serving_over(run) as client:
        yield client


def serving_over(run, **settings):
    app = create_app(Settings(run=run, feature_source="snapshot", **settings))

    class Ready(TestClient):
        def __enter__(self):
            super().__enter__()
            wait_ready(self)
            return self

    return Ready(app)


def post(client, **body):
    response = client.post("/v1/recommendations", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def ids(answer):
    return [item["item_id"] for item in answer["items"]]


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A busy machine must not decide a test: the budget has tests of its own."""
    monkeypatch.setattr(OnlineAugmenter, "_deadline", lambda self, started, limited: float("inf"))


def test_service_and_batch_give_the_same_lists(client, run):
    loaded = load_run(run, 1)
    table = recommend_users(loaded, [f"u{n}" for n in range(5)], 20, MOMENT).to_pylist()
    for n in range(5):
        answer = post(client, user_id=f"u{n}", k=20, at=MOMENT)
        rows = [row for row in table if row["user_id"] == f"u{n}"]
        assert answer["augmentation"]["views"] > 0
        assert ids(answer) == [row["item_id"] for row in rows]
        assert [i["score"] for i in answer["items"]] == pytest.approx(
            [row["score"] for row in rows], rel=1e-6
        )


def test_views_change_the_answer_and_are_marked(client):
    plain = post(client, user_id="u1", k=20, augment=False)
    moved = post(client, user_id="u1", k=20)
    assert [i["score"] for i in plain["items"]] != [i["score"] for i in moved["items"]]
    note = moved["augmentation"]
    assert note["policy_id"].startswith("online-")
    assert note["views"] == 4
    assert set(note["ops"]) <= {"insert", "backward_extension", "item_dropout"}
    assert note["reason"] is None
    assert note["ms"] > 0
    assert moved["degraded"] == []
    assert plain["augmentation"] == {
        "policy_id": None,
        "ops": [],
        "views": 0,
        "ms": 0.0,
        "reason": "switched_off",
    }
    assert moved["timings_ms"]["augment"] > 0


def test_equal_requests_get_equal_answers(client):
    for body in ({"user_id": "u2"}, {"history": [{"item_id": "i7"}, {"item_id": "i9"}]}):
        first, second = post(client, **body), post(client, **body)
        assert first["items"] == second["items"]
        assert first["augmentation"]["views"] == second["augmentation"]["views"] > 0


def test_an_invented_event_is_not_the_users_own(client):
    """Item 30's neighbours stand in its views; only item 30 is what the user had."""
    answer = post(client, history=[{"item_id": "i30"}], k=60, exclude_seen=True)
    assert answer["augmentation"]["views"] > 0
    assert set(ids(answer)) == {f"i{row}" for row in range(60)} - {"i30"}
    assert all("repeats" not in item["sources"] for item in answer["items"])


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"history": [{"item_id": f"i{n}", "timestamp": MOMENT - n} for n in range(1, 6)]}, "rich_user"),
        ({"user_id": "who?"}, "no_history"),
        ({}, "no_history"),
        ({"history": [{"item_id": "nothing we sell"}]}, "no_history"),
        ({"user_id": "u1", "augment": False}, "switched_off"),
    ],
)
def test_why_nothing_was_done(client, body, reason):
    answer = post(client, **body)
    assert (answer["augmentation"]["reason"], answer["augmentation"]["views"]) == (reason, 0)


def test_a_history_in_the_request_counts_towards_the_threshold(client):
    events = [{"item_id": f"i{n}", "timestamp": MOMENT - n} for n in range(10, 13)]
    assert post(client, user_id="u1", history=events)["augmentation"]["reason"] == "rich_user"
    assert post(client, user_id="u1", history=events[:2])["augmentation"]["views"] > 0


def test_counters_and_times(client):
    def value(line):
        found = [row for row in client.get("/metrics").text.splitlines() if row.startswith(line + " ")]
        return float(found[0].split()[-1]) if found else 0.0

    used = 'recsys_augmentations_total{outcome="used"}'
    off = 'recsys_augmentations_total{outcome="switched_off"}'
    seconds, stage = "recsys_augmentation_seconds_count", 'recsys_stage_seconds_count{stage="augment"}'
    before = [value(name) for name in (used, off, seconds, stage)]
    post(client, user_id="u1")
    post(client, user_id="u1", augment=False)
    assert [value(name) for name in (used, off, seconds, stage)] == [
        before[0] + 1, before[1] + 1, before[2] + 1, before[3] + 2
    ]  # fmt: skip
    assert value("recsys_augmentation_skipped_ops") == 0


def test_a_line_of_the_log_says_what_was_done_and_not_to_whom(client, caplog):
    with caplog.at_level(logging.INFO, logger="serving.answer"):
        post(client, user_id="u1", history=[{"item_id": "i42"}])
    (line,) = [json.loads(record.message) for record in caplog.records if record.name == "serving.answer"]
    assert line["event"] == "augmentation"
    assert line["views"] == 4
    assert line["ops"]
    assert {"policy_id", "ms", "reason"} <= set(line)
    assert "u1" not in line.values()
    assert "i42" not in caplog.text


def test_an_op_that_raises_gives_the_answer_without_views(client, monkeypatch):
    plain = post(client, user_id="u3", augment=False)

    def broken(*_):
        raise RuntimeError("broken op")

    monkeypatch.setattr("recsys.augment.one_row.op_chain", broken)
    answer = post(client, user_id="u3")
    assert answer["items"] == plain["items"]
    assert answer["degraded"] == ["augmentation_failed"]
    assert answer["augmentation"]["reason"] == "failed"
    text = client.get("/metrics").text
    assert 'recsys_augmentations_total{outcome="failed"}' in text
    assert 'recsys_degraded_total{reason="augmentation_failed"}' in text


def test_a_spent_budget_gives_the_answer_without_views(client, monkeypatch):
    plain = post(client, user_id="u3", augment=False)
    monkeypatch.setattr(OnlineAugmenter, "_deadline", lambda self, started, limited: started)
    answer = post(client, user_id="u3")
    assert answer["items"] == plain["items"]
    assert answer["degraded"] == []
    assert answer["augmentation"]["reason"] == "budget_spent"


def test_the_service_follows_the_run_unless_it_is_overruled(tmp_path):
    run = write_run(tmp_path / "refused", MOMENT, online={"kept": False, "why": "lists did not get better"})
    for switch, reason in (("run", "not_better"), ("off", "switched_off"), ("on", None)):
        with serving_over(run, augment=switch) as client:
            assert post(client, user_id="u1")["augmentation"]["reason"] == reason, switch


def test_an_older_run_is_served_without_and_says_why(tmp_path):
    run = write_run(tmp_path / "old", MOMENT)
    for switch in ("run", "on"):
        with serving_over(run, augment=switch) as client:
            answer = post(client, user_id="u1")
            assert answer["augmentation"]["reason"] == "no_side_data"
            assert answer["items"]


def test_a_policy_that_cannot_be_read_here_costs_only_the_views(tmp_path):
    run = write_run(tmp_path / "other", MOMENT, online=KEPT)
    (run / "online_policy.toml").write_text('name = "x"\n[[history.ops]]\nop = "of another version"\n')
    with serving_over(run, verify=False) as client:
        assert post(client, user_id="u1")["augmentation"]["reason"] == "no_policy"


def test_ops_that_a_request_cannot_run_are_counted_at_load(tmp_path, caplog):
    run = write_run(tmp_path / "mixed", MOMENT, online=KEPT)
    ops = ('op = "borrow"', 'op = "insert"\nrate_range = [1.0, 1.0]')
    text = 'name = "mixed"\n' + "".join(f"[[history.ops]]\n{op}\n" for op in ops)
    (run / "online_policy.toml").write_text(text)
    with serving_over(run, verify=False) as client:
        assert post(client, user_id="u1")["augmentation"]["ops"] == ["insert"]
        assert "recsys_augmentation_skipped_ops 1.0" in client.get("/metrics").text
    assert "'borrow'" in caplog.text


def test_a_change_of_the_stored_files_is_noticed(tmp_path):
    run = write_run(tmp_path / "changed", MOMENT, online=KEPT)
    (run / "online_policy.toml").write_text('name = "evil"\n')
    with TestClient(create_app(Settings(run=run, feature_source="snapshot"))) as client:
        until = time.monotonic() + 10
        while "digest" not in (client.get("/readyz").json()["problem"] or ""):
            assert time.monotonic() < until
            time.sleep(0.01)


def test_requests_side_by_side_get_what_they_get_alone(client):
    bodies = [{"history": [{"item_id": f"i{n}", "timestamp": MOMENT}], "k": 10} for n in range(24)]
    alone = [post(client, **body)["items"] for body in bodies]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda body: post(client, **body)["items"], bodies))
    assert together == alone


def test_every_reason_is_documented():
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    described = AugmentationNote.model_fields["reason"].description
    for reason in REASONS:
        assert f"| `{reason}` |" in text, reason
        assert f"`{reason}`" in described, reason


def test_an_augmented_answer_needs_neither_torch_nor_pandas_nor_a_model(run):
    promote(run)
    code = """
    import sys, time

    class Fence:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] in ("torch", "transformers", "pandas", "httpx"):
                raise ImportError(f"{name} is fenced off")
            if name.startswith("recsys.generate"):
                raise ImportError(f"{name} is fenced off")

    sys.meta_path.insert(0, Fence())
    from pathlib import Path
    from recsys.batch import recommend_users
    from recsys.loading import load_run
    loaded = load_run(Path(sys.argv[1]), 1, verify=True)
    (features,) = loaded.snapshot().fetch(["u1"])
    from recsys.types import Query
    query = loaded.augmenter.augment(Query(5, loaded.moment, "u1", features), limited=False)
    (answer,) = loaded.recommender.recommend([query])
    assert answer.augmentation.views == 4, answer.augmentation
    assert not {"torch", "transformers", "pandas"} & set(sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(run)],
        cwd=ROOT, env={"PATH": ""}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
