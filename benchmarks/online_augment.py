"""What online augmentation costs a request of three events: making the views, and what they add.

    python benchmarks/online_augment.py [--run RUNS/live] [--requests 2000] [--events 3] [--check]

Without a run, a shop of `--items` items is made up: vectors of the usual width, the default policy and the
side data that its ops read. Each request is asked with and without views in turn, so that both see the same
machine. Beside the clock stands the thread's CPU time, which other work on the machine does not lengthen.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.augment.online import OnlineAugmenter
from recsys.augment.online_side import load_side, write_online
from recsys.augment.policy import load_policy
from recsys.config import IndexConfig, OnlineConfig, RetrieveConfig
from recsys.contexts import Contexts, Vocabulary
from recsys.index import build_index
from recsys.item_facts import FACTS
from recsys.item_weights import Events, fit_covisitation
from recsys.loading import build_sources, load_run
from recsys.recommend import Recommender, Shelf
from recsys.types import Augmenter, EncodedHistory, Floats, History, Owned, Query, UserFeatures

DIM, MOMENT, DAY = 384, 1_700_000_000, 86_400
Times = NDArray[np.float64]
"""(requests, 2) milliseconds: by the clock, and of CPU time."""


class PooledTower:
    """A user tower without a model: the recency-weighted mean, padded as the exported one pads."""

    def __init__(self, vectors: Floats, length: int = 50) -> None:
        self._vectors, self._length = vectors, length

    def encode(self, histories: Sequence[EncodedHistory], moments: Sequence[int]) -> Floats:
        """Unit vectors, (batch, dim)."""
        padded = np.zeros((len(histories), self._length, self._vectors.shape[1]), np.float32)
        for i, history in enumerate(histories):
            newest = history.rows[::-1][: self._length]
            padded[i, : len(newest)] = self._vectors[newest]
        weights = 0.9 ** np.arange(self._length, dtype=np.float32)
        users = np.einsum("bld,l->bd", padded, weights)
        unit: Floats = users / np.maximum(np.linalg.norm(users, axis=1, keepdims=True), 1e-12)
        return unit


def made_up(num_items: int, users: int = 20_000) -> tuple[Recommender, Augmenter]:
    """A shop in which users walk from item to item nearby."""
    draws = np.random.default_rng(0)
    start = draws.integers(0, num_items, users)
    rows = (start[:, None] + np.cumsum(draws.integers(1, 4, (users, 4)), axis=1)) % num_items
    times = np.tile(MOMENT - DAY * np.arange(4, 1, -1), users).astype(np.int64)
    contexts = Contexts(
        user_ids=np.array([f"u{user}" for user in range(users)]),
        moments=np.full(users, MOMENT - DAY, np.int64),
        history_offsets=3 * np.arange(users + 1, dtype=np.int64),
        history_rows=rows[:, :3].reshape(-1).astype(np.int64),
        history_events=np.zeros(3 * users, np.int64),
        history_timestamps=times,
        target_offsets=np.arange(users + 1, dtype=np.int64),
        target_rows=rows[:, 3].astype(np.int64),
        target_weights=np.ones(users, np.float32),
        weights=np.ones(users, np.float32),
        parents=np.full(users, -1, np.int64),
    )
    vectors = draws.normal(size=(num_items, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    facts = np.zeros(num_items, FACTS)
    facts["count"] = facts["count_30d"] = np.bincount(rows.reshape(-1), minlength=num_items)
    facts["in_stock"], facts["available_from"] = True, np.nan
    vocabulary = Vocabulary([f"i{row}" for row in range(num_items)])
    shelf = Shelf(vocabulary, vectors, vectors, facts, [{}] * num_items)
    index, _ = build_index(vectors, IndexConfig(), seed=0, threads=1)
    bought = np.tile(np.arange(4), users)
    events = Events(np.repeat(np.arange(users), 4), rows.reshape(-1), bought, np.ones(4 * users, np.float32))
    weights = {"covisitation": fit_covisitation(events, num_items)}
    sources = build_sources(RetrieveConfig(), index, weights, shelf)
    settings = OnlineConfig()
    with tempfile.TemporaryDirectory() as folder:
        policy = load_policy(settings.policy)
        write_online(Path(folder), policy, contexts, num_items)
        side = load_side(Path(folder), vocabulary)
    augmenter = OnlineAugmenter(policy, vocabulary, settings, 0, side=side)
    return Recommender(shelf, PooledTower(vectors), index, sources, None, 50), augmenter


def make_queries(recommender: Recommender, moment: int, count: int, events: int, k: int) -> list[Query]:
    """Users of a few events on items that others have had as well."""
    draws = np.random.default_rng(1)
    known = np.flatnonzero(recommender.shelf.facts["count"] >= 3)
    ids = recommender.vocabulary.item_ids
    queries = []
    for user in range(count):
        items = tuple(ids[row] for row in draws.choice(known, events).tolist())
        times = tuple(moment - DAY * (events - place) for place in range(events))
        history = History(items, ("purchase",) * events, times)
        owned = dict(zip(items, times, strict=True))
        features = UserFeatures(
            f"u{user}", history, events, Owned(tuple(owned), (1,) * len(owned), tuple(owned.values()))
        )
        queries.append(Query(k, moment, f"u{user}", features))
    return queries


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds of one call: by the clock, and of this thread's CPU time."""
    started, cpu = time.perf_counter(), time.thread_time()
    work()
    return 1000 * (time.perf_counter() - started), 1000 * (time.thread_time() - cpu)


