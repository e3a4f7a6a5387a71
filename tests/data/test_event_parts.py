"""A log read in parts of whole users gives what it gives read at once: rows, repairs and refusals."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.augment.store import user_contexts
from recsys.config import DataConfig
from recsys.contexts import Contexts, Vocabulary, concatenate, stacked_on_disk
from recsys.data import event_parts as module
from recsys.data.event_parts import ReadWhole, event_parts
from recsys.data.events import load_events
from recsys.data.interactions import load_dataset
from recsys.data.report import Notes
from recsys.data.streaming import stream_dataset
from recsys.errors import InputError

ITEMS = np.array([f"i{i}" for i in range(50)], dtype=object)
NOW = 1_700_000_000


def dirty(rows: int, seed: int = 0) -> pd.DataFrame:
    """Returns, duplicates, ties, missing and padded ids, unknown items, broken and future times."""
    rng = np.random.default_rng(seed)
    users = np.array([f"u{i}" for i in range(40)] + ["张三", " padded ", "7", "07"], dtype=object)
    weight = np.r_[np.full(10, 8.0), np.ones(len(users) - 10)]
    frame = pd.DataFrame(
        {
            "user_id": users[rng.choice(len(users), rows, p=weight / weight.sum())],
            "item_id": np.append(ITEMS, "gone")[rng.integers(0, 51, rows)],
            "timestamp": 1_600_000_000 + rng.integers(0, 60, rows) * 3_600,
            "event_type": rng.choice(["view", "Purchase", "buy", "return", None], rows),
            "value": rng.choice([1.0, 2.0, np.nan], rows),
            "channel": rng.choice(["web", "app"], rows),
        }
    )
    frame.loc[rng.random(rows) < 0.05, "user_id"] = None
    frame.loc[rng.random(rows) < 0.02, "timestamp"] = 0
    frame.loc[rng.random(rows) < 0.004, "timestamp"] = 4_000_000_000
    return pd.concat([frame, frame.iloc[::7]], ignore_index=True)


def write(folder: Path, frame: pd.DataFrame) -> Path:
    path = folder / "interactions.parquet"
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path, row_group_size=64)
    return path


def in_parts(path: Path, rows: int, config: DataConfig | None = None) -> list[pd.DataFrame]:
    work = path.parent / "work"
    parts = list(event_parts(path, ITEMS, config or DataConfig(), NOW, work, rows))
    assert not list(work.iterdir()), "nothing is left behind"
    return parts


def at_once(path: Path, config: DataConfig | None = None) -> pd.DataFrame:
    return load_events(path, ITEMS, config or DataConfig(), NOW, Notes(path.name))


@pytest.mark.parametrize("rows", [1, 40, 150, 10_000])
@pytest.mark.parametrize("kept", ["drop", "keep"])
def test_parts_together_are_the_log(rows: int, kept: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "_BATCH", 50)
    config = DataConfig(duplicates=kept)
    path = write(tmp_path, dirty(900))
    parts, whole = in_parts(path, rows, config), at_once(path, config)
    assert len(parts) > 3 or rows > 900
    users = [set(part["user_id"]) for part in parts]
    assert all(max(one) < min(other) for one, other in itertools.pairwise(users))
    by_user = whole.sort_values(["user_id"], kind="stable").reset_index(drop=True)
    found = pd.concat([part.sort_values(["user_id"], kind="stable") for part in parts], ignore_index=True)
    pd.testing.assert_frame_equal(found, by_user, check_dtype=False)


def test_contexts_out_of_parts_are_those_of_the_log(tmp_path: Path) -> None:
    path = write(tmp_path, dirty(1_500, seed=3))
    vocabulary = Vocabulary(ITEMS.tolist())
    whole = user_contexts(at_once(path), vocabulary, 5)
    tables = [user_contexts(part, vocabulary, 5) for part in in_parts(path, 100)]
    assert len(tables) > 5
    stacked = stacked_on_disk(iter(tables), tmp_path / "contexts")
    for one in (stacked, concatenate(tables), Contexts.load(tmp_path / "contexts")):
        for name in Contexts.__slots__:
            np.testing.assert_array_equal(getattr(one, name), getattr(whole, name))
            if name != "role":
                assert getattr(one, name).dtype == getattr(whole, name).dtype
    assert isinstance(stacked.history_rows.base, np.memmap)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["contexts", "interactions.parquet", "work"]


@pytest.mark.parametrize("kind", ["int64", "float64"])
def test_numbers_as_ids_are_spelled_as_ever(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"user_id": rng.integers(0, 200, 600).astype(kind), "item_id": "i1"})
    frame["timestamp"] = pd.to_datetime(1_600_000_000 + np.arange(600), unit="s")
    path = write(tmp_path, frame)
    found = [user for part in in_parts(path, 50) for user in part["user_id"].unique()]
    assert sorted(found) == sorted(at_once(path)["user_id"].unique())


BROKEN = {
    "most users are missing": {"user_id": [None] * 80 + ["u1"] * 20},
    "most items are unknown": {"item_id": ["x"] * 60 + ["i1"] * 40},
    "most times cannot be read": {"timestamp": ["soon"] * 60 + ["2020-01-01"] * 40},
    "times lie in the future": {"timestamp": [4_000_000_000] * 5 + [1_600_000_000] * 95},
    "nothing is left": {"item_id": ["x"] * 50 + ["i1"] * 50, "timestamp": [1.6e9] * 50 + [-1.0] * 50},
    "no such column": {"user_id": None},
    "a column of lists": {"item_id": [["i1"]] * 100},
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_refused_at_once_is_refused_in_parts(change: dict[str, Any], tmp_path: Path) -> None:
    users = [f"u{i % 20:02}" for i in range(100)]
    columns = {"user_id": users, "item_id": ["i1"] * 100, "timestamp": [1_600_000_000] * 100, **change}
    path = write(tmp_path, pd.DataFrame({name: v for name, v in columns.items() if v is not None}))
    with pytest.raises(InputError) as whole:
        at_once(path)
    with pytest.raises(InputError) as parts:
        in_parts(path, 10)
    assert str(parts.value).split(":")[0] == str(whole.value).split(":")[0]


def test_a_share_is_that_of_the_whole_file(tmp_path: Path) -> None:
    """One user's clock is wrong in each row: most of their part, little of the file."""
    users = ["a"] * 10 + [f"u{i:03}" for i in range(1_990)]
    frame = pd.DataFrame({"user_id": users, "item_id": "i1", "timestamp": 1_600_000_000})
    frame.loc[:9, "timestamp"] = 4_000_000_000
    path = write(tmp_path, frame)
    assert sum(map(len, in_parts(path, 10))) == len(at_once(path)) == 1_990


