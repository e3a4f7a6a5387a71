"""The page: one HTML file that needs nothing else; all text of users and items is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from recsys.artifacts import write_atomically
from recsys.augment.policy import Policy, load_policy
from recsys.augment.report.compare import Mix, Numbers
from recsys.augment.report.distributions import MOST_CUT, history_figures, load_catalogue, text_figures
from recsys.augment.report.samples import Sample, draw_samples
from recsys.augment.report.tallies import Tally, load_tallies, read_json
from recsys.augment.report.variety import Variety
from recsys.pages import render

_TEMPLATE = Path(__file__).with_name("page.html")
TIMING = "timing.json"
_PRICED = ("token", "cost", "money", "usd", "request", "call", "cache")
"""Counts whose names hold one of these are of a model, and stand with cost and time."""
NOT_RECORDED = "not recorded"


@dataclass(frozen=True, slots=True)
class Content:
    """What the page shows."""

    policy: Policy
    tallies: tuple[Tally, ...]
    numbers: tuple[Numbers, ...]
    mixes: tuple[Mix, ...]
    variety: tuple[Variety, ...]
    samples: tuple[Sample, ...]
    costs: tuple[tuple[str, str], ...]
    skipped: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    most_cut: int = MOST_CUT


def write_report(folder: Path, path: Path, *, samples: int = 20) -> Content:
    """Write the page of an expansion, and give what stands on it.

    Args:
        folder: As `recsys augment run` leaves it.
        path: The HTML file; replaced whole.
        samples: Rows to show of each kind.

    Raises:
        ArtifactError: the folder lacks a file, or one of them is damaged.
    """
    content = gather(folder, samples)
    percent = {"percent": lambda share: f"{100 * share:.1f} %"}
    write_atomically(path, render(_TEMPLATE, {"content": content}, percent))
    return content


def gather(folder: Path, samples: int) -> Content:
    """Everything that the page shows, read from the folder."""
    tallies = load_tallies(folder)
    policy = load_policy(folder / "policy.toml")
    catalogue = load_catalogue(folder)
    text_numbers, text_mixes, variety = text_figures(folder, catalogue)
    history_numbers, history_mixes = history_figures(folder, catalogue)
    return Content(
        policy=policy,
        tallies=tallies,
        numbers=(*history_numbers, *text_numbers),
        mixes=(*history_mixes, *text_mixes),
        variety=tuple(variety),
        samples=tuple(draw_samples(folder, catalogue, samples)),
        costs=tuple(_costs(folder, tallies)),
        skipped=tuple(_skipped(tallies)),
        warnings=tuple(_warnings(tallies)),
    )


def _costs(folder: Path, tallies: tuple[Tally, ...]) -> list[tuple[str, str]]:
    """Seconds by phase, rows per second, and what models cost."""
    timing = read_json(folder / TIMING) if (folder / TIMING).is_file() else {}
    seconds, models = _numbers(timing.pop("seconds", {})), _numbers(timing.pop("models", {}))
    rows = [(f"{phase}, seconds", _number(value)) for phase, value in seconds.items()]
    rows = rows or [("seconds", NOT_RECORDED)]
    for tally in tallies:
        if seconds.get(tally.kind):
            rows.append((f"{tally.kind}: originals per second", _number(tally.rows / seconds[tally.kind])))
    if seconds.get("total"):
        stored = sum(tally.stored for tally in tallies)
        rows.append(("augmented rows per second, all phases", _number(stored / seconds["total"])))
    rows += [(name, _number(value)) for name, value in _numbers(timing).items()]
    priced = [_priced(name.removeprefix("oracle:"), value) for name, value in models.items()]
    priced += [
        (f"{tally.kind}: {name}", _number(count))
        for tally in tallies
        for name, count in tally.others.items()
        if any(word in name.lower() for word in _PRICED)
    ]
    return rows + (priced or [("tokens and money of models", NOT_RECORDED)])


def _skipped(tallies: tuple[Tally, ...]) -> list[tuple[str, str]]:
    rows = []
    for tally in tallies:
        if tally.left_alone:
            rows.append((f"{tally.kind}: tries on which every op passed", f"{tally.left_alone:,}"))
        rows += [
            (f"{tally.kind}: not judged by gate '{gate}'", f"{n:,}") for gate, n in tally.skipped.items()
        ]
        for language in ("other", "none"):
            if tally.languages.get(language):
                said = "in a language that ops do not edit" if language == "other" else "without letters"
                rows.append((f"{tally.kind}: {said}", f"{tally.languages[language]:,}"))
        if over := tally.rejected.get("over_max_expansion"):
            rows.append((f"{tally.kind}: accepted, then over the cap on expansion", f"{over:,}"))
        rows += [
            (f"{tally.kind}: {name}", f"{count:,}")
            for name, count in tally.others.items()
            if not any(word in name.lower() for word in _PRICED)
        ]
    return rows


def _warnings(tallies: tuple[Tally, ...]) -> list[str]:
    return [
        f"{tally.kind}: the counts say {tally.accepted:,} accepted, the folder holds {tally.stored:,}; "
        "rows were erased, or the folder was edited"
        for tally in tallies
        if tally.accepted != tally.stored
    ]


def _priced(name: str, value: float) -> tuple[str, str]:
    if name == "cost_millionths":
        return "models: cost, in the unit of the prices given", f"{value / 1e6:,.4f}"
    return f"models: {name}", _number(value)


def _numbers(table: object) -> dict[str, float]:
    """The numbers of a table."""
    if not isinstance(table, Mapping):
        return {}
    return {
        str(name): float(value)
        for name, value in table.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 1000 else f"{value:.3g}"
