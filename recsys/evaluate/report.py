"""The report of a run: one HTML file that needs nothing else, and the same figures as JSON and Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recsys.artifacts import write_atomically
from recsys.evaluate.evaluate import Comparison, Evaluation, as_json, by_task
from recsys.evaluate.plots import curve_plot, learning_curves, metric_bars, metric_by_segment
from recsys.evaluate.tables import (
    BY_SEGMENT,
    Grid,
    comparison_grid,
    overview_grids,
    to_markdown,
)
from recsys.pages import render

_TEMPLATE = Path(__file__).with_name("report.html")


@dataclass(frozen=True, slots=True)
class Example:
    """What one user has and gets, in titles."""

    label: str
    history: Sequence[str]
    """Newest first."""
    recommended: Sequence[str]


@dataclass(frozen=True, slots=True)
class ReportContent:
    """What a report shows; every part but the evaluations may be empty."""

    title: str
    evaluations: Sequence[Evaluation]
    """Of some protocols and tasks; the first of each is the system reported on, the others its baselines."""
    comparisons: Sequence[Comparison] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The effective configuration; nested tables are flattened."""
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The manifest's stages: `seconds`, and lists of numbers or records that become learning curves."""
    data_report: Mapping[str, Any] = field(default_factory=dict)
    """Counts of rows read, repaired and left out."""
    examples: Sequence[Example] = ()
    notes: Sequence[str] = ()


def write_report(path: Path, content: ReportContent) -> None:
    """Write the HTML report; all text is escaped and nothing is loaded from elsewhere."""
    page = {
        "content": content,
        "sections": [_section(group) for group in by_task(content.evaluations).values()],
        "comparisons": [comparison_grid(content.comparisons)] if content.comparisons else [],
        "curves": [(curve.title, curve_plot(curve)) for curve in learning_curves(content.stages)],
        "settings": flatten(content.settings),
        "timings": _timings(content.stages),
        "data_rows": flatten(content.data_report),
    }
    write_atomically(path, render(_TEMPLATE, page))


def write_json(path: Path, content: ReportContent) -> None:
    """Write the title and the figures; absent values are null."""
    figures = {"title": content.title, **as_json(content.evaluations, content.comparisons)}
    write_atomically(path, json.dumps(figures, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def markdown(content: ReportContent) -> str:
    """The tables as Markdown, then the notes."""
    grids: list[Grid] = []
    for group in by_task(content.evaluations).values():
        grids += overview_grids(group)
    if content.comparisons:
        grids.append(comparison_grid(content.comparisons))
    tables = "\n".join(map(to_markdown, grids))
    return "\n\n".join([tables.rstrip(), *content.notes]) + "\n"


def flatten(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Rows of a nested mapping: dotted name and value."""
    rows: list[tuple[str, str]] = []
    for name, value in tree.items():
        full = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            rows += flatten(value, f"{full}.")
        else:
            rows.append((full, _text(value)))
    return rows


def _section(group: Sequence[Evaluation]) -> dict[str, Any]:
    first = group[0]
    plots = []
    if "ndcg@10" in first.whole.figures:
        plots.append(("ndcg@10, all users", metric_bars(group, "ndcg@10")))
    measured = {part.dimension for part in first.segments}
    for dimension, _ in BY_SEGMENT:
        if dimension in measured and "ndcg@10" in first.whole.figures:
            title = f"ndcg@10 by {'length of history' if dimension == 'history' else 'coldness of the item'}"
            plots.append((title, metric_by_segment(group, dimension, "ndcg@10")))
    return {"task": first.task, "protocol": first.protocol, "grids": overview_grids(group), "plots": plots}


def _timings(stages: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    return [(name, _text(facts["seconds"])) for name, facts in stages.items() if "seconds" in facts]


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        text = ", ".join(map(_text, value[:12]))
        return text + (f", … ({len(value)} in all)" if len(value) > 12 else "")
    return str(value)
