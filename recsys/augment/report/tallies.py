"""What became of an expansion's candidates: accepted, refused and why, left alone; by op where recorded."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from recsys.errors import ArtifactError

KINDS = ("history", "text")
FILES = ("policy.toml", "counts.json", "texts.parquet", "histories.parquet", "provenance.parquet")
_REJECTED, _SKIPPED, _LANGUAGE = "rejected:", "skipped:", "language:"


@dataclass(frozen=True, slots=True)
class OpTally:
    """One chain of ops."""

    op: str
    accepted: int
    rejected: Mapping[str, int] | None
    """By reason; None where the expansion did not record reasons by op."""

    @property
    def refused(self) -> int:
        """All that was refused, 0 where nothing was recorded."""
        return sum((self.rejected or {}).values())


@dataclass(frozen=True, slots=True)
class Tally:
    """One kind of rows."""

    kind: str
    rows: int
    """Originals."""
    accepted: int
    left_alone: int
    """Tries on which every op passed: too short, too rich, not drawn, or no side data."""
    rejected: Mapping[str, int]
    """By reason."""
    skipped: Mapping[str, int]
    """Candidates that a gate could not judge, by gate."""
    languages: Mapping[str, int]
    others: Mapping[str, int]
    """Counts that an op or an oracle added, such as tokens."""
    ops: tuple[OpTally, ...]
    """The most frequent first."""
    stored: int
    """Augmented rows in the folder; equal to `accepted` unless the folder was edited."""
    reasons_by_op: bool = field(default=False)
    """Whether `ops` says who was refused for what."""

    @property
    def tried(self) -> int:
        """Candidates that ops made."""
        return self.accepted + sum(self.rejected.values())


def load_tallies(folder: Path) -> tuple[Tally, ...]:
    """Counts of histories and of texts.

    Raises:
        ArtifactError: a file of the expansion is missing or cannot be read.
    """
    require_expansion(folder)
    counts = read_json(folder / "counts.json")
    stored = _stored_ops(folder / "provenance.parquet")
    by_op = counts.get("ops")
    return tuple(
        _tally(
            kind,
            _whole(counts.get(kind, {}), folder, kind),
            stored.get(kind, Counter()),
            by_op.get(kind) if isinstance(by_op, Mapping) else None,
        )
        for kind in KINDS
    )


def require_expansion(folder: Path) -> None:
    """Refuse a folder that lacks a file of an expansion."""
    if not folder.is_dir():
        raise ArtifactError(f"{folder}: there is no such folder. Make an expansion with 'recsys augment run'")
    missing = [name for name in FILES if not (folder / name).exists()]
    if missing:
        raise ArtifactError(
            f"{folder}: not a whole expansion ({', '.join(missing)} missing). "
            "Make one with 'recsys augment run', or let that finish"
        )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON table.

    Raises:
        ArtifactError: the file cannot be read, or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(value, dict):
        raise ArtifactError(f"{path}: expected a table, got {type(value).__name__}")
    return value


def batches(path: Path, columns: list[str], rows: pads.Expression | None = None) -> Iterator[pa.RecordBatch]:
    """Parts of a Parquet file or of a folder of them, never the whole.

    Raises:
        ArtifactError: it cannot be read, or lacks a column.
    """
    try:
        yield from pads.dataset(path, format="parquet").to_batches(columns=columns, filter=rows)
    except (OSError, pa.ArrowException) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); make the expansion again") from error


def _tally(kind: str, counts: Mapping[str, int], stored: Counter[str], ops: Any) -> Tally:
    recorded = isinstance(ops, Mapping)
    known = {"rows", "accepted", "left_alone"}
    others = {
        name: count
        for name, count in counts.items()
        if name not in known and not name.startswith((_REJECTED, _SKIPPED, _LANGUAGE))
    }
    return Tally(
        kind=kind,
        rows=counts.get("rows", 0),
        accepted=counts.get("accepted", 0),
        left_alone=counts.get("left_alone", 0),
        rejected=_under(counts, _REJECTED),
        skipped=_under(counts, _SKIPPED),
        languages=_under(counts, _LANGUAGE),
        others=others,
        ops=_ops(ops) if recorded else tuple(OpTally(op, n, None) for op, n in stored.most_common()),
        stored=stored.total(),
        reasons_by_op=recorded,
    )


def _ops(table: Mapping[str, Mapping[str, int]]) -> tuple[OpTally, ...]:
    rows = [
        OpTally(
            op,
            int(counts.get("accepted", 0)),
            {
                reason.removeprefix(_REJECTED): int(count)
                for reason, count in sorted(counts.items())
                if reason != "accepted" and count
            },
        )
        for op, counts in table.items()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.accepted - row.refused, row.op)))


def _under(counts: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): n for name, n in counts.items() if name.startswith(prefix)}


def _whole(counts: Any, folder: Path, kind: str) -> Mapping[str, int]:
    if not isinstance(counts, Mapping) or not all(isinstance(n, int) for n in counts.values()):
        raise ArtifactError(f"{folder / 'counts.json'}: '{kind}' must be a table of counts")
    return counts


def _stored_ops(path: Path) -> dict[str, Counter[str]]:
    """Rows by kind and chain of ops."""
    found: dict[str, Counter[str]] = {}
    for batch in batches(path, ["kind", "op"]):
        pairs = (
            pa.table(batch.columns, names=["kind", "op"])
            .group_by(["kind", "op"])
            .aggregate([([], "count_all")])
        )
        for row in pairs.to_pylist():
            found.setdefault(row["kind"], Counter())[row["op"]] += row["count_all"]
    return found


def is_original() -> pads.Expression:
    """The rows of an expansion without a parent."""
    return pc.field("parent_id").is_null()


def is_augmented() -> pads.Expression:
    """The rows of an expansion with a parent."""
    return pc.field("parent_id").is_valid()
