from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from whole_run import Made

from recsys.artifacts import load_manifest, verify_files
from recsys.batch import recommend_users
from recsys.cli import main
from recsys.data.augmented_store import stored_batches
from recsys.data.features import FeatureStoreRoom
from recsys.evaluate.answers import answer_sheet
from recsys.evaluate.evaluate import evaluate_lists
from recsys.evaluate.known_item import KINDS
from recsys.measure import ranked_rows
from recsys.runs import augmentation_share
from recsys.types import Query


def some_users(made: Made, count: int = 20) -> list[str]:
    return pd.read_parquet(made.run.path / "users.parquet")["user_id"].iloc[:count].tolist()


def test_a_run_is_complete_promoted_and_says_what_it_did(made: Made) -> None:
    manifest = load_manifest(made.run.path)
    verify_files(made.run.path, manifest)
    assert (made.out / "live").resolve() == made.run.path
    assert list(manifest.stages) == [
        "data", "features", "encode", "augment", "select", "finetune", "ranker", "new_places", "online",
        "report", "served_ranker", "final", "queries", "export",
    ]  # fmt: skip
    assert manifest.stages["ranker"]["kept"]
    assert manifest.stages["ranker"]["best_epoch"] == 0, "so small a shop teaches a line"
    assert "needed to choose" in manifest.stages["ranker"]["why"]
    assert manifest.stages["served_ranker"]["kept"]
    assert manifest.stages["served_ranker"]["lists"] > manifest.stages["ranker"]["lists"]
    cost = augmentation_share(manifest.stages)
    assert cost is not None
    assert cost[0] > 0
    assert manifest.stages["select"]["cpu_seconds"] >= manifest.stages["select"]["augment_cpu_seconds"] > 0
    assert 0 <= manifest.stages["new_places"]["places"] <= 10
    assert manifest.stages["new_places"]["why"]
    assert manifest.stages["export"]["ease"]["items"] > 0
    tuned = manifest.stages["finetune"]
    assert 0 < tuned["wordings"] <= manifest.stages["augment"]["texts"]["accepted"], (
        "BERT reads what was augmented"
    )
    assert isinstance(tuned["kept"], bool)
    assert tuned["why"]
    assert max(tuned["weights_moved"].values()) > 0
    queries = manifest.stages["queries"]
    assert queries["titles"] == 6 * 16, "so many are read"
    assert 0 < queries["wordings"] <= queries["augmented_titles"]["accepted"]
    assert set(queries["before"]) == set(queries["after"]) == set(KINDS)
    assert isinstance(queries["kept"], bool)
    online = manifest.stages["online"]
    assert isinstance(online["kept"], bool)
    assert online["why"]
    assert online["skipped"] == {}
    assert {"online_policy.toml", "online_neighbours_offsets.npy"} <= set(manifest.files)
    assert manifest.stages["export"]["index"]["recall_at_100"] == 1.0
    assert manifest.stages["export"]["user_tower"]["top_20_overlap"] >= 0.99
    assert not (made.run.path / "work").exists()
    assert not list(made.run.path.rglob("*.pkl"))
    metrics = json.loads((made.run.path / "metrics.json").read_text())
    names = {one["name"] for one in metrics["evaluations"]}
    assert {"recsys", "popular", "item_knn", "text_untuned"} <= names
    assert {one["protocol"] for one in metrics["evaluations"]} == {"sheet", "successive"}
    assert metrics["successive_cases"]["measured"] > 0
    assert set(metrics["headline"]) == {"all ndcg@10", "novel ndcg@10"}
    assert "<html" in (made.run.path / "report.html").read_text().lower()


