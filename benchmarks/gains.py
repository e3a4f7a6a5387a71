"""The gain or loss of each op alone, of each preset and of placebos against `off`: seeds, intervals, a table.

    python benchmarks/gains.py --data DIR --work WORK --out gains.json [--seeds 3] [--part 1/2] [--table]

Every arm trains the two towers on the events before the report cut for as many epochs as `off` needs on
validation, so all arms take equal optimiser steps, and is judged once on what known users did afterwards.
Outcomes lie in WORK and are found again, so a killed run goes on, and `--part 1/2` and `--part 2/2` may run
side by side. `--table` writes Markdown from what is there.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np

from recsys.arms import Arm, Trials
from recsys.augment.compose import Compose
from recsys.augment.op import Op
from recsys.augment.policy import PRESETS, Branch, Policy, load_policy
from recsys.augment.registry import OPS
from recsys.augment.representation import REPRESENTATION_OPS, Representation
from recsys.config import AugmentConfig, Config, load_config
from recsys.evaluate.bootstrap import intervals
from recsys.evaluate.evaluate import Evaluation
from recsys.placebo import PLACEBOS

log = logging.getLogger("gains")
METRICS = ("ndcg@10", "recall@20")
SEGMENTS = (("history", "1-3"), ("coldness", "0"), ("coldness", "1-5"))
REPLICATES = 2000


def single(name: str, op: type[Op[Any]]) -> Arm | None:
    """The arm of one op with its default settings; None where it cannot run without being told more."""
    try:
        branch = Branch(ops=Compose(ops=(op(),)))
    except ValueError:
        return None
    kind = {"history": {"history": branch}, "text": {"text": branch}}.get(op.kind or "")
    return None if kind is None else Arm(name, Policy(name=name, **kind))


def arms() -> list[Arm]:
    """`off` first, then placebos, presets and ops."""
    found = [Arm.of("off")]
    found += [Arm(f"placebo:{name}", load_policy("off"), AugmentConfig(), name) for name in PLACEBOS]
    found += [Arm.of(name) for name in PRESETS if name != "off"]
    found += [arm for name, op in OPS.items() if (arm := single(name, op)) is not None]
    for name, change in REPRESENTATION_OPS.items():
        found.append(Arm(name, Policy(name=name, representation=Representation(ops=(change(),)))))
    return found


def epochs_of_off(trials: Trials, path: Path) -> int:
    """How many epochs `off` needs on the validation slice, found once."""
    if path.is_file():
        return int(json.loads(path.read_text())["epochs"])
    best = trials.run(Arm.of("off"), 0, on_epoch=_no_better_for(2)).curve
    epochs = int(np.argmax(best)) + 1
    path.write_text(json.dumps({"epochs": epochs, "validation_ndcg@10": list(best)}))
    return epochs


def _no_better_for(patience: int) -> Any:
    seen: list[float] = []

    def stop(epoch: int, figure: float) -> bool:
        seen.append(figure)
        return len(seen) - int(np.argmax(seen)) > patience

    return stop


def measure(trials: Trials, work: Path, seeds: int, part: tuple[int, int], only: list[str]) -> None:
    """Train what is not there yet."""
    epochs = epochs_of_off(trials, work / "epochs.json")
    wanted = [(seed, arm) for seed in range(seeds) for arm in arms() if not only or arm.name in only]
    for number, (seed, arm) in enumerate(wanted):
        path = outcome_path(work, arm, seed)
        if path.is_file() or number % part[1] != part[0] - 1:
            continue
        if not applicable(work, arm):
            continue
        started = time.perf_counter()
        outcome = trials.run(arm, seed, when="report", epochs=epochs)
        changed = sum(counts.get("accepted", 0) for counts in outcome.counts.values())
        about = {
            "arm": arm.name, "seed": seed, "epochs": epochs, "changed": changed,
            "counts": outcome.counts, "seconds": outcome.seconds, "policy_id": arm.policy.policy_id,
        }  # fmt: skip
        with path.with_suffix(".tmp").open("wb") as file:
            np.savez_compressed(file, lists=outcome.lists.astype(np.int32), about=json.dumps(about))
        path.with_suffix(".tmp").replace(path)
        log.info(
            "%s seed %d: %d rows changed, %.1f s", arm.name, seed, changed, time.perf_counter() - started
        )


def applicable(work: Path, arm: Arm) -> bool:
    """Whether an arm changed anything with seed 0: one that did not is `off` under another name."""
    first = outcome_path(work, arm, 0)
    if arm.name == "off" or arm.placebo is not None or not first.is_file():
        return True
    changed = int(json.loads(str(np.load(first)["about"]))["changed"])
    return changed > 0 or bool(arm.policy.representation.ops)


def outcome_path(work: Path, arm: Arm, seed: int) -> Path:
    """Where an outcome lies."""
    return work / "outcomes" / f"{arm.name.replace(':', '-')}-{arm.policy.policy_id}-{seed}.npz"


def collect(trials: Trials, work: Path, seeds: int) -> list[dict[str, Any]]:
    """Every arm against `off` of the same seeds, user by user; each row says how many seeds there are."""
    off = {seed: _evaluation(trials, work, Arm.of("off"), seed) for seed in range(seeds)}
    rows = []
    for arm in arms():
        runs = {seed: _evaluation(trials, work, arm, seed) for seed in range(seeds)}
        both = [seed for seed in runs if runs[seed] is not None and off[seed] is not None]
        if arm.name == "off" or not both:
            continue
        about = json.loads(str(np.load(outcome_path(work, arm, both[0]))["about"]))
        if not about["changed"] and arm.placebo is None and not arm.policy.representation.ops:
            continue  # it had nothing to change here: `off` under another name
        figures = _differences([runs[seed] for seed in both], [off[seed] for seed in both])
        rows.append({"arm": arm.name, "seeds": len(both), "changed": about["changed"], **figures})
    return rows


def _evaluation(trials: Trials, work: Path, arm: Arm, seed: int) -> Evaluation | None:
    path = outcome_path(work, arm, seed)
    if not path.is_file():
        return None
    return trials.evaluate(np.load(path)["lists"].astype(np.int64), "report", arm.name)


def _differences(runs: list[Any], off: list[Any]) -> dict[str, Any]:
    """Relative differences in percent with 95 % intervals over users, the seeds of each user averaged."""
    found: dict[str, Any] = {}
    for label, pick in _slices():
        ours = np.mean([_columns(pick(run)) for run in runs], axis=0)
        theirs = np.mean([_columns(pick(run)) for run in off], axis=0)
        cases = np.arange(len(ours))
        if not len(cases):
            continue
        low, high = intervals([(cases, ours - theirs)], cases, REPLICATES)[0]
        for i, metric in enumerate(METRICS):
            base = float(theirs[:, i].mean())
            found[f"{label} {metric}"] = {
                "off": round(base, 5), "difference": round(float((ours - theirs)[:, i].mean()), 5),
                "low": round(float(low[i]), 5), "high": round(float(high[i]), 5), "users": len(cases),
            }  # fmt: skip
    return found


def _slices() -> list[tuple[str, Any]]:
    def segment(dimension: str, label: str) -> Any:
        return lambda run: run.segment(dimension, label)

    return [("whole", lambda run: run.whole), *((f"{d} {s}", segment(d, s)) for d, s in SEGMENTS)]


def _columns(part: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    return part.by_case[:, [part.names.index(metric) for metric in METRICS]]


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: per arm the relative difference to `off` in percent, with its interval."""
    columns = ["whole ndcg@10", "whole recall@20", "history 1-3 ndcg@10", "coldness 1-5 recall@20",
               "coldness 0 recall@20"]  # fmt: skip
    lines = [
        "| arm | seeds | rows changed | " + " | ".join(columns) + " |",
        "|---" * (len(columns) + 3) + "|",
    ]
    for row in rows:
        cells = [_cell(row.get(column)) for column in columns]
        lines.append(f"| `{row['arm']}` | {row['seeds']} | {row['changed']:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(figure: dict[str, float] | None) -> str:
    if figure is None or not figure["off"]:
        return "–"
    middle, low, high = (100 * figure[name] / figure["off"] for name in ("difference", "low", "high"))
    shown = f"{middle:+.1f} [{low:+.1f}, {high:+.1f}]"
    return f"**{shown}**" if low > 0 or high < 0 else shown


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--part", default="1/1")
    parser.add_argument("--only", nargs="*", default=[], help="names of arms")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--table", action="store_true", help="do not train: write what is there")
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    log.setLevel(logging.INFO)
    config = load_config(given.config) if given.config else Config()
    trials = Trials.prepare(given.data, given.work, config, progress=False)
    (given.work / "outcomes").mkdir(exist_ok=True)
    if not given.table:
        first, count = given.part.split("/")
        measure(trials, given.work, given.seeds, (int(first), int(count)), given.only)
        if int(count) > 1:
            return
    rows = collect(trials, given.work, given.seeds)
    given.out.write_text(json.dumps(rows, indent=1))
    print(table(rows))  # noqa: T201


if __name__ == "__main__":
    main()
