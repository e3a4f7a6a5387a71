"""Plots of a comparison: forests of segments, learning curves by arm, a metric over bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from recsys.evaluate.bootstrap import intervals
from recsys.evaluate.contrast import Finding, Part
from recsys.evaluate.evaluate import WHOLE
from recsys.evaluate.plots import STYLE, data_uri, label

COLOURS = {"helps": "#1a7f4b", "hurts": "#b3372f", "cannot tell": "#51606f"}
_PLACEBO = "#b9c2cc"
_RESAMPLES = 1000
_WIDEST = 50.0
"""Percent at which a forest ends: the interval of a handful of users would squeeze all others together."""


def forest(findings: Sequence[Finding], placebos: Sequence[Finding]) -> str:
    """An arm's differences in percent of the reference, a line per segment, its placebos in grey beneath.

    Args:
        findings: Of one arm, with verdicts.
        placebos: Of the same parts.
    """
    return _forest(
        findings, placebos, [f"{one.name}\n{one.decides}, n={one.main.users:,}" for one in findings]
    )


def forest_of_arms(findings: Sequence[Finding]) -> str:
    """Every arm's difference over all users, a line per arm."""
    mine = [one for one in findings if one.dimension == one.label == WHOLE and one.verdict is not None]
    return _forest(mine, (), [one.arm for one in mine])


def _forest(findings: Sequence[Finding], placebos: Sequence[Finding], names: Sequence[str]) -> str:
    pairs = [(one, name) for one, name in zip(findings, names, strict=True) if one.main.relative is not None]
    shown = [one for one, _ in pairs]
    beneath: dict[str, list[Finding]] = {}
    for one in placebos:
        beneath.setdefault(one.name, []).append(one)
    with mpl.rc_context(STYLE):
        most = max((len(group) for group in beneath.values()), default=0)
        height = 1.1 + len(shown) * (0.42 + 0.16 * most)
        canvas = Canvas(figsize=(7.6, height), layout="constrained")
        axes = canvas.add_subplot()
        axes.axvline(0, color="#1c2530", lw=0.8)
        reach = [
            abs(100 * bound / one.main.other) for one in shown for bound in (one.main.low, one.main.high)
        ]
        limit = min(max([1.0, *reach]) * 1.1, _WIDEST)
        axes.set_xlim(-limit, limit)
        for place, one in enumerate(shown):
            outcome = one.verdict.outcome if one.verdict else "cannot tell"
            _bar(axes, one, float(place), COLOURS[outcome], 2.4, 6)
            for number, other in enumerate(beneath.get(one.name, ()), start=1):
                if other.main.relative is not None:
                    _bar(axes, other, place + 0.17 * number, _PLACEBO, 1.2, 3)
        axes.set_yticks(range(len(shown)), [label(name) for _, name in pairs])
        axes.set_ylim(len(shown) - 0.35 + 0.1 * most, -0.5)
        axes.set_xlabel(f"difference in percent of {label(findings[0].reference)}" if findings else "")
        return data_uri(canvas)


def loss_curves(losses: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """Training loss by epoch, a line per arm, its seeds averaged."""
    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=(7.6, 3.2), layout="constrained")
        axes = canvas.add_subplot()
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        for name, seeds in losses.items():
            mean = np.mean(np.asarray(seeds), axis=0)
            axes.plot(np.arange(1, len(mean) + 1), mean, marker=".", lw=1.4, label=label(name))
        _finish(axes, "epoch", "training loss")
        return data_uri(canvas)


def validation_curve(curve: Sequence[float], epochs: int) -> str:
    """What chose the number of epochs."""
    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=(5.0, 2.6), layout="constrained")
        axes = canvas.add_subplot()
        axes.plot(np.arange(1, len(curve) + 1), curve, marker=".", color="#1f5fa8")
        axes.axvline(epochs, color="#9aa7b5", ls="--", lw=1)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        axes.set_ylabel("ndcg@10 of off, validation")
        return data_uri(canvas)


def by_band(arms: Mapping[str, Sequence[Part]], dimension: str, metric: str) -> str:
    """A metric over the bands of one dimension, a line per arm with intervals over users."""
    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=(7.6, 3.2), layout="constrained")
        axes = canvas.add_subplot()
        bands: list[Part] = []
        for number, (name, parts) in enumerate(arms.items()):
            bands = [part for part in parts if part.dimension == dimension and len(part.users)]
            means = [part.figures[metric].mean(axis=0) for part in bands]
            bounds = np.array([_interval(one) for one in means]).reshape(-1, 2)
            middle = np.array([one.mean() for one in means])
            places = np.arange(len(bands)) + 0.06 * (number - (len(arms) - 1) / 2)
            errors = np.abs(np.stack([middle - bounds[:, 0], bounds[:, 1] - middle]))
            axes.errorbar(places, middle, yerr=errors, marker="o", ms=4, lw=1.2, capsize=2, label=label(name))
        axes.set_xticks(range(len(bands)), [f"{part.label}\nn={len(part.users):,}" for part in bands])
        axes.set_xlim(-0.5, max(len(bands), 1) - 0.5)
        _finish(axes, "events of the user" if dimension == "history" else "events of the item", metric)
        return data_uri(canvas)


def _bar(axes: mpl.axes.Axes, one: Finding, place: float, colour: str, width: float, size: float) -> None:
    found = one.main
    low, middle, high = (100 * value / found.other for value in (found.low, found.difference, found.high))
    left, right = axes.get_xlim()
    axes.plot([low, high], [place, place], color=colour, lw=width, solid_capstyle="butt")
    axes.plot([middle], [place], marker="s", ms=size, color=colour)
    for bound, edge, marker in ((low, left, "<"), (high, right, ">")):
        if not left <= bound <= right:  # the interval goes on beyond the edge
            axes.plot([edge], [place], marker=marker, ms=size + 1, color=colour, clip_on=False)


def _interval(values: NDArray[np.float64]) -> NDArray[np.float64]:
    users = np.arange(len(values))
    bounds: NDArray[np.float64] = intervals([(users, values[:, None])], users, _RESAMPLES)[0][:, 0]
    return bounds


def _finish(axes: mpl.axes.Axes, across: str, up: str) -> None:
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.legend(fontsize=7, frameon=False, bbox_to_anchor=(1, 1), loc="upper left")
