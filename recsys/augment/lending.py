"""The side data of history ops: what came before an item, and who lends events to whom.

Everything is fitted on training contexts, and what is lent to a row lies strictly before the row's moment.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.augment.example import NO_EARLIER, NO_NEIGHBOURS, Event, Item
from recsys.augment.neighbours import newest_contexts, text_neighbours
from recsys.contexts import Contexts
from recsys.types import Floats

Lender = Callable[[int, int], list[tuple[Event, ...]]]
"""What contexts `start` to `stop` may borrow."""
_MOST = 10
"""Events that are lent to one row at most, the newest first."""
_COMMON = 0.02
"""Items that more than this share of the users had say little of who is alike."""


class HistorySide(NamedTuple):
    """What the history ops read besides the history."""

    neighbours: Mapping[Item, tuple[Item, ...]] = NO_NEIGHBOURS
    earlier: Mapping[Item, tuple[tuple[Item, float], ...]] = NO_EARLIER
    lenders: Mapping[str, Lender] = {}
    text_neighbours: Mapping[Item, tuple[Item, ...]] = NO_NEIGHBOURS

    def lent(self, start: int, stop: int) -> list[dict[str, tuple[Event, ...]]]:
        """Per context, what each lender lends."""
        parts = {name: lender(start, stop) for name, lender in self.lenders.items()}
        return [{name: part[i] for name, part in parts.items()} for i in range(stop - start)]


NO_SIDE = HistorySide()


class UserEvents:
    """Each user's events as the newest context knows them: its history and its targets.

    Args:
        contexts: Fit rows, none augmented.
    """

    def __init__(self, contexts: Contexts) -> None:
        contexts.require_fit()
        contexts.require_original()
        self._newest = newest_contexts(contexts)
        self.user_ids: list[str] = self._newest.user_ids.tolist()
        self.row_of = {user: row for row, user in enumerate(self.user_ids)}

    def before(self, user: int, moment: int, most: int = _MOST) -> list[Event]:
        """The user's newest events strictly before a moment, newest first."""
        history = self._newest.history(user)
        at = int(self._newest.moments[user])
        name = self.user_ids[user]
        events = [Event(int(row), 0, at, name) for row in self._newest.targets(user)] if at < moment else []
        stop = int(np.searchsorted(history.timestamps, moment, side="left"))
        span = slice(max(stop - most, 0), stop)
        rows, codes, times = history.rows[span], history.event_codes[span], history.timestamps[span]
        earlier = zip(rows.tolist(), codes.tolist(), times.tolist(), strict=True)
        events += [Event(*one, name) for one in earlier][::-1]
        return events[:most]

    def items(self) -> list[set[int]]:
        """Each user's distinct items."""
        return [
            {*history.rows.tolist(), *self._newest.targets(user).tolist()}
            for user, history in enumerate(self._newest.histories())
        ]


def earlier_items(
    contexts: Contexts, top: int = 10, shrinkage: float = 5.0, min_count: int = 2
) -> dict[Item, tuple[tuple[Item, float], ...]]:
    """What came right before each item, with its probability, likeliest first: transitions in reverse.

    Args:
        contexts: Fit rows, none augmented.
        top: Earlier items kept per item.
        shrinkage: Pseudo-count that keeps rare items from being confident.
        min_count: Times that a transition must have been seen.
    """
    counts: Counter[tuple[int, int]] = Counter()
    users = UserEvents(contexts)
    for user in range(len(users.user_ids)):
        events = users.before(user, np.iinfo(np.int64).max, most=50)
        for later, earlier in itertools.pairwise(events):
            if later.timestamp > earlier.timestamp and later.item != earlier.item:
                counts[int(later.item), int(earlier.item)] += 1
    totals: Counter[int] = Counter()
    for (later_item, _), count in counts.items():
        totals[later_item] += count
    found: defaultdict[Item, list[tuple[float, int]]] = defaultdict(list)
    for (later_item, earlier_item), count in counts.items():
        if count >= min_count:
            found[later_item].append((-count / (totals[later_item] + shrinkage), earlier_item))
    return {
        item: tuple((other, -chance) for chance, other in sorted(steps)[:top])
        for item, steps in found.items()
    }


