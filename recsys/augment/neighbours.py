"""Neighbours of items, for ops that substitute and insert: by co-visitation, and by text.

Both are fitted on training rows only.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.augment.example import Item
from recsys.contexts import Contexts
from recsys.types import Floats

_NEWEST = 30
"""Events of a user that are paired with each other: pairs grow with the square."""
_STEPS = 4_000_000
"""Pairs of events that are counted at one time: a block of items needs some 40 bytes for each."""
_USERS = 65_536
"""Users whose items are gathered at one time."""
_TEXT_BLOCK = 512
"""The same by text, where every pair has a cosine."""


class Covisitation:
    """Which items go together: cosines of each item's nearest others.

    Args:
        items: (n,) item rows, ascending.
        others: (n,) their neighbours, nearest first within an item.
        cosines: (n,) how near.
        num_items: Size of the catalogue.
    """

    def __init__(
        self, items: NDArray[np.int64], others: NDArray[np.int64], cosines: Floats, num_items: int
    ) -> None:
        self.num_items = num_items
        self._items, self._others = items, others
        keys = items * num_items + others
        order = np.argsort(keys)
        self._keys, self._cosines = keys[order], cosines[order]

    def neighbours(self, top: int = 10) -> dict[Item, tuple[Item, ...]]:
        """Each item's nearest others, nearest first; items without any are absent."""
        items, starts = np.unique(self._items, return_index=True)
        parts = np.split(self._others, starts[1:])
        return {item: tuple(rows[:top].tolist()) for item, rows in zip(items.tolist(), parts, strict=False)}

    def cosine(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> Floats:
        """Cosines of pairs of items, (n,); 0 for pairs that are not among each other's nearest."""
        if not len(self._keys):
            return np.zeros(len(left), np.float32)
        found = [self._lookup(a * self.num_items + b) for a, b in ((left, right), (right, left))]
        return np.maximum(found[0], found[1])

    def _lookup(self, keys: NDArray[np.int64]) -> Floats:
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[places] == keys, self._cosines[places], np.float32(0.0))


def covisitation_neighbours(
    contexts: Contexts, num_items: int, top: int = 10, min_users: int = 2
) -> dict[Item, tuple[Item, ...]]:
    """Each item's nearest others, nearest first; see `fit_covisitation`."""
    return fit_covisitation(contexts, num_items, top, min_users).neighbours(top)


def fit_covisitation(contexts: Contexts, num_items: int, top: int = 50, min_users: int = 2) -> Covisitation:
    """Each item's nearest others by cosine over users.

    Each user counts once, by the newest context's history and targets, the less the more items they are
    (inverse user frequency, as in CoSeRec: Liu et al., arXiv:2108.06479). In memory are the users' items
    (the 30 newest and the targets, 12 bytes each, three times), a block of pairs, and the neighbours kept.

    Args:
        contexts: Fit rows; augmented and held-out ones are refused.
        num_items: Size of the catalogue.
        top: Neighbours kept per item.
        min_users: Users who must have had both items.

    Raises:
        LeakageError: the contexts are held out or augmented.
    """
    contexts.require_fit()
    contexts.require_original()
    seen = _user_items(contexts, num_items)
    sizes = np.diff(seen.indptr).astype(np.float64)
    weights = 1.0 / np.log2(1.0 + np.maximum(sizes, 1.0))
    weighted = sparse.diags_array(weights) @ seen
    owners = seen.T.tocsr()
    of_entry = np.repeat(weights, np.diff(seen.indptr))
    norms = np.sqrt(np.maximum(np.bincount(seen.indices, of_entry, num_items), 1e-12))
    nothing = np.empty(0, np.int64)
    parts: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = [(nothing, nothing, np.empty(0))]
    for start, stop in _blocks(owners @ sizes):
        counts, scores = (_sorted(owners[start:stop] @ other) for other in (seen, weighted))
        left = np.repeat(np.arange(start, stop), np.diff(scores.indptr))
        right = scores.indices.astype(np.int64)  # those of `counts` as well: no weight is zero
        enough = (counts.data >= min_users) & (left != right)
        left, right = left[enough], right[enough]
        cosine = scores.data[enough] / (norms[left] * norms[right])
        order = np.lexsort((right, -cosine, left))  # ties by row, so that a refit gives the same lists
        left, right, cosine = left[order], right[order], cosine[order]
        place = np.arange(len(left)) - np.searchsorted(left, left)
        parts.append(tuple(column[place < top] for column in (left, right, cosine)))
    items, others, cosines = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Covisitation(items, others, cosines.astype(np.float32), num_items)