@pytest.mark.parametrize("days", [[20200101, 20200102], ["20200101", "20200102"], [20200101, 20209999]])
def test_days_as_numbers_are_read_alike_or_at_once(days: list[Any], tmp_path: Path) -> None:
    times = days * 50 + [days[0]] * 20
    users = [f"u{i}" for i in range(100)] + ["a"] * 20
    path = write(tmp_path, pd.DataFrame({"user_id": users, "item_id": "i1", "timestamp": times}))
    try:
        found = pd.concat(in_parts(path, 10))
    except ReadWhole:
        assert days != [20200101, 20200102], "whole numbers that are days need not be read at once"
        return
    assert sorted(found["timestamp"]) == sorted(at_once(path)["timestamp"])


def test_a_dataset_is_streamed_with_its_relations(tmp_path: Path) -> None:
    write(tmp_path, dirty(400))
    pd.DataFrame({"item_id": ITEMS, "title": "Mug"}).to_parquet(tmp_path / "items.parquet")
    friends = pd.DataFrame({"user_id": ["u1", "u2", "nobody"], "friend_id": ["u2", "u1", "u1"]})
    friends.to_parquet(tmp_path / "relations.parquet")
    whole = load_dataset(tmp_path, DataConfig(), NOW)
    streamed = stream_dataset(tmp_path, DataConfig(), NOW)
    assert streamed is not None
    assert streamed.events == len(dirty(400))
    parts = list(streamed.parts(tmp_path / "work", 50))
    assert sum(map(len, parts)) == len(whole.interactions)
    relations = streamed.relations(np.unique(np.concatenate([part["user_id"] for part in parts])))
    assert relations is not None
    assert whole.relations is not None
    pd.testing.assert_frame_equal(relations, whole.relations)
    pd.testing.assert_frame_equal(streamed.items, whole.items)
    assert streamed.digests == whole.digests
    (tmp_path / "interactions.parquet").rename(tmp_path / "kept")
    dirty(10).to_csv(tmp_path / "interactions.csv", index=False)
    assert stream_dataset(tmp_path, DataConfig(), NOW) is None
