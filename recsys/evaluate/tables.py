"""Tables of results, once, for the terminal, Markdown and HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

from recsys.evaluate.evaluate import Comparison, Evaluation, Figure

HEADLINE = ("ndcg@10", "recall@20", "hit@10", "mrr@20", "coverage@10", "novelty@10")
"""Columns of the results table, as far as they were measured."""
BY_SEGMENT = (("history", "ndcg@10"), ("coldness", "recall@20"))
"""The metric shown for each of the standard dimensions; others show ndcg@10."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of text: the first column names the row, the others are figures."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def results_grid(evaluations: Sequence[Evaluation]) -> Grid:
    """One row per system with means, and 95% intervals for accuracy; all of one task."""
    first = evaluations[0]
    names = [n for n in HEADLINE if n in first.whole.figures or n in first.catalogue]
    rows = [
        (
            one.name,
            *(
                _with_interval(one[name]) if name in one.whole.figures else _number(one.catalogue[name])
                for name in names
            ),
        )
        for one in evaluations
    ]
    title = f"Task {first.task}: {len(first.users):,} users, mean and 95% interval"
    return Grid(title, ("system", *names), tuple(rows))


def segment_grids(evaluations: Sequence[Evaluation]) -> list[Grid]:
    """One table per dimension: systems by segment."""
    first = evaluations[0]
    metrics = dict(BY_SEGMENT)
    grids = []
    for dimension in dict.fromkeys(part.dimension for part in first.segments):
        parts = [part for part in first.segments if part.dimension == dimension]
        metric = metrics.get(dimension, "ndcg@10")
        if metric not in first.whole.figures:
            continue
        rows = [
            (one.name, *(_number(one.segment(dimension, p.label).figures[metric].mean) for p in parts))
            for one in evaluations
        ]
        columns = ("system", *(f"{part.label} (n={len(part):,})" for part in parts))
        grids.append(Grid(f"Task {first.task}: {metric} by {dimension}", columns, tuple(rows)))
    return grids


def comparison_grid(comparisons: Sequence[Comparison], metric: str = "ndcg@10") -> Grid:
    """Paired differences with intervals, over all and by segment."""
    rows = []
    for one in comparisons:
        for part in (one.whole, *one.segments):
            figure = part.figures[metric]
            where = "all users" if part is one.whole else f"{part.dimension} {part.label}"
            pair = f"{one.name} − {one.other}"
            rows.append((pair, one.task, where, f"{len(part):,}", _with_interval(figure, signed=True)))
    columns = ("pair", "task", "segment", "users", f"difference in {metric}")
    return Grid("Paired differences, 95% bootstrap interval over users", columns, tuple(rows))


def to_rich(grid: Grid) -> Table:
    """For a terminal; text is taken literally, never as markup."""
    table = Table(title=Text(grid.title), title_justify="left", box=box.SIMPLE)
    for number, column in enumerate(grid.columns):
        table.add_column(Text(column), justify="left" if number == 0 else "right", overflow="fold")
    for row in grid.rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def to_markdown(grid: Grid) -> str:
    """For a pull request; pipes and line breaks in names are escaped."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"

    rule = "|---" + "|---:" * (len(grid.columns) - 1) + "|"
    return "\n".join([f"**{grid.title}**", "", line(grid.columns), rule, *map(line, grid.rows)]) + "\n"


def _with_interval(figure: Figure, signed: bool = False) -> str:
    if math.isnan(figure.mean):
        return "–"
    mean = f"{figure.mean:+.5f}" if signed else f"{figure.mean:.5f}"
    if math.isnan(figure.low):
        return mean
    return f"{mean} [{figure.low:.4f}, {figure.high:.4f}]"


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"
