"""Whether a run augments requests: short histories with views against the same without, on validation users.

Measured with the fit of `select` and the run's own ranker. That ranker was fitted to these users' lists
without views, so that the comparison, where it leans, leans against views.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from recsys.augment.online_side import write_online
from recsys.augment.policy import load_policy
from recsys.batch import as_served
from recsys.config import OnlineConfig
from recsys.contexts import Contexts
from recsys.evaluate.answers import ItemSets
from recsys.evaluate.bootstrap import intervals
from recsys.evaluate.metrics import Values, per_user
from recsys.fit import Shop, held_out_queries, load_fit
from recsys.loading import load_augmenter
from recsys.randomness import generator
from recsys.recommend import Recommender
from recsys.types import Augmenter, Query, Rows

METRIC, K = "ndcg@10", 10
MIN_USERS = 100
"""With fewer validation users under the threshold nothing can be said."""


def store_online(folder: Path, shop: Shop, contexts: Contexts) -> None:
    """Write what requests to a fit are augmented with into its folder, unless that is switched off.

    Args:
        folder: The fit's.
        shop: The data.
        contexts: What the fit was made of.
    """
    settings = shop.config.online
    if settings.enabled != "off":
        write_online(folder, load_policy(settings.policy), contexts, len(shop.vocabulary))


def decide_online(
    folder: Path, ranker: Path, shop: Shop, contexts: Contexts, start: int, end: int
) -> dict[str, Any]:
    """Whether requests are augmented (`kept`), and what that was decided on, for the manifest.

    Args:
        folder: The fit from before `start`, which the side data of its contexts is written beside.
        ranker: The run's ranker; without the file candidates are ranked by match score.
        shop: The data.
        contexts: What the fit was made of.
        start: Begin of the validation slice.
        end: Its end.
    """
    config = shop.config
    settings = config.online
    if settings.enabled == "off":
        return {"kept": False, "why": "online.enabled is off"}
    store_online(folder, shop, contexts)
    recommender = load_fit(folder, config, ranker)
    augmenter = load_augmenter(folder, config, recommender.shelf)
    said = {"policy_id": augmenter.policy_id, "skipped": dict(augmenter.skipped)}
    if settings.enabled == "on":
        return {"kept": True, "why": "online.enabled is on", **said}
    queries, targets = held_out_queries(folder, shop.answers(start, end), start, end, K)
    short = _short(queries, settings, config.run.seed)
    if len(short) < MIN_USERS:
        why = f"{len(short)} validation users below {settings.below} events, {MIN_USERS} needed"
        return {"kept": False, "why": why, **said}
    figures = measure_views(
        recommender, augmenter, [queries[i] for i in short], [targets[i] for i in short], config.run.seed
    )
    kept = figures["all"]["low"] > 0 and figures["novel"]["high"] >= 0
    why = "lists got better" if kept else "lists did not get better beyond chance"
    return {"kept": kept, "why": why, "users": len(short), **said, METRIC: figures}


def measure_views(
    recommender: Recommender,
    augmenter: Augmenter,
    queries: Sequence[Query],
    targets: Sequence[Rows],
    seed: int,
) -> dict[str, dict[str, float]]:
    """By task (`all`, and `novel`, which leaves out what a user has had): means without and with views.

    `low` and `high` bound their difference, a 95 % interval over users.
    """
    num_items = len(recommender.vocabulary)
    truth = _sets(targets, num_items)
    owned = [query.features.owned.item_ids if query.features else () for query in queries]
    had = _sets([rows[rows >= 0] for rows in map(recommender.vocabulary.rows, owned)], num_items)
    figures = {}
    for task in ("all", "novel"):
        wanted = truth if task == "all" else truth.without(had, num_items)
        asked = [replace(query, k=K, exclude_seen=task == "novel") for query in queries]
        off, on = (
            _scores(recommender, arm, wanted, num_items) for arm in (asked, as_served(asked, augmenter))
        )
        known = np.flatnonzero(~np.isnan(off))  # a user who took nothing new has nothing to be found
        difference = (on - off)[known]
        ((low, high),) = (
            bounds[:, 0].tolist()
            for bounds in intervals(
                [(np.arange(len(known)), difference[:, None])], np.arange(len(known)), seed=seed
            )
        )
        figures[task] = {
            "users": len(known),
            "off": _rounded(off[known]),
            "on": _rounded(on[known]),
            "difference": _rounded(difference),
            "low": round(low, 6),
            "high": round(high, 6),
        }
    return figures


def _short(queries: Sequence[Query], settings: OnlineConfig, seed: int) -> list[int]:
    """Positions of the users under the threshold, at most as many as are to be measured."""
    found = [
        i
        for i, query in enumerate(queries)
        if query.features is not None and 0 < query.features.num_events < settings.below
    ]
    drawn = generator(seed, "online", "users").permutation(found)[: settings.measured_users]
    return sorted(drawn.tolist())


def _scores(recommender: Recommender, queries: Sequence[Query], truth: ItemSets, num_items: int) -> Values:
    lists = np.full((len(queries), K), -1, np.int64)
    for i, answer in enumerate(recommender.recommend(queries)):
        rows = recommender.vocabulary.rows([place.item_id for place in answer.items])
        lists[i, : len(rows)] = rows
    return per_user(lists, truth, num_items, (K,))[METRIC]


def _sets(rows: Sequence[Rows], num_items: int) -> ItemSets:
    users = np.repeat(np.arange(len(rows)), [len(part) for part in rows])
    return ItemSets.from_pairs(users, np.concatenate([np.empty(0, np.int64), *rows]), len(rows), num_items)


def _rounded(values: Values) -> float:
    return round(float(values.mean()), 6) if len(values) else 0.0
