"""History ops, each alone, from arrays to arrays: rows per second and core, acceptance and provenance too."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from rounds import Line, Report, rates, timed

from recsys.augment.example import Event
from recsys.augment.neighbours import fit_covisitation
from recsys.augment.policy import Policy, load_policy, policy_from_plain
from recsys.augment.provenance import provenance_table
from recsys.augment.registry import OPS
from recsys.augment.shards import HistoryShards, child_contexts, flat_histories
from recsys.augment.store import user_contexts
from recsys.contexts import Contexts, Vocabulary
from recsys.data.interactions import Dataset

BAR = 100_000.0
OPS_ON_HISTORIES = sorted(name for name, op in OPS.items() if op.kind == "history")
_SETTINGS: dict[str, dict[str, Any]] = {"backward_extension": {"max_length": 10, "min_confidence": 0.01}}
"""Settings with which an op finds something to do in most rows; the others run with their defaults."""
_CHUNK = 65_536


def rows_of(dataset: Dataset, most: int, shortest: int = 3) -> tuple[Contexts, int]:
    """`most` rows with `shortest` or more events in their history, repeated if there are fewer; the items."""
    vocabulary = Vocabulary(dataset.items["item_id"].tolist())
    contexts = user_contexts(dataset.interactions, vocabulary, 50)
    usable = np.flatnonzero(np.diff(contexts.history_offsets) >= shortest)
    if not len(usable):
        raise SystemExit("bench: no user of this dataset has a history of three events")
    return contexts.take(_spread(usable, most)), len(vocabulary)


def _spread(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    if len(rows) >= most:
        return rows[:: len(rows) // most][:most]
    return np.resize(rows, most)


def measure_ops(
    contexts: Contexts, num_items: int, report: Report, repeats: int, names: Sequence[str] | None = None
) -> None:
    """History ops, each alone, over rows that it edits: rows left alone would be cheap."""
    neighbours = fit_covisitation(contexts, num_items).neighbours()
    friends, elsewhere = _acquaintances(contexts)

    def shards(rows: Contexts, policy: Policy, columns: bool = True) -> HistoryShards:
        known = {"neighbours": neighbours, "friends": friends, "elsewhere": elsewhere}
        return _shards(rows, num_items, policy, columns, known)

    for name in names or OPS_ON_HISTORIES:
        policy = policy_from_plain(
            {"name": "bench", "history": {"ops": [{"op": name, **_SETTINGS.get(name, {})}]}}
        )
        edited = np.asarray(shards(contexts, policy).grown(0, len(contexts)).parents)
        if not len(edited):
            report.skipped[f"history op {name}"] = "no row of this dataset is edited by it"
            continue
        rows = contexts.take(np.resize(edited, len(contexts)))
        line = Line("history op", name, "rows", 0.0, bar=BAR)
        line.note = f"edits {len(edited) / len(contexts):.0%} of the rows; these alone"
        sides = {kind: shards(rows, policy, kind == "columns") for kind in ("columns", "rows")}
        report.lines.append(_both(line, sides, repeats))


def measure_branch(contexts: Contexts, num_items: int, report: Report, repeats: int) -> None:
    """The history branches of presets, gates included, from arrays to arrays."""
    for name in ("standard", "strong"):
        policy = load_policy(name)
        line = Line("history branch", f"{name}, arrays to arrays", "rows", 0.0)
        line.note = f"{len(policy.history.gates)} gates"
        sides = {
            kind: _shards(contexts, num_items, policy, kind == "columns", {}) for kind in ("columns", "rows")
        }
        report.lines.append(_both(line, sides, repeats, all_rows=True))


def _shards(
    contexts: Contexts, num_items: int, policy: Policy, columns: bool, known: dict[str, Any]
) -> HistoryShards:
    """What a bulk run works with; without columns, what it falls back to for ops that have no such form."""
    if columns:
        return HistoryShards(contexts, num_items, policy, 1, **known)
    with mock.patch("recsys.augment.shards.by_columns", return_value=False):
        return HistoryShards(contexts, num_items, policy, 1, **known)


def _both(line: Line, sides: dict[str, HistoryShards], repeats: int, all_rows: bool = False) -> Line:
    """Fill in the rate by columns and the rate row by row, whose rounds take turns."""
    found = rates({kind: timed(partial(_work, part, all_rows)) for kind, part in sides.items()}, repeats)
    ours, theirs = found["columns"], found["rows"]
    line.ours, line.spread = statistics.median(ours), (min(ours), max(ours))
    line.reference, line.theirs = "row by row", statistics.median(theirs)
    times = statistics.median([a / b for a, b in zip(ours, theirs, strict=True)])
    line.note += f"; {times:.1f} times row by row"
    return line


def _work(shards: HistoryShards, all_rows: bool) -> float:
    """From contexts to accepted children with their provenance; how many, or how many rows were read."""
    done, policy_id = 0, shards.policy_id
    for start in range(0, len(shards), _CHUNK):
        grown = shards.grown(start, min(start + _CHUNK, len(shards)))
        child_contexts(shards.contexts, np.asarray(grown.parents, np.int64), *flat_histories(grown.children))
        table = provenance_table(
            kind="history", row_ids=grown.row_ids, parent_ids=grown.parent_ids, policy_id=policy_id,
            plans=grown.plans, seed=1, scores={"modification": grown.modification, **grown.scores}, created=0,
            chains=grown.chains,
        )  # fmt: skip
        done += len(table)
    return float(len(shards) if all_rows else done)


def _acquaintances(contexts: Contexts) -> tuple[dict[str, list[str]], dict[str, list[Event]]]:
    """Made-up friends (the next users) and events elsewhere, for the ops that borrow from them."""
    users = sorted(set(contexts.user_ids.tolist()))
    friends = {user: [users[(i + step) % len(users)] for step in (1, 2, 3)] for i, user in enumerate(users)}
    earliest = int(contexts.history_timestamps.min()) if len(contexts.history_timestamps) else 0
    rows = contexts.target_rows.tolist()
    elsewhere = {
        user: [Event(rows[(i + step) % len(rows)], 0, earliest) for step in (1, 5, 9)]
        for i, user in enumerate(users)
    }
    return friends, elsewhere
