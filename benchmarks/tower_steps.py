"""Optimiser steps of the towers: gradients that are the rows a step read, beside whole ones.

    python benchmarks/tower_steps.py --out build/bench [--check]

The reference is what torch does by itself: whole gradients, `clip_grad_norm_`, and the same fused AdamW. Both
sides take the same steps over made-up contexts, in turns, on one core.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from rounds import Line, Report, compared, one_core, timed

from recsys.augment.representation import Representation
from recsys.config import load_config
from recsys.contexts import Contexts
from recsys.model.row_gradients import LARGE
from recsys.train import _Fit

BATCH, LENGTH, DIM = 256, 12, 384
NO_FOLDER = Path("nowhere")
"""Single steps write nothing."""


def made_up(num_items: int, num_rows: int, seed: int = 0) -> Contexts:
    """Rows whose histories and targets are drawn as shops sell: few items much, most of them seldom."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 2 * LENGTH, num_rows)
    popular = 1 / np.arange(1, num_items + 1) ** 0.8
    drawn = partial(rng.choice, num_items, p=popular / popular.sum())
    moments = np.sort(rng.integers(1_000_000, 30_000_000, num_rows))
    rows, offsets = drawn(sizes.sum()).astype(np.int64), np.concatenate([[0], np.cumsum(sizes)])
    return Contexts(
        user_ids=np.arange(num_rows).astype(str), moments=moments, history_offsets=offsets, history_rows=rows,
        history_events=np.zeros(len(rows), np.int64),
        history_timestamps=np.repeat(moments, sizes) - rng.integers(1, 900_000, len(rows)),
        target_offsets=np.arange(num_rows + 1), target_rows=drawn(num_rows).astype(np.int64),
        target_weights=np.ones(num_rows, np.float32), weights=np.ones(num_rows, np.float32),
        parents=np.full(num_rows, -1, np.int64), role="fit",
    )  # fmt: skip


def measure(num_items: int, steps: int, repeats: int) -> Line:
    """Steps per second of both sides over a catalogue of which everything has sold."""
    contexts = made_up(num_items, BATCH * steps)
    rng = np.random.default_rng(1)
    text = rng.normal(size=(num_items, DIM)).astype(np.float32)
    text[:, -1] = 0
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    counts = np.maximum(np.bincount(contexts.target_rows, minlength=num_items), 1)
    config = load_config(None, ["run.threads=1", "run.device=cpu"])

    def side(by_rows: bool) -> partial[float]:
        with mock.patch("recsys.model.row_gradients.pays_for", return_value=by_rows):
            fit = _Fit(
                contexts, text, counts, config, NO_FOLDER, None, 1, None, None, Representation(), "bench"
            )
        return partial(_walk, fit, steps)

    line = Line("steps of the towers", f"{num_items:,} sold items", "steps", 0.0, "whole gradients")
    line.bar = 1.0 if num_items > LARGE else None  # smaller ones have whole gradients in a run
    return compared(line, timed(side(True)), timed(side(False)), repeats)


def _walk(fit: _Fit, steps: int) -> float:
    ones = np.ones(BATCH, np.float32)
    for step in range(steps):
        fit._step(np.arange(step * BATCH, (step + 1) * BATCH), ones, 0, step)
    return float(steps)


def main() -> int:
    """Measure, print the table, and write it; 1 where a bar is missed and `--check` was given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[3_000, 6_000, 20_000, 60_000])
    parser.add_argument("--steps", type=int, default=8, help="of each round")
    parser.add_argument("--repeats", type=int, default=5, help="rounds, after one to warm up")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--check", action="store_true", help="fail where rows are slower in large tables")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    report = Report({"on": one_core(), "torch": torch.__version__})
    for num_items in arguments.items:
        report.lines.append(measure(num_items, arguments.steps, arguments.repeats))
    arguments.out.mkdir(parents=True, exist_ok=True)
    report.write(arguments.out / "towers.json")
    sys.stdout.write(report.table() + "\n")
    return int(arguments.check and any(line.passed is False for line in report.lines))


if __name__ == "__main__":
    sys.exit(main())
