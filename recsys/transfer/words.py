"""What a transfer says: two tables, a sentence per verdict, and two files."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recsys.artifacts import write_atomically
from recsys.evaluate.contrast import Finding, Part
from recsys.evaluate.evaluate import WHOLE
from recsys.evaluate.tables import Grid, to_markdown
from recsys.transfer.order import DECIDES, USERS, Done, mean_of

_WHOLE_METRICS = ("ndcg@10", "recall@20")


def systems_grid(done: Done) -> Grid:
    """A row per system: over all users, then by part."""
    first = next(iter(done.systems.values()))
    shown = [(part, metric) for part in first if part.dimension == WHOLE for metric in _WHOLE_METRICS]
    shown += [(part, DECIDES.get(part.dimension, "ndcg@10")) for part in first if _by_part(part)]
    columns = ("system", *(_column(part, metric) for part, metric in shown))
    rows = [
        (name, *(_number(mean_of(_like(parts, part), metric)) for part, metric in shown))
        for name, parts in done.systems.items()
    ]
    return Grid(done.title, columns, tuple(rows))


def findings_grid(done: Done) -> Grid:
    """A row per question and part with a verdict."""
    rows = []
    for one in done.findings:
        if one.verdict is None:
            continue
        main = one.main
        rows.append(
            (
                f"{one.arm} − {one.reference}",
                one.name,
                f"{main.users:,}",
                one.decides,
                f"{main.difference:+.4f} [{main.low:+.4f}, {main.high:+.4f}]",
                f"{one.verdict.p_adjusted:.3f}",
                one.verdict.outcome,
            )
        )
    columns = ("pair", "part", "users", "metric", "difference, 95% interval", "p", "verdict")
    return Grid("Paired differences by user", columns, tuple(rows))


def sentences(done: Done) -> list[str]:
    """What every question came to over all users, and where it says something of a part."""
    lines = []
    for one in done.findings:
        if one.verdict is None:
            continue
        if one.dimension == WHOLE or one.verdict.outcome != "cannot tell":
            where = "over all users" if one.dimension == WHOLE else f"for {_part_words(one)}"
            lines.append(
                f"{one.arm} against {one.reference} {where}: {one.verdict.outcome} ({one.verdict.why})."
            )
    return lines


def write_files(out: Path, name: str, done: Done, command: str) -> None:
    """`NAME.json` and `NAME.md`.

    Args:
        out: The folder.
        name: `transfer` or `social`.
        done: What was measured.
        command: What was asked, for whoever reads the table later.
    """
    record: dict[str, Any] = {
        "title": done.title,
        "command": command,
        "facts": dict(done.facts),
        "notes": list(done.notes),
        "systems": {
            system: {part.name: {m: _plain(mean_of(part, m)) for m in part.figures} for part in parts}
            for system, parts in done.systems.items()
        },
        "users": {part.name: len(part.users) for part in next(iter(done.systems.values()))},
        "findings": [one.to_plain() for one in done.findings],
        "augmented": {system: dict(counts) for system, counts in done.counts.items()},
    }
    write_atomically(
        out / f"{name}.json", json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    )
    facts = "\n".join(f"* {name}: {value}" for name, value in done.facts.items())
    grids = [to_markdown(systems_grid(done)), to_markdown(findings_grid(done))]
    said = [f"`{command}`", facts, *grids, *sentences(done), *done.notes]
    write_atomically(out / f"{name}.md", "\n\n".join(text.rstrip() for text in said) + "\n")


def _by_part(part: Part) -> bool:
    kept = {("sparse", "1-3"), ("sparse", "1-4"), ("coldness", "0"), ("coldness", "1-5")}
    return (part.dimension, part.label) in kept or part.dimension == USERS


def _column(part: Part, metric: str) -> str:
    return metric if part.dimension == WHOLE else f"{metric}, {part.name} (n={len(part.users):,})"


def _part_words(one: Finding) -> str:
    words = {
        "sparse": "users with {} events",
        "coldness": "items with {} events",
        USERS: "users {}",
    }
    return words[one.dimension].format(one.label)


def _like(parts: Sequence[Part], other: Part) -> Part:
    return next(part for part in parts if (part.dimension, part.label) == (other.dimension, other.label))


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
