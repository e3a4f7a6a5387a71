"""Successive targets: every later moment of a user is a case, with all that was known before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.evaluate.answers import AnswerSheet, Histories, ItemSets, item_rows, positives, unix_seconds
from recsys.randomness import generator
from recsys.types import Rows


@dataclass(frozen=True, slots=True)
class Caps:
    """How many cases are measured; which ones is drawn, keyed by the seed."""

    per_user: int = 5
    in_all: int = 4000
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Cases:
    """Cases ready to be ranked for."""

    sheet: AnswerSheet
    moments: NDArray[np.int64]
    """(n,) Unix seconds: the history of a case is strictly earlier."""
    counts: dict[str, int]
    """`measured`, and what was left out: `without_history`, `beyond_per_user`, `beyond_in_all`."""


def successive_cases(
    interactions: pd.DataFrame, item_ids: Sequence[str], cut: int, end: int, grain: int, caps: Caps
) -> Cases:
    """One case per (user, moment) in [cut, end), answered by the distinct items of that moment.

    A moment is a timestamp floored to the grain, so in a log that knows only days it is a day. Users who
    came after the cut have cases from their second moment on.

    Args:
        interactions: `user_id`, `item_id`, `timestamp`, `event_type` of everybody, before the cut and after.
        item_ids: The catalogue, in row order.
        cut: Unix seconds.
        end: Unix seconds; later events are not looked at.
        grain: Seconds to which moments are floored.
        caps: How many cases are measured.

    Raises:
        LeakageError: a row carries a `parent_id`: it is augmented.
        InputError: an event's item is not in the catalogue.
    """
    events = positives(interactions, "the events")
    items = pd.Index(np.asarray(item_ids, dtype=object))
    stamps = unix_seconds(events["timestamp"])
    codes, names = pd.factorize(events["user_id"].astype(str), sort=True)
    rows = item_rows(events["item_id"], items, "the events")
    known = stamps < end
    log = Histories.from_events(codes[known].astype(np.int64), rows[known], stamps[known], len(names))
    users, moments, first = _later_moments(log, cut, grain)
    lengths = _before(log, users, moments) - log.offsets[users]
    counts = {"without_history": int((lengths == 0).sum())}
    chosen = np.flatnonzero(lengths > 0)
    chosen = _capped(chosen, users, names, caps, counts)
    users, moments, first = users[chosen], moments[chosen], first[chosen]
    histories = _spans(log, log.offsets[users], _before(log, users, moments))
    answers = _spans(log, first, _before(log, users, moments + grain))
    sheet = AnswerSheet(
        users=pd.Index(names)[users],
        items=items,
        truth=ItemSets.from_pairs(answers.users, answers.rows, len(users), len(items)),
        histories=histories,
        history_counts=np.diff(histories.offsets),
        item_counts=np.bincount(log.rows[log.timestamps < cut], minlength=len(items)).astype(np.int64),
        protocol="successive",
    )
    return Cases(sheet, moments, {"measured": len(users), **counts})


def _later_moments(log: Histories, cut: int, grain: int) -> tuple[Rows, NDArray[np.int64], Rows]:
    """User, floored moment and first position in the log of each later moment.

    Events before the cut that share a moment with one after it are neither its history nor its answers.
    """
    later = np.flatnonzero(log.timestamps >= cut)
    users, moments = log.users[later], log.timestamps[later] // grain * grain
    new = np.r_[True, (np.diff(users) != 0) | (np.diff(moments) != 0)][: len(later)]
    return users[new], moments[new], later[new]


def _before(log: Histories, users: Rows, moments: NDArray[np.int64]) -> Rows:
    """Position just after each user's last event strictly before a moment."""
    spans = zip(log.offsets[users].tolist(), log.offsets[users + 1].tolist(), moments.tolist(), strict=True)
    found = [low + int(np.searchsorted(log.timestamps[low:high], at)) for low, high, at in spans]
    return np.array(found, np.int64)


def _capped(cases: Rows, users: Rows, names: pd.Index[str], caps: Caps, counts: dict[str, int]) -> Rows:
    """The cases within the caps, ascending: some of each user, then whole users until there are enough.

    What is drawn of a user is keyed by the user: nobody else in the log changes it.
    """
    owners, starts, sizes = np.unique(users[cases], return_index=True, return_counts=True)
    kept, places = [], generator(caps.seed, "successive", "users").permutation(len(owners))
    total = 0
    for place in places.tolist():
        mine = cases[starts[place] : starts[place] + sizes[place]]
        if len(mine) > caps.per_user:
            draw = generator(caps.seed, "successive", str(names[owners[place]]))
            mine = np.sort(draw.choice(mine, caps.per_user, replace=False))
        if total + len(mine) > caps.in_all:
            break
        kept.append(mine)
        total += len(mine)
    within = int(np.minimum(sizes, caps.per_user).sum())
    counts["beyond_per_user"] = len(cases) - within
    counts["beyond_in_all"] = within - total
    return np.sort(np.concatenate(kept)) if kept else np.empty(0, np.int64)


def _spans(log: Histories, starts: Rows, stops: Rows) -> Histories:
    sizes = stops - starts
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    at = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - starts, sizes)
    return Histories(offsets, log.rows[at], log.timestamps[at])