def similar_lender(
    contexts: Contexts, users: UserEvents, num_items: int, top: int = 5, min_cosine: float = 0.1
) -> Lender:
    """Events of the users whose items are most like a row's own history; targets have no say in it.

    Args:
        contexts: The rows that borrow.
        users: Who lends.
        num_items: Size of the catalogue.
        top: Users who lend to one row.
        min_cosine: Smallest cosine of two users, items weighing the less the more users had them.
    """
    owned = users.items()
    seen = _matrix(owned, num_items)
    owners = np.asarray(seen.sum(axis=0)).reshape(-1)
    rare = (owners > 1) & (owners <= max(_COMMON * len(owned), 50))
    weights = np.where(rare, np.log2(1.0 + len(owned) / np.maximum(owners, 1.0)), 0.0)
    lenders = _unit(seen @ sparse.diags_array(weights)).T.tocsc()

    def lend(start: int, stop: int) -> list[tuple[Event, ...]]:
        asked = [set(contexts.history(i).rows.tolist()) for i in range(start, stop)]
        rows = _unit(_matrix(asked, num_items) @ sparse.diags_array(weights))
        alike = (rows @ lenders).tocsr()
        lent = []
        for i in range(start, stop):
            span = slice(alike.indptr[i - start], alike.indptr[i - start + 1])
            self_row = users.row_of.get(str(contexts.user_ids[i]), -1)
            good = (alike.data[span] >= min_cosine) & (alike.indices[span] != self_row)
            near, cosine = alike.indices[span][good], alike.data[span][good]
            chosen = near[np.lexsort((near, -cosine))][:top].tolist()
            lent.append(_interleaved(users, chosen, int(contexts.moments[i])))
        return lent

    return lambda start, stop: [
        events for low in range(start, stop, 1024) for events in lend(low, min(low + 1024, stop))
    ]


def friends_lender(contexts: Contexts, users: UserEvents, friends: Mapping[str, Sequence[str]]) -> Lender:
    """Events of a user's friends (`friends` by user id); unknown friends lend nothing."""

    def lend(start: int, stop: int) -> list[tuple[Event, ...]]:
        lent = []
        for i in range(start, stop):
            known = [users.row_of.get(friend, -1) for friend in friends.get(str(contexts.user_ids[i]), ())]
            moment = int(contexts.moments[i])
            lent.append(_interleaved(users, [user for user in known if user >= 0], moment))
        return lent

    return lend


def elsewhere_lender(contexts: Contexts, elsewhere: Mapping[str, Sequence[Event]]) -> Lender:
    """The same user's events of another domain, by user id, as `recsys.augment.domains` gives them."""

    def lend(start: int, stop: int) -> list[tuple[Event, ...]]:
        rows = zip(contexts.user_ids[start:stop].tolist(), contexts.moments[start:stop].tolist(), strict=True)
        return [
            tuple([event for event in elsewhere.get(user, ()) if event.timestamp < moment][-_MOST:])
            for user, moment in rows
        ]

    return lend


def history_side(
    contexts: Contexts,
    num_items: int,
    needs: frozenset[str],
    neighbours: Mapping[Item, tuple[Item, ...]] = NO_NEIGHBOURS,
    friends: Mapping[str, Sequence[str]] | None = None,
    elsewhere: Mapping[str, Sequence[Event]] | None = None,
    text_vectors: Floats | None = None,
) -> HistorySide:
    """What the ops of a policy need, and nothing that they do not.

    Args:
        contexts: Fit rows, none augmented.
        num_items: Size of the catalogue.
        needs: Of the policy's history ops.
        neighbours: Correlated items.
        friends: User ids by user id; without any, `social_borrow` has nobody to ask.
        elsewhere: Events of another domain by user id, as `recsys.augment.domains` gives them.
        text_vectors: (num_items, dim) whitened text vectors; without them no item has neighbours by text.
    """
    lenders: dict[str, Lender] = {}
    if needs & {"similar", "friends"}:
        users = UserEvents(contexts)
        if "similar" in needs:
            lenders["similar"] = similar_lender(contexts, users, num_items)
        if "friends" in needs and friends:
            lenders["friends"] = friends_lender(contexts, users, friends)
    if "elsewhere" in needs and elsewhere:
        lenders["elsewhere"] = elsewhere_lender(contexts, elsewhere)
    earlier = earlier_items(contexts) if "earlier" in needs else NO_EARLIER
    alike = NO_NEIGHBOURS
    if "text_neighbours" in needs and text_vectors is not None:
        alike = text_neighbours(contexts, text_vectors)
    return HistorySide(neighbours, earlier, lenders, alike)


def _interleaved(users: UserEvents, chosen: Sequence[int], moment: int) -> tuple[Event, ...]:
    """The newest of each, then the second newest of each, and so on."""
    events = [users.before(user, moment) for user in chosen]
    turns = [(place, number, event) for number, part in enumerate(events) for place, event in enumerate(part)]
    return tuple([event for _, _, event in sorted(turns, key=lambda turn: turn[:2])][:_MOST])


def _matrix(owned: Sequence[set[int]], num_items: int) -> sparse.csr_array:
    rows = np.repeat(np.arange(len(owned)), [len(items) for items in owned])
    columns: NDArray[np.int64] = np.array([item for items in owned for item in sorted(items)], np.int64)
    return sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(owned), num_items))


def _unit(rows: sparse.csr_array) -> sparse.csr_array:
    norms = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).reshape(-1))
    scaled: sparse.csr_array = (sparse.diags_array(1.0 / np.maximum(norms, 1e-12)) @ rows).tocsr()
    return scaled
