"""The search over a dataset on disk."""

from __future__ import annotations

from pathlib import Path

from recsys.arms import Trials
from recsys.config import Config
from recsys.search import search, verdict
from recsys.search.bench import TrialsBench
from recsys.search.folder import WORK, identity_of, search_folder
from recsys.search.search import Order, search_policy
from recsys.search.space import starting_points
from recsys.search.verdict import Result

_OWN = (search.IDENTITY, search.FACTS, search.WINNER, verdict.BEST, verdict.SETTINGS, verdict.RECORD)


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
    with search_folder(out, _OWN, fresh=fresh):
        run = config.run.model_copy(update={"seed": order.seed})
        config = config.model_copy(update={"augment": type(config.augment)(), "run": run})
        policies = ",".join(policy.policy_id for policy in starting_points(order.policies).values())
        identity = identity_of(data, config, seed=str(order.seed), **{"starting points": policies})
        return search_policy(
            lambda: TrialsBench(Trials.prepare(data, out / WORK, config)), out, order, identity
        )
