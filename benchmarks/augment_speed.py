"""Speed of augmentation on one core, beside other libraries where they can be had.

    python benchmarks/augment_speed.py --data DIR --references build/bench-venv/bin/python --out OUT --check

Figures are CPU time; the sides of a comparison take turns, and the ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import history_speed
import text_speed
from rounds import References, Report, one_core

from recsys.config import DataConfig
from recsys.data.catalogue import item_texts
from recsys.data.interactions import load_dataset
from recsys.errors import RecsysError

PARTS = ("text", "gate", "history")


def machine() -> str:
    """The processor's name where the system tells it, and how many cores there are."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass  # not a Linux: the platform's own name will do
    return f"{name}, {os.cpu_count()} cores"


def open_references(python: Path | None, job: dict[str, Any], report: Report) -> References | None:
    """The other libraries' process; None, with the reason in the report, where there is none."""
    if python is None or not python.exists():
        why = (
            "no --references"
            if python is None
            else f"there is no {python}; `make bench` makes it where pip can"
        )
        report.skipped["comparison with nlpaug and EDA"] = why
        return None
    references = References(python, job)
    for library, why in references.missing.items():
        report.skipped[f"comparison with {library}"] = why
    return references


def measure(arguments: argparse.Namespace, report: Report) -> None:
    """All parts that were asked for."""
    dataset = load_dataset(arguments.data, DataConfig())
    if {"text", "gate"} & set(arguments.parts):
        catalogue = text_speed.catalogue_of(dataset.items, item_texts(dataset.items), arguments.texts)
        words = sum(len(text.split()) for text in catalogue.texts) / max(len(catalogue.texts), 1)
        report.facts |= {"texts": len(catalogue.texts), "words_per_text": round(words, 1)}
    if "text" in arguments.parts:
        references = open_references(arguments.references, text_speed.job_of(catalogue), report)
        text_speed.measure_ops(catalogue, references, report, arguments.repeats)
        text_speed.measure_branches(catalogue, references, report, arguments.repeats)
        if references is not None:
            references.close()
    if "history" in arguments.parts:
        contexts, num_items = history_speed.rows_of(dataset, arguments.rows)
        events = len(contexts.history_rows) / len(contexts)
        report.facts |= {"histories": len(contexts), "events_per_history": round(events, 1)}
        history_speed.measure_ops(contexts, num_items, report, arguments.repeats, arguments.ops)
        if arguments.ops is None:
            history_speed.measure_branch(contexts, num_items, report, arguments.repeats)
    if "gate" in arguments.parts:
        text_speed.measure_gate(catalogue, report, arguments.repeats)


def main() -> int:
    """Measure, print the table, and write it; 1 where a bar is missed and `--check` was given."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of a dataset")
    parser.add_argument("--out", type=Path, required=True, help="folder for augment.json and augment.md")
    parser.add_argument(
        "--references", type=Path, help="interpreter of the environment with the other libraries"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument(
        "--ops", nargs="+", choices=history_speed.OPS_ON_HISTORIES, help="of the history ops these alone"
    )
    parser.add_argument("--texts", type=int, default=3000)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=5, help="rounds; one more warms up")
    parser.add_argument("--check", action="store_true", help="fail where a bar is missed")
    arguments = parser.parse_args()
    core = one_core()
    report = Report(
        {
            "dataset": arguments.data.name,
            "machine": machine(),
            "core": core,
            "load": [round(load, 1) for load in os.getloadavg()],
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
        }
    )
    try:
        measure(arguments, report)
    except RecsysError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 2
    arguments.out.mkdir(parents=True, exist_ok=True)
    report.write(arguments.out / "augment.json")
    text = f"{json.dumps(report.facts, ensure_ascii=False)}\n\n{report.table()}\n"
    (arguments.out / "augment.md").write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    missed = [line.what for line in report.lines if line.passed is False]
    if missed and arguments.check:
        sys.stderr.write(f"bench: below the bar: {', '.join(missed)}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
