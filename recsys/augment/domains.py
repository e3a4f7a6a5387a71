"""Two domains with shared users: the other one's events in terms of this catalogue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from recsys.augment.example import Event
from recsys.augment.lending import UserEvents
from recsys.contexts import Contexts


def translated(
    contexts: Contexts, foreign: Mapping[str, Sequence[tuple[str, int]]], min_users: int = 3
) -> dict[str, list[Event]]:
    """Another domain's events in terms of this catalogue, learned from the users that both have.

    Each foreign item stands for the one item here that its users had most often compared with everybody.

    Args:
        contexts: Fit rows of this domain, none augmented.
        foreign: (item id there, Unix seconds) by user id.
        min_users: Shared users who must have had both items.
    """
    users = UserEvents(contexts)
    owned = users.items()
    shared = [user for user in users.user_ids if user in foreign]
    here = Counter(item for user in shared for item in owned[users.row_of[user]])
    both: Counter[tuple[str, int]] = Counter()
    for user in shared:
        for there in {item for item, _ in foreign[user]}:
            both.update((there, item) for item in owned[users.row_of[user]])
    best: dict[str, tuple[float, int]] = {}
    for (there, item), count in both.items():
        if count >= min_users:
            best[there] = min(best.get(there, (0.0, 0)), (-count / here[item] ** 0.5, item))
    return {
        user: [
            Event(best[item][1], 0, time) for item, time in sorted(events, key=lambda e: e[1]) if item in best
        ]
        for user, events in foreign.items()
    }
