"""The gate on a whole batch: do originals and children together still look like the originals?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from recsys.augment.gates.distance import (
    WordPairs,
    energy_distance,
    jensen_shannon,
    mmd,
    psi,
    quantile_bins,
    shares,
    two_sample_p,
    variety,
)
from recsys.randomness import row_streams
from recsys.types import Floats


@dataclass(slots=True)
class Sample:
    """One side of the comparison, row by row."""

    numbers: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """Lengths, prices, popularity: (n,) by name; NaN where a row has none."""
    labels: dict[str, list[Hashable]] = field(default_factory=dict)
    """Categories, brands: n by name; None where a row has none."""
    vectors: Floats | None = None
    """(n, dim) of the rows' texts."""
    pairs: WordPairs | None = None
    """The rows' texts as neighbouring words."""

    def take(self, rows: NDArray[np.int64]) -> Sample:
        """Some of the rows."""
        return Sample(
            {name: values[rows] for name, values in self.numbers.items()},
            {name: [values[i] for i in rows.tolist()] for name, values in self.labels.items()},
            None if self.vectors is None else self.vectors[rows],
            None if self.pairs is None else self.pairs.take(rows),
        )


class Drift(BaseModel):
    """Bounds on how far the training rows may move from the originals, and what happens beyond them."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    max_psi: float = Field(0.25, gt=0)
    """Largest population stability index of a number: lengths, prices, popularity."""
    max_jensen_shannon: float = Field(0.05, gt=0, le=1)
    """Largest divergence, in bits, of a mix: categories."""
    min_p: float = Field(0.0, ge=0, le=1)
    """Smallest p-value at which the children's vectors may be told from their parents'; 0 does not ask."""
    statistic: Literal["energy", "mmd"] = "energy"
    """What tells vectors apart."""
    min_distinct_2: float = Field(0.0, ge=0, le=1)
    """Smallest share of distinct word pairs among the texts made, against their parents'; 0 does not ask."""
    min_novelty: float = Field(0.0, ge=0, le=1)
    """Smallest share of word pairs that no original says; 0 does not ask."""
    max_novelty: float = Field(1.0, ge=0, le=1)
    """Largest share of word pairs that no original says; 1 does not ask."""
    action: Literal["resample", "refuse"] = "resample"
    """Thin out what there is too much of, or drop the batch; what resampling cannot mend is dropped."""

    @property
    def asks_variety(self) -> bool:
        """Whether the samples' `pairs` are needed."""
        return self.min_distinct_2 > 0 or self.min_novelty > 0 or self.max_novelty < 1

    def to_plain(self) -> dict[str, Any]:
        """Plain values of what differs from the defaults."""
        return self.model_dump(mode="json", exclude_defaults=True)


def measure(originals: Sample, children: Sample) -> dict[str, float]:
    """`psi:<number>` and `js:<label>` of originals and children together against originals alone.

    Together is what training sees: a batch that doubles the short rows moves the mix, whatever each child is.
    """
    found: dict[str, float] = {}
    for name, values in originals.numbers.items():
        edges = quantile_bins(values)
        both = np.concatenate([values, children.numbers[name]])
        found[f"psi:{name}"] = psi(shares(values, edges), shares(both, edges))
    for name, labels in originals.labels.items():
        before = Counter(label for label in labels if label is not None)
        found[f"js:{name}"] = jensen_shannon(
            before, before + Counter(label for label in children.labels[name] if label is not None)
        )
    return found


