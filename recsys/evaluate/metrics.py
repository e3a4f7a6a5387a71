"""Metrics of ranked lists over the whole catalogue: per user, then the mean. Nothing here is sampled.

Accuracy metrics take the places that hit as a boolean array and the number of answers per user, so that one
matrix of hits serves every metric, every k and every segment. Users without an answer get NaN: there is
nothing to measure, and a zero would say that something was missed.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.evaluate.answers import ItemSets, members
from recsys.types import Floats, Rows

Values = NDArray[np.float64]
Hits = NDArray[np.bool_]

ACCURACY = ("ndcg", "recall", "hit", "mrr", "map")
"""Names of the metrics per user; a figure is called `name@k`."""
CATALOGUE = ("coverage", "gini", "novelty", "popularity_bias", "diversity")
"""Names of the metrics of what is shown, whoever sees it."""
DEFAULT_KS = (5, 10, 20, 50)


def hit_places(lists: Rows, truth: ItemSets, num_items: int) -> Hits:
    """Which places of (users, length) lists hold one of the user's answers; padding (-1) never does."""
    keys = np.where(lists >= 0, np.arange(len(lists))[:, None] * num_items + lists, -1)
    return members(keys.ravel(), truth.keys(num_items)).reshape(lists.shape)


def accuracy(hits: Hits, num_answers: Rows, ks: Sequence[int] = DEFAULT_KS) -> dict[str, Values]:
    """Every accuracy metric at every k.

    Args:
        hits: (users, length) from `hit_places`; lists hold no item twice. Places beyond `length` are misses.
        num_answers: (users,) answers per user.
        ks: Cut-offs, each at least 1.

    Returns:
        `name@k` to (users,): ndcg with binary gains and the ideal of min(answers, k) (Järvelin, Kekäläinen,
        TOIS 2002); recall over all answers; hit; mrr, the reciprocal rank of the first hit (Voorhees,
        TREC-8 1999); map, mean precision at the hits over min(answers, k).
    """
    depth = max(ks)
    hits = np.pad(hits[:, :depth], ((0, 0), (0, max(0, depth - hits.shape[1]))))
    ranks = np.arange(1, depth + 1)
    counts = np.cumsum(hits, axis=1)
    gains = np.cumsum(hits / np.log2(ranks + 1), axis=1)
    precisions = np.cumsum(hits * counts / ranks, axis=1)
    ideal = np.concatenate([[np.nan], np.cumsum(1 / np.log2(ranks + 1))])
    answers = np.where(num_answers > 0, num_answers, np.nan)
    first = np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, np.inf)
    values: dict[str, Values] = {}
    for k in ks:
        found = counts[:, k - 1] / answers  # NaN where there is nothing to find
        capped = np.minimum(num_answers, k)
        values[f"ndcg@{k}"] = gains[:, k - 1] / ideal[capped]
        values[f"recall@{k}"] = found
        values[f"hit@{k}"] = np.where(np.isnan(found), np.nan, found > 0)
        values[f"mrr@{k}"] = np.where(np.isnan(found), np.nan, (first <= k) / first)
        values[f"map@{k}"] = precisions[:, k - 1] / np.minimum(answers, k)
    return values


def per_user(
    lists: Rows, truth: ItemSets, num_items: int, ks: Sequence[int] = DEFAULT_KS
) -> dict[str, Values]:
    """`accuracy` of (users, length) lists against the users' answers."""
    return accuracy(hit_places(lists, truth, num_items), truth.sizes, ks)


def exposure(lists: Rows, num_items: int, k: int) -> Rows:
    """(num_items,) how often each item stands in a top k."""
    top = lists[:, :k]
    return np.bincount(top[top >= 0], minlength=num_items)


def coverage(lists: Rows, num_items: int, k: int) -> float:
    """Share of the catalogue that stands in at least one top k."""
    return float((exposure(lists, num_items, k) > 0).mean())


def gini(lists: Rows, num_items: int, k: int) -> float:
    """Gini of the exposure of all items in the top k: 0 all alike, towards 1 a few items take everything.

    NaN where nothing is shown.
    """
    shown = np.sort(exposure(lists, num_items, k))
    total = shown.sum()
    if total == 0:
        return float("nan")
    places = np.arange(1, num_items + 1)
    return float(((2 * places - num_items - 1) * shown).sum() / (num_items * total))


def novelty(lists: Rows, item_counts: NDArray[np.int64], k: int) -> Values:
    """(users,) mean self-information in bits of the top k (Zhou et al., PNAS 2010).

    An item's probability is its share of the training events, with one added to every item so that an item
    never sold is finitely surprising. NaN for an empty list.
    """
    share = (item_counts + 1) / (item_counts.sum() + len(item_counts))
    return _mean_over_places(lists[:, :k], -np.log2(share))


def mean_popularity(lists: Rows, item_counts: NDArray[np.int64], k: int) -> Values:
    """(users,) mean number of training events of the items in the top k; NaN for an empty list."""
    return _mean_over_places(lists[:, :k], item_counts.astype(np.float64))


def popularity_bias(lists: Rows, truth: ItemSets, item_counts: NDArray[np.int64], k: int) -> float:
    """Mean popularity of what is shown over mean popularity of what the users took.

    1 is as popular as demand, above it the lists push what is popular already. NaN where nothing is shown,
    or where everything taken was new.
    """
    shown = mean_popularity(lists, item_counts, k)
    taken = float(item_counts[truth.rows].mean()) if len(truth.rows) else 0.0
    if taken == 0 or np.isnan(shown).all():
        return float("nan")
    return float(np.nanmean(shown)) / taken


def diversity(lists: Rows, vectors: Floats, ks: Sequence[int], block: int = 2048) -> dict[int, Values]:
    """By k, (users,) one minus the mean cosine over pairs of the top k; NaN for fewer than two items.

    Intra-list distance of Ziegler et al. (WWW 2005) over (num_items, dim) vectors of unit norm. With s the
    sum of m unit vectors, the pairs' mean cosine is (|s|² - m) / (m (m - 1)): no pair is formed.
    """
    padded = np.concatenate([vectors, np.zeros((1, vectors.shape[1]), np.float32)])  # row -1 adds nothing
    norms = np.einsum("nd,nd->n", padded, padded)
    values = {k: np.full(len(lists), np.nan) for k in ks}
    for start in range(0, len(lists), block):
        top = lists[start : start + block, : max(ks)]
        picked = padded[top]
        sums = np.zeros((len(top), padded.shape[1]), np.float32)
        for low, k in itertools.pairwise([0, *sorted(ks)]):
            sums += picked[:, low:k].sum(axis=1)
            num = (top[:, :k] >= 0).sum(axis=1)
            enough = num > 1
            pairs = np.einsum("ud,ud->u", sums, sums) - norms[top[:, :k]].sum(axis=1)
            values[k][start : start + block][enough] = 1 - pairs[enough] / (num * (num - 1))[enough]
    return values


def _mean_over_places(top: Rows, by_item: Values) -> Values:
    shown = top >= 0
    sums = np.where(shown, by_item[np.where(shown, top, 0)], 0.0).sum(axis=1)
    num = shown.sum(axis=1)
    means = np.full(len(top), np.nan)
    np.divide(sums, num, out=means, where=num > 0)
    return means