def test_batch_evaluation_and_http_give_the_same_list(made: Made) -> None:
    from serving.app import create_app
    from serving.settings import Settings

    users, k = [*some_users(made), "nobody-we-know"], 12
    batch = recommend_users(made.run, users, k, made.run.moment).to_pandas()
    features = made.run.snapshot().fetch(users)
    queries = [
        Query(k, made.run.moment, user, mine, available_at=int(time.time()))
        for user, mine in zip(users, features, strict=True)
    ]
    evaluated = ranked_rows(made.run.recommender, queries, k)
    settings = Settings(run=made.out / "live", features=made.out / "features", threads=1)
    with TestClient(create_app(settings)) as client:
        deadline = time.monotonic() + 30
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline, client.get("/readyz").text
            time.sleep(0.05)
        for place, user in enumerate(users):
            body = {"user_id": user, "k": k, "at": made.run.moment}
            answer = client.post("/v1/recommendations", json=body).json()
            served = [item["item_id"] for item in answer["items"]]
            listed = batch[batch["user_id"] == user].sort_values("rank")
            assert served == listed["item_id"].tolist()
            ids = made.run.recommender.vocabulary.item_ids
            assert served == [ids[row] for row in evaluated[place]]
            scores = [item["score"] for item in answer["items"]]
            np.testing.assert_allclose(scores, listed["score"], atol=1e-4)
            assert (answer["fallback"] == "unknown_user") == (user == "nobody-we-know")


