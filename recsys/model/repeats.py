"""What each target counts in training: less where its user had it before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recsys.contexts import Contexts


def weighing_repeats(contexts: Contexts, weight: float) -> Contexts:
    """The rows with `weight` times the weight of each target that its user had at an earlier moment.

    What somebody buys again says little of what is new to him, and where people come back it is most of what
    they buy: at full weight the towers learn to repeat, which another source of candidates does for nothing.

    Args:
        contexts: All rows of their users; an augmented row is read as its user at its moment.
        weight: 1 gives the rows back.
    """
    if weight == 1.0 or not len(contexts):
        return contexts
    _, users = np.unique(contexts.user_ids, return_inverse=True)
    sizes = np.diff(contexts.target_offsets)
    owners, moments = np.repeat(users, sizes), np.repeat(contexts.moments, sizes)
    pairs = owners * (int(contexts.target_rows.max()) + 1) + contexts.target_rows
    order = np.lexsort((moments, pairs))
    new = np.r_[True, np.diff(pairs[order]) != 0]
    earliest = moments[order][np.flatnonzero(new)][np.cumsum(new) - 1]
    again = np.empty(len(order), np.bool_)
    again[order] = moments[order] > earliest
    weights = np.where(again, np.float32(weight), np.float32(1.0)) * contexts.target_weights
    return replace(contexts, target_weights=weights.astype(np.float32))
