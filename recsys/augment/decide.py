"""The second phase of a bulk run: what stays of all shards, decided from light columns alone."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.augment.assemble import Kept
from recsys.augment.choose import Batch, chosen
from recsys.augment.examples import history_sample, item_popularity, item_sample, put_pairs
from recsys.augment.gates.drift import Drift, Sample
from recsys.augment.shard_files import Shard, Tallies, flat_lists, read_columns
from recsys.augment.shards import child_contexts
from recsys.augment.vectors import TextVectors
from recsys.contexts import Contexts

if TYPE_CHECKING:
    import pandas as pd

_LIGHT = ("row_id", "op", "parent")


def text_decision(
    shards: Sequence[Shard],
    work: Path,
    items: pd.DataFrame,
    texts: Sequence[str],
    drift: Drift | None,
    most: float,
    seed: int,
    tallies: Tallies,
    vectors: TextVectors | None,
) -> Kept:
    """Which augmented texts stay; those that go are counted."""
    batch = _batch(shards, work)
    samples = None
    if drift is not None:
        before = item_sample(items, texts)
        after = before.take(batch.parents)
        lengths = [_text_lengths(shard, work) for shard in shards]
        after.numbers["length"] = np.concatenate([np.empty(0), *lengths])
        if drift.asks_variety:
            parts = (read_columns(shard.path(work), ["text"])["text"].to_pylist() for shard in shards)
            put_pairs(before, after, texts, itertools.chain.from_iterable(parts))
        if vectors is not None and drift.min_p > 0 and len(batch.row_ids):
            _put_vectors(before, after, batch, shards, work, texts, vectors)
        samples = (before, after)
    return _kept(shards, work, _chosen(batch, int(most * len(texts)), drift, samples, seed, tallies))


def history_decision(
    shards: Sequence[Shard],
    work: Path,
    contexts: Contexts,
    num_items: int,
    drift: Drift | None,
    most: float,
    seed: int,
    tallies: Tallies,
) -> Kept:
    """Which augmented histories stay; those that go are counted."""
    batch = _batch(shards, work)
    samples = None
    if drift is not None:
        popularity = item_popularity(contexts, num_items)
        parts = [_history_numbers(shard, work, contexts, popularity) for shard in shards]
        names = ("length", "popularity")
        after = Sample(
            {name: np.concatenate([np.empty(0), *(part[name] for part in parts)]) for name in names}
        )
        samples = (history_sample(contexts, popularity), after)
    return _kept(shards, work, _chosen(batch, int(most * len(contexts)), drift, samples, seed, tallies))


def accepted_by_chain(kept: Kept, work: Path) -> Counter[str]:
    """How many rows each chain of ops has in the expansion."""
    found: Counter[str] = Counter()
    for shard, rows in kept.items():
        found.update(read_columns(shard.path(work), ["op"])["op"].filter(pa.array(rows)).to_pylist())
    return found


def by_chain(
    accepted: Mapping[str, int], refusals: Mapping[tuple[str, str], int]
) -> dict[str, dict[str, int]]:
    """For each chain of ops how many were accepted, and how many refused for each reason."""
    found: dict[str, dict[str, int]] = {}
    for chain in sorted({*accepted, *(chain for chain, _ in refusals)}):
        found[chain] = {"accepted": accepted.get(chain, 0)}
    for (chain, reason), count in sorted(refusals.items()):
        found[chain][reason] = count
    return found


def _batch(shards: Sequence[Shard], work: Path) -> Batch:
    row_ids: list[str] = []
    chains: list[str] = []
    names: dict[str, str] = {}
    parents = [np.empty(0, np.int64)]
    for shard in shards:
        table = read_columns(shard.path(work), _LIGHT)
        row_ids.extend(table["row_id"].to_pylist())
        chains.extend(names.setdefault(chain, chain) for chain in table["op"].to_pylist())
        parents.append(table["parent"].to_numpy())
    return Batch(row_ids, chains, np.concatenate(parents))


def _chosen(
    batch: Batch,
    cap: int,
    drift: Drift | None,
    samples: tuple[Sample, Sample] | None,
    seed: int,
    tallies: Tallies,
) -> NDArray[np.int64]:
    def refuse(chains: Iterable[str], reason: str) -> None:
        gone = Counter((chain, reason) for chain in chains)
        tallies.refusals.update(gone)
        tallies.counts[f"rejected:{reason}"] += gone.total()
        tallies.counts["accepted"] -= gone.total()

    return chosen(batch, cap, drift, samples, seed, refuse)


def _kept(shards: Sequence[Shard], work: Path, rows: NDArray[np.int64]) -> Kept:
    sizes = [read_columns(shard.path(work), ["parent"]).num_rows for shard in shards]
    ends = np.cumsum([0, *sizes])
    stays = np.zeros(ends[-1], np.bool_)
    stays[rows] = True
    return {shard: stays[ends[i] : ends[i + 1]] for i, shard in enumerate(shards)}


def _text_lengths(shard: Shard, work: Path) -> NDArray[np.float64]:
    column = read_columns(shard.path(work), ["text"])["text"]
    return np.asarray(pc.utf8_length(column).to_numpy(), np.float64)


def _history_numbers(
    shard: Shard, work: Path, contexts: Contexts, popularity: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    table = read_columns(shard.path(work), ["parent", "item_rows"])
    lengths, rows = flat_lists(table["item_rows"])
    children = child_contexts(contexts, table["parent"].to_numpy(), lengths, (rows, rows, rows))
    return history_sample(children, popularity).numbers


def _put_vectors(
    before: Sample,
    after: Sample,
    batch: Batch,
    shards: Sequence[Shard],
    work: Path,
    texts: Sequence[str],
    vectors: TextVectors,
) -> None:
    """Vectors of the candidates and of their originals; an original that has no candidate keeps none."""
    parts = [vectors(read_columns(shard.path(work), ["text"])["text"].to_pylist()) for shard in shards]
    after.vectors = np.concatenate([part for part in parts if len(part)])
    asked = np.unique(batch.parents)
    before.vectors = np.zeros((len(texts), after.vectors.shape[1]), np.float32)
    before.vectors[asked] = vectors([texts[row] for row in asked.tolist()])
