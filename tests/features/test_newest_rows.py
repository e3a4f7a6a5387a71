"""The newest row of each user, however rows lie in files and groups."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.data import newest as newest_module
from recsys.data.newest import NewestRows


@pytest.mark.parametrize("seed", range(6))
def test_newest_rows_equal_a_sort_of_everything(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newest_module, "ROWS_AT_ONCE", 3)
    rng = np.random.default_rng(seed)
    size = 90
    frame = pd.DataFrame(
        {
            "user_id": [f"u{code}" for code in rng.integers(0, 12, size)],
            "event_timestamp": pd.to_datetime(rng.integers(0, 9, size), unit="s", utc=True).as_unit("us"),
            "created": pd.to_datetime(rng.integers(0, 3, size), unit="s", utc=True).as_unit("us"),
            "number": np.arange(size),
            "wide": [[str(row)] * (row % 4) for row in range(size)],
        }
    )
    paths = [tmp_path / f"{number}.parquet" for number in range(4)]
    whole = pa.Table.from_pandas(frame)
    for path, part in zip(paths, np.array_split(np.arange(size), [50, 50, 80]), strict=True):
        pq.write_table(whole.take(pa.array(part)), path, row_group_size=7)
    end = datetime.fromtimestamp(6, UTC)
    rows = NewestRows(paths, "user_id", end)
    parts = list(rows.parts())
    found = pa.concat_tables(parts).to_pandas().sort_values("user_id")
    known = frame[frame["event_timestamp"] <= end].sort_values(["event_timestamp", "created", "number"])
    wanted = known.drop_duplicates("user_id", keep="last").sort_values("user_id")
    assert max(len(part) for part in parts) <= 3
    assert len(rows) == len(wanted)
    assert found["number"].tolist() == wanted["number"].tolist()
    assert [list(values) for values in found["wide"]] == wanted["wide"].tolist()


def test_before_the_first_row_there_is_none(tmp_path: Path) -> None:
    moment = pa.array([datetime.fromtimestamp(5, UTC)], pa.timestamp("us", tz="UTC"))
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"user_id": ["a"], "event_timestamp": moment, "created": moment}), path)
    rows = NewestRows([path], "user_id", datetime.fromtimestamp(4, UTC))
    assert (len(rows), list(rows.parts())) == (0, [])
