"""The search from beginning to verdict: towers, lists over the best of them, one look at the newest slice."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys.artifacts import write_atomically
from recsys.config import Config
from recsys.evaluate.evaluate import Task
from recsys.search.explore import METRIC
from recsys.search.finals import ALSO, Difference, keep_score, kept_score, paired
from recsys.search.folder import DATABASE, RUNS, SPENT, same_search
from recsys.search.ledger import Budget, Ledger
from recsys.tune.bench import Bench
from recsys.tune.space import LISTS, TOWERS, Values, fitting, values_of
from recsys.tune.study import Study, Trial
from recsys.tune.verdict import Result, Verdict, confirmed, defaults_are_best, undecided, write_result

IDENTITY, WHOLE, WINNER = "tune_of.json", "whole.json", "winner.json"
FOR_TOWERS, FOR_LISTS = 0.45, 0.25
"""Shares of the budget; the confirmation has the rest."""
FINALISTS = 3
"""Towers of cheap trials that are trained on all rows before the lists are tuned."""


@dataclass(frozen=True)
class Order(Budget):
    """What was asked for; `trials` counts those of each stage."""

    seeds: int = 3
    """Seeds of the confirmation at most."""
    task: Task = "novel"


def tune_settings(
    open_bench: Callable[[], Bench],
    out: Path,
    order: Order,
    config: Config,
    identity: Mapping[str, str],
    clock: Callable[[], float] = time.monotonic,
) -> Result:
    """Find settings that a dataset gains from, or that those given are the best.

    Called again with the same folder it goes on: with what is left of the minutes, and never with a second
    look at the newest slice.

    Args:
        open_bench: Makes the dataset ready; counts as time spent.
        out: Folder of this search alone.
        order: Budget, seeds and task.
        config: The settings that the search starts from and has to beat.
        identity: What makes this search this one.
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
    towers, lists, verdict = _searched(bench, out, order, config, ledger)
    ledger.note(now=True)
    result = Result(verdict, _plain(towers), _plain(lists), ledger.spent, order.minutes)
    write_result(out, result, config)
    return result


def _searched(
    bench: Bench, out: Path, order: Order, config: Config, ledger: Ledger
) -> tuple[Study, Study | None, Verdict]:
    given = values_of(TOWERS, config)
    towers = Study(out / DATABASE, "towers", fitting(TOWERS, config), given, order.seed)
    if not (out / WINNER).is_file():
        towers.go(
            lambda values, watch: bench.towers(values, watch, share=bench.share),
            ledger, order.trials, (1 - FOR_TOWERS) * ledger.budget,
        )  # fmt: skip
    if not towers.ranked():
        return towers, None, undecided("the minutes were spent before the given settings were tried once")
    best = _best_towers(bench, out / WHOLE, towers, given, ledger)
    before = values_of(LISTS, config)
    lists = Study(out / DATABASE, f"lists {_digest(best)}", fitting(LISTS, config), before, order.seed)
    if not (out / WINNER).is_file():
        lists.go(
            lambda values, _: bench.lists({**best, **values}),
            ledger, order.trials, (1 - FOR_TOWERS - FOR_LISTS) * ledger.budget,
        )  # fmt: skip
    if not lists.ranked():
        return towers, lists, undecided("the minutes were spent before any lists were made")
    start = {**given, **before}
    winner = {**best, **lists.ranked()[0].values}
    changes = {name: value for name, value in winner.items() if value != start[name]}
    if not changes:
        return towers, lists, defaults_are_best("no trial ranks better than the given settings on validation")
    return towers, lists, _confirmation(bench, out, order, start, changes, ledger)


def _best_towers(bench: Bench, path: Path, towers: Study, given: Values, ledger: Ledger) -> Values:
    """Of the best cheap trials and the given settings, the best when trained on all rows."""
    finalists = [trial.values for trial in towers.ranked()[:FINALISTS]]
    if bench.share >= 1:
        return finalists[0]
    scores: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if "best" in scores:
        return dict(scores["best"])
    found: list[tuple[float, Values]] = []
    for values in [given, *(values for values in finalists if values != given)]:
        name = _name(values)
        if name not in scores:
            if ledger.left <= 0:
                break
            scores[name] = bench.towers(values, lambda *_: False, share=1.0).score
            write_atomically(path, json.dumps(scores))
            ledger.note(now=True)
        found.append((scores[name], values))
    best = max(found, key=lambda one: one[0])[1] if found else given
    write_atomically(path, json.dumps({**scores, "best": dict(best)}))
    return best


def _confirmation(
    bench: Bench, out: Path, order: Order, given: Values, changes: Values, ledger: Ledger
) -> Verdict:
    """The winner against the given settings on the newest slice, seed by seed while the minutes last."""
    path = out / WINNER
    if not path.is_file():  # before the newest slice is looked at, what is looked at is settled
        write_atomically(path, json.dumps(dict(changes), indent=1))
    changes = json.loads(path.read_text(encoding="utf-8"))
    sides = {"given": given, "best": {**given, **changes}}
    finished: list[int] = []
    for seed in range(order.seed, order.seed + order.seeds):
        files = {name: out / RUNS / f"{name}-{seed}.npz" for name in sides}
        missing = [name for name in sides if not files[name].is_file()]
        price = sum(kept_score(file).seconds for file in (out / RUNS).glob("*.npz"))
        runs = max(sum(1 for _ in (out / RUNS).glob("*.npz")), 1)
        if missing and ledger.left <= len(missing) * price / runs:
            break
        for name in missing:
            keep_score(files[name], bench.confirm(sides[name], seed))
            ledger.note(now=True)
        finished.append(seed)
    if not finished:
        return undecided("the minutes were spent before the best settings were confirmed", changes)
    return confirmed(changes, _differences(out / RUNS, finished))


def _differences(folder: Path, seeds: Sequence[int]) -> list[Difference]:
    pairs = [
        (kept_score(folder / f"best-{seed}.npz"), kept_score(folder / f"given-{seed}.npz")) for seed in seeds
    ]
    metrics = [metric for metric in (METRIC, *ALSO) if metric in pairs[0][0].figures]
    return [paired(metric, pairs, tuple(seeds)) for metric in metrics]


def _plain(study: Study | None) -> dict[str, Any]:
    if study is None:
        return {"trials": [], "importance": {}}
    trials: list[Trial] = study.trials()
    return {"trials": [trial.to_plain() for trial in trials], "importance": study.importance()}


def _digest(values: Values) -> str:
    """Names the towers that lists stand on: a resumed search finds its trials by it."""
    return hashlib.sha256(_name(values).encode()).hexdigest()[:8]


def _name(values: Values) -> str:
    return json.dumps(dict(values), sort_keys=True)
