"""How far two samples lie apart: numbers, counts, vectors, and how varied texts are."""

from __future__ import annotations

import itertools
import math
from array import array
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.randomness import generator
from recsys.types import Floats

_ODD = 0x9E3779B97F4A7C15
_FLOOR = 1e-4
"""Share that an empty bin counts as: PSI would be infinite otherwise."""


def quantile_bins(reference: NDArray[np.float64], num_bins: int = 10) -> NDArray[np.float64]:
    """Inner edges of bins that hold about equal shares of a reference; fewer where values repeat."""
    known = reference[np.isfinite(reference)]
    if not len(known):
        return np.empty(0)
    return np.unique(np.quantile(known, np.linspace(0, 1, num_bins + 1)[1:-1]))


def shares(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the finite values in each bin; `edges` as `quantile_bins` gives them."""
    known = values[np.isfinite(values)]
    counts = np.bincount(np.searchsorted(edges, known, side="right"), minlength=len(edges) + 1)
    part: NDArray[np.float64] = counts / max(int(counts.sum()), 1)
    return part


def psi(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """Population stability index of two lists of shares: under 0.1 is stable, over 0.25 has moved."""
    p, q = np.maximum(before, _FLOOR), np.maximum(after, _FLOOR)
    return float(((q - p) * np.log(q / p)).sum())


def jensen_shannon(before: Counter[Hashable], after: Counter[Hashable]) -> float:
    """Jensen-Shannon divergence of two counts, in bits: 0 for the same mix, 1 for nothing in common."""
    if not before or not after:
        return 0.0
    keys = sorted(before.keys() | after.keys(), key=repr)
    p, q = (np.array([counts[key] for key in keys], np.float64) for counts in (before, after))
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2

    def divergence(part: NDArray[np.float64]) -> float:
        some = part > 0
        return float((part[some] * np.log2(part[some] / middle[some])).sum())

    return (divergence(p) + divergence(q)) / 2


def energy_distance(distances: NDArray[np.float64], first: NDArray[np.bool_]) -> float:
    """2 E|x - y| - E|x - x'| - E|y - y'| out of the pairwise distances (Székely and Rizzo, 2013).

    Args:
        distances: (n, n) between all points of both samples.
        first: (n,) which points are of the first sample.
    """
    across = distances[np.ix_(first, ~first)].mean()
    return float(2 * across - _within(distances, first) - _within(distances, ~first))


def mmd(distances: NDArray[np.float64], first: NDArray[np.bool_]) -> float:
    """Unbiased squared maximum mean discrepancy under a Gaussian kernel as wide as the median distance.

    Gretton et al., JMLR 2012; arguments as `energy_distance`.
    """
    width = np.median(distances[np.triu_indices(len(distances), 1)])
    kernel = np.exp(-((distances / max(float(width), 1e-9)) ** 2) / 2)
    across = kernel[np.ix_(first, ~first)].mean()
    return float(_within(kernel, first) + _within(kernel, ~first) - 2 * across)


def two_sample_p(
    before: Floats,
    after: Floats,
    statistic: Callable[[NDArray[np.float64], NDArray[np.bool_]], float] = energy_distance,
    *,
    seed: int = 0,
    most: int = 300,
    rounds: int = 199,
) -> tuple[float, float]:
    """The statistic of two samples of vectors, and the permutation p-value of "they are of one kind".

    Args:
        before: (n, dim).
        after: (m, dim).
        statistic: Of pairwise distances and a mask, larger is farther: `energy_distance` or `mmd`.
        seed: Keys the subsample and the permutations.
        most: Vectors of each sample that are used at most: the cost grows with the square.
        rounds: Permutations; the smallest p-value is 1 / (rounds + 1).
    """
    rng = generator(seed, "augment", "two_sample")
    parts = [part[rng.permutation(len(part))[:most]] for part in (before, after)]
    if min(map(len, parts)) < 2:
        return 0.0, 1.0
    points = np.concatenate(parts).astype(np.float64)
    squares = (points**2).sum(axis=1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares[None, :] - 2 * points @ points.T, 0.0))
    np.fill_diagonal(distances, 0.0)
    first = np.arange(len(points)) < len(parts[0])
    observed = statistic(distances, first)
    beaten = sum(statistic(distances, rng.permutation(first)) >= observed for _ in range(rounds))
    return observed, (beaten + 1) / (rounds + 1)


def distinct_n(texts: Iterable[Sequence[str]], n: int = 2) -> float:
    """Distinct n-grams as a share of all (Li et al., NAACL 2016); 1 where there are none."""
    seen: set[tuple[str, ...]] = set()
    total = 0
    for words in texts:
        grams = _ngrams(words, n)
        seen.update(grams)
        total += len(grams)
    return len(seen) / total if total else 1.0


def novelty(before: Iterable[Sequence[str]], after: Iterable[Sequence[str]], n: int = 3) -> float:
    """Share of the second texts' n-grams that no first text has."""
    known = {gram for words in before for gram in _ngrams(words, n)}
    grams = [gram for words in after for gram in _ngrams(words, n)]
    return sum(gram not in known for gram in grams) / len(grams) if grams else 0.0


class WordPairs(NamedTuple):
    """The neighbouring words of n texts, each pair as a number."""

    offsets: NDArray[np.int64]
    """(n + 1,)"""
    codes: NDArray[np.uint64]
    """Pairs of text i are `codes[offsets[i]:offsets[i + 1]]`; equal pairs have equal codes."""

    @classmethod
    def of(cls, texts: Iterable[Sequence[str]]) -> WordPairs:
        """The pairs of texts that are cut into words."""
        sizes, codes = [0], array("Q")
        for words in texts:
            marks = [int.from_bytes(blake2b(word.encode(), digest_size=8).digest()) for word in words]
            codes.extend([(a * _ODD + b) % 2**64 for a, b in itertools.pairwise(marks)])
            sizes.append(len(codes))
        return cls(np.array(sizes, np.int64), np.array(codes, np.uint64))

    def take(self, rows: NDArray[np.int64]) -> WordPairs:
        """The pairs of some texts."""
        sizes = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        places = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - self.offsets[:-1][rows], sizes)
        return WordPairs(offsets, self.codes[places])

    def mean(self, values: NDArray[np.float64] | NDArray[np.bool_]) -> NDArray[np.float64]:
        """(n,) means over each text's pairs; 1 for a text without any."""
        sizes = np.diff(self.offsets)
        sums = np.bincount(np.repeat(np.arange(len(sizes)), sizes), values, len(sizes))
        return np.where(sizes > 0, sums / np.maximum(sizes, 1), 1.0)


def variety(originals: WordPairs, children: WordPairs, parents: NDArray[np.int64]) -> tuple[float, float]:
    """Distinct-2 of the children as a share of their parents', and the share of their pairs that is new.

    Distinct-2 is that of Li et al. (NAACL 2016). The children are held against their own parents, as many
    texts with as many repeats: put together with the originals, an honest copy would halve the figure just as
    a batch of one phrase does.

    Args:
        originals: Of all originals: what is new is what none of them says.
        children: Of the texts made.
        parents: (children,) positions of their originals.
    """
    if not len(children.codes):
        return 1.0, 0.0
    before = originals.take(parents).codes
    reference = len(np.unique(before)) / len(before) if len(before) else 1.0
    distinct = len(np.unique(children.codes)) / len(children.codes)
    return distinct / reference, float((~np.isin(children.codes, originals.codes)).mean())


def _within(values: NDArray[np.float64], part: NDArray[np.bool_]) -> float:
    block = values[np.ix_(part, part)]
    count = len(block)
    return float((block.sum() - np.trace(block)) / max(count * (count - 1), 1))


def _ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(math.floor(len(words) - n + 1))]
