"""The files under a feature folder: base rows, what was pushed since, and a note of how they were made.

RUNS/features/
feature_store.yaml  registry.db  online.db       Feast's
erasing.json                                      whom, while an erasure lasts
features.json                                     grain, history length, rows by view, newest event
offline/<view>/base.parquet  pushed-*.parquet     the offline store: every file of a view counts
offline/augmented_*/<seed>-<created>-<policy>.parquet   augmented rows, a file per batch
events/pushed-*.parquet                           pushed events as they came, with when they came
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.artifacts import replacing, write_atomically
from recsys.data.feature_arrow import SCHEMAS
from recsys.data.log import CREATED
from recsys.data.push import EVENT_KEY
from recsys.data.states import BASE_FILE, STATE_KEYS, states_in, states_of
from recsys.errors import ArtifactError

OFFLINE, EVENTS, ABOUT, BASE = "offline", "events", "features.json", "base.parquet"
ERASING = "erasing.json"
UNFINISHED = "-new"
"""What the name of a file ends with that is not in its place yet."""
_ROWS_PER_GROUP = 16_384
_EVENT_SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("timestamp", pa.int64()),
        ("event_type", pa.string()),
        ("value", pa.float64()),
        (CREATED, pa.int64()),
    ]
)


class FeatureFiles:
    """Reads and writes the project's own files in a feature folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def about_path(self) -> Path:
        """Where the note lies."""
        return self.folder / ABOUT

    @property
    def erasing_path(self) -> Path:
        """Where a note lies of who is being erased, while that lasts."""
        return self.folder / ERASING

    def being_erased(self) -> set[str]:
        """The users of an erasure that has begun and not ended."""
        if not self.erasing_path.is_file():
            return set()
        return set(json.loads(self.erasing_path.read_text(encoding="utf-8")))

    def begin_erasing(self, users: Iterable[str]) -> None:
        """Note whom; from here on the folder is of no use until `end_erasing`."""
        write_atomically(self.erasing_path, json.dumps(sorted(users), ensure_ascii=False))

    def end_erasing(self) -> None:
        """The files belong together again."""
        self.erasing_path.unlink()

    def require_whole(self) -> None:
        """Raise where an erasure stopped half-way: files of the folder may not belong together."""
        if users := self.being_erased():
            raise ArtifactError(
                f"{self.folder}: erasing {len(users):,} users stopped half-way. "
                "Run 'recsys features erase' again; it finishes that."
            )

    def about(self) -> dict[str, Any]:
        """The note that `write_about` left.

        Raises:
            ArtifactError: there is none, so no features were written yet; or an erasure stopped half-way.
        """
        self.require_whole()
        return self.read_about()

    def read_about(self) -> dict[str, Any]:
        """As `about`, during an erasure too."""
        try:
            found: dict[str, Any] = json.loads(self.about_path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ArtifactError(
                f"{self.folder}: no features here. Write them with 'recsys features apply --data DIR'."
            ) from error
        return found

    def written(self) -> bool:
        """Whether there is a note, so features."""
        return (self.folder / ABOUT).is_file()

    def write_about(self, about: dict[str, Any]) -> None:
        """Leave the note, last of all files."""
        write_atomically(self.folder / ABOUT, json.dumps(about, indent=1))

    def reach(self, newest: int) -> None:
        """Note that an event of this time came, so that materialising everything includes it."""
        about = self.about()
        if newest > about["newest"]:
            self.write_about({**about, "newest": newest})

    def view(self, name: str) -> Path:
        """The folder of a view's files."""
        return self.folder / OFFLINE / name

    def view_paths(self, name: str) -> list[Path]:
        """A view's files: the base, then what was pushed, oldest first."""
        return sorted(self.view(name).glob("*.parquet"))

    def write_base(self, name: str, tables: Iterable[pa.Table]) -> int:
        """Replace a view's rows, what was pushed included, one table at a time; the number of rows.

        Rows come with entities ascending and lie in small groups, so that a join of some skips the others.
        """
        folder = self.view(name)
        pushed = list(folder.glob("pushed-*.parquet"))
        number = 0
        with (
            replacing_rows(folder / BASE) as temporary,
            pq.ParquetWriter(temporary, SCHEMAS[name], compression="zstd") as writer,
        ):
            for table in tables:
                writer.write_table(table, row_group_size=_ROWS_PER_GROUP)
                number += table.num_rows
        for path in pushed:
            path.unlink()
        return number

    def write_table(self, path: Path, table: pa.Table) -> None:
        """Write or replace one file."""
        with replacing_rows(path) as temporary:
            pq.write_table(table, temporary, compression="zstd", row_group_size=_ROWS_PER_GROUP)

    def write_behaviour(self, tables: Iterable[pa.Table]) -> int:
        """Replace the rows of `user_behavior`, and of `user_state`, which says where they lie."""
        number = self.write_base("user_behavior", tables)
        self.write_base("user_state", states_in(self.view("user_behavior") / BASE))
        return number

    def write_states(self) -> None:
        """Write `user_state` anew from all files of `user_behavior`, as after rows left those."""
        paths = self.behaviour_paths()
        folder = self.view("user_state")
        before = list(folder.glob("pushed-*.parquet"))
        with (
            replacing_rows(folder / BASE) as temporary,
            pq.ParquetWriter(temporary, SCHEMAS["user_state"], compression="zstd") as writer,
        ):
            for table in states_in(paths.pop(BASE_FILE)):
                writer.write_table(table, row_group_size=_ROWS_PER_GROUP)
        for number, path in paths.items():
            _write_aside(folder, states_of(pq.read_table(path, columns=STATE_KEYS), number))
        for path in before:
            path.unlink()

    def add_pushed(self, name: str, table: pa.Table) -> None:
        """Put a view's pushed rows beside its base; behaviour rows with their rows of `user_state`."""
        number = _write_aside(self.view(name), table)
        if name == "user_behavior":
            _write_aside(self.view("user_state"), states_of(table, number))

    def behaviour_paths(self) -> dict[int, Path]:
        """The files of `user_behavior` by `state_file`."""
        folder = self.view("user_behavior")
        pushed = {int(path.stem.split("-")[1]): path for path in folder.glob("pushed-*.parquet")}
        return {BASE_FILE: folder / BASE, **pushed}

    def add_events(self, events: pd.DataFrame, now: int) -> None:
        """Keep pushed events as they came."""
        value = events["value"] if "value" in events.columns else pd.Series(float("nan"), events.index)
        frame = events[EVENT_KEY].assign(value=value.astype(float), **{CREATED: now})
        _write_aside(self.folder / EVENTS, pa.Table.from_pandas(frame, _EVENT_SCHEMA, preserve_index=False))

    def set_aside_events(self) -> Path | None:
        """Move what was pushed out of the way, for it is another shop's; where to, None without any."""
        folder = self.folder / EVENTS
        if not folder.is_dir():
            return None
        aside = folder.with_name(f"{EVENTS}-aside-{time.time_ns()}")
        return folder.rename(aside)

    def pushed_events(self) -> pd.DataFrame:
        """All events pushed so far, each once, with when it came."""
        paths = sorted((self.folder / EVENTS).glob("pushed-*.parquet"))
        tables = [pq.read_table(path) for path in paths] or [_EVENT_SCHEMA.empty_table()]
        events: pd.DataFrame = pa.concat_tables(tables).to_pandas()
        return events.drop_duplicates(EVENT_KEY, ignore_index=True)

    def with_pushed(self, interactions: pd.DataFrame) -> pd.DataFrame:
        """The shop's log and the pushed events, each event once, with when it became known.

        An event in both counts as known when it was pushed: serving did not see it before. Users whom the
        log has not are kept for events newer than it; others of them the shop has taken out.
        """
        pushed = self.pushed_events()
        if len(interactions):
            newer = pushed["timestamp"] > interactions["timestamp"].max()
            pushed = pushed[newer | pushed["user_id"].isin(interactions["user_id"].unique())]
        if not len(pushed):
            return interactions
        stamped = interactions.assign(**{CREATED: interactions["timestamp"]})
        seen = pd.MultiIndex.from_frame(stamped[EVENT_KEY]).isin(pd.MultiIndex.from_frame(pushed[EVENT_KEY]))
        both = pd.concat([pushed, stamped[~seen]], ignore_index=True)
        return both.sort_values("timestamp", kind="stable", ignore_index=True)


@contextlib.contextmanager
def replacing_rows(path: Path) -> Iterator[Path]:
    """As `replacing`, under names that no pattern of the store matches: no killed writer's half is read."""
    beside = path.with_name(f"{path.name}{UNFINISHED}")
    with replacing(beside) as temporary:
        yield temporary
    beside.replace(path)


def _write_aside(folder: Path, table: pa.Table) -> int:
    """Write a file of its own; the number in its name."""
    number = time.time_ns()
    with replacing_rows(folder / f"pushed-{number}-{os.getpid()}.parquet") as temporary:
        pq.write_table(table, temporary, compression="zstd")
    return number
