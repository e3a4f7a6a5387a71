"""From a run directory to a `Recommender`: memory-mapped arrays, FAISS and ONNX Runtime, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from scipy import sparse

from recsys.artifacts import load_array, load_manifest, resolve_run, verify_files, write_array
from recsys.config import Config, RetrieveConfig, load_config
from recsys.contexts import Vocabulary
from recsys.errors import ArtifactError
from recsys.index import load_index
from recsys.rank_features import FACTS, RANK_FEATURES
from recsys.recommend import Recommender, Shelf
from recsys.retrieve import (
    CovisitationSource,
    FreshSource,
    RepeatsSource,
    Source,
    TrendingSource,
    TwoTowerSource,
)
from recsys.scorer import OnnxScorer, OnnxUserTower
from recsys.snapshot import SnapshotSource
from recsys.types import Floats, Index

ITEMS, FACTS_FILE, USERS = "items.parquet", "item_facts.npy", "users.parquet"
DETAILS = ("title", "category", "brand", "price")
_COVISITATION = ("indptr", "indices", "data")


@dataclass(frozen=True, slots=True)
class LoadedRun:
    """A run made ready to answer."""

    path: Path
    run_id: str
    config: Config
    recommender: Recommender
    moment: int
    """Unix seconds just after the newest event the run knows: the moment that batch lists are made for."""

    def snapshot(self) -> SnapshotSource:
        """The features of every user as the run's data ended."""
        return SnapshotSource(self.path / USERS)


def load_run(path: Path, threads: int | None = None, *, verify: bool = False) -> LoadedRun:
    """Load a run, `RUNS/live`, or the live run of `RUNS`.

    Args:
        path: Where it is.
        threads: Threads of FAISS and ONNX Runtime; None takes the run's own setting.
        verify: Check every file against the manifest's digests first.

    Raises:
        ArtifactError: it is not a finished run, or its parts do not fit each other.
    """
    run = resolve_run(path)
    manifest = load_manifest(run)
    if manifest.finished is None:
        raise ArtifactError(f"{run}: not finished; the same `recsys run` command goes on with it")
    if verify:
        verify_files(run, manifest)
    config = load_config(run / "config.toml")
    threads = threads or config.run.threads
    features = manifest.stages.get("export", {}).get("rank_features")
    if features is not None and tuple(features) != RANK_FEATURES:
        raise ArtifactError(
            f"{run}: its ranker reads other features than this program computes; train a new run"
        )
    shelf = load_shelf(run)
    index = load_index(run / "index.faiss", threads)
    tower = OnnxUserTower(
        run / "user_tower.onnx", load_array(run / "history_vectors.npy"), config.model.history_length, threads
    )
    scorer = OnnxScorer(run / "ranker.onnx", threads) if (run / "ranker.onnx").is_file() else None
    sources = build_sources(config.retrieve, index, load_covisitation(run), shelf)
    recommender = Recommender(shelf, tower, index, sources, scorer, config.features.history_length)
    return LoadedRun(run, manifest.run_id, config, recommender, int(manifest.stages["export"]["moment"]))


def load_recommender(path: Path, threads: int | None = None) -> Recommender:
    """The recommender of a run; `load_run` gives the rest as well."""
    return load_run(path, threads).recommender


def load_shelf(run: Path) -> Shelf:
    """The item side of a run.

    Raises:
        ArtifactError: the arrays and the catalogue differ in length.
    """
    table = pq.read_table(run / ITEMS, columns=["item_id", *DETAILS])
    columns = {name: table[name].to_pylist() for name in table.column_names}
    vocabulary = Vocabulary(columns.pop("item_id"))
    details = [_detail(row) for row in zip(*columns.values(), strict=True)]
    facts = load_array(run / FACTS_FILE)
    if facts.dtype != FACTS:
        raise ArtifactError(f"{run / FACTS_FILE}: of another layout; train a new run")
    shelf = Shelf(
        vocabulary, load_array(run / "item_vectors.npy"), load_array(run / "text_vectors.npy"), facts, details
    )
    sizes = {len(vocabulary), len(facts), len(shelf.item_vectors), len(shelf.text_vectors)}
    if len(sizes) != 1:
        raise ArtifactError(f"{run}: catalogue and arrays differ in length {sorted(sizes)}")
    return shelf


def build_sources(
    config: RetrieveConfig, index: Index, covisitation: sparse.csr_matrix, shelf: Shelf
) -> list[Source]:
    """The sources that are switched on."""
    sources: list[Source] = []
    if config.two_tower:
        sources.append(TwoTowerSource(index, config.two_tower))
    if config.covisitation:
        sources.append(CovisitationSource(covisitation, config.covisitation, recent=True))
        sources.append(CovisitationSource(covisitation, config.covisitation, recent=False))
    if config.repeats:
        sources.append(RepeatsSource(config.repeats))
    if config.trending:
        popularity: Floats = np.asarray(shelf.facts["count_30d"], np.float32)
        sources.append(TrendingSource(popularity, config.trending))
    if config.fresh:
        sources.append(FreshSource(shelf.text_vectors, np.asarray(shelf.facts["count"]), config.fresh))
    return sources


def write_covisitation(run: Path, matrix: sparse.csr_matrix) -> list[str]:
    """Persist the item-to-item weights; returns the files' names."""
    names = []
    for part in _COVISITATION:
        names.append(f"covisitation_{part}.npy")
        write_array(run / names[-1], np.asarray(getattr(matrix, part)))
    return names


def load_covisitation(run: Path) -> sparse.csr_matrix:
    """Read what `write_covisitation` wrote."""
    indptr, indices, data = (load_array(run / f"covisitation_{part}.npy") for part in _COVISITATION)
    size = len(indptr) - 1
    return sparse.csr_matrix((data, indices, indptr), (size, size))


def _detail(row: Sequence[Any]) -> dict[str, Any]:
    detail = dict(zip(DETAILS, row, strict=True))
    price = detail["price"]
    detail["price"] = None if price is None or price != price else float(price)
    return detail
