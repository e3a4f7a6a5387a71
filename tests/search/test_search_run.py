"""The command over a real shop: prepared, searched, found again, begun anew."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from whole_run import write_tiny_bert

from recsys.arms import Trials
from recsys.augment.policy import load_policy
from recsys.augment.registry import OPS
from recsys.cli import main
from recsys.config import load_config
from recsys.data.sample import write_sample
from recsys.search.bench import TrialsBench
from recsys.search.settings import settings_of
from recsys.search.space import Space, starting_points


def quick(shop: Path) -> list[str]:
    small = ["train.max_epochs=2", "train.min_steps=5", "run.threads=1", "encoder.max_tokens=32"]
    return [*small, f"encoder.name={shop.parent / 'bert'}"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search") / "shop"
    assert main(["data", "sample", "--size", "tiny", "--out", str(folder), "--seed", "1"]) == 0
    write_tiny_bert(folder.parent / "bert")
    return folder


@pytest.mark.slow
def test_a_search_over_a_shop(shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "search"
    settings = [part for one in quick(shop) for part in ("--set", one)]
    command = ["augment", "search", "--data", str(shop), "--out", str(out), "--minutes", "20", *settings]
    assert main([*command, "--trials", "4"]) == 0
    said = capsys.readouterr().out
    record = json.loads((out / "search.json").read_text(encoding="utf-8"))
    assert record["verdict"] in ("gain", "off")
    assert "verdict: " in said
    assert "next: " in said
    assert record["trials"][0]["name"] == "off"
    assert "cross_domain_borrow" in record["ops_left_out"], "the sample has no other domain"
    assert "masked_lm" in record["ops_left_out"], "no model was named"
    assert "item_dropout" in record["ops"]["history"]
    assert "chinese_noise" in record["ops"]["text"], "the sample has Chinese texts"
    load_policy(out / "best.toml")
    assert load_config(out / "augment.toml").augment.enabled == (record["verdict"] == "gain")
    for one in record["report"]:
        assert one["low"] <= one["difference"] <= one["high"]
        assert 0 < one["p"] <= 1
    assert main([*command, "--trials", "4"]) == 0
    same = [re.sub(r"in [\d.]+ of", "in", one) for one in (capsys.readouterr().out, said)]
    assert same[0] == same[1], "a search that is over says the same again; looking took a moment"
    assert main([*command, "--seed", "1"]) == 2, "another search is refused"
    assert "--fresh" in capsys.readouterr().err
    again = ["--fresh", "--seed", "1", "--trials", "1"]
    assert main([*command, *again]) == 0
    fresh = json.loads((out / "search.json").read_text(encoding="utf-8"))
    assert len(fresh["trials"]) == 1


@pytest.mark.slow
def test_applicable_ops_are_told_by_the_data(shop: Path, tmp_path: Path) -> None:
    folder = tmp_path / "english"
    write_sample(folder, "tiny", 2)
    import pandas as pd

    items = pd.read_parquet(folder / "items.parquet")
    events = pd.read_parquet(folder / "interactions.parquet")
    english = items[items["title"].map(str.isascii)]
    english.to_parquet(folder / "items.parquet")
    events[events["item_id"].isin(english["item_id"])].to_parquet(folder / "interactions.parquet")
    (folder / "relations.parquet").unlink(missing_ok=True)
    bench = TrialsBench(Trials.prepare(folder, tmp_path / "work", load_config(settings=quick(shop))))
    facts = bench.facts()
    assert "chinese_noise" in facts.left_out
    assert "social_borrow" in facts.left_out
    assert {"typo", "word_dropout"} <= set(facts.ops["text"])
    assert {*facts.ops["history"], *facts.ops["text"], *facts.left_out} == set(OPS)
    space = Space(facts, starting_points(("off", "standard")))
    assert "standard" in space.starts
    assert all(settings_of(OPS[name]) for names in facts.ops.values() for name in names)
    assert bench.num_rows > 0
    assert np.all(np.array(list(facts.sizes.values())) > 0)


def test_two_searches_do_not_share_a_folder(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], held_by_another: Any
) -> None:
    with held_by_another(tmp_path):
        command = ["augment", "search", "--data", str(shop), "--out", str(tmp_path), "--minutes", "1"]
        assert main(command) == 1
    assert "another process writes there" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
