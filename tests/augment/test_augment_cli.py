from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from recsys.augment.registry import COMPOSITES, OPS
from recsys.augment.representation import REPRESENTATION_OPS
from recsys.augment.store import user_contexts
from recsys.cli import main
from recsys.contexts import Vocabulary


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    titles = [
        "Soft warm cotton shirt for men, blue",
        "Mug",
        "红色纯棉短袖上衣适合运动休闲",
        "Big lamp. Nice light. Easy to use",
    ]
    items = pd.DataFrame({"item_id": [f"i{i}" for i in range(12)], "title": titles * 3})
    items["category"] = "Home"
    items["price"] = [float(i + 1) for i in range(12)]
    items.to_parquet(folder / "items.parquet")
    events = [
        (f"u{u}", f"i{(u + step) % 12}", 1_600_000_000 + step) for u in range(30) for step in range(u % 9 + 1)
    ]
    pd.DataFrame(events, columns=["user_id", "item_id", "timestamp"]).to_parquet(
        folder / "interactions.parquet"
    )
    return folder


@pytest.fixture(scope="module")
def expansion(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "expansion"
    assert main(["augment", "run", "--data", str(shop), "--policy", "standard", "--out", str(out)]) == 0
    return out


def test_ops_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["augment", "ops", "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in table} == {*OPS, *COMPOSITES, *REPRESENTATION_OPS}
    assert all(row["meaning"] and all(s["meaning"] for s in row["settings"]) for row in table)
    assert main(["augment", "ops"]) == 0
    assert "word_dropout (text)" in capsys.readouterr().out


@pytest.mark.parametrize(("policy", "workers"), [("standard", 1), ("strong", 2)])
def test_a_log_in_parts_gives_the_same_bytes(
    policy: str, workers: int, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    command = ["augment", "run", "--data", str(shop), "--policy", policy, "--no-encoder"]
    assert main([*command, "--out", str(tmp_path / "whole"), "--workers", "1"]) == 0
    parts = ["--workers", str(workers), "--part-rows", "20"]
    assert main([*command, "--out", str(tmp_path / "parts"), *parts]) == 0
    names = ("texts.parquet", "histories.parquet", "provenance.parquet", "counts.json", "policy.toml")
    for name in (*names, "run.json"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert not (tmp_path / "parts" / ".input").exists()


def test_contexts_of_a_killed_run_are_found_again(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["augment", "run", "--data", str(shop), "--policy", "light", "--out", str(tmp_path)]
    command += ["--part-rows", "20"]

    def dies(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("recsys.augment.bulk.expand_dataset", dies)
        assert main(command) != 0
    (kept,) = [path for path in (tmp_path / ".input").iterdir() if path.is_dir()]
    with monkeypatch.context() as broken:
        broken.setattr("recsys.data.streaming.event_parts", dies)
        assert main(command) == 0
    assert not kept.exists()


@pytest.mark.parametrize("policy", ["strong", "cold-start", "zh"])
def test_other_presets_replay_too(
    policy: str, shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path), "--max-expansion", "2"]
    assert main(["augment", "run", "--data", str(shop), "--policy", policy, *out]) == 0
    provenance = pq.read_table(tmp_path / "provenance.parquet").to_pylist()
    assert "history" in {row["kind"] for row in provenance}
    for row in provenance[::3]:
        assert main(["augment", "replay", row["row_id"], "--from", str(tmp_path)]) == 0
    last = [row for row in provenance if row["kind"] == "history"][-1]
    capsys.readouterr()
    assert main(["augment", "explain", last["row_id"], "--from", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "score    label_consistency" in shown or policy == "zh"
    assert "after    i" in shown, "items by id"


def test_every_stored_row_explains_and_replays(expansion: Path, capsys: pytest.CaptureFixture[str]) -> None:
    provenance = pq.read_table(expansion / "provenance.parquet").to_pylist()
    assert {row["kind"] for row in provenance} == {"history", "text"}
    for row in provenance:
        assert main(["augment", "replay", row["row_id"], "--from", str(expansion)]) == 0
    capsys.readouterr()
    assert main(["augment", "explain", provenance[0]["row_id"], "--from", str(expansion)]) == 0
    shown = capsys.readouterr().out
    assert provenance[0]["parent_id"] in shown
    assert provenance[0]["policy_id"] in shown
    assert "step 1" in shown
    counts = json.loads((expansion / "counts.json").read_text())
    assert counts["text"]["rows"] == 12


def test_replay_notices_an_edited_folder(
    expansion: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in expansion.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    texts = pd.read_parquet(tmp_path / "texts.parquet")
    row_id = texts["row_id"].iloc[-1]
    texts.loc[texts.index[-1], "text"] = "something else"
    texts.to_parquet(tmp_path / "texts.parquet")
    assert main(["augment", "replay", row_id, "--from", str(tmp_path)]) == 1
    assert "differs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "word"),
    [
        (["augment", "explain", "nope", "--from", "{out}"], 2, "nope"),
        (["augment", "replay", "nope", "--from", "{shop}"], 1, "not an expansion"),
        (["augment", "run", "--data", "{shop}", "--out", "{shop}/x", "--policy", "huge"], 2, "Presets"),
        (["augment", "run", "--data", "{shop}/none", "--out", "{shop}/x"], 2, "none"),
        (["augment", "run"], 2, "--data"),
        (["augment", "run", "--data", "{shop}", "--out", "{shop}/items.parquet"], 2, "not a folder"),
    ],
)
def test_bad_usage_is_one_line(
    arguments: list[str],
    status: int,
    word: str,
    shop: Path,
    expansion: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([a.format(out=expansion, shop=shop) for a in arguments]) == status
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1
    assert word in errors[0]


def test_the_command_says_the_same_with_many_workers(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    run = ["augment", "run", "--data", str(shop), "--policy", "strong"]
    assert main([*run, "--out", str(tmp_path / "one"), "--workers", "1"]) == 0
    capsys.readouterr()
    assert main([*run, "--out", str(tmp_path / "three"), "--workers", "3"]) == 0
    assert "text: accepted" in capsys.readouterr().out
    names = ("texts.parquet", "histories.parquet", "provenance.parquet", "counts.json", "run.json")
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "three" / name).read_bytes()
    assert {row["created"].timestamp() for row in rows_of(tmp_path / "one")} == {1_700_000_000}
    counts = json.loads((tmp_path / "one" / "counts.json").read_text())
    chains = counts["ops"]["history"]
    assert sum(reasons["accepted"] for reasons in chains.values()) == counts["history"]["accepted"] > 0
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    assert main([*run, "--out", str(tmp_path / "no")]) == 2
    assert "SOURCE_DATE_EPOCH" in capsys.readouterr().err


def test_meaning_asks_the_encoder_unless_told_not_to(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []

    class Bags:
        @classmethod
        def load(cls, *_: object) -> Bags:
            return cls()

        def encode(self, texts: list[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
            encoded.extend(texts)
            return np.array([[len(text), 1.0] for text in texts], np.float32)

    monkeypatch.setattr("recsys.model.encoder.TextEncoder", Bags)
    policy = tmp_path / "mine.toml"
    lines = [
        'name = "mine"',
        "[[text.ops]]",
        'op = "word_dropout"',
        "[[text.gates]]",
        'gate = "meaning"',
    ]
    policy.write_text("\n".join(lines))
    run = ["augment", "run", "--data", str(shop), "--policy", str(policy), "--workers", "2", "--out"]
    assert main([*run, str(tmp_path / "without"), "--no-encoder"]) == 0
    assert not encoded
    skipped = json.loads((tmp_path / "without" / "counts.json").read_text())["text"]
    assert skipped["skipped:meaning"] == skipped["accepted"] > 0
    assert main([*run, str(tmp_path / "with")]) == 0
    assert len(encoded) == len(set(encoded)) > 0
    assert "skipped:meaning" not in json.loads((tmp_path / "with" / "counts.json").read_text())["text"]
    assert all("meaning" in dict(row["scores"]) for row in rows_of(tmp_path / "with"))


def rows_of(out: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(out / "provenance.parquet").to_pylist()
    return rows


def test_off_writes_the_originals(shop: Path, tmp_path: Path) -> None:
    assert main(["augment", "run", "--data", str(shop), "--policy", "off", "--out", str(tmp_path)]) == 0
    assert pq.read_table(tmp_path / "provenance.parquet").num_rows == 0
    assert pq.read_table(tmp_path / "texts.parquet").num_rows == 12


def test_user_contexts_are_strictly_earlier() -> None:
    events = pd.DataFrame(
        [
            ("b", "x", 5, "view"), ("a", "x", 10, "purchase"), ("a", "y", 20, "view"),
            ("a", "gone", 25, "view"), ("a", "x", 30, "view"), ("a", "z", 30, "view"),
            ("a", "y", 40, "return"),
        ],
        columns=["user_id", "item_id", "timestamp", "event_type"],
    )  # fmt: skip
    contexts = user_contexts(events, Vocabulary(["x", "y", "z"]), 1)
    assert contexts.user_ids.tolist() == ["a", "b"]
    assert contexts.moments.tolist() == [30, 5]
    assert contexts.history(0).rows.tolist() == [1]
    assert contexts.history(0).timestamps.tolist() == [20]
    assert sorted(contexts.targets(0).tolist()) == [0, 2]
    assert len(contexts.history(1).rows) == 0
    assert contexts.targets(1).tolist() == [0]
    both = user_contexts(events, Vocabulary(["x", "y", "z"]), 50)
    assert both.history(0).rows.tolist() == [0, 1]
    assert both.history(0).event_codes.tolist() == [4, 1]
