"""The report of a comparison: one HTML file with plots, and the table of verdicts as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recsys.artifacts import write_atomically
from recsys.evaluate.compare_plots import by_band, forest, forest_of_arms, loss_curves, validation_curve
from recsys.evaluate.contrast import Finding, Part
from recsys.evaluate.paired import Paired
from recsys.evaluate.report import flatten
from recsys.evaluate.tables import Grid
from recsys.pages import render

_TEMPLATE = Path(__file__).with_name("compare.html")
_MOST_LINES = 8
"""Arms in one plot; tables have all of them."""
_LEFT_OUT = ("above the best placebo", "users to tell 2%", "why")


@dataclass(frozen=True, slots=True)
class ComparisonContent:
    """What the report of a comparison shows."""

    title: str
    findings: Sequence[Finding]
    parts: Mapping[str, Sequence[Part]]
    """By arm, the reference first."""
    verdict: Sequence[str]
    """In plain words, a sentence each."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """How the comparison was made."""
    losses: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    curve: Sequence[float] = ()
    """ndcg@10 of the reference on validation by epoch."""
    epochs: int = 0
    counts: Mapping[str, Any] = field(default_factory=dict)
    """What augmentation did, by arm."""
    settings: Mapping[str, Any] = field(default_factory=dict)


def write_comparison(path: Path, content: ComparisonContent) -> None:
    """Write the HTML report; all text is escaped and nothing is loaded from elsewhere."""
    page = {
        "content": content,
        "summary": summary_grid(content.findings) if len(judged_arms(content.findings)) > 1 else None,
        "arms_forest": forest_of_arms(content.findings) if len(judged_arms(content.findings)) > 1 else None,
        "sections": [_section(arm, content.findings) for arm in judged_arms(content.findings)],
        "others": [
            placebo_grid(content.findings),
            *metric_grids(content.findings),
            seeds_grid(content.findings),
        ],
        "plots": list(_plots(content)),
        "settings": flatten(content.settings),
        "counts": flatten(content.counts),
    }
    write_atomically(path, render(_TEMPLATE, page))


def judged_arms(findings: Sequence[Finding]) -> list[str]:
    """Arms with verdicts, in order."""
    return list(dict.fromkeys(one.arm for one in findings if one.verdict is not None))


def verdict_grid(findings: Sequence[Finding], arm: str) -> Grid:
    """An arm's verdicts, segment by segment."""
    mine = [one for one in findings if one.arm == arm and one.verdict is not None]
    rows = []
    for one in mine:
        assert one.verdict is not None
        needed = one.verdict.users_needed
        rows.append(
            (
                one.name,
                f"{one.main.users:,}",
                one.decides,
                f"{one.main.other:.4f}",
                shown(one.main),
                f"{one.main.effect:+.3f}",
                f"{one.verdict.p_adjusted:.3f}",
                "–" if one.over_placebo is None else shown(one.over_placebo),
                "–" if needed is None else f"{needed:,}",
                one.verdict.outcome,
                one.verdict.why,
            )
        )
    reference = mine[0].reference
    columns = (
        "segment", "users", "metric", reference, "difference, 95% interval", "effect d", "p, Holm",
        "above the best placebo", "users to tell 2%", "verdict", "why",
    )  # fmt: skip
    return Grid(f"{arm} against {reference}", columns, tuple(rows))


def summary_grid(findings: Sequence[Finding]) -> Grid:
    """Many arms in one table: a row each, planned segments across, the verdict behind the difference."""
    judged = [one for one in findings if one.verdict is not None]
    names = list(dict.fromkeys(one.name for one in judged))
    cells = {(one.arm, one.name): one for one in judged}
    rows = []
    for arm in judged_arms(findings):
        found = [cells[arm, name] for name in names]
        rows.append((arm, *(f"{shown(one.main)}{_mark(one)}" for one in found)))
    metrics = {one.name: one.decides for one in judged}
    reference = findings[0].reference if findings else ""
    columns = ("arm", *(f"{name}, {metrics[name]}" for name in names))
    return Grid(f"Against {reference}, in percent of it", columns, tuple(rows))


def _mark(one: Finding) -> str:
    outcome = one.verdict.outcome if one.verdict else "cannot tell"
    return "" if outcome == "cannot tell" else f" {outcome}"


def short_grid(findings: Sequence[Finding], arm: str) -> Grid:
    """An arm's verdicts without their reasons: what fits on a terminal."""
    whole = verdict_grid(findings, arm)
    places = [whole.columns.index(name) for name in whole.columns if name not in _LEFT_OUT]
    columns = tuple(whole.columns[i] for i in places)
    return Grid(whole.title, columns, tuple(tuple(row[i] for i in places) for row in whole.rows))


