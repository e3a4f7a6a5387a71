"""The search over a dataset on disk."""

from __future__ import annotations

from pathlib import Path

from recsys.arms import Trials
from recsys.config import Config
from recsys.search.folder import WORK, identity_of, search_folder
from recsys.tune import tune, verdict
from recsys.tune.bench import TrialsBench
from recsys.tune.tune import Order, tune_settings
from recsys.tune.verdict import Result

_OWN = (tune.IDENTITY, tune.WHOLE, tune.WINNER, verdict.BEST, verdict.RECORD)


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
    with search_folder(out, _OWN, fresh=fresh):
        identity = identity_of(data, config, seed=str(order.seed), task=order.task)
        return tune_settings(
            lambda: TrialsBench(Trials.prepare(data, out / WORK, config), order.task, order.seed),
            out, order, config, identity,
        )  # fmt: skip
