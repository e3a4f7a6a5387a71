"""The parts of a slice of time that teach the ranker: lists as retrieval makes them when each begins."""

from __future__ import annotations

import logging
from collections.abc import Set
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.config import Config
from recsys.fit import Shop, held_out_queries, load_fit, write_later
from recsys.ranking import Slice

logger = logging.getLogger(__name__)


def slice_cuts(times: NDArray[np.int64], start: int, end: int, num: int) -> list[int]:
    """The moments at which the parts of [start, end) begin, with about as many events in each.

    Fewer where events share so few moments that a part would be empty.
    """
    inside = np.sort(times[(times >= start) & (times < end)])
    places = [len(inside) * part // num for part in range(1, num)]
    return sorted({start, *(int(inside[place]) for place in places if len(inside))})


def ranking_slices(
    fit: Path, shop: Shop, config: Config, start: int, end: int, users: Set[str] | None = None
) -> list[Slice]:
    """What the ranker learns from: `rank.slices` parts of [start, end).

    The towers are those of the fit in all of them. Everything else (user histories, popularity, item-to-item
    weights) is as of the beginning of each part, and labels are what users took within it: later parts say
    how the ranker fares when the towers have aged, as they do between two trainings.

    Args:
        fit: A fit of the events before `start`; later ones are written beside it.
        shop: The data.
        config: Which sources propose, and `rank.slices`.
        start: Unix seconds.
        end: Unix seconds.
        users: Who may teach it; everybody when None.
    """
    times = shop.dataset.interactions["timestamp"].to_numpy(np.int64)
    cuts = slice_cuts(times, start, end, config.rank.slices)
    found = []
    for number, (begin, finish) in enumerate(pairwise([*cuts, end])):
        folder = fit.with_name(f"{fit.name}-{number + 1}") if number else fit
        logger.info("ranker: what was known when part %d of %d begins", number + 1, len(cuts))
        if number:
            write_later(folder, fit, shop, begin)
        answers = shop.answers(begin, finish)
        if users is not None:
            answers = {user: rows for user, rows in answers.items() if user in users}
        queries, targets = held_out_queries(folder, answers, begin, finish, k=1)
        found.append(Slice(load_fit(folder, config, None), queries, targets))
    return found
