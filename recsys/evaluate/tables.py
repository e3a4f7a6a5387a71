"""Tables of results, once, for the terminal, Markdown and HTML."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from recsys.evaluate.bootstrap import Figure
from recsys.evaluate.evaluate import Comparison, Evaluation

HEADLINE = ("ndcg@10", "recall@20", "hit@10", "mrr@20", "map@10")
"""Columns of the results table, as far as they were measured."""
SHOWN = ("coverage@10", "gini@10", "novelty@10", "popularity_bias@10", "diversity@10")
"""Columns of the table of what is shown, as far as they were measured."""
BY_SEGMENT = (("history", "ndcg@10"), ("coldness", "recall@20"))
"""The metric shown for dimensions that have plots; others show ndcg@10."""

_GAP = 2
"""Cells of a terminal between two columns of a table."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of text: the first column names the row, the others are figures."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def overview_grids(evaluations: Sequence[Evaluation]) -> list[Grid]:
    """All tables of one task: results, what is shown, every cut-off, then the segments."""
    grids = [results_grid(evaluations), shown_grid(evaluations), cutoff_grid(evaluations)]
    return [*grids, *segment_grids(evaluations)]


def short_grids(evaluations: Sequence[Evaluation]) -> list[Grid]:
    """Results and, with one list per user, the dimensions that have plots: what fits on a screen."""
    shown = {dimension for dimension, _ in BY_SEGMENT}
    grids = segment_grids(evaluations, shown) if evaluations[0].protocol == "sheet" else []
    return [results_grid(evaluations), *grids]


def results_grid(evaluations: Sequence[Evaluation]) -> Grid:
    """One row per system with means and 95% intervals; all of one task."""
    first = evaluations[0]
    names = [n for n in HEADLINE if n in first.whole.figures]
    rows = [(one.name, *(_with_interval(one[name]) for name in names)) for one in evaluations]
    return Grid(f"{_about(first)}: {_size(first)}, mean and 95% interval", ("system", *names), tuple(rows))


def shown_grid(evaluations: Sequence[Evaluation]) -> Grid:
    """One row per system with the metrics of what is shown."""
    first = evaluations[0]
    names = [n for n in SHOWN if any(n in one.catalogue for one in evaluations)]
    rows = [
        (one.name, *(_with_interval(one.catalogue.get(name, Figure.nothing())) for name in names))
        for one in evaluations
    ]
    return Grid(f"{_about(first)}: what is shown, mean and 95% interval", ("system", *names), tuple(rows))


def cutoff_grid(evaluations: Sequence[Evaluation]) -> Grid:
    """Every metric at every k: a row each, a column per system."""
    first = evaluations[0]
    names = list(first.whole.names)
    kinds = list(dict.fromkeys(name.split("@")[0] for name in names))
    names.sort(key=lambda name: (kinds.index(name.split("@")[0]), int(name.split("@")[1])))
    rows = [(name, *(_number(one[name].mean) for one in evaluations)) for name in names]
    title = f"{_about(first)}: every metric at every cut-off"
    return Grid(title, ("metric", *(one.name for one in evaluations)), tuple(rows))


def segment_grids(evaluations: Sequence[Evaluation], only: Collection[str] | None = None) -> list[Grid]:
    """One table per dimension, those of `only` where it is given: systems by segment."""
    first = evaluations[0]
    metrics = dict(BY_SEGMENT)
    grids = []
    for dimension in dict.fromkeys(part.dimension for part in first.segments):
        parts = [part for part in first.segments if part.dimension == dimension]
        metric = metrics.get(dimension, "ndcg@10")
        if metric not in first.whole.figures or (only is not None and dimension not in only):
            continue
        rows = [
            (one.name, *(_number(one.segment(dimension, p.label).figures[metric].mean) for p in parts))
            for one in evaluations
        ]
        columns = ("system", *(f"{part.label} (n={len(part):,})" for part in parts))
        grids.append(Grid(f"{_about(first)}: {metric} by {dimension}", columns, tuple(rows)))
    return grids


def comparison_grid(
    comparisons: Sequence[Comparison], metric: str = "ndcg@10", *, segments: bool = True
) -> Grid:
    """Paired differences with intervals, over all and, unless that is not wanted, by segment."""
    rows = []
    for one in comparisons:
        for part in (one.whole, *(one.segments if segments else ())):
            figure = part.figures[metric]
            where = "all users" if part is one.whole else f"{part.dimension} {part.label}"
            pair = f"{one.name} − {one.other}"
            task = one.task if one.protocol == "sheet" else f"{one.task}, {one.protocol}"
            rows.append((pair, task, where, f"{len(part):,}", _with_interval(figure, signed=True)))
    columns = ("pair", "task", "segment", "cases", f"difference in {metric}")
    return Grid("Paired differences, 95% bootstrap interval over users", columns, tuple(rows))


@dataclass(frozen=True, slots=True)
class OnTerminal:
    """A grid as rich prints it; text is taken literally, never as markup.

    Columns shrink to their longest words where the terminal is narrow. Words are broken only where even that
    does not fit.
    """

    grid: Grid

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        grid, room = self.grid, options.max_width - _GAP * len(self.grid.columns)
        table = Table(title=Text(grid.title), title_justify="left", box=box.SIMPLE)
        table.pad_edge, table.collapse_padding = False, True
        for number, (column, width) in enumerate(zip(grid.columns, _widths(grid, room), strict=True)):
            table.add_column(
                Text(column), justify="left" if number == 0 else "right", overflow="fold", width=width
            )
        for row in grid.rows:
            table.add_row(*(Text(cell) for cell in row))
        yield table


def _widths(grid: Grid, room: int) -> list[int | None]:
    """Cells of each column: no word broken, as many on one line as can be; none if words do not fit."""
    columns = list(zip(grid.columns, *grid.rows, strict=True))
    widths = [max(cell_len(word) for cell in column for word in (cell.split() or [""])) for column in columns]
    spare = room - sum(widths)
    if spare < 0:
        return [None] * len(columns)
    lacking = [max(map(cell_len, column)) - width for column, width in zip(columns, widths, strict=True)]
    for number in sorted(range(len(columns)), key=lacking.__getitem__):
        given = min(lacking[number], spare)
        widths[number] += given
        spare -= given
    return list(widths)


def to_markdown(grid: Grid) -> str:
    """For a pull request; pipes and line breaks in names are escaped."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"

    rule = "|---" + "|---:" * (len(grid.columns) - 1) + "|"
    return "\n".join([f"**{grid.title}**", "", line(grid.columns), rule, *map(line, grid.rows)]) + "\n"


def _about(one: Evaluation) -> str:
    return f"Task {one.task}" if one.protocol == "sheet" else f"Task {one.task}, successive targets"


def _size(one: Evaluation) -> str:
    if one.protocol == "sheet":
        return f"{len(one.users):,} users"
    return f"{len(one.users):,} cases of {one.users.nunique():,} users"


def _with_interval(figure: Figure, signed: bool = False) -> str:
    if math.isnan(figure.mean):
        return "–"
    mean = f"{figure.mean:+.5f}" if signed else f"{figure.mean:.5f}"
    if math.isnan(figure.low):
        return mean
    return f"{mean} [{figure.low:.4f}, {figure.high:.4f}]"


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"
