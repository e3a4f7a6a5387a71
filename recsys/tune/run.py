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
from recsys.tune import tune, verdict
from recsys.tune.bench import TrialsBench
from recsys.tune.tune import Order, tune_settings
from recsys.tune.verdict import Result

WORK = "work"
_OWN = (
    tune.DATABASE, f"{tune.DATABASE}-wal", f"{tune.DATABASE}-shm", tune.IDENTITY, tune.SPENT, tune.WHOLE,
    tune.WINNER, tune.RUNS, verdict.BEST, verdict.RECORD, WORK,
)  # fmt: skip
"""What a search writes, and what beginning anew takes away."""


def run_tune(data: Path, out: Path, order: Order, config: Config, *, fresh: bool = False) -> Result:
    """Tune over a dataset; see `recsys.tune.tune.tune_settings`.

    Args:
        data: As for `recsys run`.
        out: Folder of this search; prepared features and vectors go into `work` there.
        order: Budget, seeds and task.
        config: The settings to begin with and to beat. Augmentation takes no part: it has its own search.
        fresh: Take an earlier search in the folder away first.

    Raises:
        RecsysError: bad data or settings, a folder of another search, or one that is searched now.
    """
    if out.exists() and not out.is_dir():
        raise InputError("is a file, not a folder to write into", file=str(out))
    with alone(out):
        if fresh:
            for name in _OWN:
                path = out / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        digests = load_dataset(data, config.data).digests
        identity = {
            "data": hashlib.sha256(repr(sorted(digests.items())).encode()).hexdigest(),
            "configuration": config.digest(),
            "seed": str(order.seed),
            "task": order.task,
        }
        return tune_settings(
            lambda: TrialsBench(Trials.prepare(data, out / WORK, config), order.task, order.seed),
            out, order, config, identity,
        )  # fmt: skip
