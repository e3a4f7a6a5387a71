"""The verdict of a search, its files, and what to say of it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tomli_w

from recsys.arms import Arm
from recsys.artifacts import write_atomically
from recsys.augment.policy import Policy, load_policy
from recsys.config import WHICH_POLICY, AugmentConfig
from recsys.search.explore import METRIC, Trial
from recsys.search.finals import Difference, shown
from recsys.search.folder import read_record, write_record
from recsys.search.space import OFF, Facts

BEST, SETTINGS, RECORD = "best.toml", "augment.toml", "search.json"
Outcome = Literal["gain", "off", "undecided"]


@dataclass(frozen=True)
class Verdict:
    """What the search came to."""

    outcome: Outcome
    reason: str
    policy: Policy
    """To be used: that of `off` unless there is a gain."""
    fusion: AugmentConfig
    finalists: tuple[dict[str, Any], ...] = ()
    """Name, policy and paired differences on the validation slice."""
    report: tuple[dict[str, Any], ...] = ()
    """Paired differences of the winner on the newest slice; empty where it was not looked at."""
    as_long: tuple[dict[str, Any], ...] = ()
    """The same against off trained for as many epochs as the winner; empty where that is off's own number."""
    winner: str = OFF


@dataclass(frozen=True)
class Result:
    """A search as it stands."""

    verdict: Verdict
    trials: tuple[Trial, ...]
    facts: Facts
    seconds: float
    minutes: float
    record: dict[str, Any] = field(default_factory=dict)
    """`search.json` as it was found, where the search was over already."""

    @property
    def final(self) -> bool:
        """Whether the newest slice was looked at, or nothing was worth a look."""
        return self.verdict.outcome != "undecided"

    @classmethod
    def load(cls, out: Path) -> Result | None:
        """What an earlier call left, None before the first; trials stay in `record`.

        Raises:
            ArtifactError: the record is damaged.
        """

        def read(known: dict[str, Any]) -> Result:
            verdict = Verdict(
                known["verdict"],
                known["reason"],
                load_policy(out / BEST),
                AugmentConfig(**known["augment"]),
                tuple(known["finalists"]),
                tuple(known["report"]),
                tuple(known["as_long"]),
                known["winner"],
            )
            facts = Facts(known["ops"], known["ops_left_out"])
            return cls(verdict, (), facts, known["seconds"], known["minutes"], known)

        return read_record(out / RECORD, read, "search")


def undecided(reason: str, finalists: Sequence[tuple[Arm, list[Difference]]] = ()) -> Verdict:
    """Nothing is known yet; off is to be used meanwhile."""
    return Verdict("undecided", reason, _off(), AugmentConfig(), _rows(finalists))


def judged(
    name: str,
    finalists: Sequence[tuple[Arm, list[Difference]]],
    report: Sequence[Difference],
    winner: Arm | None = None,
    as_long: Sequence[Difference] = (),
) -> Verdict:
    """The verdict on a winner by what the newest slice says; without a winner, off is best.

    Args:
        name: The winner's, or `off`.
        finalists: With their differences on the validation slice.
        report: The winner's differences on the newest slice, the deciding metric first.
        winner: Its policy and fusion.
        as_long: Its differences there to off trained for as many epochs as it; none where off's own number is
            that.
    """
    found: dict[str, Any] = {
        "finalists": _rows(finalists),
        "report": tuple(one.to_plain() for one in report),
        "as_long": tuple(one.to_plain() for one in as_long),
        "winner": name,
    }
    if winner is None or not report:
        reason = (
            "no finalist beats it on the validation slice, so the newest slice was not looked at"
            if finalists
            else "every policy that was tried changes nothing, is refused by gates, or falls behind early"
        )
        return Verdict("off", reason, _off(), AugmentConfig(), **found)
    first = report[0]
    if not first.gains:
        said = "lies below zero: it harms" if first.high < 0 else "includes zero"
        reason = (
            f"{name}, the best, changes {METRIC} by {first.interval} on the newest slice: the interval {said}"
        )
        return Verdict("off", reason, _off(), AugmentConfig(), **found)
    if as_long and not as_long[0].gains:
        reason = (
            f"{name} changes {METRIC} by {first.interval} on the newest slice, but by {as_long[0].interval} "
            "against off trained for as many epochs: more steps gain, not augmentation"
        )
        return Verdict("off", reason, _off(), AugmentConfig(), **found)
    reason = (
        f"{name} changes {METRIC} by {first.interval} ({first.relative:+.1%}) on the newest slice, above zero"
    )
    return Verdict("gain", reason, winner.policy, winner.fusion, **found)


