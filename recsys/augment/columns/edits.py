"""What ops did to a batch of rows, by column: which rows, their plans as JSON, their chains of names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.augment.columns.runs import Ints


class Batch(Protocol):
    """Rows that ops edit, as columns; never changed."""

    def __len__(self) -> int: ...

    def take(self, rows: Ints) -> Self:
        """These rows, in this order."""

    def merged(self, parts: Sequence[tuple[Ints, Self]]) -> Self:
        """The same rows, but those of the parts as the parts have them; no row is in two parts."""


B = TypeVar("B", bound=Batch)


class Json(NamedTuple):
    """A text per row: what differs between two ends that all share."""

    before: str
    body: pa.Array
    after: str

    def within(self, before: str, after: str) -> Json:
        """With more around it."""
        return Json(before + self.before, self.body, self.after + after)

    def whole(self) -> pa.Array:
        """The texts."""
        return pc.binary_join_element_wise(self.before, self.body, self.after, "")


class Chains(NamedTuple):
    """The names of edits in order, `item_dropout>crop`, as numbers of a few names."""

    codes: Ints
    names: tuple[str, ...]

    def texts(self) -> pa.Array:
        """As texts."""
        return pa.array(self.names, pa.string()).take(pa.array(self.codes))


class Edited(NamedTuple, Generic[B]):
    """The rows of a batch that an op edited."""

    rows: Ints
    """Their positions in the batch, ascending."""
    batch: B
    """They as they are now."""
    plans: Json
    """The op's plan for each, as JSON."""
    chains: Chains


def named(name: str, rows: Ints, batch: B, values: Json) -> Edited[B]:
    """What a leaf op edited; `values` are its plans' values without their brackets."""
    plans = values.within(f'["{name}",[', "]]")
    return Edited(rows, batch, plans, Chains(np.zeros(len(rows), np.int64), (name,)))


def number_lists(values: Ints, offsets: Ints) -> pa.Array:
    """Runs of whole numbers as JSON without brackets: `3,5`."""
    said = pa.array(values).cast(pa.string())
    if len(values) == len(offsets) - 1 and bool((np.diff(offsets) == 1).all()):
        return said
    return pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), said), ",")


def gathered(name: str, batch: B, parts: Sequence[tuple[int, Edited[B]]], now: B | None) -> Edited[B] | None:
    """What a composite edited, from what its children did in order.

    Args:
        name: The composite's.
        batch: The rows that it was given.
        parts: Numbers of children, and what each edited, as positions in `batch`.
        now: The batch as it is after all of them; None where no row was edited by two children.
    """
    if not parts:
        return None
    if len(parts) == 1:
        number, only = parts[0]
        return only._replace(plans=only.plans.within(f'["{name}",[[{number},', "]]]"))
    rows = np.unique(np.concatenate([part.rows for _, part in parts]))
    places = [np.searchsorted(rows, part.rows) for _, part in parts]
    texts = [part.plans.within(f"[{number},", "]").whole() for number, part in parts]
    if now is None:
        order = np.argsort(np.concatenate(places), kind="stable")
        body = pa.concat_arrays(texts).take(pa.array(order))
        now = batch.merged([(part.rows, part.batch) for _, part in parts])
    else:
        body = pc.binary_join_element_wise(
            *(_spread(text, place, len(rows)) for text, place in zip(texts, places, strict=True)),
            ",",
            null_handling="skip",
        )
    edited = now if len(rows) == len(batch) else now.take(rows)
    chains = _chained([part.chains for _, part in parts], places, len(rows))
    return Edited(rows, edited, Json(f'["{name}",[', body, "]]"), chains)


def _spread(texts: pa.Array, place: Ints, count: int) -> pa.Array:
    """Texts at their places among so many, null elsewhere."""
    index, missing = np.zeros(count, np.int64), np.ones(count, np.bool_)
    index[place], missing[place] = np.arange(len(place)), False
    return texts.take(pa.array(index, mask=missing))


def _chained(chains: Sequence[Chains], places: Sequence[Ints], count: int) -> Chains:
    """Chains of several children as one: those that a row does not have are left out."""
    codes: NDArray[Any] = np.zeros(count, np.int64)
    names: list[str] = [""]
    for chain, place in zip(chains, places, strict=True):
        # A number for each pair of a chain so far and one that follows; only pairs that occur are kept.
        pairs = codes * (len(chain.names) + 1)
        pairs[place] += chain.codes + 1
        known, codes = np.unique(pairs, return_inverse=True)
        firsts, seconds = np.divmod(known, len(chain.names) + 1)
        names = [
            ">".join(filter(None, (names[first], chain.names[second - 1] if second else "")))
            for first, second in zip(firsts.tolist(), seconds.tolist(), strict=True)
        ]
    return Chains(codes.astype(np.int64), tuple(names))
