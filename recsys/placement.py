"""Places kept for new items: after ranking, before rules."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.types import Floats

FIRST, LAST = 10, 20
"""New items are placed from place FIRST (0 is best) up to LAST: the first ten stay as they were ranked."""


def keep_places(
    order: NDArray[np.int64], scores: Floats, new_ranks: Floats, places: int
) -> tuple[NDArray[np.int64], Floats, int]:
    """Move the best new items up until `places` of the first twenty are new ones, spread over the second ten.

    Those that ranking brought into the first twenty count. A moved item takes the score of the item that
    stands before it, so that scores still fall along the list.

    Args:
        order: Candidates, best first.
        scores: (c,) of all candidates, in their own order.
        new_ranks: (c,) rank among new items, 1 is best; 0 for items that are not new.
        places: How many of the first twenty at least; there may be fewer new candidates.

    Returns:
        The new order, the scores with those of moved items raised, and how many were moved.
    """
    head = order[:LAST]
    missing = places - int((new_ranks[head] > 0).sum())
    if missing <= 0 or len(order) <= FIRST:
        return order, scores, 0
    waiting = order[LAST:]
    coming = waiting[new_ranks[waiting] > 0]
    coming = coming[np.argsort(new_ranks[coming], kind="stable")][:missing]
    if not len(coming):
        return order, scores, 0
    # Old items of the second ten give way from its end; new ones among them stay where they are.
    old = np.flatnonzero(new_ranks[head] == 0)
    leaving = head[old[old >= FIRST][::-1][: len(coming)]]
    coming = coming[: len(leaving)]
    stay = head[~np.isin(head, leaving)]
    tail = order[LAST:]
    gap = (LAST - FIRST) / max(len(coming), 1)
    out = stay.tolist()
    for i, one in enumerate(coming.tolist()):
        out.insert(min(FIRST + int((i + 1) * gap) - 1, len(out)), one)
    moved = np.array([*out, *leaving[::-1], *tail[~np.isin(tail, coming)]], np.int64)
    raised = scores.copy()
    place = {int(one): at for at, one in enumerate(out)}
    for one in coming.tolist():
        raised[one] = raised[moved[place[one] - 1]]
    return moved, raised, len(coming)
