"""A few augmented rows to look at: drawn by key over all ops, each with its steps, scores and a diff."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from recsys.augment.example import HistoryExample, TextExample
from recsys.augment.explain import explain
from recsys.augment.report.distributions import Catalogue
from recsys.augment.report.tallies import KINDS, batches
from recsys.augment.store import load_row
from recsys.augment.tokens import cut, language_of
from recsys.randomness import generator

Change = Literal["same", "gone", "new"]
_MOST_TITLE = 70


@dataclass(frozen=True, slots=True)
class Sample:
    """One augmented row for a page."""

    kind: str
    row_id: str
    op: str
    steps: tuple[str, ...]
    scores: tuple[tuple[str, float], ...]
    parts: tuple[tuple[Change, str], ...]
    """The words of a text, or the items of a history, oldest first."""
    joiner: str
    """What stands between words; a history's items have lines of their own."""


def draw_samples(folder: Path, catalogue: Catalogue, count: int) -> list[Sample]:
    """So many augmented rows of each kind; every op has its turn before one has its second.

    The draw is keyed: the same expansion shows the same rows.

    Raises:
        ArtifactError: a row or its parent is missing.
        InputError: a row is of another policy than the folder's.
    """
    titles = titles_of(catalogue)
    return [_sample(folder, kind, op, row_id, titles) for kind, op, row_id in _chosen(folder, count)]


def titles_of(catalogue: Catalogue) -> list[str]:
    """The beginning of each item's text up to the first full stop, and its id, in catalogue order."""
    shown = []
    for item_id, text in zip(catalogue.item_ids.to_pylist(), catalogue.texts.to_pylist(), strict=True):
        title = text.split(". ", 1)[0]
        title = title if len(title) <= _MOST_TITLE else title[: _MOST_TITLE - 1] + "…"
        shown.append(f"{title} ({item_id})" if title else f"({item_id})")
    return shown


def diff_parts(before: Sequence[str], after: Sequence[str]) -> list[tuple[Change, str]]:
    """Every word of both lists: in both, gone, or new."""
    parts: list[tuple[Change, str]] = []
    for tag, low, high, start, stop in difflib.SequenceMatcher(None, before, after, False).get_opcodes():
        if tag == "equal":
            parts += [("same", word) for word in before[low:high]]
        else:
            parts += [("gone", word) for word in before[low:high]]
            parts += [("new", word) for word in after[start:stop]]
    return parts


def _chosen(folder: Path, count: int) -> list[tuple[str, str, str]]:
    """Kind, op and id of the rows to show."""
    by_op: dict[tuple[str, str], list[int]] = {}
    place = 0
    for batch in batches(folder / "provenance.parquet", ["kind", "op"]):
        for key in zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True):
            by_op.setdefault(key, []).append(place)
            place += 1
    turns: list[tuple[int, int, int, int, tuple[str, str]]] = []
    for number, kind in enumerate(KINDS):
        of_kind = sorted(
            ((key, rows) for key, rows in by_op.items() if key[0] == kind), key=lambda x: (-len(x[1]), x[0])
        )
        for rank, (key, rows) in enumerate(of_kind):
            drawn = generator(0, "augment", "report", *key).permutation(np.array(rows))[:count]
            turns += [(number, turn, rank, int(row), key) for turn, row in enumerate(drawn)]
    taken = {
        row: key
        for kind in range(len(KINDS))
        for _, _, _, row, key in sorted(t for t in turns if t[0] == kind)[:count]
    }
    ids = _row_ids(folder, set(taken))
    return [(*key, ids[row]) for row, key in taken.items()]


def _row_ids(folder: Path, wanted: set[int]) -> dict[int, str]:
    found: dict[int, str] = {}
    start = 0
    for batch in batches(folder / "provenance.parquet", ["row_id"]):
        for place in wanted:
            if start <= place < start + len(batch):
                found[place] = batch.column(0)[place - start].as_py()
        start += len(batch)
    return found


def _sample(folder: Path, kind: str, op: str, row_id: str, titles: Sequence[str]) -> Sample:
    stored, policy = load_row(folder, row_id)
    said = explain(stored.provenance, stored.original, policy, stored.item_ids)
    original, row = stored.original, stored.row
    if isinstance(original, TextExample) and isinstance(row, TextExample):
        language = language_of(original.text)
        (before, joiner), (after, _) = cut(original.text, language), cut(row.text, language)
    elif isinstance(original, HistoryExample) and isinstance(row, HistoryExample):
        before, after, joiner = _shown(original, titles), _shown(row, titles), "\n"
    else:
        raise TypeError(f"{row_id}: a {type(row).__name__} of a {type(original).__name__}")
    steps = tuple(
        f"{step.op}({', '.join(f'{name}={value}' for name, value in step.parameters.items())})"
        for step in said.steps
    )
    return Sample(
        kind, row_id, op, steps, tuple(sorted(said.scores.items())), tuple(diff_parts(before, after)), joiner
    )


def _shown(example: HistoryExample, titles: Sequence[str]) -> tuple[str, ...]:
    return tuple(
        titles[item] if isinstance(item, int) and 0 <= item < len(titles) else "[mask]"
        for item in example.history
    )