def measure(
    recommender: Recommender, augmenter: Augmenter, queries: list[Query]
) -> tuple[dict[str, Times], dict[str, int]]:
    """Times per request of the views and of the answer with and without them; what came of the requests."""
    taken: dict[str, list[tuple[float, float]]] = {"views": [], "without": [], "with": []}
    outcomes: Counter[str] = Counter()
    for number, query in enumerate(queries):
        taken["views"].append(timed(partial(augmenter.augment, query)))
        grown = augmenter.augment(query, limited=False)
        reason = grown.views.note.reason if grown.views else "none"
        outcomes[reason or "used"] += 1
        arms = [("without", query), ("with", grown)]
        for name, asked in arms if number % 2 else arms[::-1]:
            taken[name].append(timed(partial(recommender.recommend, [asked])))
    return {name: np.array(times) for name, times in taken.items()}, dict(outcomes)


def table(taken: dict[str, Times], added: Times) -> str:
    """Percentiles, one line per part."""
    rows = {
        "making the views": taken["views"],
        "answer without": taken["without"],
        "answer with views": taken["with"],
        "added in all": added,
    }
    lines = [f"{'ms':<19}{'clock: p50':>11}{'p95':>9}{'p99':>9}{'CPU: p50':>11}{'p95':>9}{'p99':>9}"]
    for name, times in rows.items():
        clock, cpu = np.percentile(times, [50, 95, 99], axis=0).T
        cells = [f"{mark:>{width}.3f}" for mark, width in zip([*clock, *cpu], (11, 9, 9) * 2, strict=True)]
        lines.append(f"{name:<19}" + "".join(cells))
    return "\n".join(lines)


def main() -> None:
    """Measure and print a small table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, help="a run that stores what requests are augmented with")
    parser.add_argument("--items", type=int, default=10_000, help="of the made-up shop")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--events", type=int, default=3)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument(
        "--check", action="store_true", help="fail unless views add under 1 ms (p50) and 5 ms (p99) of CPU"
    )
    arguments = parser.parse_args()
    if arguments.run is None:
        recommender, augmenter = made_up(arguments.items)
        moment = MOMENT
    else:
        loaded = load_run(arguments.run, 1, augment="on")
        recommender, augmenter, moment = loaded.recommender, loaded.augmenter, loaded.moment
    queries = make_queries(recommender, moment, arguments.requests + 100, arguments.events, arguments.k)
    for query in queries[:100]:  # warm up
        recommender.recommend([query, augmenter.augment(query)])
    taken, outcomes = measure(recommender, augmenter, queries[100:])
    added = taken["with"] - taken["without"] + taken["views"]
    told = ", ".join(f"{name} {count}" for name, count in sorted(outcomes.items()))
    sys.stdout.write(f"{table(taken, added)}\n{len(queries) - 100} requests: {told}\n")
    half, most = np.percentile(added[:, 1], [50, 99])
    if arguments.check and (half >= 1.0 or most >= 5.0):
        sys.exit(f"too slow: p50 {half:.3f} ms (1 allowed), p99 {most:.3f} ms (5 allowed), of CPU time")


if __name__ == "__main__":
    main()
