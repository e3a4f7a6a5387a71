"""Fine-tuning beside sentence-transformers' trainer: examples per CPU second, same encoder, texts and batch.

    python benchmarks/finetune_speed.py --data DIR --references PYTHON --out OUT --check

An example is a target with what came before it. The reference sees it as a pair of texts, the newest item of
the history and the target, in batches of as many pairs as our step has texts, with in-batch negatives. Our
step encodes its distinct texts once and uses every example among them. The pass through the frozen layers,
done once per text, is counted in full against the steps of a run of default length. Both sides have one
thread and the same precision.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rounds import Line, Report, one_core

from recsys.config import Config, DataConfig, load_config
from recsys.contexts import Contexts, Vocabulary
from recsys.data.catalogue import item_texts
from recsys.data.interactions import Dataset, load_dataset
from recsys.errors import RecsysError

BAR = 3.0
PAIRS = 4096


@dataclass
class Shop:
    """What both sides are told."""

    texts: list[str]
    contexts: Contexts
    counts: np.ndarray[Any, np.dtype[np.int64]]


def shop_of(dataset: Dataset, most: int) -> Shop:
    """Contexts of one event each from the log, newest first where there are more than `most`."""
    from recsys.data.log import positives

    log = positives(dataset.interactions).sort_values(["user_id", "timestamp"], kind="stable")
    vocabulary = Vocabulary(dataset.items["item_id"].tolist())
    rows = vocabulary.rows(log["item_id"].tolist())
    users, times = log["user_id"].to_numpy(), log["timestamp"].to_numpy(np.int64)
    follows = np.flatnonzero((users[1:] == users[:-1]) & (times[1:] > times[:-1])) + 1
    chosen = follows[-most:]
    one = np.arange(len(chosen) + 1)
    contexts = Contexts(
        user_ids=users[chosen].astype(str), moments=times[chosen], history_offsets=one,
        history_rows=rows[chosen - 1], history_events=np.zeros(len(chosen), np.int64),
        history_timestamps=times[chosen - 1], target_offsets=one, target_rows=rows[chosen],
        target_weights=np.ones(len(chosen), np.float32), weights=np.ones(len(chosen), np.float32),
        parents=np.full(len(chosen), -1, np.int64), role="fit",
    )  # fmt: skip
    return Shop(item_texts(dataset.items), contexts, np.bincount(rows, minlength=len(vocabulary)))


def ours(shop: Shop, config: Config, steps: int) -> tuple[float, float, float]:
    """CPU seconds per step, CPU seconds of the frozen layers' pass, and examples per step."""
    import torch

    from recsys.model.batching import target_pairs
    from recsys.model.encoder import TextEncoder
    from recsys.model.whitening import Whitening
    from recsys.train import fit_towers
    from recsys.tuning import Tuning

    torch.set_num_threads(1)
    encoder = TextEncoder.load(config.encoder, "cpu", config.train.precision)
    rng = np.random.default_rng(0)
    raw = rng.normal(size=(len(shop.texts), 384)).astype(np.float32)  # any vectors cost the same
    whitening = Whitening.fit(raw, None)
    with tempfile.TemporaryDirectory() as folder:
        towers = fit_towers(
            shop.contexts.take(np.arange(min(512, len(shop.contexts)))), whitening.apply(raw), shop.counts,
            config, Path(folder) / "towers", epochs=1,
        )  # fmt: skip
        started = time.process_time()
        tuning = Tuning(encoder, shop.texts, shop.contexts, towers, whitening, config, Path(folder) / "t")
        frozen = time.process_time() - started
        examples, costs = [], []
        for step in range(steps + 1):
            rng = np.random.default_rng(0)
            items = tuning.draws.items_with(tuning.draws.texts_of(step))
            positions, _ = tuning.draws.held_against(items, rng)
            among = np.isin(target_pairs(shop.contexts, positions).items, items)
            examples.append(int(among.sum()))
            started = time.process_time()
            tuning._step(step)
            costs.append(time.process_time() - started)
    return statistics.median(costs[1:]), frozen, statistics.mean(examples[1:])


def theirs(python: Path, shop: Shop, config: Config, steps: int) -> float:
    """The reference's examples per CPU second."""
    from recsys.model.encoder import packaged_folder

    texts, contexts = shop.texts, shop.contexts
    pairs = [
        (texts[history], texts[target])
        for history, target in zip(contexts.history_rows[:PAIRS], contexts.target_rows[:PAIRS], strict=True)
    ]
    job = {
        "model": str(packaged_folder()), "pairs": pairs, "batch_size": config.finetune.items_per_step,
        "max_tokens": config.encoder.max_tokens, "steps": steps, "warm_up": 1, "threads": 1,
        "bf16": _bf16(config),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.json"
        path.write_text(json.dumps(job), encoding="utf-8")
        script = Path(__file__).with_name("finetune_reference.py")
        done = subprocess.run([python, script, path], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(f"bench: the reference failed: {done.stderr.strip().splitlines()[-1]}")
    said = json.loads(done.stdout.strip().splitlines()[-1])
    return float(said["examples"] / said["seconds"])


def _bf16(config: Config) -> bool:
    import torch

    from recsys.model.encoder import TextEncoder

    return TextEncoder.load(config.encoder, torch.device("cpu"), config.train.precision).precision == "bf16"


def main() -> int:
    """Measure in turns, print the table, and write it; 1 where the bar is missed and `--check` was given."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--references", type=Path, required=True, help="interpreter with sentence-transformers"
    )
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    config = load_config(None, ["run.device=cpu", *given.settings])
    report = Report({"dataset": given.data.name, "core": one_core(), "date": time.strftime("%Y-%m-%d")})
    try:
        shop = shop_of(load_dataset(given.data, DataConfig()), 50_000)
    except RecsysError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 2
    rates: list[tuple[float, float]] = []
    for _ in range(given.rounds):
        cost, frozen, examples = ours(shop, config, given.steps)
        whole = cost + frozen / config.finetune.steps
        rates.append((examples / whole, theirs(given.references, shop, config, given.steps)))
    ratios = [a / b for a, b in rates]
    tuning = config.finetune
    what = f"{tuning.items_per_step} texts per step, top {tuning.layers} layers"
    line = Line("fine-tuning", what, "examples", statistics.median(a for a, _ in rates))
    line.reference, line.theirs = "sentence-transformers, all layers", statistics.median(b for _, b in rates)
    line.ratio, line.spread, line.bar = statistics.median(ratios), (min(ratios), max(ratios)), BAR
    report.lines.append(line)
    given.out.mkdir(parents=True, exist_ok=True)
    report.write(given.out / "finetune.json")
    sys.stdout.write(f"{json.dumps(report.facts)}\n\n{report.table()}\n")
    return int(given.check and line.passed is False)


if __name__ == "__main__":
    sys.exit(main())