def reasons(findings: Sequence[Finding], arm: str) -> list[str]:
    """Why each verdict of an arm is what it is, a line each."""
    mine = [one for one in findings if one.arm == arm]
    return [
        f"{one.name}: {one.verdict.outcome}, {one.verdict.why}" for one in mine if one.verdict is not None
    ]


def placebo_grid(findings: Sequence[Finding]) -> Grid:
    """What placebos do in the planned segments."""
    planned = {one.name for one in findings if one.verdict is not None}
    judged = judged_arms(findings)
    others = [one for one in findings if one.name in planned and one.arm not in judged]
    names = list(dict.fromkeys(one.name for one in others))
    arms = list(dict.fromkeys(one.arm for one in others))
    cells = {(one.arm, one.name): shown(one.main) for one in others}
    rows = tuple((arm, *(cells[arm, name] for name in names)) for arm in arms)
    return Grid("Placebos against the reference", ("placebo", *names), rows)


def metric_grids(findings: Sequence[Finding]) -> list[Grid]:
    """Every metric in every part, planned or not, a table per arm."""
    grids = []
    for arm in judged_arms(findings):
        mine = [one for one in findings if one.arm == arm]
        metrics = list(mine[0].differences)
        rows = tuple(
            (one.name, f"{one.main.users:,}", *(_cell(one, metric) for metric in metrics)) for one in mine
        )
        grids.append(Grid(f"{arm}: every metric", ("segment", "users", *metrics), rows))
    return grids


def _cell(one: Finding, metric: str) -> str:
    return shown(one.differences[metric]) if metric in one.differences else "–"


def seeds_grid(findings: Sequence[Finding]) -> Grid:
    """The difference of each seed over the whole: how much of it is the seed's."""
    mine = [one for one in findings if one.dimension == one.label == "whole"]
    seeds = max((len(one.main.by_seed) for one in mine), default=0)
    rows = tuple((one.arm, *(f"{value:+.5f}" for value in one.main.by_seed)) for one in mine)
    return Grid(
        "Difference in ndcg@10 by seed, all users", ("arm", *(f"seed {i}" for i in range(seeds))), rows
    )


def markdown_grid(findings: Sequence[Finding]) -> Grid:
    """All arms' verdicts in one table for a pull request."""
    rows = []
    for one in findings:
        if one.verdict is not None:
            cells = (one.arm, one.name, f"{one.main.users:,}", one.decides, shown(one.main))
            rows.append(
                (*cells, f"{one.verdict.p_adjusted:.3f}", f"**{one.verdict.outcome}**", one.verdict.why)
            )
    columns = ("arm", "segment", "users", "metric", "difference", "p, Holm", "verdict", "why")
    reference = findings[0].reference if findings else ""
    return Grid(f"Against {reference}", columns, tuple(rows))


def shown(found: Paired) -> str:
    """A difference in percent of the other arm with its interval; absolute where that has nothing."""
    if not found.users:
        return "–"
    if not found.other:
        return f"{found.difference:+.5f} [{found.low:+.5f}, {found.high:+.5f}]"
    middle, low, high = (100 * value / found.other for value in (found.difference, found.low, found.high))
    return f"{middle:+.1f}% [{low:+.1f}, {high:+.1f}]"


def _section(arm: str, findings: Sequence[Finding]) -> dict[str, Any]:
    mine = [one for one in findings if one.arm == arm and one.verdict is not None]
    names = {one.name for one in mine}
    arms = set(judged_arms(findings))
    placebos = [one for one in findings if one.arm not in arms and one.name in names]
    caption = (
        f"{arm} against {mine[0].reference}: difference and 95% interval, percent; an arrow says that it "
        "goes on; placebos in grey"
    )
    grid = verdict_grid(findings, arm)
    narrow = Grid(grid.title, grid.columns[:-1], tuple(row[:-1] for row in grid.rows))
    drawn = forest(mine, placebos)
    return {"grid": narrow, "why": reasons(findings, arm), "forest": drawn, "caption": caption}


def _plots(content: ComparisonContent) -> list[tuple[str, str]]:
    reference = content.findings[0].reference if content.findings else ""
    wanted = {reference, *judged_arms(content.findings)}
    arms = {name: parts for name, parts in content.parts.items() if name in wanted}
    arms = dict(list(arms.items())[:_MOST_LINES])
    plots = [
        ("ndcg@10 by length of history, 95% intervals over users", by_band(arms, "history", "ndcg@10")),
        ("recall@20 by how often the item was taken before, 95% intervals over users",
         by_band(arms, "coldness", "recall@20")),
    ]  # fmt: skip
    if content.losses:
        plots.append(
            (
                "Training loss by epoch, seeds averaged",
                loss_curves(dict(list(content.losses.items())[:_MOST_LINES])),
            )
        )
    if content.curve:
        chosen = validation_curve(content.curve, content.epochs)
        plots.append(("What chose the number of epochs, the same for every arm", chosen))
    return plots
