"""A catalogue in which item n goes with n + 1 and n + 2, and what a run stores of that."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recsys.augment.online import OnlineAugmenter
from recsys.augment.online_side import OnlineSide, load_side, write_online
from recsys.augment.policy import Policy, policy_from_plain
from recsys.config import OnlineConfig
from recsys.contexts import Contexts, Vocabulary
from recsys.types import History, Owned, Query, UserFeatures

NUM_ITEMS = 40
VOCABULARY = Vocabulary([f"i{row}" for row in range(NUM_ITEMS)])
MOMENT = 1_700_000_000
DAY = 86_400

FULL = policy_from_plain(
    {
        "name": "full",
        "history": {
            "acceptance": {"min_length": 1, "max_modification": 0.9},
            "ops": [
                {"op": "insert", "rate_range": [0.4, 1.0]},
                {"op": "backward_extension", "min_confidence": 0.05},
                {"op": "item_dropout", "min_length": 2, "min_keep": 1},
            ],
        },
    }
)


def shop_contexts(users: int = 80, num_items: int = NUM_ITEMS) -> Contexts:
    """User u had u, u + 1, u + 2, a day apart, and then took u + 3 (modulo the catalogue)."""
    rows = (np.arange(users)[:, None] + np.arange(4)) % num_items
    times = MOMENT - DAY * np.arange(4, 1, -1)
    return Contexts(
        user_ids=np.array([f"u{user}" for user in range(users)]),
        moments=np.full(users, MOMENT - DAY, np.int64),
        history_offsets=3 * np.arange(users + 1, dtype=np.int64),
        history_rows=rows[:, :3].reshape(-1).astype(np.int64),
        history_events=np.zeros(3 * users, np.int64),
        history_timestamps=np.tile(times, users).astype(np.int64),
        target_offsets=np.arange(users + 1, dtype=np.int64),
        target_rows=rows[:, 3].astype(np.int64),
        target_weights=np.ones(users, np.float32),
        weights=np.ones(users, np.float32),
        parents=np.full(users, -1, np.int64),
    )


def stored_side(folder: Path, policy: Policy = FULL) -> OnlineSide:
    write_online(folder, policy, shop_contexts(), NUM_ITEMS)
    return load_side(folder, VOCABULARY)


def augmenter(
    side: OnlineSide, policy: Policy = FULL, clock=None, seed: int = 0, **settings
) -> OnlineAugmenter:
    more = {} if clock is None else {"clock": clock}
    # Unless a test is about it, time plays no part.
    config = OnlineConfig(**{"budget_ms": 60_000, **settings})
    return OnlineAugmenter(policy, VOCABULARY, config, seed, side=side, **more)


def ask(items: list[str], user: str | None = "ann", num_events: int | None = None, **more) -> Query:
    times = tuple(MOMENT - DAY * (len(items) - place) for place in range(len(items)))
    history = History(tuple(items), ("purchase",) * len(items), times)
    known = len(items) if num_events is None else num_events
    owned = Owned(tuple(items), (1,) * len(items), times)
    return Query(10, MOMENT, user, UserFeatures(user or "", history, known, owned), **more)


class Ticking:
    """A clock that moves by one step each time it is read; the steps are counted."""

    def __init__(self, step: float) -> None:
        self.now, self.step, self.reads = 0.0, step, 0

    def __call__(self) -> float:
        self.now += self.step
        self.reads += 1
        return self.now
