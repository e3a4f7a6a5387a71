"""A shop with a known right answer: items in blocks of taste, every user inside one block."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.contexts import Vocabulary
from recsys.ease import fit_ease
from recsys.item_facts import ItemColumns, item_facts
from recsys.item_weights import Events, fit_covisitation, fit_following
from recsys.recommend import Recommender, Shelf
from recsys.retrieve import (
    NEW_USER_COLUMNS,
    WEIGHED,
    CategorySource,
    FreshSource,
    ItemToItemSource,
    RepeatsSource,
    Source,
    TrendingSource,
    TwoTowerSource,
    top_rows,
)
from recsys.types import EncodedHistory, Floats, History, Owned, Rows, Scorer, UserFeatures

NOW = 1_700_000_000
DAY = 86_400
BLOCKS, PER_BLOCK = 5, 8
NUM_ITEMS = BLOCKS * PER_BLOCK
TEXT_ALONE = np.eye(len(NEW_USER_COLUMNS), dtype=np.float32)[0]


class ExactIndex:
    """Brute force, with places beyond the catalogue at row -1 as FAISS gives them."""

    def __init__(self, vectors: Floats) -> None:
        self._vectors = vectors

    def search(self, queries: Floats, k: int, allowed: np.ndarray | None = None) -> tuple[Floats, Rows]:
        kept = np.arange(len(self._vectors)) if allowed is None else np.flatnonzero(allowed)
        places, scores = top_rows(queries @ self._vectors[kept].T, k)
        rows = kept[places]
        missing = k - rows.shape[1]
        if missing > 0:
            rows = np.pad(rows, ((0, 0), (0, missing)), constant_values=-1)
            scores = np.pad(scores, ((0, 0), (0, missing)), constant_values=-np.inf)
        return scores, rows


class MeanEncoder:
    """The mean of the history's vectors."""

    def __init__(self, vectors: Floats) -> None:
        self._vectors = vectors

    def encode(self, histories: list[EncodedHistory], moments: list[int]) -> Floats:
        out = np.zeros((len(histories), self._vectors.shape[1]), np.float32)
        for i, history in enumerate(histories):
            if len(history.rows):
                total = self._vectors[history.rows].sum(0)
                out[i] = total / np.linalg.norm(total)
        return out

    def parts(self, history: EncodedHistory, moment: int) -> Floats:
        vectors = self._vectors[history.rows]
        return vectors / max(float(np.linalg.norm(vectors.sum(0))), 1e-12)


@dataclass
class World:
    recommender: Recommender
    vectors: Floats
    users: dict[str, UserFeatures]


def features_of(user: str, rows: list[int], counts: list[int] | None = None) -> UserFeatures:
    ids = tuple(f"i{row}" for row in rows)
    times = tuple(NOW - DAY * (len(rows) - place) for place in range(len(rows)))
    return UserFeatures(
        user,
        History(ids, ("purchase",) * len(ids), times),
        num_events=len(ids),
        owned=Owned(ids, tuple(counts or [1] * len(ids)), times),
    )


def build_world(scorer: Scorer | None = None, *, in_stock: np.ndarray | None = None, **quotas: int) -> World:
    block = np.arange(NUM_ITEMS) // PER_BLOCK
    vectors = np.eye(BLOCKS, dtype=np.float32)[block]
    vectors = vectors + 0.01 * np.random.default_rng(0).standard_normal(vectors.shape).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    users, rows, times = [], [], []
    features: dict[str, UserFeatures] = {}
    for user in range(30):
        mine = [(user % BLOCKS) * PER_BLOCK + (user + step) % (PER_BLOCK - 1) for step in range(3)]
        users += [user] * 3
        rows += mine
        times += [NOW - DAY * (3 - step) for step in range(3)]
        features[f"u{user}"] = features_of(f"u{user}", mine)
    order = np.argsort(times, kind="stable")
    ones = np.ones(len(rows), np.float32)
    events = Events(np.array(users)[order], np.array(rows)[order], np.array(times)[order], ones)
    columns = ItemColumns(
        prices=np.where(block == 0, np.nan, 10.0 * (block + 1)),
        categories=[f"c{b}" for b in block],
        brands=[""] * NUM_ITEMS,
        in_stock=np.ones(NUM_ITEMS, bool) if in_stock is None else in_stock,
        available_from=np.full(NUM_ITEMS, np.nan),
        came_out=np.full(NUM_ITEMS, np.nan),
    )
    facts = item_facts(events, NOW, columns)
    weights = {
        "covisitation": fit_covisitation(events, NUM_ITEMS),
        "following": fit_following(events, NUM_ITEMS),
        "ease": fit_ease(events, NUM_ITEMS, penalty=5.0)[0],
    }
    recent = np.asarray(facts["count_30d"], np.float32)
    index = ExactIndex(vectors)
    sources: list[Source] = [
        TwoTowerSource(index, quotas.get("two_tower", 20)),
        *(
            ItemToItemSource(name, weights[kind], quotas.get(kind, quotas.get("covisitation", 10)))
            for name, (kind, _) in WEIGHED.items()
        ),
        RepeatsSource(quotas.get("repeats", 5)),
        TrendingSource(recent, quotas.get("trending", 10)),
        CategorySource(recent, np.asarray(facts["category"]), quotas.get("category", 5)),
        FreshSource(vectors, facts, TEXT_ALONE, np.zeros(NUM_ITEMS, np.float32), quotas.get("fresh", 3)),
    ]
    vocabulary = Vocabulary([f"i{row}" for row in range(NUM_ITEMS)])
    details = [
        {
            "title": f"item {r}",
            "category": f"C{r // PER_BLOCK}",
            "brand": f"b{r % 3}" if r % 4 else "",
            "price": None if r < PER_BLOCK else float(r),
        }
        for r in range(NUM_ITEMS)
    ]
    shelf = Shelf(vocabulary, vectors, vectors, facts, details)
    return World(Recommender(shelf, MeanEncoder(vectors), index, sources, scorer, 50), vectors, features)
