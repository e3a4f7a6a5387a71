"""Plots as data URIs: SVG inside an `<img>`, so that a page needs nothing else and runs nothing."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure as Canvas

from recsys.evaluate.bootstrap import Figure
from recsys.evaluate.evaluate import Evaluation

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "recsys",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
"""How every plot looks."""
_OWN, _OTHERS = "#1f5fa8", "#9aa7b5"
_MOST_SYSTEMS = 12


@dataclass(frozen=True, slots=True)
class Curve:
    """What a stage logged while it learned."""

    title: str
    axis: str
    positions: tuple[float, ...]
    lines: Mapping[str, tuple[float, ...]]


def metric_bars(evaluations: Sequence[Evaluation], metric: str) -> str:
    """Systems side by side with their intervals; the first is the one that is reported on."""
    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=(6.4, 0.32 * len(evaluations) + 0.9), layout="constrained")
        axes = canvas.add_subplot()
        figures = [one[metric] for one in evaluations]
        places = np.arange(len(figures))[::-1]
        colours = [_OWN] + [_OTHERS] * (len(figures) - 1)
        axes.barh(
            places, [_finite(f.mean) for f in figures], xerr=_errors(figures), color=colours, ecolor="#333"
        )
        axes.set_yticks(places, [label(one.name) for one in evaluations])
        axes.set_xlabel(metric)
        return data_uri(canvas)


def metric_by_segment(evaluations: Sequence[Evaluation], dimension: str, metric: str) -> str:
    """A line per system over the segments of one dimension; the first system with its intervals."""
    parts = [part for part in evaluations[0].segments if part.dimension == dimension]
    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=(7.6, 3.2), layout="constrained")
        axes = canvas.add_subplot()
        places = np.arange(len(parts))
        own, *others = evaluations[:_MOST_SYSTEMS]
        figures = [own.segment(dimension, part.label).figures[metric] for part in parts]
        handles: list[Any] = [
            axes.errorbar(
                places, [f.mean for f in figures], yerr=_errors(figures), color=_OWN, lw=2.2, marker="o",
                capsize=3, label=label(own.name), zorder=3,
            )
        ]  # fmt: skip
        for number, one in enumerate(others):
            means = [one.segment(dimension, part.label).figures[metric].mean for part in parts]
            colour = f"C{number % 9 + 1}"
            handles += axes.plot(places, means, lw=1, marker=".", color=colour, label=label(one.name))
        axes.set_xticks(places, [f"{label(part.label)}\nn={len(part):,}" for part in parts])
        axes.set_ylabel(metric)
        axes.set_xlabel("events of the user" if dimension == "history" else label(dimension))
        axes.legend(handles=handles, fontsize=7, frameon=False, bbox_to_anchor=(1, 1), loc="upper left")
        return data_uri(canvas)


def curve_plot(curve: Curve) -> str:
    """One panel per line: losses and metrics have scales of their own."""
    with mpl.rc_context(STYLE):
        canvas = Canvas(
            figsize=(3.2 * min(len(curve.lines), 3), 2.4 * -(-len(curve.lines) // 3)), layout="constrained"
        )
        for number, (name, values) in enumerate(curve.lines.items()):
            axes = canvas.add_subplot(-(-len(curve.lines) // 3), min(len(curve.lines), 3), number + 1)
            axes.plot(curve.positions, values, color=_OWN, marker="." if len(values) < 40 else None)
            axes.set_title(label(name), fontsize=9)
            axes.set_xlabel(label(curve.axis))
        return data_uri(canvas)


def learning_curves(stages: Mapping[str, Mapping[str, Any]]) -> list[Curve]:
    """Every list of at least three measured numbers, or of records of numbers, that a stage wrote down.

    In records, the field `step` or `epoch` becomes the horizontal axis.
    """
    curves = []
    for stage, facts in stages.items():
        for title, value in _lists(stage, facts):
            curve = _as_curve(title, value)
            if curve is not None:
                curves.append(curve)
    return curves


def _lists(title: str, facts: Mapping[str, Any]) -> list[tuple[str, Sequence[Any]]]:
    found: list[tuple[str, Sequence[Any]]] = []
    for name, value in facts.items():
        if isinstance(value, Mapping):
            found += _lists(f"{title}: {name}", value)
        elif isinstance(value, list | tuple) and len(value) > 1:
            found.append((f"{title}: {name}", value))
    return found


def _as_curve(title: str, values: Sequence[Any]) -> Curve | None:
    if all(_is_number(value) for value in values):
        if len(values) < 3 or not any(isinstance(value, float) for value in values):
            return None  # a setting or a shape, not something that was logged
        positions = tuple(float(i) for i in range(1, len(values) + 1))
        return Curve(title, "entry", positions, {title.rsplit(": ")[-1]: tuple(map(float, values))})
    if not all(isinstance(value, Mapping) for value in values):
        return None
    names = [name for name in values[0] if all(_is_number(value.get(name)) for value in values)]
    axis = next((name for name in ("step", "epoch") if name in names), "entry")
    lines = {
        name: tuple(float(v[name]) for v in values)
        for name in names
        if name not in ("step", "epoch", "seconds")
    }
    if not lines:
        return None
    positions = tuple(float(value[axis]) if axis in names else i + 1.0 for i, value in enumerate(values))
    return Curve(title, axis, positions, lines)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _errors(figures: Sequence[Figure]) -> np.ndarray:
    low = [_finite(max(0.0, f.mean - f.low)) for f in figures]
    high = [_finite(max(0.0, f.high - f.mean)) for f in figures]
    return np.array([low, high])


def _finite(value: float) -> float:
    return value if np.isfinite(value) else 0.0


def label(text: str) -> str:
    """Text for a plot, short; a dollar sign would start a formula."""
    short = text if len(text) <= 40 else text[:39] + "…"
    return short.replace("$", r"\$")


def data_uri(canvas: Canvas) -> str:
    """A drawn canvas as an SVG that an `<img>` takes."""
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
