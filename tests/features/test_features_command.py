"""`recsys features`, the feature repository as the plain `feast` command sees it, and its documentation."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from features_shop import DAY, START, Shop, random_shop

from feature_repo.definitions import define
from recsys.cli import main
from recsys.contexts import Vocabulary
from recsys.data.feature_arrow import SCHEMAS
from recsys.data.features import FeatureStoreRoom

ROOT = Path(__file__).resolve().parents[2]
KEYS = {"event_timestamp", "created"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset on disk."""
    shop = random_shop(5)
    data = tmp_path / "data"
    data.mkdir()
    shop.interactions.to_parquet(data / "interactions.parquet")
    shop.items.drop(columns=["in_stock", "available_from"]).to_parquet(data / "items.parquet")
    return data


def test_apply_materialize_show(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features = str(tmp_path / "features")
    assert main(["features", "apply", "--data", str(folder), "--features", features]) == 0
    assert "user_behavior" in capsys.readouterr().out
    assert main(["features", "materialize", "--features", features]) == 0
    capsys.readouterr()
    assert main(["features", "show", "u1", "--features", features, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    expected = FeatureStoreRoom(Path(features)).online(["u1"])[0]
    assert expected is not None
    assert shown["num_events"] == expected.num_events
    assert tuple(shown["history"]["item_ids"]) == expected.history.item_ids
    assert main(["features", "show", "u1", "--features", features]) == 0
    assert "(stale)" not in capsys.readouterr().out.splitlines()[0]


def test_as_of_hides_later_events(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features = str(tmp_path / "features")
    main(["features", "apply", "--data", str(folder), "--features", features])
    assert main(["features", "materialize", "--features", features, "--as-of", str(START + 10 * DAY)]) == 0
    capsys.readouterr()
    assert main(["features", "show", "u1", "--features", features, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["as_of"] < START + 10 * DAY


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["show", "nobody", "--features", "{filled}"], 2, "never seen"),
        (["show", "u1", "--features", "{empty}"], 1, "feature store"),
        (["materialize", "--features", "{empty}"], 1, "recsys features apply"),
        (["materialize", "--features", "{filled}", "--as-of", "yesterday"], 2, "not a time"),
    ],
)
def test_failures_say_what_to_do(
    arguments: list[str],
    status: int,
    says: str,
    filled: FeatureStoreRoom,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"{filled}": str(filled.folder), "{empty}": str(tmp_path)}
    assert main(["features", *(places.get(word, word) for word in arguments)]) == status
    complaint = capsys.readouterr().err.strip().splitlines()[-1]
    assert says in complaint


def test_views_declare_the_columns_of_their_files(tmp_path: Path) -> None:
    parts = define(tmp_path)
    for view, schema in SCHEMAS.items():
        declared = {field.name for field in parts[view].schema}
        assert declared == set(schema.names) - KEYS


def test_every_field_and_service_is_documented(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "features.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`([a-z0-9_]+)`", text))
    parts = define(tmp_path)
    names = set(parts)
    for name in (*SCHEMAS, "request_time"):
        names |= {field.name for field in parts[name].schema}
    assert names <= documented, f"docs/features.md says nothing of {sorted(names - documented)}"


@pytest.mark.slow
def test_the_feast_command_applies_the_repository(tmp_path: Path) -> None:
    repository = tmp_path / "feature_repo"
    shutil.copytree(ROOT / "feature_repo", repository, ignore=shutil.ignore_patterns("data", "__pycache__"))
    environment = {k: v for k, v in os.environ.items() if k != "RECSYS_FEATURES"}
    done = subprocess.run(
        [sys.executable, "-m", "feast.cli.cli", "-c", str(repository), "apply"],
        capture_output=True,
        text=True,
        env={**environment, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name in ("user_behavior", "user_items", "item_text", "item_stats", "request_time", "training_v2"):
        assert name in done.stdout
    assert (repository / "data" / "registry.db").is_file()


def test_nothing_is_printed_by_the_store_itself(
    tmp_path: Path, shop: Shop, capfd: pytest.CaptureFixture[str]
) -> None:
    from recsys.config import FeaturesConfig

    room = FeatureStoreRoom(tmp_path)
    room.write(shop, FeaturesConfig())
    room.apply()
    room.materialize()
    assert capfd.readouterr().out == ""


def test_an_expansion_is_stored_listed_and_dropped(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features, out = str(tmp_path / "features"), str(tmp_path / "expansion")
    items = pd.read_parquet(folder / "items.parquet")
    titles = [
        f"soft cotton summer shirt number {row}, with short sleeves, wash cold" for row in range(len(items))
    ]
    items.assign(title=titles).to_parquet(folder / "items.parquet")
    assert main(["features", "apply", "--data", str(folder), "--features", features]) == 0
    assert main(["augment", "run", "--data", str(folder), "--policy", "strong", "--out", out]) == 0
    assert main(["features", "augmented", "--features", features, "--from", out]) == 0
    capsys.readouterr()
    assert main(["features", "augmented", "--features", features]) == 0
    said = capsys.readouterr().out.splitlines()
    provenance = pd.read_parquet(tmp_path / "expansion" / "provenance.parquet")
    policy_id = provenance["policy_id"].iloc[0]
    counts = provenance["kind"].map({"history": "augmented_histories", "text": "augmented_texts"})
    assert {line.split()[0]: line.split()[-2] for line in said} == {
        view: f"{number:,}" for view, number in counts.value_counts().items()
    }
    assert all(f" {policy_id} " in line for line in said)
    room = FeatureStoreRoom(Path(features))
    made = int(provenance["created"].max().timestamp())
    texts = room.augmented_texts(policy_id, made, Vocabulary(items["item_id"].tolist()))
    assert texts.counts["read"] == (provenance["kind"] == "text").sum()
    assert main(["features", "augmented", "--features", features, "--drop", policy_id]) == 0
    assert main(["features", "augmented", "--features", features, "--drop", policy_id]) == 2
    assert "Stored: none" in capsys.readouterr().err
    assert main(["features", "augmented", "--features", features, "--from", str(tmp_path)]) == 2
    assert "not an expansion" in capsys.readouterr().err
