"""The shards of a run on disk: what ops and gates left of a range of rows, one Parquet file each.

    WORK/
      cut-00000.parquet       words, states, language of the range's texts
      early-00000.parquet     texts whose gates have not all judged yet
      text-00000.parquet      provenance columns, parent (position of the original), text
      history-00000.parquet   provenance columns, parent, item_rows, event_codes, timestamps

A file is there whole or not at all. What was counted and how long it took stands in its metadata.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.artifacts import replacing
from recsys.augment.columns.lazy import strings_of
from recsys.augment.example import TextExample
from recsys.augment.grow import Grown, texts_of
from recsys.augment.policy import Branch
from recsys.augment.provenance import SCHEMA, parse_plan, provenance_table
from recsys.augment.shards import TextShards, flat_histories
from recsys.augment.tokens import Tokens
from recsys.errors import ArtifactError

Step = Literal["cut", "early", "text", "history"]
_PART = "\x1f"
"""Parts words: white space, so that no word has it."""


class Shard(NamedTuple):
    """A range of rows and what is done with it."""

    step: Step
    number: int
    start: int
    stop: int

    def path(self, folder: Path) -> Path:
        """Where its result lies."""
        return folder / f"{self.step}-{self.number:05d}.parquet"


@dataclass(frozen=True, slots=True)
class Origin:
    """What all rows of a run have in common."""

    policy_id: str
    seed: int
    created: int


@dataclass(slots=True)
class Tallies:
    """Counts of a shard, or of several."""

    counts: Counter[str] = field(default_factory=Counter)
    refusals: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: float = 0.0

    def to_bytes(self) -> bytes:
        """As a file's metadata."""
        refusals = [[*key, count] for key, count in sorted(self.refusals.items())]
        tree = {"counts": dict(self.counts), "refusals": refusals, "seconds": self.seconds}
        return json.dumps(tree, ensure_ascii=False).encode()

    def add(self, data: bytes) -> None:
        """Add what `to_bytes` gave."""
        tree = json.loads(data)
        self.counts.update(tree["counts"])
        self.refusals.update({(chain, reason): count for chain, reason, count in tree["refusals"]})
        self.seconds += tree["seconds"]


def spans(step: Step, size: int, rows: int) -> list[Shard]:
    """The shards of so many rows, each of the given size but the last."""
    starts = range(0, size, rows)
    return [Shard(step, number, start, min(start + rows, size)) for number, start in enumerate(starts)]


def write_cut(path: Path, tokens: Sequence[Tokens]) -> None:
    """Persist cut texts."""
    columns = {
        "words": pa.array([_PART.join(one.words) for one in tokens], pa.string()),
        "states": pa.array([one.states for one in tokens], pa.binary()),
        "language": pa.array([one.language for one in tokens], pa.string()),
    }
    _write(path, pa.table(columns))


def read_cut(path: Path) -> list[Tokens]:
    """What `write_cut` wrote."""
    columns = [column.to_pylist() for column in _read(path).columns]
    return [
        Tokens(tuple(words.split(_PART)) if states else (), states, "" if language == "zh" else " ", language)
        for words, states, language in zip(*columns, strict=True)
    ]


def write_grown(path: Path, grown: Grown[Any], kind: str, origin: Origin, seconds: float) -> None:
    """Persist a shard's accepted candidates with their provenance, and its counts."""
    table = provenance_table(
        kind=kind,
        row_ids=grown.row_ids,
        parent_ids=grown.parent_ids,
        policy_id=origin.policy_id,
        plans=grown.plans,
        seed=origin.seed,
        scores={"modification": grown.modification, **grown.scores},
        chains=grown.chains,
        created=origin.created,
    )
    table = table.append_column("parent", pa.array(grown.parents, pa.int64()))
    if kind == "text":
        table = table.append_column("text", strings_of(texts_of(grown.children)))
    else:
        lengths, arrays = flat_histories(grown.children)
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
        for name, values in zip(("item_rows", "event_codes", "timestamps"), arrays, strict=True):
            table = table.append_column(name, pa.ListArray.from_arrays(offsets, pa.array(values)))
    tallies = Tallies(grown.counts, grown.refusals, seconds)
    _write(path, table.replace_schema_metadata({"tallies": tallies.to_bytes()}))


def read_early(path: Path, shards: TextShards, branch: Branch) -> tuple[Grown[TextExample], float]:
    """Candidates as they were when the gates stopped, and how long that took."""
    table = _read(path)
    columns = {
        name: table[name].to_pylist() for name in ("row_id", "parent_id", "op", "plan", "parent", "text")
    }
    tallies = Tallies()
    tallies.add(table.schema.metadata[b"tallies"])
    originals = shards.originals(columns["parent"])
    children = [
        original._replace(text=text, tokens=None)
        for original, text in zip(originals, columns["text"], strict=True)
    ]
    scores: dict[str, Any] = {}
    for row in table["scores"].to_pylist():
        for name, score in row:
            scores.setdefault(name, []).append(score)
    grown = Grown(
        parents=columns["parent"],
        row_ids=columns["row_id"],
        parent_ids=columns["parent_id"],
        originals=originals,
        children=children,
        plans=[parse_plan(branch.ops, plan) for plan in columns["plan"]],
        chains=columns["op"],
        modification=scores.pop("modification", []),
        scores=scores,
        counts=tallies.counts,
        refusals=tallies.refusals,
    )
    return grown, tallies.seconds


def read_tallies(path: Path, into: Tallies) -> None:
    """Add a shard's counts."""
    try:
        into.add(pq.read_schema(path).metadata[b"tallies"])
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def read_columns(path: Path, columns: Sequence[str]) -> pa.Table:
    """Some columns of a shard."""
    return _read(path, list(columns))


def read_provenance(path: Path, kept: NDArray[np.bool_]) -> pa.Table:
    """A shard's provenance, without the rows that do not stay."""
    return _read(path, SCHEMA.names).filter(pa.array(kept)).cast(SCHEMA)


def flat_lists(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lengths of a column of lists, and its values one after the other."""
    lists = column.combine_chunks()
    if isinstance(lists, pa.ChunkedArray):  # no chunk at all
        return np.empty(0, np.int64), np.empty(0, np.int64)
    lengths = np.asarray(lists.value_lengths().to_numpy(zero_copy_only=False), np.int64)
    return lengths, np.asarray(lists.flatten().to_numpy(zero_copy_only=False), np.int64)


def _write(path: Path, table: pa.Table) -> None:
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def _read(path: Path, columns: list[str] | None = None) -> pa.Table:
    try:
        return pq.read_table(path, columns=columns, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ArtifactError:
    return ArtifactError(f"{path}: cannot be read ({error}). Remove it, and give the same command again")
