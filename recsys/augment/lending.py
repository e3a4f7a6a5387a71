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

from recsys.augment.columns.lending import interleaved
from recsys.augment.columns.runs import offsets_of, owners, places
from recsys.augment.columns.spans import Lent, Names, Spans
from recsys.augment.example import NO_EARLIER, NO_NEIGHBOURS, Event, Item
from recsys.augment.neighbours import newest_contexts, text_neighbours
from recsys.contexts import Contexts
from recsys.types import Floats

Lender = Callable[[int, int], Lent]
"""What contexts `start` to `stop` may borrow."""
_MOST = 10
"""Events that are lent to one row at most, the newest first."""
_ASKED = 1024
"""Rows whose likeness to all users is computed at one time."""
_LEVELS = 64
"""Of cosines, to tell roughly which are the highest."""
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
        return [{name: part.events_of(i) for name, part in parts.items()} for i in range(stop - start)]


NO_SIDE = HistorySide()


class UserEvents:
    """Each user's events as the newest context knows them: its history and its targets.

    Args:
        contexts: Fit rows, none augmented.
    """

    def __init__(self, contexts: Contexts) -> None:
        contexts.require_fit()
        contexts.require_original()
        self.newest = newest_contexts(contexts)
        """A context per user."""
        self.user_ids: list[str] = self.newest.user_ids.tolist()
        self._names = Names(self.user_ids)
        self.row_of = {user: row for row, user in enumerate(self.user_ids)}

    def before(self, user: int, moment: int, most: int = _MOST) -> list[Event]:
        """The user's newest events strictly before a moment, newest first."""
        history = self.newest.history(user)
        at = int(self.newest.moments[user])
        name = self.user_ids[user]
        events = [Event(int(row), 0, at, name) for row in self.newest.targets(user)] if at < moment else []
        stop = int(np.searchsorted(history.timestamps, moment, side="left"))
        span = slice(max(stop - most, 0), stop)
        rows, codes, times = history.rows[span], history.event_codes[span], history.timestamps[span]
        earlier = zip(rows.tolist(), codes.tolist(), times.tolist(), strict=True)
        events += [Event(*one, name) for one in earlier][::-1]
        return events[:most]

    def lent(self, chosen: Spans, moments: NDArray[np.int64]) -> Lent:
        """What chosen users lend to each of some rows, from before its moment."""
        return interleaved(self.newest, self._names, chosen, moments, _MOST)

    def items(self) -> list[set[int]]:
        """Each user's distinct items."""
        return [
            {*history.rows.tolist(), *self.newest.targets(user).tolist()}
            for user, history in enumerate(self.newest.histories())
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
    count = len(users.newest)
    owners = np.bincount(_owned(users.newest, num_items, targets=True)[1], minlength=num_items)
    rare = (owners > 1) & (owners <= max(_COMMON * count, 50))
    weights = np.where(rare, np.log2(1.0 + count / np.maximum(owners, 1.0)), 0.0)
    lenders = _unit(users.newest, weights, targets=True).T.tocsr()

    def nearest(start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows, from `start` on, and who lends to them: row after row, the most alike first."""
        asked = contexts.take(np.arange(start, stop))
        alike = (_unit(asked, weights) @ lenders).tocsr()
        own = np.array([users.row_of.get(user, -1) for user in asked.user_ids.tolist()], np.int64)
        row, near = _most_alike(alike, own, top, min_cosine)
        return row + start, near

    def lend(start: int, stop: int) -> Lent:
        none = np.empty(0, np.int64)
        parts = [nearest(low, min(low + _ASKED, stop)) for low in range(start, stop, _ASKED)]
        rows, near = (np.concatenate(column) for column in zip((none, none), *parts, strict=True))
        counts = np.bincount(rows - start, minlength=stop - start)
        return users.lent(Spans(offsets_of(counts), near), contexts.moments[start:stop])

    return lend


def friends_lender(contexts: Contexts, users: UserEvents, friends: Mapping[str, Sequence[str]]) -> Lender:
    """Events of a user's friends (`friends` by user id); unknown friends lend nothing."""
    row_of = users.row_of

    def lend(start: int, stop: int) -> Lent:
        known = [
            [row_of[friend] for friend in friends.get(user, ()) if friend in row_of]
            for user in contexts.user_ids[start:stop].tolist()
        ]
        sizes = np.array([len(rows) for rows in known], np.int64)
        chosen = np.array([row for rows in known for row in rows], np.int64)
        return users.lent(Spans(offsets_of(sizes), chosen), contexts.moments[start:stop])

    return lend


def elsewhere_lender(contexts: Contexts, elsewhere: Mapping[str, Sequence[Event]]) -> Lender:
    """The same user's events of another domain, by user id, as `recsys.augment.domains` gives them."""
    row_of = {user: row for row, user in enumerate(elsewhere)}
    offsets = offsets_of(np.array([*map(len, elsewhere.values()), 0], np.int64))  # the last is nobody's
    events = [event for part in elsewhere.values() for event in part]
    items, codes, times = (np.array([event[column] for event in events], np.int64) for column in (0, 1, 2))
    names = list(dict.fromkeys(event.lender for event in events))
    known, place = Names(names), {name: number for number, name in enumerate(names)}
    lenders = np.array([place[event.lender] for event in events], np.int64)

    def lend(start: int, stop: int) -> Lent:
        users = contexts.user_ids[start:stop].tolist()
        found, ends = places(offsets, np.array([row_of.get(user, len(row_of)) for user in users], np.int64))
        whose = owners(ends)
        found, whose = (part[times[found] < contexts.moments[start:stop][whose]] for part in (found, whose))
        counts = np.bincount(whose, minlength=stop - start)
        newest = np.arange(len(found)) >= offsets_of(counts)[1:][whose] - _MOST
        found = found[newest]
        ends = offsets_of(np.minimum(counts, _MOST))
        return Lent(ends, items[found], codes[found], times[found], lenders[found], known)

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


def _owned(
    contexts: Contexts, num_items: int, targets: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Contexts, ascending, and the items of each, once each, ascending; its targets' too where asked for."""
    parts = [(contexts.history_offsets, contexts.history_rows)]
    if targets:
        parts.append((contexts.target_offsets, contexts.target_rows))
    keys = np.sort(np.concatenate([owners(offsets) * num_items + items for offsets, items in parts]))
    keys = keys[np.append(True, keys[1:] != keys[:-1])] if len(keys) else keys
    return np.divmod(keys, num_items)


def _unit(contexts: Contexts, weights: NDArray[np.float64], targets: bool = False) -> sparse.csr_array:
    """(contexts, items) the weights of what each context has, as rows of unit length, or empty."""
    row, item = _owned(contexts, len(weights), targets)
    told = weights[item] > 0
    row, item = row[told], item[told]
    data = weights[item]
    data /= np.sqrt(np.bincount(row, data * data, len(contexts)))[row]
    ends = offsets_of(np.bincount(row, minlength=len(contexts)))
    return sparse.csr_array((data, item, ends), shape=(len(contexts), len(weights)))


def _most_alike(
    alike: sparse.csr_array, own: NDArray[np.int64], top: int, min_cosine: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows, ascending, and who is most like each, but itself: by cosine, by number where that is equal."""
    good = np.flatnonzero(alike.data >= min_cosine)
    row = np.repeat(np.arange(len(own)), np.diff(alike.indptr))[good]
    others = alike.indices[good] != own[row]
    good, row = good[others], row[others]
    cosine, near = alike.data[good], alike.indices[good].astype(np.int64)
    # Sorting all of them would cost more than all else: first it is counted how many each row has from each
    # level on, and only those go on from the level on that has enough.
    level = np.minimum((cosine * _LEVELS).astype(np.int64), _LEVELS - 1)
    counts = np.bincount(row * _LEVELS + level, minlength=len(own) * _LEVELS).reshape(len(own), _LEVELS)
    enough = np.cumsum(counts[:, ::-1], axis=1) >= top
    lowest = np.where(enough[:, -1], _LEVELS - 1 - enough.argmax(axis=1), 0)
    high = np.flatnonzero(level >= lowest[row])
    row, near, cosine = row[high], near[high], cosine[high]
    order = np.lexsort((near, -cosine, row))
    row, near = row[order], near[order]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    return row[place < top], near[place < top]
