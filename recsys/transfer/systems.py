"""Towers of one shop in another, and histories that go on where another shop's or a friend's events lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.contexts import Contexts
from recsys.evaluate.answers import ItemSets
from recsys.evaluate.topk import blocks, top_dense
from recsys.model.fitted import TowersFit
from recsys.model.towers import UserTower
from recsys.types import Floats, Rows

K = 50
"""Length of the lists."""
_CELLS = 20_000_000


class Lent(NamedTuple):
    """One event that is put into a history."""

    row: int
    event_code: int
    timestamp: int


def carried(towers: TowersFit, vectors: Floats) -> TowersFit:
    """The user tower of one shop over the texts of another.

    What is carried over is the recency pool alone: the weights of places in the history, of event types and
    of time gaps. Items are their whitened text; no item of the other shop has evidence, so residuals are
    zero and nothing is lifted.

    Args:
        towers: Fitted on the first shop.
        vectors: (n, dim) whitened text vectors of the second shop's catalogue.
    """
    zeros = np.zeros(vectors.shape, np.float32)
    state = {**towers.state, "target_residual": zeros, "history_residual": zeros}
    if "bias" in state:
        state["bias"] = np.zeros(len(vectors), np.float32)
    nothing = np.zeros(len(vectors), np.int64)
    return replace(towers, state=state, text_vectors=vectors, item_counts=nothing, popularity=None, lift=0.0)


def untrained(towers: TowersFit) -> TowersFit:
    """The same towers with the recency pool as it was before any training."""
    config = towers.config
    fresh = UserTower(config.history_length, config.decay).state_dict()
    state = {f"user.{name}": value.numpy().copy() for name, value in fresh.items()}
    return replace(towers, state={**towers.state, **state})


def widened(towers: TowersFit, more: Floats) -> TowersFit:
    """Towers that can read more items in a history: behind the catalogue, by their text alone.

    Args:
        towers: Fitted on a catalogue of n items.
        more: (m, dim) text vectors in the same space; their rows are n to n + m - 1.
    """
    state = dict(towers.state)
    for name in ("target_residual", "history_residual", "bias"):
        if name in state:
            state[name] = _with_zeros(state[name], len(more))
    return replace(
        towers,
        state=state,
        text_vectors=np.concatenate([towers.text_vectors, more]),
        item_counts=np.concatenate([towers.item_counts, np.zeros(len(more), np.int64)]),
        popularity=None if towers.popularity is None else _with_zeros(towers.popularity, len(more)),
    )


def _with_zeros(table: Floats, number: int) -> Floats:
    extra = np.zeros((number, *table.shape[1:]), np.float32)
    wider: Floats = np.concatenate([table, extra])
    return wider


def merged(contexts: Contexts, lent: Mapping[str, Sequence[Lent]], length: int) -> Contexts:
    """Contexts whose histories hold lent events too, at their time, as far as they are strictly earlier.

    At one second what the user did comes last. Contexts of users to whom nothing is lent stay as they are.

    Args:
        contexts: Who is recommended to; not augmented rows but what is known of a user.
        lent: By user id.
        length: The newest events that are kept.
    """
    rows: list[NDArray[np.int64]] = []
    codes: list[NDArray[np.int64]] = []
    times: list[NDArray[np.int64]] = []
    for i in range(len(contexts)):
        history = contexts.history(i)
        moment = int(contexts.moments[i])
        more = [event for event in lent.get(str(contexts.user_ids[i]), ()) if event.timestamp < moment]
        if not more:
            rows.append(np.asarray(history.rows))
            codes.append(np.asarray(history.event_codes))
            times.append(np.asarray(history.timestamps))
            continue
        added = np.array(more, np.int64).reshape(-1, 3)
        stamps = np.concatenate([added[:, 2], history.timestamps])
        order = np.argsort(stamps, kind="stable")[-length:]
        rows.append(np.concatenate([added[:, 0], history.rows])[order])
        codes.append(np.concatenate([added[:, 1], history.event_codes])[order])
        times.append(stamps[order])
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in rows])]).astype(np.int64)
    return replace(
        contexts,
        history_offsets=offsets,
        history_rows=_joined(rows),
        history_events=_joined(codes),
        history_timestamps=_joined(times),
    )


def ranked(towers: TowersFit, contexts: Contexts, num_items: int, seen: ItemSets | None) -> Rows:
    """(contexts, K) rows of the first `num_items` items, best first, without what is seen.

    A context without a history, or with items that say nothing alone, has an empty list.
    """
    users, items = towers.user_vectors(contexts), towers.item_vectors()[:num_items]
    parts = [
        top_dense(users[part] @ items.T, K, None if seen is None else seen.take(_rows(part)))
        for part in blocks(np.full(len(users), max(num_items, 1)), _CELLS)
    ]
    lists = np.concatenate(parts) if parts else np.empty((0, K), np.int64)
    lists[~users.any(axis=1)] = -1
    return lists


def _rows(part: slice) -> Rows:
    return np.arange(part.start, part.stop)


def _joined(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate(parts).astype(np.int64) if parts else np.empty(0, np.int64)
