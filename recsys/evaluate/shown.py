"""Metrics of what is shown, whoever sees it, with 95% bootstrap intervals over users."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.evaluate import metrics
from recsys.evaluate.answers import ItemSets
from recsys.evaluate.bootstrap import Figure, by_owner
from recsys.randomness import generator
from recsys.types import Floats, Rows

REPLICATES = 200
"""Resamples behind these intervals at most: each counts the exposure of every item anew."""
LOOKED_AT = 20
"""Nobody looks at the diversity of more places, and it costs one vector per place."""
_CELLS = 4_000_000
Values = NDArray[np.float64]


def shown_figures(
    lists: Rows,
    truth: ItemSets,
    item_counts: NDArray[np.int64],
    owners: Rows,
    ks: Sequence[int],
    vectors: Floats | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> dict[str, Figure]:
    """`coverage@k`, `gini@k`, `novelty@k`, `popularity_bias@k` and, given vectors, `diversity@k`.

    A replicate draws users with replacement and measures their lists. Fewer distinct users show fewer
    distinct items, so replicates of coverage and of Gini lie to one side of the figure itself: they are
    shifted to have it as their mean.

    Args:
        lists: (cases, length) item rows, -1 padded.
        truth: Each case's answers.
        item_counts: (num_items,) training events.
        owners: (cases,) the user of each case, 0-based and dense.
        ks: Cut-offs.
        vectors: (num_items, dim) of unit norm.
        replicates: Resamples, `REPLICATES` at most; 0 leaves the intervals out (NaN).
        seed: Of the resamples.
    """
    num_users = int(owners.max()) + 1 if len(owners) else 0
    weights = _resamples(num_users, min(replicates, REPLICATES), seed)
    taken = np.bincount(truth.users, weights=item_counts[truth.rows], minlength=len(truth))
    demand = np.column_stack([taken, truth.sizes])
    figures: dict[str, Figure] = {}
    for k in ks:
        figures[f"coverage@{k}"], figures[f"gini@{k}"] = _spread(lists, owners, len(item_counts), k, weights)
        figures[f"novelty@{k}"] = _mean(metrics.novelty(lists, item_counts, k), owners, weights)
        shown = metrics.mean_popularity(lists, item_counts, k)
        figures[f"popularity_bias@{k}"] = _bias(shown, demand, owners, weights)
    looked_at = [k for k in ks if 1 < k <= LOOKED_AT]
    if vectors is not None and looked_at:
        for k, values in metrics.diversity(lists, vectors, looked_at).items():
            figures[f"diversity@{k}"] = _mean(values, owners, weights)
    return figures


def _resamples(num_users: int, replicates: int, seed: int) -> NDArray[np.float32]:
    """(replicates, num_users) how often each user was drawn."""
    random = generator(seed, "bootstrap", "shown")
    weights = np.zeros((replicates if num_users else 0, num_users), np.float32)
    for row in weights:
        row[:] = np.bincount(random.integers(0, num_users, num_users), minlength=num_users)
    return weights


def _spread(
    lists: Rows, owners: Rows, num_items: int, k: int, weights: NDArray[np.float32]
) -> tuple[Figure, Figure]:
    top = lists[:, :k]
    places = np.nonzero(top >= 0)
    shown, columns = np.unique(top[places], return_inverse=True)
    pairs = (np.ones(len(columns), np.float32), (owners[places[0]], columns))
    by_user = sp.csr_array(sp.coo_array(pairs, shape=(weights.shape[1], len(shown))))
    coverage, gini = np.empty(len(weights)), np.empty(len(weights))
    step = max(1, _CELLS // max(len(shown), 1))
    for start in range(0, len(weights), step):
        counts = weights[start : start + step] @ by_user
        coverage[start : start + step] = (counts > 0).sum(axis=1) / num_items
        gini[start : start + step] = _gini_of_rows(counts, num_items)
    return (
        _centred(metrics.coverage(lists, num_items, k), coverage),
        _centred(metrics.gini(lists, num_items, k), gini),
    )


def _gini_of_rows(counts: NDArray[np.float32], num_items: int) -> Values:
    """`metrics.gini` of each row of exposures; items without a column are shown to nobody."""
    ordered = np.sort(counts, axis=1).astype(np.float64)
    places = np.arange(num_items - counts.shape[1] + 1, num_items + 1)  # those shown to nobody come first
    totals = ordered.sum(axis=1)
    with np.errstate(invalid="ignore"):  # nothing is shown: NaN
        gini: Values = (ordered @ (2.0 * places - num_items - 1)) / (num_items * totals)
    return gini


def _mean(values: Values, owners: Rows, weights: NDArray[np.float32]) -> Figure:
    """The mean over users of their cases' mean; cases that are NaN do not count."""
    known = np.flatnonzero(~np.isnan(values))
    users, means = by_owner(owners[known], values[known, None])
    if not len(users):
        return Figure.nothing()
    drawn = weights[:, users].astype(np.float64)
    return _between(float(means.mean()), _divided(drawn @ means[:, 0], drawn.sum(axis=1)))


def _bias(shown: Values, demand: Values, owners: Rows, weights: NDArray[np.float32]) -> Figure:
    """Mean popularity of what is shown over that of what was taken."""
    known = np.flatnonzero(~np.isnan(shown))
    users, means = by_owner(owners[known], shown[known, None])
    totals = np.column_stack([np.bincount(owners, part, weights.shape[1]) for part in demand.T])
    taken, number = totals.sum(axis=0)
    if not len(users) or taken == 0:
        return Figure.nothing()
    drawn = weights.astype(np.float64)
    replicates = _divided(drawn[:, users] @ means[:, 0], drawn[:, users].sum(axis=1))
    replicates = _divided(replicates * (drawn @ totals[:, 1]), drawn @ totals[:, 0])
    return _between(float(means.mean()) / (taken / number), replicates)


def _divided(above: Values, below: Values) -> Values:
    shares: Values = np.full(len(above), np.nan)
    np.divide(above, below, out=shares, where=below > 0)
    return shares


def _centred(figure: float, replicates: Values) -> Figure:
    """For metrics that replicates underrate or overrate: their spread around the figure."""
    if not len(replicates) or np.isnan(replicates).all():
        return Figure(figure, float("nan"), float("nan"))
    around = _between(figure, replicates - np.nanmean(replicates) + figure)
    return Figure(figure, min(max(around.low, 0.0), figure), max(min(around.high, 1.0), figure))


def _between(figure: float, replicates: Values) -> Figure:
    known = replicates[~np.isnan(replicates)]
    if not len(known):
        return Figure(figure, float("nan"), float("nan"))
    low, high = np.quantile(known, (0.025, 0.975))
    return Figure(figure, float(low), float(high))
