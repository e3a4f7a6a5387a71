"""Side data of online augmentation: lists of items per item, as flat arrays in a run's folder.

They are fitted on training contexts when the run is exported, and memory-mapped when it is served.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recsys.artifacts import load_array, write_array, write_atomically
from recsys.augment.example import NO_EARLIER, NO_NEIGHBOURS, Item
from recsys.augment.lending import earlier_items
from recsys.augment.neighbours import covisitation_neighbours
from recsys.augment.policy import Policy
from recsys.augment.servable import servable
from recsys.contexts import Contexts, Vocabulary
from recsys.errors import ArtifactError
from recsys.types import Floats, Rows

POLICY = "online_policy.toml"
"""The policy in a run's folder: a name or a path may mean something else where the run is served."""
STORED = frozenset({"neighbours", "earlier"})
"""Side data that a run can store."""


class OnlineSide(NamedTuple):
    """What history ops read besides the history, by item id."""

    neighbours: Mapping[Item, tuple[Item, ...]] = NO_NEIGHBOURS
    earlier: Mapping[Item, tuple[tuple[Item, float], ...]] = NO_EARLIER
    stored: frozenset[str] = frozenset()
    """Which of the two there are."""


NO_SIDE = OnlineSide()


class _Lists:
    """Per item a list of items: offsets (n + 1,) into rows (m,), looked up by id."""

    def __init__(self, vocabulary: Vocabulary, offsets: Rows, rows: Rows) -> None:
        self._vocabulary, self._offsets, self._rows = vocabulary, offsets, rows

    def __len__(self) -> int:
        return int((np.diff(self._offsets) > 0).sum())

    def __iter__(self) -> Iterator[Item]:
        return (self._vocabulary.item_ids[row] for row in np.flatnonzero(np.diff(self._offsets)).tolist())

    def _span(self, item: Item) -> slice:
        row = self._vocabulary.row(item) if isinstance(item, str) else -1
        low, high = (int(self._offsets[row]), int(self._offsets[row + 1])) if row >= 0 else (0, 0)
        if low == high:
            raise KeyError(item)
        return slice(low, high)

    def _ids(self, span: slice) -> tuple[Item, ...]:
        ids = self._vocabulary.item_ids
        return tuple([ids[row] for row in self._rows[span].tolist()])


class _Neighbours(_Lists, Mapping[Item, tuple[Item, ...]]):
    """Correlated items, nearest first."""

    def __getitem__(self, item: Item) -> tuple[Item, ...]:
        return self._ids(self._span(item))


class _Earlier(_Lists, Mapping[Item, tuple[tuple[Item, float], ...]]):
    """What came right before an item, with its probability, likeliest first."""

    def __init__(self, vocabulary: Vocabulary, offsets: Rows, rows: Rows, chances: Floats) -> None:
        super().__init__(vocabulary, offsets, rows)
        self._chances = chances

    def __getitem__(self, item: Item) -> tuple[tuple[Item, float], ...]:
        span = self._span(item)
        return tuple(zip(self._ids(span), self._chances[span].tolist(), strict=True))


def write_online(folder: Path, policy: Policy, contexts: Contexts, num_items: int) -> list[str]:
    """Write a policy and the side data that its history ops read; returns the files' names.

    Args:
        folder: The run's or the fit's.
        policy: As configured.
        contexts: Fit rows, none augmented.
        num_items: Size of the catalogue.
    """
    write_atomically(folder / POLICY, policy.to_toml())
    names, needs = [POLICY], servable(policy, STORED)[0].history.needs
    if "neighbours" in needs:
        near = covisitation_neighbours(contexts, num_items)
        names += _write(folder, "neighbours", near, num_items)
    if "earlier" in needs:
        earlier = earlier_items(contexts)
        rows = {item: tuple([other for other, _ in steps]) for item, steps in earlier.items()}
        names += _write(folder, "earlier", rows, num_items)
        chances = [chance for row in range(num_items) for _, chance in earlier.get(row, ())]
        names.append("online_earlier_chances.npy")
        write_array(folder / names[-1], np.array(chances, np.float32))
    return names


def load_side(folder: Path, vocabulary: Vocabulary) -> OnlineSide:
    """Memory-map what `write_online` wrote; what is not there is not stored.

    Raises:
        ArtifactError: an array is unreadable, or does not fit the catalogue.
    """
    side = NO_SIDE
    if (found := _load(folder, "neighbours", vocabulary)) is not None:
        side = side._replace(neighbours=_Neighbours(vocabulary, *found), stored=side.stored | {"neighbours"})
    if (found := _load(folder, "earlier", vocabulary)) is not None:
        chances = load_array(folder / "online_earlier_chances.npy")
        if len(chances) != len(found[1]):
            raise ArtifactError(f"{folder}: online_earlier arrays differ in length; train a new run")
        earlier = _Earlier(vocabulary, *found, chances)
        side = side._replace(earlier=earlier, stored=side.stored | {"earlier"})
    return side


def _write(folder: Path, name: str, lists: Mapping[Item, tuple[Item, ...]], num_items: int) -> list[str]:
    sizes = [len(lists.get(row, ())) for row in range(num_items)]
    offsets = np.concatenate([[0], np.cumsum(np.array(sizes, np.int64))]).astype(np.int64)
    rows = np.array([int(other) for row in range(num_items) for other in lists.get(row, ())], np.int32)
    names = [f"online_{name}_offsets.npy", f"online_{name}_rows.npy"]
    write_array(folder / names[0], offsets)
    write_array(folder / names[1], rows)
    return names


def _load(folder: Path, name: str, vocabulary: Vocabulary) -> tuple[Rows, Rows] | None:
    path = folder / f"online_{name}_offsets.npy"
    if not path.is_file():
        return None
    offsets, rows = load_array(path), load_array(folder / f"online_{name}_rows.npy")
    if len(offsets) != len(vocabulary) + 1 or int(offsets[-1]) != len(rows):
        raise ArtifactError(f"{path}: does not fit the catalogue; train a new run")
    if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(vocabulary):
        raise ArtifactError(f"{folder}: online_{name}_rows.npy names rows outside the catalogue")
    return offsets, rows
