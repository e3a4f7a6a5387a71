"""Training rows: one context per (user, moment), its history before that moment and its targets at it.

This is the prepared dataset that training reads: plain arrays, so that a bare machine with torch alone can
train from them. `role` and `parents` carry two rules that nobody has to remember: only `fit` rows may be
augmented, and evaluation refuses rows that have a parent.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recsys.artifacts import load_array, write_array, write_atomically
from recsys.errors import ArtifactError, LeakageError
from recsys.types import EncodedHistory, Floats, History, Rows

EVENT_TYPES = ("interaction", "view", "click", "cart", "purchase", "review", "share", "other")
"""Event codes are positions here; an event type not listed is `other`."""
_EVENT_CODE = {name: code for code, name in enumerate(EVENT_TYPES)}

Role = Literal["fit", "held_out"]

MASKED = -1
"""In a history's rows: an event whose item is not told. It keeps its place, type and time."""


def event_code(name: str) -> int:
    """The code of an event type."""
    return _EVENT_CODE.get(name, len(EVENT_TYPES) - 1)


class Vocabulary:
    """The catalogue's ids and their rows: position in `item_ids` is the item's row everywhere in a run."""

    def __init__(self, item_ids: Sequence[str]) -> None:
        self.item_ids: tuple[str, ...] = tuple(item_ids)
        self._rows = {item_id: row for row, item_id in enumerate(self.item_ids)}
        if len(self._rows) != len(self.item_ids):
            raise ValueError("item ids must be distinct")

    def __len__(self) -> int:
        return len(self.item_ids)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._rows

    def row(self, item_id: str) -> int:
        """The row of an item, -1 for an unknown one."""
        return self._rows.get(item_id, -1)

    def rows(self, item_ids: Sequence[str]) -> Rows:
        """Rows of several items, -1 for unknown ones."""
        return np.fromiter((self._rows.get(i, -1) for i in item_ids), np.int64, len(item_ids))

    def encode(self, history: History) -> EncodedHistory:
        """A history in rows, oldest first; events on items outside the catalogue are left out."""
        rows = self.rows(history.item_ids)
        codes = np.fromiter((event_code(name) for name in history.event_types), np.int64, len(history))
        times = np.asarray(history.timestamps, np.int64)
        known = rows >= 0
        return EncodedHistory(rows[known], codes[known], times[known])


@dataclass(frozen=True, slots=True)
class Contexts:
    """n training rows in CSR form; all arrays are read-only by convention.

    Row i has the history `history_rows[history_offsets[i]:history_offsets[i + 1]]`, oldest first, all
    strictly before `moments[i]`, and targets likewise. A row may have an empty history, never an empty
    target. In held-out rows every older item of the user comes once before the newest events. A history's row
    may be `MASKED`, in an augmented row alone.
    """

    user_ids: NDArray[np.str_]
    """(n,)"""
    moments: NDArray[np.int64]
    """(n,) Unix seconds."""
    history_offsets: NDArray[np.int64]
    """(n + 1,)"""
    history_rows: Rows
    """`MASKED` where an augmentation has hidden the item."""
    history_events: NDArray[np.int64]
    """Codes of `EVENT_TYPES`."""
    history_timestamps: NDArray[np.int64]
    target_offsets: NDArray[np.int64]
    """(n + 1,)"""
    target_rows: Rows
    target_weights: Floats
    """Weight of each target by its event type."""
    weights: Floats
    """(n,) Loss weight of the row: 1 for originals."""
    parents: NDArray[np.int64]
    """(n,) -1 for an original; else the original's position in the table that was augmented."""
    role: Role = "fit"

    def __len__(self) -> int:
        return len(self.moments)

    def history(self, i: int) -> EncodedHistory:
        """The history of row i."""
        span = slice(self.history_offsets[i], self.history_offsets[i + 1])
        return EncodedHistory(
            self.history_rows[span], self.history_events[span], self.history_timestamps[span]
        )

    def targets(self, i: int) -> Rows:
        """The targets of row i."""
        return self.target_rows[self.target_offsets[i] : self.target_offsets[i + 1]]

    def histories(self) -> Iterator[EncodedHistory]:
        """All histories, in order."""
        return (self.history(i) for i in range(len(self)))

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Contexts:
        """A new table of the given rows, in the given order."""
        picked = np.flatnonzero(rows) if rows.dtype == np.bool_ else np.asarray(rows, np.int64)
        history_offsets, history = take_spans(self.history_offsets, picked)
        target_offsets, target = take_spans(self.target_offsets, picked)
        return replace(
            self,
            user_ids=self.user_ids[picked],
            moments=self.moments[picked],
            history_offsets=history_offsets,
            history_rows=self.history_rows[history],
            history_events=self.history_events[history],
            history_timestamps=self.history_timestamps[history],
            target_offsets=target_offsets,
            target_rows=self.target_rows[target],
            target_weights=self.target_weights[target],
            weights=self.weights[picked],
            parents=self.parents[picked],
        )

    def require_original(self) -> None:
        """Raise when a row is augmented: called wherever something is evaluated."""
        augmented = int((self.parents >= 0).sum())
        if augmented:
            raise LeakageError(f"{augmented:,} augmented rows reached evaluation; it takes originals only")

    def require_fit(self) -> None:
        """Raise unless these rows may be augmented and trained on."""
        if self.role != "fit":
            raise LeakageError("held-out rows may be neither augmented nor trained on")

    def write(self, folder: Path) -> None:
        """Persist as one .npy per field."""
        for item in fields(self):
            if item.name != "role":
                write_array(folder / f"{item.name}.npy", getattr(self, item.name))
        write_atomically(folder / "role", self.role)

    @classmethod
    def load(cls, folder: Path) -> Contexts:
        """Memory-map what `write` wrote."""
        try:
            role = (folder / "role").read_text()
        except OSError as error:
            raise ArtifactError(f"{folder}: no prepared contexts here ({error.strerror})") from error
        if role not in ("fit", "held_out"):
            raise ArtifactError(f"{folder}/role: unknown role {role!r}")
        arrays = {f.name: load_array(folder / f"{f.name}.npy") for f in fields(cls) if f.name != "role"}
        return cls(**arrays, role="fit" if role == "fit" else "held_out")


