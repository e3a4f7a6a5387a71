"""Erasing users: their rows leave every file, and so do rows of others that hold events borrowed from them.

Each file is replaced whole. A note of whom to erase lies in the folder from the first file to the last, and
the folder is of no use to anybody in between, so an erasure that was killed is seen and run again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.artifacts import load_array
from recsys.data.augmented_rows import HISTORIES, lenders_in
from recsys.data.feature_arrow import spans
from recsys.data.feature_files import BASE, EVENTS, OFFLINE, UNFINISHED, FeatureFiles, replacing_rows
from recsys.data.same_shop import event_hashes
from recsys.errors import ArtifactError, InputError

Mask = NDArray[np.bool_]
_LENT, _UNNAMED = "rows of others that borrowed from them", "rows that do not say from whom they borrowed"


def erase_from_files(files: FeatureFiles, users: Collection[str], *, resumed: bool = False) -> Counter[str]:
    """Take users out of the offline files and the pushed events; rows taken by place.

    Args:
        files: The feature folder's.
        users: Whom.
        resumed: An erasure was stopped here before, so that files may not belong together.
    """
    taken = _without_leftovers(files.folder)
    ids = pa.array(sorted(users), pa.string())
    for path in sorted(files.view(HISTORIES).glob("*.parquet")):
        taken += _without_lent(path, ids, HISTORIES, _stored_lenders)
    known = _events_of(files, ids)
    for folder in sorted(files.folder.glob(f"{EVENTS}*")):
        for path in sorted(folder.glob("*.parquet")):
            taken[folder.name] += _filter(path, ["user_id"], lambda part: _not_of(part["user_id"], ids))
    for view in ("user_items", "user_behavior"):
        for path in sorted(files.view(view).glob("*.parquet")):
            taken[view] += _filter(path, ["user_id"], lambda part: _not_of(part["user_id"], ids))
    if taken["user_behavior"] or resumed:
        files.write_states()
    _correct_note(files, known)
    return +taken


def erase_from_expansion(folder: Path, users: Collection[str]) -> Counter[str]:
    """Take users out of what `recsys augment run` wrote: their histories, and what others borrowed from them.

    A later `recsys augment run` of the same inputs begins anew, since the folder no longer holds what they
    make.

    Raises:
        InputError: the folder is no expansion, or one that is not finished.
    """
    histories, provenance = folder / "histories.parquet", folder / "provenance.parquet"
    for path in (histories, provenance):
        if not path.is_file():
            raise InputError("not an expansion", file=str(path), hint="Make one with 'recsys augment run'")
    if (folder / ".work").exists():
        raise InputError(
            "an expansion is unfinished here",
            file=str(folder / ".work"),
            hint="Run 'recsys augment run' to its end, or delete that folder, then erase",
        )
    (folder / "run.json").unlink(missing_ok=True)
    taken = _without_leftovers(folder)
    ids = pa.array(sorted(users), pa.string())
    lent = pa.array(sorted(_borrowers(provenance, ids)), pa.string())

    def stays(part: pa.Table) -> Mask:
        return _not_of(part["user_id"], ids) & _not_of(part["row_id"], lent)

    def explained(part: pa.Table) -> Mask:
        return _not_of(_user_of(part["parent_id"]), ids) & _not_of(part["row_id"], lent)

    taken["histories.parquet"] += _filter(histories, ["user_id", "row_id"], stays)
    taken["provenance.parquet"] += _filter(provenance, ["parent_id", "row_id"], explained)
    return +taken


def holders(runs: Path, users: Collection[str], *, besides: Path) -> dict[str, list[str]]:
    """The runs that still hold one of the users, with the files that do.

    Args:
        runs: Folder of runs.
        users: Whom.
        besides: A folder in it that is not a run: the feature store.
    """
    ids = pa.array(sorted(users), pa.string())
    found: dict[str, list[str]] = {}
    for run in sorted(path for path in runs.glob("*") if path.is_dir() and not path.is_symlink()):
        if run.resolve() == besides.resolve() or not (run / "manifest.json").is_file():
            continue
        files = [path for path in sorted(run.rglob("*.parquet")) if _parquet_holds(path, ids)]
        arrays = sorted(run.rglob("user_ids.npy"))
        files += [path for path in arrays if np.isin(load_array(path), ids.to_pylist()).any()]
        if files:
            found[run.name] = [str(path.relative_to(run)) for path in files]
    return found


def _parquet_holds(path: Path, ids: pa.Array) -> bool:
    names = set(pq.read_schema(path).names)
    column = next((name for name in ("user_id", "parent_id") if name in names), None)
    if column is None:
        return False
    columns = [column, "op", "plan"] if {"op", "plan"} <= names else [column]
    for part in _groups(path, columns):
        owners = part[column] if column == "user_id" else _user_of(part[column])
        if not _not_of(owners, ids).all():
            return True
        if "plan" in part.column_names and _from_them(_planned_lenders(part), ids)[0].any():
            return True
    return False


def _without_lent(
    path: Path, ids: pa.Array, place: str, lenders: Callable[[pa.Table], list[list[str | None]]]
) -> Counter[str]:
    """Rows of the users leave a file of augmented rows, and rows that borrowed from them."""
    taken: Counter[str] = Counter()

    def stays(part: pa.Table) -> Mask:
        own = ~_not_of(part["user_id"], ids)
        lent, unnamed = _from_them(lenders(part), ids)
        lent, unnamed = lent & ~own, unnamed & ~own & ~lent
        taken.update({place: int(own.sum()), _LENT: int(lent.sum()), _UNNAMED: int(unnamed.sum())})
        return ~(own | lent | unnamed)

    _filter(path, ["user_id", "lenders"], stays)
    return taken


def _filter(path: Path, columns: list[str], stays: Callable[[pa.Table], Mask]) -> int:
    """Replace a Parquet file by its rows that stay, one row group at a time; how many left.

    A file that was pushed and has no rows left is removed.
    """
    masks = [stays(part) for part in _groups(path, columns)]
    left = int(sum((~mask).sum() for mask in masks))
    if not left:
        return 0
    with (
        replacing_rows(path) as temporary,
        pq.ParquetFile(path) as opened,
        pq.ParquetWriter(temporary, opened.schema_arrow, compression="zstd") as writer,
    ):
        for group, mask in enumerate(masks):
            writer.write_table(opened.read_row_group(group).filter(pa.array(mask)))
    if path.name.startswith("pushed-") and not pq.read_metadata(path).num_rows:
        path.unlink()
    return left


def _groups(path: Path, columns: list[str]) -> Iterator[pa.Table]:
    try:
        with pq.ParquetFile(path) as opened:
            for group in range(opened.num_row_groups):
                yield opened.read_row_group(group, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise ArtifactError(f"{path}: cannot be read ({error})") from error


def _not_of(column: Any, ids: pa.Array) -> Mask:
    mask: Mask = ~np.asarray(pc.is_in(column, value_set=ids)).astype(bool)
    return mask


def _user_of(parents: Any) -> Any:
    """The user in the id of a history, `user:ID@MOMENT`; null for other ids."""
    return pc.struct_field(pc.extract_regex(parents, r"(?s)^user:(?P<user>.*)@-?[0-9]+$"), "user")


def _stored_lenders(part: pa.Table) -> list[list[str | None]]:
    found: list[list[str | None]] = part["lenders"].to_pylist()
    return found


def _planned_lenders(part: pa.Table) -> list[list[str | None]]:
    pairs = zip(part["op"].to_pylist(), part["plan"].to_pylist(), strict=True)
    return [lenders_in(plan) if "borrow" in op else [] for op, plan in pairs]


def _from_them(lenders: list[list[str | None]], ids: pa.Array) -> tuple[Mask, Mask]:
    """(rows,) Whether one of the users lent something, and whether a lender is not named."""
    users = set(ids.to_pylist())
    lent = np.array([not users.isdisjoint(names) for names in lenders], np.bool_)
    return lent, np.array([None in names for names in lenders], np.bool_)


def _borrowers(provenance: Path, ids: pa.Array) -> set[str]:
    """The rows of an expansion that hold events of the users, or of somebody who is not named."""
    found: set[str] = set()
    for part in _groups(provenance, ["row_id", "op", "plan"]):
        lent, unnamed = _from_them(_planned_lenders(part), ids)
        found.update(part["row_id"].filter(pa.array(lent | unnamed)).to_pylist())
    return found


def _events_of(files: FeatureFiles, ids: pa.Array) -> pd.DataFrame:
    """What the files know of the users' events: user_id, item_id, timestamp."""
    frames = []
    for path in files.view("user_behavior").glob("*.parquet"):
        rows = pq.read_table(
            path,
            columns=["user_id", "item_ids", "timestamps"],
            filters=pc.is_in(pc.field("user_id"), value_set=ids),
        )
        offsets, items = spans(rows["item_ids"])
        owners = np.repeat(np.arange(len(rows)), np.diff(offsets))
        columns = [rows["user_id"].take(pa.array(owners)), items, spans(rows["timestamps"])[1]]
        frames.append(pa.table(columns, names=["user_id", "item_id", "timestamp"]).to_pandas())
    events = files.pushed_events()
    mine = events[events["user_id"].isin(ids.to_pylist())]
    found: pd.DataFrame = pd.concat([*frames, mine[["user_id", "item_id", "timestamp"]]], ignore_index=True)
    return found


def _correct_note(files: FeatureFiles, events: pd.DataFrame) -> None:
    """The folder's note counts its rows anew, and the shop's fingerprint loses some events."""
    about = files.read_about()
    gone = set(event_hashes(events.astype({"timestamp": np.int64})).tolist())
    kept = [value for value in about.get("fingerprint", []) if value not in gone]
    rows = {
        view: pq.read_metadata(files.view(view) / BASE).num_rows for view in ("user_behavior", "user_items")
    }
    files.write_about({**about, "fingerprint": kept, "rows": {**about["rows"], **rows}})


def _without_leftovers(folder: Path) -> Counter[str]:
    """Remove what writers that were killed left of files that they were about to replace; how many."""
    places = [folder, *(folder / OFFLINE).glob("*"), *folder.glob(f"{EVENTS}*")]
    patterns = (".*-*.parquet", f"*.parquet{UNFINISHED}")
    left = [path for place in places for pattern in patterns for path in place.glob(pattern)]
    for path in left:
        path.unlink()
    return Counter({"half-written files": len(left)})
