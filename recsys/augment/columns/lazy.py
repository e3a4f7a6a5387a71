"""Columns that become Python values when somebody reads them, and until then stay arrays.

Each is a sequence, so that whoever reads a list reads it as well; `take` leaves rows without making values.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.augment.op import Op, Plan

T = TypeVar("T")
Rows = NDArray[np.int64]


class Column(Sequence[T], Generic[T]):
    """One value per row; the values are made once, all together."""

    def __init__(self) -> None:
        self._values: list[T] | None = None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def take(self, rows: Rows) -> Column[T]:
        """These rows, in this order."""

    @abstractmethod
    def _made(self) -> list[T]:
        """The values as Python has them."""

    @property
    def values(self) -> list[T]:
        """All values; not to be changed."""
        if self._values is None:
            self._values = self._made()
        return self._values

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        return self.values[index]

    def __iter__(self) -> Iterator[T]:
        return iter(self.values)


class Strings(Column[str]):
    """Texts in an Arrow array without nulls."""

    def __init__(self, arrow: pa.Array) -> None:
        super().__init__()
        self.arrow = arrow

    def __len__(self) -> int:
        return len(self.arrow)

    def take(self, rows: Rows) -> Strings:
        """These rows, in this order."""
        return Strings(self.arrow.take(pa.array(rows)))

    def _made(self) -> list[str]:
        said: list[str] = self.arrow.to_pylist()
        return said


class Numbers(Column[T]):
    """Numbers in a NumPy array, read as Python's own."""

    def __init__(self, array: NDArray[Any]) -> None:
        super().__init__()
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.array, dtype, copy=copy)

    def take(self, rows: Rows) -> Numbers[T]:
        """These rows, in this order."""
        return Numbers(self.array[rows])

    def _made(self) -> list[T]:
        found: list[T] = self.array.tolist()
        return found


class Plans(Column[Plan]):
    """Plans as their JSON.

    Args:
        op: Whose plans they are: it reads them.
        texts: `plan_json` of each.
    """

    def __init__(self, op: Op[Any], texts: Strings) -> None:
        super().__init__()
        self.op, self.texts = op, texts

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: Rows) -> Plans:
        """These rows, in this order."""
        return Plans(self.op, self.texts.take(rows))

    def _made(self) -> list[Plan]:
        parse = self.op.parse
        return [parse(json.loads(text)) for text in self.texts]


class Made(Column[T]):
    """Values that a function makes of rows' numbers.

    Args:
        rows: The numbers.
        make: Numbers to as many values.
    """

    def __init__(self, rows: Rows, make: Callable[[Rows], list[T]]) -> None:
        super().__init__()
        self._rows, self._make = rows, make

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, rows: Rows) -> Made[T]:
        """These rows, in this order."""
        return Made(self._rows[rows], self._make)

    def _made(self) -> list[T]:
        return self._make(self._rows)


class Saying(Made[T]):
    """Values that say a text each; the texts are there without the values.

    Args:
        rows: As of `Made`.
        make: As of `Made`.
        texts: One per row.
    """

    def __init__(self, rows: Rows, make: Callable[[Rows], list[T]], texts: Strings) -> None:
        super().__init__(rows, make)
        self.texts = texts

    def take(self, rows: Rows) -> Saying[T]:
        """These rows, in this order."""
        return Saying(self._rows[rows], self._make, self.texts.take(rows))


def taken(column: Sequence[T], rows: Sequence[int]) -> Sequence[T]:
    """Some rows of a column, which may be a plain list."""
    if isinstance(column, Column):
        return column.take(np.asarray(rows, np.int64))
    return [column[row] for row in rows]


def strings_of(column: Sequence[str]) -> pa.Array:
    """A column of texts as an Arrow array."""
    return column.arrow if isinstance(column, Strings) else pa.array(column, pa.string())


def joined(parts: Sequence[Any]) -> Any:
    """Columns one after the other; of one kind, they stay arrays."""
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part, Strings) for part in parts):
        return Strings(pa.concat_arrays([strings_of(part) for part in parts]))
    if all(isinstance(part, Numbers) for part in parts):
        return Numbers(np.concatenate([np.asarray(part) for part in parts]))
    plans = [part for part in parts if isinstance(part, Plans)]
    if len(plans) == len(parts):
        return Plans(plans[0].op, joined([part.texts for part in plans]))
    make, rows = _chained(parts)
    if all(isinstance(part, Saying) for part in parts):
        return Saying(rows, make, joined([part.texts for part in parts]))
    return Made(rows, make)


def _chained(parts: Sequence[Any]) -> tuple[Callable[[Rows], list[Any]], Rows]:
    ends = np.cumsum([len(part) for part in parts])

    def make(rows: Rows) -> list[T]:
        number = np.searchsorted(ends, rows, side="right")
        found: list[Any] = [None] * len(rows)
        for i, part in enumerate(parts):
            at = np.flatnonzero(number == i)
            local = rows[at] - (ends[i] - len(part))
            for place, value in zip(at.tolist(), taken(part, local.tolist()), strict=True):
                found[place] = value
        return found

    return make, np.arange(int(ends[-1]))
