"""What a comparison says: the verdict in plain words, what to do next, and its three files."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from recsys.artifacts import write_atomically
from recsys.compare.contenders import Contender
from recsys.compare.run import Compared
from recsys.compare.taught import TowersAndReader
from recsys.compare.trainings import duration
from recsys.config import WHICH_POLICY
from recsys.evaluate.compare_report import (
    ComparisonContent,
    judged_arms,
    markdown_grid,
    reasons,
    short_grid,
    shown,
    summary_grid,
    write_comparison,
)
from recsys.evaluate.contrast import Finding
from recsys.evaluate.power import POWER
from recsys.evaluate.tables import Grid, to_markdown
from recsys.evaluate.verdicts import WORTH

NAME = "compare"
_MANY = 3


def to_use(done: Compared) -> Contender:
    """The arm to train with: it helps some segment and hurts none; the reference where there is none such.

    Of several, the one with the largest difference over all users.
    """
    best = done.entered.reference
    most = 0.0
    for one in done.entered.contenders:
        mine = [f for f in done.findings if f.arm == one.name and f.verdict is not None]
        outcomes = [f.verdict.outcome for f in mine if f.verdict is not None]
        gain = mine[0].main.difference if mine else 0.0
        if (
            one.settings
            and "helps" in outcomes
            and "hurts" not in outcomes
            and (best is done.entered.reference or gain > most)
        ):
            best, most = one, gain
    return best


def verdict_lines(done: Compared) -> list[str]:
    """A sentence per arm."""
    return [
        _said(arm, [one for one in done.findings if one.arm == arm]) for arm in judged_arms(done.findings)
    ]


def next_line(done: Compared, data: Path, config: Path | None) -> str:
    """What to do next, as a command."""
    chosen = to_use(done)
    command = ["recsys", "run", "--data", str(data), "--out", "RUNS"]
    files = [one.removeprefix("--config ") for one in chosen.settings if one.startswith("--config ")]
    if config is not None and not files:
        command += ["--config", str(config)]
    for file in files:
        command += ["--config", file]
    for setting in chosen.settings:
        if not setting.startswith("--config "):
            command += ["--set", setting]
        if done.depth.startswith(TowersAndReader.kind) and setting.startswith("augment.policy="):
            command += ["--set", setting.replace("augment.", "queries.", 1)]
    return shlex.join(command)


def write_files(out: Path, done: Compared, data: Path, config: Path | None, name: str = NAME) -> None:
    """`NAME.html`, `NAME.json` and `NAME.md`."""
    title, command = f"{_contest(done)} on {data.resolve().name}", next_line(done, data, config)
    lines = [*verdict_lines(done), f"Next: {command}"]
    settings = done.entered.config.model_dump(mode="json", exclude={"augment"})
    content = ComparisonContent(
        title, done.findings, done.parts, lines, facts(done), done.losses, done.curve, done.epochs[1.0],
        dict(done.counts), settings,
    )  # fmt: skip
    write_comparison(out / f"{name}.html", content)
    record = {
        "title": title,
        "verdict": lines[:-1],
        "use": to_use(done).name,
        "next": command,
        "facts": facts(done),
        "epochs": {str(share): epochs for share, epochs in done.epochs.items()},
        "steps": {str(share): steps for share, steps in done.steps.items()},
        "validation": list(done.curve),
        "findings": [one.to_plain() for one in done.findings],
        "policies": {one.name: _policy(one) for one in done.entered.contenders},
        "counts": dict(done.counts),
        "settings": settings,
    }
    write_atomically(
        out / f"{name}.json", json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    )
    made = " · ".join(f"{name}: {value}" for name, value in facts(done).items())
    text = "\n\n".join([*lines[:-1], to_markdown(markdown_grid(done.findings)), made]) + "\n"
    write_atomically(out / f"{name}.md", text)


def tables(done: Compared) -> list[tuple[Grid, list[str]]]:
    """Per arm the table of verdicts and, in lines, their reasons; of many arms, one table without reasons."""
    if len(judged_arms(done.findings)) > _MANY:
        return [(summary_grid(done.findings), [])]
    return [
        (short_grid(done.findings, arm), reasons(done.findings, arm)) for arm in judged_arms(done.findings)
    ]


def facts(done: Compared) -> dict[str, str]:
    """How the comparison was made."""
    order = done.order
    steps = f", {done.steps[1.0]:,} optimiser steps" if 1.0 in done.steps else ""
    return {
        "judged on": f"the newest slice, task {order.task}, {done.num_users:,} users, looked at once",
        "depth": done.depth.partition(" ")[0],
        "seeds": f"{order.seeds}, averaged per user before anything else",
        "training": f"{done.epochs[1.0]} epochs{steps} in every arm, chosen by off on the validation slice",
        "interval": "95% percentile bootstrap over users",
        "p": "sign flips by user, corrected by Holm over all verdicts",
        "effect d": "Cohen's d_z of the users' differences",
        "users to tell": f"a difference of {WORTH:.0%}, power {POWER:.0%}, at 5% over the number of verdicts",
        "placebos": ", ".join(done.entered.placebos) or "none took part, so `helps` had none to beat",
        "time": f"{duration(done.seconds)} of training",
    }  # fmt: skip


def _said(arm: str, findings: Sequence[Finding]) -> str:
    judged = [one for one in findings if one.verdict is not None]
    reference = judged[0].reference

    def of(outcome: str) -> list[Finding]:
        return [one for one in judged if one.verdict is not None and one.verdict.outcome == outcome]

    helps, hurts, open_ = of("helps"), of("hurts"), of("cannot tell")
    parts = []
    if helps:
        parts.append("helps " + ", ".join(f"{one.name} ({one.decides} {shown(one.main)})" for one in helps))
    if hurts:
        parts.append("hurts " + ", ".join(f"{one.name} ({one.decides} {shown(one.main)})" for one in hurts))
    if not parts:
        first = judged[0]
        assert first.verdict is not None
        whole = f"{first.decides} {shown(first.main)} over all users: {first.verdict.why}"
        return f"{arm} cannot be told from {reference} in any segment ({whole})."
    rest = f"; in {len(open_)} of {len(judged)} segments it cannot be told from {reference}" if open_ else ""
    return f"{arm} {' and '.join(parts)}, against {reference}{rest}."


def _policy(one: Contender) -> dict[str, Any]:
    return {
        "policy": one.arm.policy.to_plain(),
        "fusion": one.arm.fusion.model_dump(mode="json", exclude=set(WHICH_POLICY)),
        "placebo": one.arm.placebo,
        "settings": list(one.settings),
        "changes": dict(one.changes),
        "unseen": list(one.unseen),
    }


def _contest(done: Compared) -> str:
    arms = [one.name for one in done.entered.contenders[1:] if not one.is_placebo]
    return f"{', '.join(arms)} against {done.entered.reference.name}"


def closing(done: Compared, out: Path, data: Path, config: Path | None, name: str = NAME) -> Iterator[str]:
    """The last lines on a terminal."""
    said = facts(done)
    yield f"judged:  on {said['judged on']}; seeds: {said['seeds'].partition(',')[0]}"
    yield f"trained: {said['training']}"
    for number, line in enumerate(verdict_lines(done)):
        yield f"{'verdict:' if not number else '        '} {line}"
    yield f"report:  {out / name}.html   ({name}.json and {name}.md beside it)"
    yield f"next:    {next_line(done, data, config)}"
