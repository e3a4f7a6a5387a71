"""Rounds of measuring: both sides in turn on one core, CPU time, medians, and the ratio of each round."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Side = Callable[[], tuple[float, float]]
"""One round: CPU seconds, and how much was done in them."""


@dataclass
class Line:
    """One line of the table."""

    part: str
    what: str
    unit: str
    ours: float
    """Median per second."""
    reference: str = ""
    theirs: float | None = None
    """Median per second of the reference."""
    ratio: float | None = None
    """Median over the rounds of ours over theirs, of one round each."""
    spread: tuple[float, float] | None = None
    """Lowest and highest of what is held against the bar."""
    bar: float | None = None
    """The ratio, or without a reference the rate, that is asked for; None only informs."""
    note: str = ""
    tolerance: float = 0.0
    """Share of the bar that is noise."""

    @property
    def passed(self) -> bool | None:
        """Whether the bar is kept; None without a bar."""
        if self.bar is None:
            return None
        return (self.ours if self.ratio is None else self.ratio) >= self.bar * (1.0 - self.tolerance)


@dataclass
class Report:
    """All lines of a run, and what was left out and why."""

    facts: dict[str, Any]
    lines: list[Line] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """As JSON."""
        lines = [asdict(line) | {"passed": line.passed} for line in self.lines]
        plain = {**self.facts, "lines": lines, "skipped": self.skipped}
        path.write_text(json.dumps(plain, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def table(self) -> str:
        """As a table of Markdown."""
        rows = [
            "| part | what | ours | reference | its | ratio (lowest to highest) | bar | |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for line in self.lines:
            low, high = line.spread or (0.0, 0.0)
            ratio = "" if line.ratio is None else f"**{line.ratio:.1f}** ({low:.1f} to {high:.1f})"
            theirs = "" if line.theirs is None else f"{line.theirs:,.0f}/s"
            bar = (
                ""
                if line.bar is None
                else (f"{line.bar:g}×" if line.ratio is not None else f"{line.bar:,.0f}/s")
            )
            verdict = {True: "kept", False: "**missed**", None: ""}[line.passed]
            ours = f"{line.ours:,.0f} {line.unit}/s"
            if line.ratio is None and line.spread:
                ours += f" ({low:,.0f} to {high:,.0f})"
            what = f"{line.what} ({line.note})" if line.note else line.what
            cells = (line.part, what, ours, line.reference, theirs, ratio, bar, verdict)
            rows.append(f"| {' | '.join(cells)} |")
        rows += [f"\nLeft out: {name}: {why}" for name, why in self.skipped.items()]
        return "\n".join(rows)


def one_core() -> str:
    """Keep this process, and what it starts, on one core; says what was done."""
    if not hasattr(os, "sched_setaffinity"):
        return "any core (this system cannot pin a process)"
    core = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return f"core {core}"


def timed(work: Callable[[], float]) -> Side:
    """A side of this process: what `work` says it did, in CPU time."""

    def side() -> tuple[float, float]:
        started = time.process_time()
        done = work()
        return time.process_time() - started, done

    return side


def rates(sides: Mapping[str, Side], repeats: int) -> dict[str, list[float]]:
    """Per side its rate in each round; the sides take turns, and the first round only warms up."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(repeats + 1):
        for name, side in sides.items():
            seconds, done = side()
            if repeat:
                found[name].append(done / max(seconds, 1e-9))
    return found


def compared(line: Line, ours: Side, theirs: Side | None = None, repeats: int = 5) -> Line:
    """Fill a line's figures in."""
    sides = {"ours": ours} | ({"theirs": theirs} if theirs is not None else {})
    found = rates(sides, repeats)
    line.ours = statistics.median(found["ours"])
    line.spread = (min(found["ours"]), max(found["ours"]))
    if theirs is not None:
        ratios = [a / b for a, b in zip(found["ours"], found["theirs"], strict=True)]
        line.theirs, line.ratio = statistics.median(found["theirs"]), statistics.median(ratios)
        line.spread = (min(ratios), max(ratios))
    return line


class References:
    """The process that runs other libraries' augmenters.

    Args:
        python: The interpreter of their environment.
        job: What `references.py` reads.
    """

    def __init__(self, python: Path, job: dict[str, Any]) -> None:
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / "job.json"
        path.write_text(json.dumps(job), encoding="utf-8")
        script = Path(__file__).with_name("references.py")
        self._process = subprocess.Popen(  # noqa: S603  # the script beside this one
            [python, script, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        said = self._read()
        self.names: list[str] = said["names"]
        self.missing: dict[str, str] = said["missing"]

    def tried(self, name: str) -> Side:
        """A reference as a side; what it did is the number of texts that it was given."""
        return self.side(name, "tried")

    def side(self, name: str, what: str = "outputs") -> Side:
        """A reference as a side; what it did is the number of texts that came back changed."""

        def side() -> tuple[float, float]:
            assert self._process.stdin is not None
            self._process.stdin.write(name + "\n")
            self._process.stdin.flush()
            said = self._read()
            return said["seconds"], said[what]

        return side

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(timeout=60)
        self._folder.cleanup()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"bench: the references ended with status {self._process.wait()}")
        said: dict[str, Any] = json.loads(line)
        return said