def stacked_on_disk(tables: Iterable[Contexts], folder: Path) -> Contexts:
    """Tables one after the other, written to `folder` as by `Contexts.write`; one at a time is in memory.

    Args:
        tables: Of one role; one at least.
        folder: Made anew; the result is memory-mapped from it.
    """
    parts = folder.with_name(f"{folder.name}.parts")
    shutil.rmtree(parts, ignore_errors=True)
    written = []
    for number, table in enumerate(tables):
        written.append(parts / f"{number:05d}")
        table.write(written[-1])
    loaded = [Contexts.load(path) for path in written]
    building = folder.with_name(f"{folder.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    for name in (item.name for item in fields(Contexts) if item.name != "role"):
        columns = [getattr(table, name) for table in loaded]
        _stack(building / f"{name}.npy", columns, offsets=name.endswith("_offsets"))
    write_atomically(building / "role", loaded[0].role)
    shutil.rmtree(parts)
    shutil.rmtree(folder, ignore_errors=True)
    building.rename(folder)
    return Contexts.load(folder)


def _stack(path: Path, columns: Sequence[NDArray[Any]], *, offsets: bool) -> None:
    """Columns one after the other; offsets go on where the last column's ended."""
    size = sum(len(column) - offsets for column in columns) + offsets
    kind = np.result_type(*columns)
    whole = np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=(size,))
    start, base = 0, 0
    for column in columns:
        whole[start : start + len(column)] = column + base if offsets else column
        start += len(column) - offsets
        base = int(whole[start]) if offsets else 0
    whole.flush()


def concatenate(tables: Sequence[Contexts]) -> Contexts:
    """Tables one after the other; they must share one role."""
    if len({table.role for table in tables}) != 1:
        raise ValueError("concatenate() needs at least one table, all of one role")

    def offsets(name: str) -> NDArray[np.int64]:
        sizes = [np.diff(getattr(table, name)) for table in tables]
        return np.concatenate([[0], np.cumsum(np.concatenate(sizes))]).astype(np.int64)

    arrays: dict[str, Any] = {
        f.name: offsets(f.name)
        if f.name.endswith("_offsets")
        else np.concatenate([getattr(table, f.name) for table in tables])
        for f in fields(Contexts)
        if f.name != "role"
    }
    return Contexts(**arrays, role=tables[0].role)


def take_spans(
    offsets: NDArray[np.int64], picked: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The spans of some rows one after the other: their offsets, and where their entries lie now.

    Args:
        offsets: (n + 1,) where the rows' spans begin and end.
        picked: Rows, in any order.
    """
    sizes = (offsets[1:] - offsets[:-1])[picked]
    new = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    positions = np.arange(new[-1]) - np.repeat(new[:-1], sizes) + np.repeat(offsets[:-1][picked], sizes)
    return new, positions.astype(np.int64)
