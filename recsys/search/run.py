"""The search over a dataset on disk."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from recsys.arms import Trials
from recsys.artifacts import alone
from recsys.config import Config
from recsys.data.interactions import load_dataset
from recsys.errors import InputError
from recsys.search import search, verdict
from recsys.search.bench import TrialsBench
from recsys.search.search import Order, search_policy
from recsys.search.space import starting_points
from recsys.search.verdict import Result

WORK = "work"
_OWN = (
    search.DATABASE, f"{search.DATABASE}-wal", f"{search.DATABASE}-shm",
    search.IDENTITY, search.FACTS, search.WINNER, search.SPENT, search.RUNS,
    verdict.BEST, verdict.SETTINGS, verdict.RECORD, WORK,
)  # fmt: skip
"""What a search writes, and what beginning anew takes away."""


def run_search(data: Path, out: Path, order: Order, config: Config, *, fresh: bool = False) -> Result:
    """Search over a dataset; see `recsys.search.search.search_policy`.

    Args:
        data: As for `recsys run`.
        out: Folder of this search; prepared features and vectors go into `work` there.
        order: Budget, seed and starting points.
        config: Everything but the `augment` table, which is what is searched.
        fresh: Take an earlier search in the folder away first.

    Raises:
        RecsysError: bad data, settings or policies, a folder of another search, or one that is searched now.
    """
    if out.exists() and not out.is_dir():
        raise InputError("is a file, not a folder to write into", file=str(out))
    with alone(out):
        return _searched(data, out, order, config, fresh)


def _searched(data: Path, out: Path, order: Order, config: Config, fresh: bool) -> Result:
    if fresh:
        for name in _OWN:
            path = out / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    run = config.run.model_copy(update={"seed": order.seed})
    config = config.model_copy(update={"augment": type(config.augment)(), "run": run})
    digests = load_dataset(data, config.data).digests
    policies = ",".join(policy.policy_id for policy in starting_points(order.policies).values())
    identity = {
        "data": hashlib.sha256(repr(sorted(digests.items())).encode()).hexdigest(),
        "configuration": config.digest(),
        "seed": str(order.seed),
        "starting points": policies,
    }
    return search_policy(lambda: TrialsBench(Trials.prepare(data, out / WORK, config)), out, order, identity)
