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

from recsys.augment.alike import AlikeUsers
from recsys.augment.columns.lending import interleaved, owned_events
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
        newest = newest_contexts(contexts)
        self.owned = owned_events(newest)
        """By user."""
        self.user_ids: list[str] = newest.user_ids.tolist()
        self._names = Names(self.user_ids)
        self.row_of = {user: row for row, user in enumerate(self.user_ids)}

    def before(self, user: int, moment: int, most: int = _MOST) -> list[Event]:
        """The user's newest events strictly before a moment, newest first."""
        offsets, items, events, times = self.owned
        first, last = int(offsets[user]), int(offsets[user + 1])
        stop = first + int(np.searchsorted(times[first:last], moment, side="left"))
        span = slice(max(stop - most, first), stop)
        columns = (items[span].tolist(), events[span].tolist(), times[span].tolist())
        return [Event(*one, self.user_ids[user]) for one in zip(*columns, strict=True)][::-1]

    def lent(self, chosen: Spans, moments: NDArray[np.int64]) -> Lent:
        """What chosen users lend to each of some rows, from before its moment."""
        return interleaved(self.owned, self._names, chosen, moments, _MOST)

    def items(self) -> list[set[int]]:
        """Each user's distinct items."""
        offsets, items = self.owned.offsets.tolist(), self.owned.items.tolist()
        return [{*items[start:stop]} for start, stop in itertools.pairwise(offsets)]


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
    alike = AlikeUsers(Spans(users.owned.offsets, users.owned.items), num_items, top, min_cosine)

    def lend(start: int, stop: int) -> Lent:
        offsets = contexts.history_offsets[start : stop + 1]
        asked = Spans(offsets - offsets[0], contexts.history_rows[offsets[0] : offsets[-1]])
        names = contexts.user_ids[start:stop].tolist()
        own = np.fromiter(map(users.row_of.get, names, itertools.repeat(-1)), np.int64, len(names))
        return users.lent(alike.nearest(asked, own), contexts.moments[start:stop])

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
