"""The FAISS room: which index a catalogue gets, how good it is, and how it is searched.

Exact search (flat) for small catalogues, HNSW (Malkov and Yashunin, TPAMI 2018) for larger ones, inverted
lists (Jégou et al., TPAMI 2011) for the largest. An approximate index must prove itself against exact search
when it is built; its breadth is doubled a few times before it is given up for the exact one.
"""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from recsys.artifacts import replacing
from recsys.config import IndexConfig
from recsys.errors import ArtifactError
from recsys.randomness import derive, generator
from recsys.types import Floats, Rows

Kind = Literal["flat", "hnsw", "ivf"]

RECALL_AT = 100
_MAX_QUERIES = 200
_DOUBLINGS = 3
_TIE = 1e-5  # scores closer than this are one place: which twin is found says nothing about the index
_HNSW_GROWTH = 10

_unstubbed: Any = faiss  # names that its type stubs leave out

log = logging.getLogger(__name__)


class FaissIndex:
    """An index over item vectors, safe to search from several threads at once.

    Args:
        index: A FAISS index of one of the three kinds, with inner product.
        threads: OpenMP threads per search; None leaves it to FAISS.
    """

    def __init__(self, index: Any, threads: int | None = None) -> None:
        self._index = index
        self._threads = threads
        self.kind: Kind = _kind_of(index)

    @property
    def size(self) -> int:
        """How many items it holds."""
        return int(self._index.ntotal)

    @property
    def dim(self) -> int:
        """Dimensions of its vectors."""
        return int(self._index.d)

    @property
    def breadth(self) -> int | None:
        """`ef_search` of HNSW or `nprobe` of IVF; None for exact search."""
        if self.kind == "hnsw":
            return int(self._index.hnsw.efSearch)
        return int(self._index.nprobe) if self.kind == "ivf" else None

    def search(
        self, queries: Floats, k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[Floats, Rows]:
        """Scores and item rows, each (batch, k), best first; equal scores in order of row.

        A place is -1 (score -inf) only beyond the catalogue, or beyond what `allowed` leaves: a query whose
        approximate search comes back short is searched again exactly.

        Args:
            queries: (batch, dim); a zero vector is fine and scores 0 everywhere.
            k: Places per query; may exceed the catalogue.
            allowed: (size,) Items that may be answered; all when None.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise ValueError(f"queries must be (batch, {self.dim}), got {queries.shape}")
        if k < 0:
            raise ValueError(f"k must be at least 0, got {k}")
        if allowed is not None and allowed.shape != (self.size,):
            raise ValueError(f"allowed must be ({self.size},), got {allowed.shape}")
        if not len(queries) or not k or not self.size:
            return (
                np.full((len(queries), k), -np.inf, np.float32),
                np.full((len(queries), k), -1, np.int64),
            )
        scores, rows = self._search(queries, k, allowed, exact=self.kind == "flat")
        reachable = min(k, self.size if allowed is None else int(allowed.sum()))
        short = np.flatnonzero((rows >= 0).sum(axis=1) < reachable)
        if len(short):
            scores[short], rows[short] = self._search(queries[short], k, allowed, exact=True)
        return _ordered(scores, rows)

    def exact(self, queries: Floats, k: int) -> tuple[Floats, Rows]:
        """What exact search answers, whatever the kind: the yardstick for recall."""
        return _ordered(*self._search(np.ascontiguousarray(queries, np.float32), k, None, exact=True))

    def _search(
        self, queries: Floats, k: int, allowed: NDArray[np.bool_] | None, exact: bool
    ) -> tuple[Floats, Rows]:
        if self._threads is not None:
            # OpenMP keeps this per calling thread: a worker thread of the service starts with one per core.
            faiss.omp_set_num_threads(self._threads)
        bits = None if allowed is None else np.packbits(allowed, bitorder="little")
        # The selector points into `bits`, which therefore has to outlive the search.
        selector = None if bits is None else faiss.IDSelectorBitmap(len(bits) * 8, faiss.swig_ptr(bits))
        index = self._index
        options: dict[str, Any] = {} if selector is None else {"sel": selector}
        parameters: Any = faiss.SearchParameters(**options) if options else None
        if self.kind == "hnsw" and exact:
            index = faiss.downcast_index(index.storage)
        elif self.kind == "hnsw":
            # bounded_queue stays on: without it HNSW ignores the selector (faiss#5504).
            breadth = max(index.hnsw.efSearch, k)
            parameters = _unstubbed.SearchParametersHNSW(
                **{"efSearch": breadth, "bounded_queue": True, **options}
            )
        elif self.kind == "ivf":
            probes = index.nlist if exact else index.nprobe
            parameters = faiss.SearchParametersIVF(**{"nprobe": probes, **options})
        scores, rows = index.search(queries, k, params=parameters)
        return scores, rows


def build_index(
    vectors: Floats,
    config: IndexConfig,
    seed: int,
    threads: int | None = None,
    queries: Floats | None = None,
) -> tuple[FaissIndex, dict[str, Any]]:
    """An index over item vectors and what the manifest says of it.

    Args:
        vectors: (n, dim) of unit norm or zero; position is the item's row.
        config: Which kind, and how good it must be.
        seed: Draws the queries and the start of k-means (HNSW has a fixed one of its own).
        threads: OpenMP threads; HNSW built by several is not the same bit for bit.
        queries: (m, dim) to measure recall with; when None, blends of a few items' vectors.

    Returns:
        The index, and `kind`, `size`, `dim`, `breadth`, `seconds`, `recall_at_100` against exact search (ties
        count as found) over `num_queries`; `refused` and `refused_recall_at_100` say which approximate kind
        missed `min_recall`, when one did.
    """
    vectors = np.ascontiguousarray(vectors, np.float32)
    if vectors.ndim != 2:
        raise ValueError(f"vectors must be (n, dim), got {vectors.shape}")
    if not np.isfinite(vectors).all():
        raise ValueError("vectors must be finite")
    if threads is not None:
        faiss.omp_set_num_threads(threads)
    started = time.perf_counter()
    kind = choose_kind(len(vectors), config)
    index = FaissIndex(_BUILDERS[kind](vectors, config, seed), threads)
    facts: dict[str, Any] = {"recall_at_100": 1.0, "num_queries": 0}
    if kind != "flat" and len(vectors):
        if queries is None:
            queries = sample_queries(vectors, seed)
        recall = _widen(index, queries[:_MAX_QUERIES], config.min_recall)
        facts = {"recall_at_100": round(recall, 4), "num_queries": min(len(queries), _MAX_QUERIES)}
        if recall < config.min_recall:
            log.warning(
                "%s reaches recall@100 %.3f, under index.min_recall=%g: exact search is built instead",
                kind,
                recall,
                config.min_recall,
            )
            facts = {
                **facts,
                "refused": kind,
                "refused_recall_at_100": round(recall, 4),
                "recall_at_100": 1.0,
            }
            index = FaissIndex(_build_flat(vectors, config, seed), threads)
    seconds = round(time.perf_counter() - started, 3)
    about = {"kind": index.kind, "size": index.size, "dim": index.dim, "breadth": index.breadth}
    return index, {**about, "seconds": seconds, **facts}


def choose_kind(size: int, config: IndexConfig) -> Kind:
    """The kind a catalogue of this size gets, unless the configuration names one."""
    if config.kind != "auto":
        return config.kind
    if size <= config.exact_limit:
        return "flat"
    return "hnsw" if size <= config.exact_limit * _HNSW_GROWTH else "ivf"


def sample_queries(vectors: Floats, seed: int, count: int = _MAX_QUERIES) -> Floats:
    """(count, dim) blends of one to five items each, of unit norm: what histories look like to the index."""
    draws = generator(seed, "index", "queries")
    picked = draws.integers(0, len(vectors), (count, 5))
    weights = draws.random((count, 5)) * (np.arange(5) < draws.integers(1, 6, count)[:, None])
    blends = np.einsum("qp,qpd->qd", weights.astype(np.float32), vectors[picked])
    norms = np.linalg.norm(blends, axis=1, keepdims=True)
    return np.asarray(blends / np.maximum(norms, 1e-12), np.float32)


def recall_against_exact(index: FaissIndex, queries: Floats, at: int = RECALL_AT) -> float:
    """Share of the exact top `at` that the index finds; an item as good as the last exact one counts."""
    at = min(at, index.size)
    if not at or not len(queries):
        return 1.0
    found, _ = index.search(queries, at)
    best, _ = index.exact(queries, at)
    return float((found >= best[:, -1:] - _TIE).mean())


def write_index(index: FaissIndex, path: Path) -> None:
    """Persist an index, its search breadth included."""
    with replacing(path) as temporary:
        faiss.write_index(index._index, str(temporary))


def load_index(path: Path, threads: int | None = None) -> FaissIndex:
    """Read what `write_index` wrote.

    Raises:
        ArtifactError: missing, damaged, or not an inner-product index of a known kind.
    """
    if not path.is_file():
        raise ArtifactError(f"{path}: there is no index here")
    try:
        return FaissIndex(faiss.read_index(str(path)), threads)
    except (RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[-1]
        raise ArtifactError(f"{path}: not a readable index ({first}). Build the run again.") from error


def _widen(index: FaissIndex, queries: Floats, wanted: float) -> float:
    recall = recall_against_exact(index, queries)
    for _ in range(_DOUBLINGS):
        if recall >= wanted:
            break
        if index.kind == "hnsw":
            index._index.hnsw.efSearch *= 2
        else:
            index._index.nprobe = min(index._index.nprobe * 2, index._index.nlist)
        recall = recall_against_exact(index, queries)
    return recall


def _ordered(scores: Floats, rows: Rows) -> tuple[Floats, Rows]:
    scores[rows < 0] = -np.inf  # FAISS leaves the lowest float
    order = np.lexsort((rows, -scores))
    return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)


def _build_flat(vectors: Floats, config: IndexConfig, seed: int) -> Any:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index


def _build_hnsw(vectors: Floats, config: IndexConfig, seed: int) -> Any:
    index = faiss.IndexHNSWFlat(vectors.shape[1], config.hnsw_links, faiss.METRIC_INNER_PRODUCT)

    index.hnsw.efConstruction = max(40, 3 * config.hnsw_links)
    index.hnsw.efSearch = config.ef_search
    index.add(vectors)
    return index


def _build_ivf(vectors: Floats, config: IndexConfig, seed: int) -> Any:
    size, dim = vectors.shape
    lists = max(1, min(int(4 * math.sqrt(size)), size // 39))  # k-means wants 39 points per centroid
    quantiser = faiss.IndexFlatIP(dim)
    index = faiss.IndexIVFFlat(quantiser, dim, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = derive(seed, "index", "ivf") & 0x7FFFFFFF
    index.cp.spherical = True
    index.cp.niter = 10
    index.cp.max_points_per_centroid = 64
    index.cp.min_points_per_centroid = 1
    if size:
        index.train(vectors)
        index.add(vectors)
    index.nprobe = min(config.nprobe, lists)
    return index


_BUILDERS = {"flat": _build_flat, "hnsw": _build_hnsw, "ivf": _build_ivf}


def _kind_of(index: Any) -> Kind:
    if index.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise ValueError("the index is not one of inner product")
    for kind, of in (("hnsw", faiss.IndexHNSW), ("ivf", faiss.IndexIVFFlat), ("flat", faiss.IndexFlat)):
        if isinstance(index, of):
            return kind  # type: ignore[return-value]
    raise ValueError(f"no known kind of index: {type(index).__name__}")