def write_result(out: Path, result: Result) -> None:
    """`best.toml` (a policy), `augment.toml` (the settings that use it) and `search.json` (everything)."""
    verdict = result.verdict
    write_atomically(out / BEST, verdict.policy.to_toml())
    settings = verdict.fusion.model_dump(mode="json")
    settings["enabled"] = verdict.outcome == "gain"
    settings["policy"] = str((out / BEST).resolve()) if settings["enabled"] else OFF
    write_atomically(out / SETTINGS, tomli_w.dumps({"augment": settings}))
    record = {
        "verdict": verdict.outcome,
        "reason": verdict.reason,
        "winner": verdict.winner,
        "augment": verdict.fusion.model_dump(mode="json", exclude=set(WHICH_POLICY)),
        "report": list(verdict.report),
        "as_long": list(verdict.as_long),
        "finalists": list(verdict.finalists),
        "seconds": round(result.seconds, 1),
        "minutes": result.minutes,
        "ops": {kind: list(names) for kind, names in result.facts.ops.items()},
        "ops_left_out": dict(result.facts.left_out),
        "trials": [trial.to_plain() for trial in result.trials],
    }
    write_record(out / RECORD, record)


def summary(out: Path, result: Result, data: Path) -> Iterator[str]:
    """Lines for people: trials, finalists, the verdict, and what to do next."""
    trials = result.record.get("trials") or [trial.to_plain() for trial in result.trials]
    states = {name: sum(t["state"] == name for t in trials) for name in ("complete", "pruned", "dropped")}
    yield f"{len(trials)} trials in {result.seconds / 60:.1f} of {result.minutes:g} minutes: " + ", ".join(
        f"{count} {name}" for name, count in states.items() if count
    )
    best = sorted((t for t in trials if t[METRIC] is not None), key=lambda t: -t[METRIC])[:8]
    for trial in best:
        yield f"  {trial['name']:10} {METRIC} {trial[METRIC]:.4f}  {_said(trial['policy'])}"
    if result.verdict.finalists:
        yield "finalists against off, validation slice:"
        for row in result.verdict.finalists:
            yield f"  {row['name']:10} {shown(row['differences'][0])}"
    if result.verdict.report:
        yield "the winner against off, newest slice, looked at once:"
        for row in result.verdict.report:
            yield f"  {row['metric']:10} {shown(row)}"
    if result.verdict.as_long:
        yield "against off trained for as many epochs:"
        for row in result.verdict.as_long:
            yield f"  {row['metric']:10} {shown(row)}"
    yield from _next(out, result.verdict, data)


def _next(out: Path, verdict: Verdict, data: Path) -> Iterator[str]:
    train = ["recsys", "run", "--data", str(data), "--out", "RUNS"]
    match verdict.outcome:
        case "gain":
            yield f"verdict: augment. {verdict.reason}."
            yield f"next:    {shlex.join([*train, '--config', str(out / SETTINGS)])}"
        case "off":
            yield f"verdict: off is best. {verdict.reason}."
            yield f"next:    {shlex.join([*train, '--set', 'augment.enabled=false'])}"
        case "undecided":
            yield f"verdict: none yet. {verdict.reason}."
            yield "next:    the same command with more --minutes goes on; until then, leave augmentation off"


def _said(policy: dict[str, Any]) -> str:
    """The ops of a policy, in a line."""
    parts = []
    for kind in ("history", "text", "representation"):
        names = ">".join(op["op"] for op in policy.get(kind, {}).get("ops", []))
        if names:
            parts.append(f"{kind}: {names}")
    return "; ".join(parts) or OFF


def _rows(finalists: Sequence[tuple[Arm, list[Difference]]]) -> tuple[dict[str, Any], ...]:
    return tuple(
        {
            "name": arm.name,
            "policy": arm.policy.to_plain(),
            "augment": arm.fusion.model_dump(mode="json", exclude=set(WHICH_POLICY)),
            "differences": [one.to_plain() for one in differences],
        }
        for arm, differences in finalists
    )


def _off() -> Policy:
    return Policy(name=OFF, description="The empty pipeline: nothing is augmented.")