def text_neighbours(
    contexts: Contexts,
    vectors: Floats,
    top: int = 10,
    min_cosine: float = 0.45,
    max_cosine: float = 0.95,
) -> dict[Item, tuple[Item, ...]]:
    """Each item's nearest others by text, nearest first; items without any are absent.

    Only items of the rows are neighbours: one that comes later must not be met before it is there. Nor is one
    whose text is all but the same: it would change nothing that the model reads, and a twin of a target would
    stand in the history.

    Args:
        contexts: Fit rows, none augmented.
        vectors: (num_items, dim) whitened text vectors of unit norm, or zero.
        top: Neighbours kept per item.
        min_cosine: Texts under it are not alike; about a quarter of all items have none over it.
        max_cosine: Texts over it say the same.

    Raises:
        LeakageError: the contexts are held out or augmented.
    """
    contexts.require_fit()
    contexts.require_original()
    seen = np.zeros(len(vectors), np.bool_)
    for rows in (contexts.history_rows, contexts.target_rows):
        seen[rows] = True
    met = np.flatnonzero(seen)
    known: Floats = np.asarray(vectors[met], np.float32)
    found: dict[Item, tuple[Item, ...]] = {}
    for start in range(0, len(met), _TEXT_BLOCK):
        cosines = known[start : start + _TEXT_BLOCK] @ known.T
        cosines[cosines > max_cosine] = -1.0  # the item itself among them
        row, column = np.nonzero(cosines >= min_cosine)
        order = np.lexsort((column, -cosines[row, column], row))
        row, column = row[order], column[order]
        ends = np.searchsorted(row, np.arange(len(cosines) + 1))
        for i in np.flatnonzero(np.diff(ends)).tolist():
            near = met[column[ends[i] : min(ends[i + 1], ends[i] + top)]]
            found[int(met[start + i])] = tuple(near.tolist())
    return found


def adjacency(neighbours: Mapping[Item, tuple[Item, ...]], num_items: int) -> sparse.csr_array:
    """(items, items) with 1 where the second is among the first's neighbours."""
    rows = [int(item) for item, near in neighbours.items() for _ in near]
    columns = [int(other) for near in neighbours.values() for other in near]
    return sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(num_items, num_items))


def newest_contexts(contexts: Contexts) -> Contexts:
    """Each user's newest context, users ascending; the table itself where it has one context per user."""
    users = contexts.user_ids
    if bool((users[1:] > users[:-1]).all()):
        return contexts
    order = np.lexsort((contexts.moments, users))
    users = users[order]
    return contexts.take(order[np.append(users[1:] != users[:-1], True)] if len(order) else order)


def _user_items(contexts: Contexts, num_items: int) -> sparse.csr_array:
    """(users, items) of zeros and ones: each user's newest context."""
    newest = newest_contexts(contexts)
    items, sizes = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
    for start in range(0, len(newest), _USERS):
        stop = min(start + _USERS, len(newest))
        keys = []
        for offsets, rows, most in (
            (newest.history_offsets, newest.history_rows, _NEWEST),
            (newest.target_offsets, newest.target_rows, None),
        ):
            ends = offsets[start : stop + 1]
            owner = np.repeat(np.arange(stop - start), np.diff(ends))
            said = rows[ends[0] : ends[-1]]
            if most is not None:
                recent = np.arange(ends[0], ends[-1]) >= ends[1:][owner] - most
                owner, said = owner[recent], said[recent]
            keys.append(owner * num_items + said)
        distinct = np.unique(np.concatenate(keys))
        items.append((distinct % max(num_items, 1)).astype(np.int32))
        sizes.append(np.bincount(distinct // max(num_items, 1), minlength=stop - start))
    columns = np.concatenate(items)
    ends = np.concatenate([[0], np.cumsum(np.concatenate(sizes))]).astype(np.int64)
    ones = np.ones(len(columns), np.float32)
    return sparse.csr_array((ones, columns, ends), shape=(len(newest), num_items))


def _blocks(steps: NDArray[np.float64]) -> Iterator[tuple[int, int]]:
    """Ranges of items whose neighbours are counted at one time, by the additions that each item takes."""
    at = np.cumsum(steps) // _STEPS
    edges = [0, *(np.flatnonzero(np.diff(at)) + 1).tolist(), len(steps)]
    return ((start, stop) for start, stop in itertools.pairwise(edges) if stop > start)


def _sorted(matrix: sparse.csr_array) -> sparse.csr_array:
    matrix.sort_indices()
    return matrix
