"""The baselines are those of an independent script that uses the packages themselves, on real data."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recsys.evaluate.answers import load_split, read_table
from recsys.evaluate.evaluate import Evaluation, evaluate_lists
from recsys.evaluate.measure import Measure, measure_baselines
from recsys.evaluate.standard import standard_baselines

SHARED = Path(__file__).resolve().parents[3] / "shared"
BENCH = SHARED / "bench"
PEERS = {
    "popular": "popular_30d",
    "itemknn": "item_knn",
    "repeat": "repeats",
    "ials": "als",
    "ease": "ease",
    "easedecay": "ease_decay",
    "minilm": "text_untuned",
    "whitened": "text_whitened",
}
"""The script's name and ours."""
LOOSE = {"als": 0.05}
"""Relative: the script ranks with users' factors as training left them, we solve for them."""


@pytest.mark.slow
@pytest.mark.skipif(not BENCH.exists(), reason=f"the benchmark's scripts are not at {BENCH}")
@pytest.mark.skipif(importlib.util.find_spec("implicit") is None, reason="implicit is not installed")
@pytest.mark.parametrize("name", ["online_retail", "steam_reviews_au"])
def test_public_sets_agree(name: str, tmp_path: Path) -> None:
    data = SHARED / "data" / name
    if not data.exists():
        pytest.skip(f"the dataset is not at {data}")
    script(BENCH / "split.py", data, tmp_path, "--max-users", 600)
    sheet, train = load_split(tmp_path)
    vectors = made_up_vectors(len(sheet.items))
    np.save(tmp_path / "v.npy", vectors)
    names = ",".join(PEERS)
    script(BENCH / "peers.py", tmp_path, tmp_path / "lists", "--only", names, "--minilm", tmp_path / "v.npy")
    chosen = standard_baselines(train, vectors)
    measured = measure_baselines(sheet, train, chosen.baselines, Measure(replicates=0), k=200)
    compared = 0
    # The script's lists have 600 places at most, which some users' own items fill.
    few = set(sheet.users[sheet.histories.distinct(len(sheet.items)).sizes < 500])

    def shown_to_both(evaluation: Evaluation, metric: str) -> float:
        cases = evaluation.users.isin(few)
        return float(evaluation.whole.by_case[cases, evaluation.whole.names.index(metric)].mean())

    for theirs, ours in PEERS.items():
        path = tmp_path / "lists" / f"{theirs}.parquet"
        if not path.exists():  # a catalogue that is too large for the script
            continue
        lists = read_table(path, ("user_id", "item_id", "rank"))
        for task, evaluations in measured.items():
            expected = evaluate_lists(lists, sheet, task, replicates=0)
            mine = next(one for one in evaluations if one.name == ours)
            for metric in ("ndcg@10", "recall@20", "mrr@20"):
                figure, own = shown_to_both(expected, metric), shown_to_both(mine, metric)
                tolerance = LOOSE.get(ours, 0.002) * figure + 2e-4
                assert own == pytest.approx(figure, abs=tolerance), (ours, task, metric)
            compared += 1
    assert compared >= 12


def made_up_vectors(num_items: int) -> np.ndarray:
    """Anything will do: both sides read the same."""
    random = np.random.Generator(np.random.PCG64(0))
    rows = random.normal(size=(num_items, 48)) * np.linspace(3, 0.3, 48) + 0.5
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def script(*arguments: object) -> None:
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