def consistent(
    drift: Drift,
    originals: Sample,
    children: Sample,
    parents: NDArray[np.int64],
    row_ids: list[str],
    seed: int,
) -> tuple[NDArray[np.int64], dict[str, int]]:
    """Positions of the children that may be trained on, and what was done, as counts.

    Args:
        drift: The bounds.
        originals: What is augmented.
        children: What came out.
        parents: (children,) positions of their originals.
        row_ids: The children's ids: they key the draws.
        seed: The run's seed.
    """
    everyone = np.arange(len(parents))
    if not len(parents):
        return everyone, {}
    told = _told_apart(drift, originals, children, parents, seed)
    over = _beyond(drift, originals, children, parents)
    if told or (over and drift.action == "refuse"):
        reason = "vectors" if told else over[0]
        return everyone[:0], {f"rejected:drift:{reason}": len(parents)}
    if not over:
        return everyone, {}
    odds = np.ones(len(parents))
    for name in over:
        odds *= _thinning(name, originals, children, parents)
    stream_of = row_streams(seed, "augment", "drift")
    draws = np.fromiter((stream_of(row_id).random() for row_id in row_ids), np.float64, len(row_ids))
    # The children with the worst odds go first, a tenth of the batch at a time, until the rest is in bounds.
    order = np.argsort(draws / np.maximum(odds, 1e-9), kind="stable")
    for tenths in range(9, 0, -1):
        kept = np.sort(order[: len(order) * tenths // 10])
        if len(kept) and not _beyond(drift, originals, children.take(kept), parents[kept]):
            return kept, {f"rejected:drift:{over[0]}": len(parents) - len(kept)}
    return everyone[:0], {f"rejected:drift:{over[0]}": len(parents)}


def _beyond(drift: Drift, originals: Sample, children: Sample, parents: NDArray[np.int64]) -> list[str]:
    """The bounds that are broken, the most broken first."""
    limits = {"psi": drift.max_psi, "js": drift.max_jensen_shannon}
    measured = measure(originals, children)
    excess = {name: value / limits[name.partition(":")[0]] for name, value in measured.items()}
    if drift.asks_variety and originals.pairs is not None and children.pairs is not None and len(parents):
        distinct, novel = variety(originals.pairs, children.pairs, parents)
        excess["distinct_2"] = drift.min_distinct_2 / max(distinct, 1e-9)
        excess["novelty:low"] = drift.min_novelty / max(novel, 1e-9)
        if drift.max_novelty < 1:
            excess["novelty:high"] = novel / max(drift.max_novelty, 1e-9)
    return sorted((name for name, ratio in excess.items() if ratio > 1.0), key=lambda name: -excess[name])


def _rarity(parents: WordPairs, children: WordPairs) -> NDArray[np.float64]:
    """(pairs of the children,) how often the parents say a pair against the children; at most 1."""
    codes, place, after = np.unique(children.codes, return_inverse=True, return_counts=True)
    before = np.bincount(
        np.searchsorted(codes, parents.codes[np.isin(parents.codes, codes)]), minlength=len(codes)
    )
    share: NDArray[np.float64] = np.minimum(np.maximum(before, 1) / after, 1.0)[place.reshape(-1)]
    return share


def _told_apart(
    drift: Drift, originals: Sample, children: Sample, parents: NDArray[np.int64], seed: int
) -> bool:
    if drift.min_p <= 0 or originals.vectors is None or children.vectors is None:
        return False
    statistic = energy_distance if drift.statistic == "energy" else mmd
    _, p = two_sample_p(originals.vectors[parents], children.vectors, statistic, seed=seed)
    return p < drift.min_p


def _thinning(
    name: str, originals: Sample, children: Sample, parents: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(children,) how common each child's value is among the originals, against the children; at most 1."""
    kind, _, column = name.partition(":")
    if originals.pairs is not None and children.pairs is not None:
        if kind == "novelty":
            novel = children.pairs.mean(~np.isin(children.pairs.codes, originals.pairs.codes))
            return novel if column == "low" else 1.0 - novel
        if kind == "distinct_2":
            return children.pairs.mean(_rarity(originals.pairs.take(parents), children.pairs))
    if kind == "psi":
        edges = quantile_bins(originals.numbers[column])
        values = children.numbers[column]
        ratio = shares(originals.numbers[column], edges) / np.maximum(shares(values, edges), 1e-9)
        odds = np.where(np.isfinite(values), ratio[np.searchsorted(edges, values, side="right")], 1.0)
        return np.minimum(odds, 1.0)
    before, after = Counter(originals.labels[column]), Counter(children.labels[column])
    scale = after.total() / max(before.total(), 1)
    return np.array([min(before[label] * scale / after[label], 1.0) for label in children.labels[column]])
