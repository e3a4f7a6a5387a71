"""History ops, each alone: rows per second and core, acceptance and provenance included."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rounds import Line, Report, compared, timed

from recsys.augment.example import Event, HistoryExample
from recsys.augment.examples import context_examples
from recsys.augment.expand import expand_contexts
from recsys.augment.grow import grow
from recsys.augment.lending import history_side
from recsys.augment.neighbours import fit_covisitation
from recsys.augment.policy import Policy, load_policy, policy_from_plain
from recsys.augment.provenance import provenance_table
from recsys.augment.registry import OPS
from recsys.augment.store import user_contexts
from recsys.contexts import Contexts, Vocabulary
from recsys.data.interactions import Dataset

BAR = 100_000.0
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


def measure_ops(contexts: Contexts, num_items: int, report: Report, repeats: int) -> None:
    """Every history op of the registry, alone, over rows that it edits: rows left alone would be cheap."""
    neighbours = fit_covisitation(contexts, num_items).neighbours()
    friends, elsewhere = _acquaintances(contexts)
    for name in sorted(name for name, op in OPS.items() if op.kind == "history"):
        policy = policy_from_plain(
            {"name": "bench", "history": {"ops": [{"op": name, **_SETTINGS.get(name, {})}]}}
        )
        side = history_side(contexts, num_items, policy.history.needs, neighbours, friends, elsewhere)
        examples = list(context_examples(contexts, 0, len(contexts), side))
        edited = grow(examples, policy.history, 1, "history", policy.policy_id).originals
        if not edited:
            report.skipped[f"history op {name}"] = "no row of this dataset is edited by it"
            continue
        rows = [edited[i % len(edited)] for i in range(len(contexts))]
        line = Line("history op", name, "rows", 0.0, bar=BAR)
        line.note = f"edits {len(edited) / len(contexts):.0%} of the rows; these alone"
        report.lines.append(
            compared(line, timed(lambda rows=rows, policy=policy: _grown(rows, policy)), None, repeats)
        )


def measure_branch(contexts: Contexts, num_items: int, report: Report, repeats: int) -> None:
    """The history branch of the preset `standard`, from arrays to arrays."""
    policy, vocabulary = load_policy("standard"), Vocabulary([f"i{row}" for row in range(num_items)])

    def work() -> float:
        expand_contexts(contexts, vocabulary, policy, 1, created=0)
        return float(len(contexts))

    report.lines.append(
        compared(
            Line("history branch", "standard, arrays to arrays", "rows", 0.0), timed(work), None, repeats
        )
    )


def _grown(examples: list[HistoryExample], policy: Policy) -> float:
    policy_id = policy.policy_id
    done = 0
    for start in range(0, len(examples), _CHUNK):
        grown = grow(examples[start : start + _CHUNK], policy.history, 1, "history", policy_id)
        table = provenance_table(
            kind="history", row_ids=grown.row_ids, parent_ids=grown.parent_ids, policy_id=policy_id,
            plans=grown.plans, seed=1, scores={"modification": grown.modification}, created=0,
        )  # fmt: skip
        done += len(table)
    return float(done)


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
