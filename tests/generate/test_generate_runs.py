"""Generative ops from the command line and in a run: real models, a real endpoint, two languages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import tomli_w
from chat_server import serving
from tiny_models import marian_folder, masked_folder

from recsys.augmented import augment_texts
from recsys.cli import main
from recsys.config import AugmentConfig, Config

TITLES = [
    "Soft warm cotton shirt for men, blue",
    "Ceramic mug for kitchen and travel, 12 oz",
    "红色纯棉短袖上衣适合运动休闲",
    "Plain dinner plate set without parabens, sturdy and light",
]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    items_of(12).to_parquet(folder / "items.parquet")
    events = [
        (f"u{u}", f"i{(u + step) % 12}", 1_600_000_000 + step) for u in range(9) for step in range(u % 4 + 1)
    ]
    columns = ["user_id", "item_id", "timestamp"]
    pd.DataFrame(events, columns=columns).to_parquet(folder / "interactions.parquet")
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy")
    masked_folder(folder / "models" / "bert")
    marian_folder(folder / "models" / "there")
    marian_folder(folder / "models" / "back", seed=1)
    return folder


def items_of(count: int) -> pd.DataFrame:
    titles = [f"{TITLES[i % 4]} {'款' if i % 4 == 2 else 'kind'}{chr(97 + i)}" for i in range(count)]
    return pd.DataFrame({"item_id": [f"i{i}" for i in range(count)], "title": titles, "category": "Home"})


def policy_file(folder: Path, name: str, *ops: dict[str, Any]) -> Path:
    path = folder / f"{name}.toml"
    text = {
        "ops": list(ops),
        "copies": 2,
        "acceptance": {"max_modification": 1.0},
        "gates": [{"gate": "safety"}],
    }
    path.write_text(tomli_w.dumps({"name": name, "text": text}), encoding="utf-8")
    return path


def masked(model: str = "models/bert") -> dict[str, Any]:
    return {"op": "masked_lm", "model": model, "rate_range": [0.2, 0.4]}


def expand(shop: Path, policy: Path, out: Path, *more: str) -> int:
    command = [
        "augment",
        "run",
        "--data",
        str(shop),
        "--policy",
        str(policy),
        "--out",
        str(out),
        "--no-encoder",
    ]
    return main([*command, "--max-expansion", "2", "--device", "cpu", *more])


def rows_of(out: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(out / "provenance.parquet").to_pylist()
    return rows


def texts_of(out: Path) -> dict[str, str]:
    table = pq.read_table(out / "texts.parquet", columns=["row_id", "text"]).to_pylist()
    return {row["row_id"]: row["text"] for row in table}


def test_a_masked_model_expands_a_shop_and_every_row_replays(
    shop: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    insertion = {"op": "masked_lm_insertion", "model": "models/bert"}
    policy = policy_file(models, "words", masked(), insertion)
    assert expand(shop, policy, tmp_path / "out") == 0
    assert "oracle:masked_texts" in capsys.readouterr().out
    timing = json.loads((tmp_path / "out" / "timing.json").read_text(encoding="utf-8"))
    assert timing["models"]["oracle:masked_texts"] > 0
    rows = rows_of(tmp_path / "out")
    assert {row["op"] for row in rows} >= {"masked_lm>masked_lm_insertion"}
    texts = texts_of(tmp_path / "out")
    assert any("红色" in texts[row["row_id"]] for row in rows)  # Chinese items too, and colours stay
    (models / "models").rename(models / "gone")
    try:
        for row in rows[:6]:
            assert main(["augment", "replay", row["row_id"], "--from", str(tmp_path / "out")]) == 0
        assert main(["augment", "explain", rows[0]["row_id"], "--from", str(tmp_path / "out")]) == 0
    finally:
        (models / "gone").rename(models / "models")
    assert "masked_lm" in capsys.readouterr().out


def test_workers_and_a_kept_file_of_answers_change_nothing(
    shop: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = policy_file(models, "words", masked(), {"op": "word_swap"})
    answers = ("--answers", str(tmp_path / "answers.sqlite"))
    assert expand(shop, policy, tmp_path / "one", *answers, "--workers", "1") == 0
    capsys.readouterr()
    assert expand(shop, policy, tmp_path / "two", *answers, "--workers", "2") == 0
    assert "oracle:masked_texts 0" in capsys.readouterr().out
    assert texts_of(tmp_path / "one") == texts_of(tmp_path / "two")
    assert [row["plan"] for row in rows_of(tmp_path / "one")] == [
        row["plan"] for row in rows_of(tmp_path / "two")
    ]


def test_a_pair_and_an_endpoint_in_one_policy(shop: Path, models: Path, tmp_path: Path) -> None:
    pair = {
        "op": "back_translation",
        "to": "models/there",
        "back": "models/back",
        "max_tokens": 40,
        "beams": 1,
    }
    with serving() as endpoint:
        llm = {"op": "llm_rewrite", "base_url": endpoint.url, "model": "m", "mode": "expand"}
        policy = policy_file(models, "both", pair, llm)
        assert expand(shop, policy, tmp_path / "out", "--answers", str(tmp_path / "a.sqlite")) == 0
        calls = len(endpoint.bodies)
        assert calls > 0
        assert expand(shop, policy, tmp_path / "again", "--answers", str(tmp_path / "a.sqlite")) == 0
        assert len(endpoint.bodies) == calls
    assert texts_of(tmp_path / "out") == texts_of(tmp_path / "again")
    texts = texts_of(tmp_path / "out")
    said = [texts[row["row_id"]] for row in rows_of(tmp_path / "out")]
    assert any(text.endswith("handy every day") for text in said)
    assert any(text.endswith("实用好看") for text in said)


def test_a_run_asks_once_and_then_knows(models: Path, tmp_path: Path) -> None:
    policy = policy_file(models, "words", masked())
    items = items_of(12)
    augment = AugmentConfig(policy=str(policy), answers=str(tmp_path / "answers.sqlite"), max_expansion=2.0)
    config = Config(augment=augment)
    first, second = (
        augment_texts(items, items["title"].tolist(), 0, config, tmp_path / f"{name}.parquet")
        for name in ("a", "b")
    )
    assert first.texts
    assert first.texts == second.texts
    assert first.counts["oracle:masked_texts"] > 0
    assert second.counts["oracle:masked_texts"] == 0


def test_a_missing_model_is_one_line(
    shop: Path,
    models: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    policy = policy_file(models, "gone", masked("models/elsewhere"))
    assert expand(shop, policy, tmp_path / "out") != 0
    error = capsys.readouterr().err
    assert "masked_lm: the model 'models/elsewhere' is no folder here" in error
    assert "Traceback" not in error
