import time
from dataclasses import replace
from pathlib import Path

from fastapi.testclient import TestClient

from recsys.augment.online import NoAugmenter
from recsys.contexts import Vocabulary
from recsys.errors import DependencyError, UnknownItemError
from recsys.text_search import Found, SearchQuery
from recsys.types import History, Owned, Query, RankedList, Recommendation, UserFeatures
from serving.deps import Release

NUM_ITEMS = 150
NOW = int(time.time())


class FakeBackend:
    """Answers in catalogue order, newest of the history first; remembers what it was asked."""

    def __init__(self, num_items: int = NUM_ITEMS, delay: float = 0.0) -> None:
        self.vocabulary = Vocabulary([f"i{n}" for n in range(num_items)])
        self.asked: list[Query] = []
        self.delay = delay

    def recommend(self, queries):
        self.asked.extend(queries)
        time.sleep(self.delay)
        return [self._answer(query) for query in queries]

    def _answer(self, query: Query) -> RankedList:
        banned = set(query.exclude)
        fallback = None
        if query.features is None:
            fallback = "unknown_user" if query.user_id is not None else "no_history"
        elif query.exclude_seen:
            banned |= set(query.features.owned.item_ids)
        ids = [item for item in self.vocabulary.item_ids if item not in banned][: query.k]
        return RankedList(self._places(ids), fallback, query.degraded)

    def similar(self, item_id, k):
        if item_id not in self.vocabulary:
            raise UnknownItemError(f"the catalogue has no item {item_id!r}")
        return RankedList(self._places([i for i in self.vocabulary.item_ids if i != item_id][:k]))

    def item(self, item_id):
        if item_id not in self.vocabulary:
            raise UnknownItemError(f"the catalogue has no item {item_id!r}")
        return {"title": f"Title of {item_id}", "category": None, "brand": None, "price": None}

    def _places(self, ids):
        return tuple(Recommendation(i, 1.0 / n, n, ("popular",)) for n, i in enumerate(ids, start=1))


class FakeSearch:
    """Finds the items whose id is in the query, in catalogue order; remembers what it was asked."""

    def __init__(self, backend: FakeBackend) -> None:
        self.backend = backend
        self.asked: list[SearchQuery] = []

    def search(self, asked):
        self.asked.extend(asked)
        return [self._one(one) for one in asked]

    def _one(self, one: SearchQuery) -> Found:
        words = one.text.split()
        ids = [i for i in self.backend.vocabulary.item_ids if i in words and i not in one.query.exclude]
        items = RankedList(self.backend._places(ids[: one.query.k]), None, one.query.degraded)
        return Found(items, one.query.features is not None)


class FakeReader:
    """A feature reader with one user; `down` makes it fail."""

    def __init__(self) -> None:
        self.down = False
        self.reads: list[str] = []
        self.users = {
            "anna": UserFeatures(
                "anna",
                History(("i3", "i5"), ("view", "purchase"), (NOW - 5000, NOW - 1000)),
                2,
                Owned(("i3", "i5"), (1, 1), (NOW - 5000, NOW - 1000)),
                as_of=NOW - 1000,
            )
        }

    def read(self, user_id):
        self.reads.append(user_id)
        if self.down:
            raise DependencyError("the store is down")
        return self.users.get(user_id)


def make_release(path: Path = Path("runs/one"), **changes) -> Release:
    backend = changes.pop("backend", None) or FakeBackend()
    release = Release(
        path,
        path.name,
        backend,
        FakeReader(),
        moment=NOW - 3600,
        ttl_days=30.0,
        augmenter=NoAugmenter("no_policy"),
        search=FakeSearch(backend),
    )
    return replace(release, **changes)


def wait_ready(client: TestClient, seconds: float = 10.0) -> None:
    """Readiness comes from a background task, so it is asked for until it is there."""
    until = time.monotonic() + seconds
    while client.get("/readyz").status_code != 200:
        assert time.monotonic() < until, client.get("/readyz").text
        time.sleep(0.01)
