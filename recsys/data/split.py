"""Global temporal cuts: what is fitted comes first, then what chooses, then what is reported.

A moment is never divided: events at the cut belong to what comes after it. Within a moment no order is
relied on, since many logs only know the day.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.config import SplitConfig
from recsys.data.report import refusal
from recsys.types import NEGATIVE_EVENTS


def temporal_cuts(timestamps: NDArray[np.int64], config: SplitConfig) -> tuple[int, int]:
    """The validation cut and the report cut, in Unix seconds; events with `timestamp < cut` lie before.

    The report cut is the quantile of time that leaves `config.report` of the events after it, the
    validation cut leaves `config.validation` of them between the two. Where ties would leave one of the
    three parts empty, the cut moves to the nearest moment that does not.

    Args:
        timestamps: (events,) in any order.
        config: The two shares.

    Raises:
        InputError: fewer than three distinct moments.
    """
    moments = np.unique(timestamps)
    if len(moments) < 3:
        raise refusal("too_few_moments", "interactions", "timestamp", len(timestamps))
    report = _quantile(timestamps, 1.0 - config.report)
    validation = _quantile(timestamps, 1.0 - config.report - config.validation)
    place = int(np.searchsorted(moments, report))  # first moment of the report part
    if place < 2:
        place, report = 2, int(moments[2])
    earlier = int(np.searchsorted(moments, validation))
    if not 1 <= earlier < place:
        validation = int(moments[max(1, min(earlier, place - 1))])
    return validation, report


def events_before(interactions: pd.DataFrame, cut: int) -> pd.DataFrame:
    """The events strictly before a cut, with a fresh index."""
    return interactions[interactions["timestamp"] < cut].reset_index(drop=True)


def held_out_targets(interactions: pd.DataFrame, start: int, end: int | None = None) -> pd.DataFrame:
    """What known users did in [start, end): distinct positive pairs, in order of first occurrence.

    A user is known with at least one positive event before `start`. Items may be new: those are cold.

    Returns:
        user_id, item_id.
    """
    times = interactions["timestamp"].to_numpy()
    positive = ~interactions["event_type"].isin(NEGATIVE_EVENTS).to_numpy()
    inside = positive & (times >= start)
    if end is not None:
        inside &= times < end
    known = interactions["user_id"].to_numpy()[positive & (times < start)]
    after = interactions.loc[inside, ["user_id", "item_id"]].drop_duplicates()
    return after[after["user_id"].isin(set(known))].reset_index(drop=True)


def _quantile(timestamps: NDArray[np.int64], share: float) -> int:
    # For whole seconds, `t < ceil(q)` and `t < q` say the same.
    return math.ceil(float(np.quantile(timestamps, share)))
