"""Which candidates stay: the cap and the drift of the batch, decided over everything from light columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.augment.gates.drift import Drift, Sample, consistent
from recsys.randomness import row_streams

Refuse = Callable[[Iterable[str], str], None]
"""Counts candidates, by their chains of ops, under a reason."""


class Batch(NamedTuple):
    """All candidates of one kind, one entry each."""

    row_ids: Sequence[str]
    """They key the draws."""
    chains: Sequence[str]
    parents: NDArray[np.int64]
    """Positions of the originals."""


def chosen(
    batch: Batch,
    cap: int,
    drift: Drift | None,
    samples: tuple[Sample, Sample] | None,
    seed: int,
    refuse: Refuse,
) -> NDArray[np.int64]:
    """Positions of the candidates that stay: within the cap, and as a batch within the bounds of drift.

    Each candidate's draw is its own, keyed by its id.

    Args:
        batch: The candidates.
        cap: How many may stay.
        drift: Bounds on the batch; None has none.
        samples: What drift watches, of the originals and of the candidates.
        seed: The run's seed.
        refuse: Is told of those that go.
    """
    kept = np.arange(len(batch.row_ids))
    if len(kept) > cap:
        stream_of = row_streams(seed, "augment", "cap")
        draws = np.fromiter((stream_of(row_id).random() for row_id in batch.row_ids), np.float64, len(kept))
        order = np.argsort(draws, kind="stable")
        refuse([batch.chains[i] for i in order[cap:].tolist()], "over_max_expansion")
        kept = np.sort(order[:cap])
    if drift is None or samples is None:
        return kept
    originals, children = samples
    ids = [batch.row_ids[i] for i in kept.tolist()]
    rows, counts = consistent(drift, originals, children.take(kept), batch.parents[kept], ids, seed)
    gone = np.setdiff1d(np.arange(len(kept)), rows)
    for reason in counts:  # one at most
        refuse([batch.chains[i] for i in kept[gone].tolist()], reason.removeprefix("rejected:"))
    return kept[rows]
