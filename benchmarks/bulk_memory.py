"""`recsys augment run` over a large made-up shop: memory of the process tree, speed, kill and resume.

    python benchmarks/bulk_memory.py --work WORK [--events 1000000 --items 200000 --users 120000]

Makes the shop once under WORK, expands it with 1 and with 2 workers, then kills a run with SIGKILL half way
and goes on, and compares the files' digests. Memory is the sum over all processes of the tree, looked at
five times a second: anonymous memory, which is the program's own, and with what is mapped from files.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from recsys.artifacts import file_digest
from recsys.data import sample

FILES = ("texts.parquet", "histories.parquet", "provenance.parquet", "counts.json", "policy.toml")
SECONDS = 0.2


def tree(pid: int) -> list[int]:
    """A process and all that came from it."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, task.read_text().split())
            except OSError:
                continue
    return found


def memory(pid: int) -> tuple[int, int]:
    """Bytes of a process: anonymous, and resident in all, each page by its share where several have it."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0, 0
    said = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines[1:]}
    return said.get("Pss_Anon", 0), said.get("Pss", 0)


def run(data: Path, out: Path, workers: int, policy: str, kill_at: int | None = None) -> dict[str, float]:
    """One run watched; with `kill_at` it is killed when so many shards are there."""
    command = [sys.executable, "-m", "recsys", "augment", "run", "--data", str(data), "--policy", policy]
    command += ["--out", str(out), "--workers", str(workers), "--no-encoder"]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    started, peak, resident = time.monotonic(), 0, 0
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)  # noqa: S603
    while process.poll() is None:
        parts = [memory(pid) for pid in tree(process.pid)]
        peak, resident = max(peak, sum(p[0] for p in parts)), max(resident, sum(p[1] for p in parts))
        if kill_at is not None and len(list((out / ".work").glob("*-*.parquet"))) >= kill_at:
            process.send_signal(signal.SIGKILL)
        time.sleep(SECONDS)
    if kill_at is None and process.returncode:
        raise SystemExit(f"the run ended with status {process.returncode}")
    return {
        "workers": workers,
        "seconds": round(time.monotonic() - started, 1),
        "peak_anonymous_mb": peak >> 20,
        "peak_resident_mb": resident >> 20,
    }


def main() -> None:
    """Make the shop, run, and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--users", type=int, default=120_000)
    parser.add_argument("--policy", default="standard")
    options = parser.parse_args()
    data = options.work / "shop"
    if not (data / "relations.parquet").is_file():
        sample.SIZES["bench"] = sample.Size(options.users, options.items, options.events)
        sample.write_sample(data, "bench", seed=0)
    results: dict[str, Any] = {}
    for name, workers, kill_at in (("one", 1, None), ("two", 2, None), ("killed", 2, 10)):
        out = options.work / name
        results[name] = run(data, out, workers, options.policy, kill_at)
        if kill_at is not None:
            kept = len(list((out / ".work").glob("*-*.parquet")))
            results["resumed"] = {**run(data, out, workers, options.policy), "shards_kept": kept}
        counts = json.loads((out / "counts.json").read_text())
        timing = json.loads((out / "timing.json").read_text())["seconds"]
        rows = counts["history"]["rows"] + counts["text"]["rows"]
        results[name] |= {"rows": rows, "rows_per_second": round(rows / timing["total"]), "stages": timing}
    digests = [
        {file_digest(options.work / name / file) for file in FILES} for name in ("one", "two", "killed")
    ]
    results["same_bytes"] = digests[0] == digests[1] == digests[2]
    sys.stdout.write(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
