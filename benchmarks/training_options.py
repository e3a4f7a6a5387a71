"""What options of the towers' training gain, towers alone, on the validation slice of a dataset.

    python benchmarks/training_options.py --data DIR --work WORK --out options.jsonl [--only NAME ...]
    python benchmarks/training_options.py --out options.jsonl --table

The dataset is prepared once in WORK. Each fit is the stage `select` of a run, without augmentation and
fine-tuning: early stopping on what came between the two cuts, and lists for the same users, who are judged on
items new to them. The newest slice is not looked at. Figures are appended to the file, and what is there is
not fitted again, so a killed run goes on.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from recsys.arms import Trials
from recsys.config import load_config
from recsys.data.contexts_from import contexts_before
from recsys.evaluate.topk import top_dense
from recsys.model.gate import judge
from recsys.train import fit_towers

DEFAULTS = "none of these"
BASE = ("model.item_bias=false", "model.bias_over_time=false", "train.repeat_weight=1.0")
"""What every fit is told first: what is on by default is among the options."""
OPTIONS: dict[str, tuple[str, ...]] = {
    DEFAULTS: (),
    "item bias": ("model.item_bias=true",),
    "item bias over time": ("model.item_bias=true", "model.bias_over_time=true"),
    "item bias over time, repeats at a quarter": (
        "model.item_bias=true",
        "model.bias_over_time=true",
        "train.repeat_weight=0.25",
    ),
    "hard negatives": ("train.hard_negatives=20",),
    "hard negatives, no margin": ("train.hard_negatives=20", "train.hard_margin=1.0"),
    "item bias, hard negatives": ("model.item_bias=true", "train.hard_negatives=20"),
    "mask own items": ("train.mask_own=true",),
    "mask near texts, .95": ("train.mask_near=0.95",),
    "mask near texts, .8": ("train.mask_near=0.8",),
    "in batch": ("train.negatives=in_batch",),
    "in batch, target corrected too": ("train.negatives=in_batch", "train.logq=all"),
    "in batch, not corrected": ("train.negatives=in_batch", "train.logq=off"),
    "full softmax": ("train.num_negatives=1000000",),
    "no residual dropout": ("train.residual_dropout=0",),
}
K, DEPTH = 10, 50


def measured(trials: Trials, name: str, seed: int) -> dict[str, Any]:
    """One fit and its figures."""
    prepared, shop = trials.prepared, trials.shop
    settings = OPTIONS[name]
    config = load_config(None, [f"run.seed={seed}", *BASE, *settings])
    cut, started = prepared.cut_validation, time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        towers = fit_towers(
            contexts_before(prepared.contexts, cut, prepared.grain), trials.texts.vectors,
            shop.item_counts(cut),
            config, Path(folder), validation=prepared.validation, stage="select",
        )  # fmt: skip
    sheet = trials.sheet("validation")
    judged = prepared.validation.take(np.diff(prepared.validation.history_offsets) > 0)
    users, items = towers.user_vectors(judged), towers.item_vectors()
    seen = sheet.histories.distinct(len(items))
    parts = [
        top_dense(users[rows] @ items.T, DEPTH, seen.take(rows))
        for rows in np.array_split(np.arange(len(users)), max(1, len(users) // 256))
    ]
    found = trials.evaluate(np.concatenate(parts), "validation", name)
    return {
        "option": name, "seed": seed, "epochs": towers.epochs, "lift": towers.lift,
        "cpu_seconds": round(time.process_time() - started, 1),
        "ndcg@10": found["ndcg@10"].mean, "recall@20": found["recall@20"].mean,
        "cold recall@20": judge(towers, prepared.validation, config)["cold"]["recall@20"],
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Markdown: means over seeds, and each option's change against the defaults of the same seeds."""
    metrics = ("ndcg@10", "recall@20", "cold recall@20")
    base = {row["seed"]: row for row in rows if row["option"] == DEFAULTS}
    yield f"| option | {' | '.join(metrics)} | change of ndcg@10 by seed | seeds |"
    yield f"|---|{'---|' * (len(metrics) + 2)}"
    for name in dict.fromkeys(row["option"] for row in rows):
        mine = [row for row in rows if row["option"] == name and row["seed"] in base]
        means = [f"{np.mean([row[metric] for row in mine]):.4f}" for metric in metrics]
        changes = " ".join(f"{row['ndcg@10'] / base[row['seed']]['ndcg@10'] - 1:+.1%}" for row in mine)
        yield f"| {name} | {' | '.join(means)} | {changes if name != DEFAULTS else ''} | {len(mine)} |"


def main() -> None:
    """Measure, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=list(OPTIONS), choices=list(OPTIONS))
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    rows = [json.loads(line) for line in given.out.open()] if given.out.is_file() else []
    if given.table:
        print("\n".join(table(rows)))  # noqa: T201
        return
    if given.data is None or given.work is None:
        parser.error("--data and --work are needed")
    trials = Trials.prepare(given.data, given.work, load_config())
    done = {(row["option"], row["seed"]) for row in rows}
    for seed in range(given.seeds):
        for name in given.only:
            if (name, seed) not in done:
                row = measured(trials, name, seed)
                with given.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
