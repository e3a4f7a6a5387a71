"""The figures are those of an independent script: equal to the fifth digit, both tasks, every segment."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from recsys.evaluate.answers import AnswerSheet, Histories, load_split, read_table
from recsys.evaluate.baselines import ItemKnn, Popular
from recsys.evaluate.evaluate import Evaluation, compare, evaluate_lists
from recsys.evaluate.ranked import lists_to_frame

SHARED = Path(__file__).resolve().parents[3] / "shared"
SCORE = SHARED / "bench" / "score.py"
SEGMENTS = {
    "hist 1-3": ("history", "1-3", "ndcg@10"),
    "hist 4-10": ("history", "4-10", "ndcg@10"),
    "hist 11-50": ("history", "11-50", "ndcg@10"),
    "hist >50": ("history", ">50", "ndcg@10"),
    "items cold 0": ("coldness", "0", "recall@20"),
    "items rare 1-5": ("coldness", "1-5", "recall@20"),
    "items 6-50": ("coldness", "6-50", "recall@20"),
    "items >50": ("coldness", ">50", "recall@20"),
}
Split = tuple[AnswerSheet, Histories]

# What the script printed for `split_folder` and `lists_file`, so that the agreement is tested without it.
GOLDEN: dict[str, dict[str, object]] = {
    "all": {
        "ndcg@10": 0.09325,
        "recall@20": 0.32361,
        "hit@10": 0.35,
        "mrr@20": 0.10304,
        "coverage@10": 1.0,
        "users": 60,
        "hist 1-3": [0.08394, 26],
        "hist 4-10": [0.1106, 16],
        "hist 11-50": [0.10269, 16],
        "hist >50": [0.0, 2],
        "items cold 0": [0.22727, 22],
        "items rare 1-5": [0.125, 8],
        "items 6-50": [0.32114, 41],
        "items >50": [0.41667, 36],
    },
    "novel": {
        "ndcg@10": 0.07939,
        "recall@20": 0.27951,
        "hit@10": 0.22917,
        "mrr@20": 0.088,
        "coverage@10": 1.0,
        "users": 48,
        "hist 1-3": [0.08323, 26],
        "hist 4-10": [0.12667, 13],
        "hist 11-50": [0.0, 8],
        "hist >50": [0.0, 1],
        "items cold 0": [0.27273, 22],
        "items rare 1-5": [0.125, 8],
        "items 6-50": [0.26344, 31],
        "items >50": [0.53846, 13],
    },
}


def as_script_prints(evaluation: Evaluation) -> dict[str, object]:
    figures: dict[str, object] = {
        name: round(evaluation[name].mean, 5) for name in ("ndcg@10", "recall@20", "hit@10", "mrr@20")
    }
    figures["coverage@10"] = round(evaluation.catalogue["coverage@10"].mean, 4)
    figures["users"] = len(evaluation.users)
    for name, (dimension, label, metric) in SEGMENTS.items():
        part = evaluation.segment(dimension, label)
        figures[name] = [round(part.figures[metric].mean, 5) if len(part) else None, len(part)]
    return figures


def run_script(*arguments: object) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, str(SCORE), *map(str, arguments)], capture_output=True, text=True, check=True
    )
    printed: dict[str, object] = json.loads(done.stdout)
    return printed


@pytest.mark.parametrize("task", ["all", "novel"])
def test_frozen_figures(task: str, split: Split, lists_file: Path) -> None:
    lists = pd.read_parquet(lists_file)
    evaluation = evaluate_lists(lists, split[0], task, replicates=0)  # type: ignore[arg-type]
    assert as_script_prints(evaluation) == GOLDEN[task]


@pytest.mark.skipif(not SCORE.exists(), reason=f"the scoring script is not at {SCORE}")
@pytest.mark.parametrize("task", ["all", "novel"])
def test_made_up_shop_agrees(task: str, split_folder: Path, split: Split, lists_file: Path) -> None:
    sheet, train = split
    num_items = len(sheet.items)
    popular = Popular().fit(train, num_items).rank(sheet.histories, num_items)
    other = split_folder / f"popular-{task}.parquet"
    lists_to_frame(popular, sheet.users, sheet.items).to_parquet(other, index=False)
    printed = run_script(split_folder, lists_file, "--vs", other, "--task", task)
    mine = evaluate_lists(pd.read_parquet(lists_file), sheet, task)  # type: ignore[arg-type]
    difference = compare(mine, evaluate_lists(popular, sheet, task))["ndcg@10"]  # type: ignore[arg-type]
    mean, low, high = printed.pop("vs ndcg@10")  # type: ignore[misc]
    assert as_script_prints(mine) == printed
    assert round(difference.mean, 5) == mean
    # another 2,000 resamples: the bounds may differ by their own noise
    assert (difference.low, difference.high) == pytest.approx((low, high), abs=0.08 * (high - low))


@pytest.mark.slow
@pytest.mark.skipif(not SCORE.exists(), reason=f"the scoring script is not at {SCORE}")
@pytest.mark.parametrize("name", ["online_retail", "steam_reviews_au"])
def test_public_sets_agree(name: str, tmp_path: Path) -> None:
    folder = SHARED / "data" / name
    if not folder.exists():
        pytest.skip(f"the dataset is not at {folder}")
    made = [
        sys.executable,
        str(SCORE.with_name("split.py")),
        str(folder),
        str(tmp_path),
        "--max-users",
        "400",
    ]
    subprocess.run(made, check=True, capture_output=True)
    sheet, train = load_split(tmp_path)
    num_items = len(sheet.items)
    lists = ItemKnn().fit(train, num_items).rank(sheet.histories, 200)
    path = tmp_path / "knn.parquet"
    lists_to_frame(lists, sheet.users, sheet.items).to_parquet(path, index=False)
    frame = read_table(path, ("user_id", "item_id", "rank"))
    for task in ("all", "novel"):
        printed = run_script(tmp_path, path, "--task", task)
        assert as_script_prints(evaluate_lists(frame, sheet, task, replicates=0)) == printed