def test_the_recommend_command_gives_every_user_k_rows(made: Made, tmp_path: Path) -> None:
    users = [*some_users(made), "stranger", "用户-1"]
    pd.DataFrame({"user_id": [*users, users[0]]}).to_parquet(tmp_path / "users.parquet")
    for option in ("--exclude-seen", "--include-seen"):
        out = tmp_path / f"recs{option}.parquet"
        arguments = ["recommend", "--run", str(made.out), "--users", str(tmp_path / "users.parquet")]
        assert main([*arguments, "--k", "50", option, "--out", str(out)]) == 0
        recs = pd.read_parquet(out)
        assert (recs.groupby("user_id").size() == 50).all()
        assert set(recs["user_id"]) == set(users)
        assert not recs.duplicated(["user_id", "item_id"]).any()
        assert recs.groupby("user_id")["rank"].apply(lambda r: sorted(r) == list(range(1, 51))).all()
        flagged = recs.dropna(subset="fallback")
        assert set(flagged["user_id"]) == {"stranger", "用户-1"}
        assert set(flagged["fallback"]) == {"unknown_user"}
    seen = {
        u: set(f.owned.item_ids) for u, f in zip(users, made.run.snapshot().fetch(users), strict=True) if f
    }
    without = pd.read_parquet(tmp_path / "recs--exclude-seen.parquet")
    assert not any(row.item_id in seen.get(row.user_id, ()) for row in without.itertuples())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--users", "missing.parquet"], "missing.parquet"),
        (["--users", "no_column.parquet"], "user_id"),
        (["--users", "empty.parquet"], "no users"),
        (["--users", "good.parquet", "--k", "0"], "--k"),
        (["--users", "good.parquet", "--run", "nowhere"], "nowhere"),
    ],
)
def test_bad_use_of_recommend_is_one_line(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    pd.DataFrame({"id": ["u"]}).to_parquet(tmp_path / "no_column.parquet")
    pd.DataFrame({"user_id": pd.Series([], dtype=str)}).to_parquet(tmp_path / "empty.parquet")
    pd.DataFrame({"user_id": ["u"]}).to_parquet(tmp_path / "good.parquet")
    arguments = [str(tmp_path / a) if a.endswith(".parquet") else a for a in arguments]
    base = ["recommend", "--run", str(made.out), "--out", str(tmp_path / "out.parquet")]
    status = main([*base, *arguments])
    error = capsys.readouterr().err.strip().splitlines()
    assert status == (1 if "nowhere" in arguments else 2)
    assert len(error) == 1
    assert words in error[0]
    assert not (tmp_path / "out.parquet").exists()


def test_the_figures_of_a_run_come_from_the_time_after_its_cut(made: Made) -> None:
    metrics = json.loads((made.run.path / "metrics.json").read_text())
    events = pd.read_parquet(made.data / "interactions.parquet")
    events = events[events["event_type"] != "return"].assign(t=lambda f: seconds(f["timestamp"]))
    before, after = events[events["t"] < metrics["cut"]], events[events["t"] >= metrics["cut"]]
    known = set(before["user_id"]) & set(after["user_id"])
    assert metrics["users"] == metrics["users_came_back"] == len(known)
    items = pd.read_parquet(made.data / "items.parquet")["item_id"].astype(str).tolist()
    sheet = answer_sheet(before, after, list(dict.fromkeys(items)))
    popular = before["item_id"].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    rows = np.array([[items.index(i) for i in popular.index[:50]]] * len(sheet))
    by_hand = evaluate_lists(rows, sheet, "all", name="by hand", replicates=0)["ndcg@10"].mean
    theirs = next(e for e in metrics["evaluations"] if e["name"] == "popular" and e["task"] == "all")
    assert theirs["metrics"]["ndcg@10"]["mean"] == pytest.approx(by_hand, rel=0.1)  # ties may fall otherwise


def seconds(times: pd.Series) -> pd.Series:
    if pd.api.types.is_integer_dtype(times):
        return times
    return pd.to_datetime(times, utc=True).astype("datetime64[s, UTC]").astype("int64")


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_with_the_same_vectors(made: Made, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    options = [part for setting in made.settings for part in ("--set", setting)]
    command = [sys.executable, "-m", "recsys", "run", "--data", str(made.data), "--out", str(out), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for stage in ("finetune", "report"):  # fits are killed within an epoch by tests of their own
        kill_after(command, environment, out, stage)
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=280)
    runs = [path for path in out.iterdir() if (path / "manifest.json").is_file() and not path.is_symlink()]
    assert len(runs) == 1
    for name in ("item_vectors.npy", "history_vectors.npy", "text_vectors.npy", "towers.safetensors"):
        assert (runs[0] / name).read_bytes() == (made.run.path / name).read_bytes(), name


def kill_after(command: list[str], environment: dict[str, str], out: Path, stage: str) -> None:
    """Start a run and kill it without warning once a checkpoint of the stage is there."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if any(path.is_file() for path in out.glob(f"*/training/{stage}/*.safetensors")):
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL, f"the run ended before it could be killed in {stage}"


@pytest.mark.slow
def test_two_processes_make_the_run_that_one_makes(made: Made, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    options = [part for setting in made.settings for part in ("--set", setting)]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    command = [*torchrun, "recsys", "run", "--data", str(made.data), "--out", str(out), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    run = (out / "live").resolve()
    ours, theirs = load_manifest(made.run.path).stages, load_manifest(run).stages
    assert theirs["select"]["epochs"] == ours["select"]["epochs"]
    assert theirs["finetune"]["kept"] == ours["finetune"]["kept"]
    for name in ("item_vectors.npy", "history_vectors.npy"):
        mine, other = np.load(made.run.path / name), np.load(run / name)
        # A direction without texts may come out of whitening with either sign: products stay.
        np.testing.assert_allclose(other @ other.T, mine @ mine.T, atol=5e-3)


def test_augmented_rows_of_the_run_lie_in_the_feature_store(made: Made) -> None:
    """What the last fit trained on can be read by the next one."""
    manifest = load_manifest(made.run.path)
    room = FeatureStoreRoom(made.out / "features")
    batches = {batch.view: batch for batch in stored_batches(room.files)}
    assert set(batches) == {"augmented_histories", "augmented_texts"}
    for view, name in (("augmented_histories", "final_histories"), ("augmented_texts", "texts")):
        said = pd.read_parquet(made.run.path / "augmented" / f"{name}.parquet")
        stored = pd.read_parquet(batches[view].path)
        assert stored["row_id"].tolist() == said["row_id"].tolist()
        assert batches[view].policy_id == said["policy_id"].iloc[0]
    assert manifest.stages["final"]["stored_rows"] == len(
        pd.read_parquet(batches["augmented_histories"].path)
    )
