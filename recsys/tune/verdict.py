"""What a search came to, its files, and what to say of it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tomli_w

from recsys.artifacts import write_atomically
from recsys.config import Config, with_settings
from recsys.search.explore import METRIC
from recsys.search.finals import Difference, shown
from recsys.search.folder import read_record, write_record
from recsys.track import Tracker
from recsys.tune.space import Values

BEST, RECORD = "best.toml", "tune.json"
MOST_BY_CHANCE = 0.05
"""A larger p-value is no gain, whatever the interval says: with few users it is too narrow."""
Outcome = Literal["gain", "defaults", "undecided"]


@dataclass(frozen=True)
class Verdict:
    """Whether other settings than those given are to be used, and which."""

    outcome: Outcome
    reason: str
    changes: Values = field(default_factory=dict)
    """Of the best trial, whether they are to be used or not."""
    report: tuple[dict[str, Any], ...] = ()
    """Paired differences on the newest slice; empty where it was not looked at."""


@dataclass(frozen=True)
class Result:
    """A search as it stands."""

    verdict: Verdict
    towers: Mapping[str, Any]
    """`trials` and `importance` of the first stage."""
    lists: Mapping[str, Any]
    seconds: float
    minutes: float

    @property
    def final(self) -> bool:
        """Whether more minutes could change nothing."""
        return self.verdict.outcome == "gain" or bool(self.verdict.report)

    @classmethod
    def load(cls, out: Path) -> Result | None:
        """What an earlier call left, None before the first.

        Raises:
            ArtifactError: the record is damaged.
        """

        def read(known: Mapping[str, Any]) -> Result:
            verdict = Verdict(known["verdict"], known["reason"], known["changes"], tuple(known["report"]))
            return cls(verdict, known["towers"], known["lists"], known["seconds"], known["minutes"])

        return read_record(out / RECORD, read, "tune")


def undecided(reason: str, changes: Values | None = None) -> Verdict:
    """Nothing is known yet; the given settings are to be used meanwhile."""
    return Verdict("undecided", reason, changes or {})


def defaults_are_best(reason: str) -> Verdict:
    """Nothing that was tried is better, so the newest slice was not looked at."""
    return Verdict("defaults", reason)


def confirmed(changes: Values, report: Sequence[Difference]) -> Verdict:
    """By what the newest slice says of the best settings, the deciding metric first."""
    first, rows = report[0], tuple(one.to_plain() for one in report)
    if first.gains and first.p < MOST_BY_CHANCE:
        return Verdict(
            "gain", f"{METRIC} changes by {first.interval} on the newest slice, above zero", changes, rows
        )
    said = "lies below zero: they harm" if first.high < 0 else "includes zero"
    if first.gains:
        said = "is above zero, but so few users would often say so by chance"
    return Verdict(
        "defaults",
        f"the best trial changes {METRIC} by {first.interval} on the newest slice: the interval {said}",
        changes,
        rows,
    )


def write_result(out: Path, result: Result, config: Config) -> None:
    """`best.toml` (what differs from the defaults, to run with) and `tune.json` (everything)."""
    verdict = result.verdict
    best = with_settings(config, verdict.changes) if verdict.outcome == "gain" else config
    tree = best.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    head = f"# {'tuned' if verdict.outcome == 'gain' else 'as given'}: {verdict.reason}\n"
    write_atomically(out / BEST, head + tomli_w.dumps(tree))
    record = {
        "verdict": verdict.outcome,
        "reason": verdict.reason,
        "changes": dict(verdict.changes),
        "report": list(verdict.report),
        "seconds": round(result.seconds, 1),
        "minutes": result.minutes,
        "towers": result.towers,
        "lists": result.lists,
    }
    write_record(out / RECORD, record)


def track_search(tracker: Tracker, out: Path, result: Result, config: Config) -> None:
    """The settings it began with, each whole trial's figure by its number, the verdict, and its files."""
    tracker.parameters(config.model_dump(mode="json"))
    tracker.parameters({"verdict": result.verdict.outcome, "best": result.verdict.changes})
    for name, stage in (("towers", result.towers), ("lists", result.lists)):
        for trial in stage["trials"]:
            if trial[METRIC] is not None:
                tracker.metrics({f"{name}.{METRIC}": trial[METRIC]}, trial["number"])
        tracker.metrics({f"importance.{name}": stage["importance"]})
    for row in result.verdict.report:
        tracker.metrics({row["metric"]: {key: row[key] for key in ("difference", "low", "high", "p")}})
    tracker.artifacts([out / BEST, out / RECORD])


def summary(out: Path, result: Result, data: Path) -> Iterator[str]:
    """Lines for people: both stages, what mattered, the verdict, and what to do next."""
    yield f"{result.seconds / 60:.1f} of {result.minutes:g} minutes"
    for name, stage in (("towers", result.towers), ("lists", result.lists)):
        yield from _stage(name, stage)
    verdict = result.verdict
    if verdict.changes:
        yield "the best settings, where they differ from those given:"
        for setting, value in verdict.changes.items():
            yield f"  {setting} = {value}"
    if verdict.report:
        yield "best against given, newest slice, looked at once:"
        for row in verdict.report:
            yield f"  {row['metric']:10} {shown(row)}"
    yield from _next(out, verdict, data)


def _stage(name: str, stage: Mapping[str, Any]) -> Iterator[str]:
    trials = stage["trials"]
    whole = [trial for trial in trials if trial[METRIC] is not None]
    if not trials:
        return
    yield f"{name}: {len(trials)} trials, {len(trials) - len(whole)} stopped early"
    given = next((trial for trial in whole if trial["number"] == 0), None)
    for trial in sorted(whole, key=lambda one: -one[METRIC])[:5]:
        differs = [
            f"{setting}={value:.4g}" if isinstance(value, float) else f"{setting}={value}"
            for setting, value in trial["values"].items()
            if given is None or value != given["values"].get(setting)
        ]
        yield f"  {trial['number']:4} {METRIC} {trial[METRIC]:.4f}  {' '.join(differs) or 'as given'}"
    if stage["importance"]:
        found = sorted(stage["importance"].items(), key=lambda pair: -pair[1])[:6]
        yield f"  importance: {', '.join(f'{setting} {share:.0%}' for setting, share in found)}"


def _next(out: Path, verdict: Verdict, data: Path) -> Iterator[str]:
    train = ["recsys", "run", "--data", str(data), "--out", "RUNS"]
    match verdict.outcome:
        case "gain":
            yield f"verdict: tuned. {verdict.reason}."
            yield f"next:    {shlex.join([*train, '--config', str(out / BEST)])}"
        case "defaults":
            yield f"verdict: the defaults are best. {verdict.reason}."
            yield f"next:    {shlex.join([*train, '--config', str(out / BEST)])}   # as given"
        case "undecided":
            yield f"verdict: none yet. {verdict.reason}."
            yield "next:    the same command with more --minutes goes on"
