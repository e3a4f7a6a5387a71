"""Lists for many users: the recommendation path over a run's own snapshot of features, as a table."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict

import pyarrow as pa

from recsys.loading import LoadedRun
from recsys.terms import NO_RULES, Rules
from recsys.types import Augmenter, Query, RankedList

_CHUNK = 2048


def recommend_users(
    loaded: LoadedRun,
    users: Sequence[str],
    k: int,
    moment: int,
    *,
    exclude_seen: bool = False,
    rules: Rules = NO_RULES,
    explain: bool = False,
) -> pa.Table:
    """Ranked lists as of `moment` (Unix seconds), of items for sale today, augmented as requests are.

    Args:
        loaded: The run.
        users: Whose lists.
        k: Places.
        moment: Unix seconds.
        exclude_seen: Leave out what a user has had.
        rules: For every list; what they do not say the run's rules decide.
        explain: Add a column `explanation`.

    Returns:
        user_id, item_id, rank (1 is best), score, fallback (null where the list is personal): k rows per
        user, fewer only where the allowed catalogue is smaller. `explanation` is JSON with the fields of
        `terms.Explanation`.
    """
    source = loaded.snapshot()
    today = max(moment, int(time.time()))
    parts = []
    for start in range(0, len(users), _CHUNK):
        chunk = users[start : start + _CHUNK]
        queries = [
            Query(
                k,
                moment,
                user,
                features,
                exclude_seen=exclude_seen,
                available_at=today,
                rules=rules,
                explain=explain,
            )
            for user, features in zip(chunk, source.fetch(chunk), strict=True)
        ]
        answers = loaded.recommender.recommend(as_served(queries, loaded.augmenter))
        parts.append(_table(chunk, answers, explain))
    return pa.concat_tables(parts)


def as_served(queries: Sequence[Query], augmenter: Augmenter) -> list[Query]:
    """Queries as a service with time to spare would put them."""
    return [augmenter.augment(query, limited=False) for query in queries]


def _table(users: Sequence[str], answers: Sequence[RankedList], explain: bool) -> pa.Table:
    places = [
        (user, answer.fallback, place)
        for user, answer in zip(users, answers, strict=True)
        for place in answer.items
    ]
    columns = {
        "user_id": pa.array([user for user, _, _ in places], pa.string()),
        "item_id": pa.array([place.item_id for _, _, place in places], pa.string()),
        "rank": pa.array([place.rank for _, _, place in places], pa.int32()),
        "score": pa.array([place.score for _, _, place in places], pa.float32()),
        "fallback": pa.array([reason for _, reason, _ in places], pa.string()),
    }
    if explain:
        columns["explanation"] = pa.array(
            [json.dumps(asdict(p.explanation)) if p.explanation else None for _, _, p in places], pa.string()
        )
    return pa.table(columns)
