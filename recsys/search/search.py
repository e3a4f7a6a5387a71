"""The search from beginning to verdict: cheap trials, finalists over seeds, one look at the newest slice."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from recsys.arms import Arm
from recsys.artifacts import write_atomically
from recsys.augment.policy import PRESETS, policy_from_plain
from recsys.config import AugmentConfig
from recsys.search.bench import Bench
from recsys.search.explore import Exploration, Trial
from recsys.search.finals import Finals
from recsys.search.folder import DATABASE, RUNS, SPENT, same_search
from recsys.search.ledger import Budget, Ledger
from recsys.search.space import OFF, Facts, Space, starting_points
from recsys.search.verdict import Result, Verdict, judged, undecided, write_result

logger = logging.getLogger(__name__)

IDENTITY, FACTS, WINNER = "search_of.json", "facts.json", "winner.json"
_PLANS = ((3, 3), (2, 3), (1, 3), (1, 2), (1, 1))
"""Finalists and seeds, the first that leaves enough of the budget to the trials."""
_FOR_FINALS = 0.6
"""Share of the budget that finalists and confirmation may take."""
_LONGER = 1.15
"""So much longer than the longest whole training so far may one of a finalist be."""


@dataclass(frozen=True)
class Order(Budget):
    """What was asked for; `trials` counts the cheap ones."""

    policies: tuple[str, ...] = PRESETS
    """Presets or policy files to start from."""


def search_policy(
    open_bench: Callable[[], Bench],
    out: Path,
    order: Order,
    identity: Mapping[str, str],
    clock: Callable[[], float] = time.monotonic,
) -> Result:
    """Find the augmentation that a dataset gains from, or that it gains from none.

    Called again with the same folder it goes on: with what is left of the minutes, and never with a second
    look at the newest slice.

    Args:
        open_bench: Makes the dataset ready; counts as time spent.
        out: Folder of this search alone.
        order: Budget, seed and starting points.
        identity: What makes this search this one: data, configuration, seed.
        clock: Seconds; for tests.

    Raises:
        ConfigError: the folder holds a search over other data or settings.
    """
    out.mkdir(parents=True, exist_ok=True)
    same_search(out / IDENTITY, identity)
    if (known := Result.load(out)) is not None and known.final:
        return known
    ledger = Ledger(out / SPENT, order.minutes * 60, clock)
    bench = open_bench()
    ledger.note(now=True)
    space = Space(_facts(out / FACTS, bench), starting_points(order.policies))
    exploration = Exploration(out / DATABASE, bench, space, order.seed)
    if known_trials := len(exploration.trials()):
        logger.info(
            "going on: %d trials are known, %.1f of %.1f minutes are spent",
            known_trials, ledger.spent / 60, order.minutes,
        )  # fmt: skip
    finals = Finals(out / RUNS, bench, ledger)
    winner = _winner(out / WINNER)
    if winner is None:
        exploration.go(ledger, 1, lambda: 0.0)
        off = _off_of(exploration.trials())
        if off is not None and _price(exploration, finals) < _FOR_FINALS * ledger.left:
            # Needed later in any case, and now it says what a whole training takes.
            finals.score(off, order.seed, "validation")
            _announce(exploration, finals, ledger)
        exploration.go(ledger, order.trials, lambda: _reserve(exploration, finals, ledger))
    verdict = _decided(out, exploration, finals, ledger, order, winner)
    ledger.note(now=True)
    result = Result(verdict, tuple(exploration.trials()), space.facts, ledger.spent, order.minutes)
    write_result(out, result)
    return result


def _decided(
    out: Path, exploration: Exploration, finals: Finals, ledger: Ledger, order: Order, winner: Arm | None
) -> Verdict:
    trials = exploration.trials()
    off = _off_of(trials)
    if off is None:
        return undecided("the minutes were spent before `off` itself was tried")
    count, most = _plan(exploration, finals, ledger)
    seeds = [order.seed + i for i in range(most)]
    table = []
    if winner is None:
        finalists = ranked(trials)[:count]
        if not finalists:
            return _nothing_left(trials, order, _enough(exploration, finals, ledger))
        arms = [off, *(trial.arm for trial in finalists)]
        seeds = finals.contest(arms, seeds, "validation", partial(_confirmation, finals))
        if not seeds:
            said = _enough(exploration, finals, ledger)
            return undecided(f"the {_minutes(ledger.left)} left are too few to train the finalists: {said}")
        table = [finals.compared(arm, off, seeds, "validation") for arm in arms[1:]]
        best = max(range(len(table)), key=lambda i: table[i][0].difference)
        if table[best][0].difference <= 0:
            return judged(OFF, [(trial.arm, row) for trial, row in zip(finalists, table, strict=True)], [])
        winner = finalists[best].arm
        _write_winner(out / WINNER, winner, seeds, [trial.arm for trial in finalists])
    winner, seeds, arms = _read_winner(out / WINNER)
    contest = [(arm, finals.compared(arm, off, seeds, "validation")) for arm in arms]
    epochs = finals.epochs(winner, seeds[0])
    seeds = finals.contest([winner, off], seeds, "report", lambda _: 0.0, [(off, epochs)])
    if not seeds:
        more = _minutes(max(_confirmation(finals, 1) - ledger.left, 60.0))
        said = f"the {_minutes(ledger.left)} left are too few to confirm the best finalist: give {more} more"
        return undecided(said, contest)
    report = finals.compared(winner, off, seeds, "report")
    same = epochs == finals.epochs(off, seeds[0])
    as_long = [] if same else finals.compared(winner, off, seeds, "report", epochs)
    return judged(winner.name, contest, report, winner, as_long)


def ranked(trials: list[Trial]) -> list[Trial]:
    """Finished trials other than off, the best first, none twice."""
    finished = [t for t in trials if t.state == "complete" and t.fingerprint != OFF and t.score is not None]
    return sorted(finished, key=lambda trial: (-(trial.score or 0.0), trial.number))


def _off_of(trials: list[Trial]) -> Arm | None:
    """The arm without augmentation, once it was tried."""
    return next((t.arm for t in trials if t.fingerprint == OFF and t.state == "complete"), None)


def _nothing_left(trials: list[Trial], order: Order, enough: str) -> Verdict:
    tried = [trial for trial in trials if trial.fingerprint != OFF]
    if tried and order.trials is not None and len(tried) + 1 >= order.trials:
        return judged(OFF, [], [])
    return undecided(f"no policy was trained to the end: {enough}")


def _plan(exploration: Exploration, finals: Finals, ledger: Ledger) -> tuple[int, int]:
    price = _price(exploration, finals)
    for finalists, seeds in _PLANS:
        if _num_runs(finalists, seeds) * price <= _FOR_FINALS * ledger.budget:
            return finalists, seeds
    return _PLANS[-1]


def _enough(exploration: Exploration, finals: Finals, ledger: Ledger) -> str:
    """What to say of the minutes that a verdict takes."""
    price = _price(exploration, finals)
    needed = ledger.spent + _num_runs(1, 3) * price / _FOR_FINALS
    return (
        f"a whole training takes about {price:.0f} s here, so a verdict needs about {needed / 60:.0f} minutes"
    )


def _announce(exploration: Exploration, finals: Finals, ledger: Ledger) -> None:
    """Say early what the minutes will do, so that nobody waits for a verdict that cannot come."""
    finalists, seeds = _plan(exploration, finals, ledger)
    needed = _num_runs(finalists, seeds) * _price(exploration, finals)
    if needed <= _FOR_FINALS * ledger.budget:
        logger.info(
            "a whole training takes about %.0f s: %s of %s are kept for %d finalist(s) with %d seed(s)",
            _price(exploration, finals), _minutes(needed), _minutes(ledger.budget), finalists, seeds,
        )  # fmt: skip
    else:
        logger.warning("%s", _enough(exploration, finals, ledger))


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes"


def _reserve(exploration: Exploration, finals: Finals, ledger: Ledger) -> float:
    """Seconds that finalists and confirmation will take."""
    finalists, seeds = _plan(exploration, finals, ledger)
    missing = max(_num_runs(finalists, seeds) - finals.num_runs, 0)
    return missing * max(_LONGER * finals.longest, _price(exploration, finals))


def _confirmation(finals: Finals, seeds: int) -> float:
    return 3 * seeds * finals.longest


def _num_runs(finalists: int, seeds: int) -> int:
    """Finalists and off choose their epochs and are trained with each seed, then the winner and off twice."""
    return (finalists + 1) * (1 + seeds) + 3 * seeds


def _price(exploration: Exploration, finals: Finals) -> float:
    """Seconds of one whole training: measured, or guessed from the cheap ones; 0 before any."""
    if finals.usual is not None:
        return finals.usual
    proxy = exploration.proxy
    cheap = [trial.seconds for trial in exploration.trials() if trial.state == "complete"]
    scale = exploration.bench.max_epochs / proxy.epochs / proxy.share
    return scale * sum(cheap) / len(cheap) if cheap else 0.0


def _facts(path: Path, bench: Bench) -> Facts:
    """Found once: the choices of a study must not change while it goes on."""
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
        return Facts(
            {kind: tuple(names) for kind, names in known["ops"].items()},
            known["left_out"],
            {kind: (sizes[0], sizes[1]) for kind, sizes in known["sizes"].items()},
        )
    facts = bench.facts()
    plain: dict[str, Any] = {"ops": facts.ops, "left_out": facts.left_out, "sizes": facts.sizes}
    write_atomically(path, json.dumps(plain, indent=1, ensure_ascii=False))
    return facts


def _write_winner(path: Path, winner: Arm, seeds: list[int], finalists: list[Arm]) -> None:
    """Before the newest slice is looked at: what is looked at is settled, whatever happens in between."""
    plain = {"name": winner.name, "seeds": seeds, "finalists": [_arm_plain(arm) for arm in finalists]}
    write_atomically(path, json.dumps(plain, indent=1, ensure_ascii=False))


def _read_winner(path: Path) -> tuple[Arm, list[int], list[Arm]]:
    known = json.loads(path.read_text(encoding="utf-8"))
    arms = [
        Arm(row["name"], policy_from_plain(row["policy"], str(path)), AugmentConfig(**row["augment"]))
        for row in known["finalists"]
    ]
    return next(arm for arm in arms if arm.name == known["name"]), known["seeds"], arms


def _winner(path: Path) -> Arm | None:
    return _read_winner(path)[0] if path.is_file() else None


def _arm_plain(arm: Arm) -> dict[str, Any]:
    return {
        "name": arm.name,
        "policy": arm.policy.to_plain(),
        "augment": arm.fusion.model_dump(mode="json"),
    }
