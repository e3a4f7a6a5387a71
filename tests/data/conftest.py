"""A small good dataset that tests break in one place at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.config import DataConfig
from recsys.data.interactions import Dataset, load_dataset

DAY = 86_400
START = 1_700_000_000
NOW = START + 100 * DAY


class Shop:
    """Two tables as dictionaries of lists, and the folder that they are written to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events: dict[str, Any] = {
            "user_id": [f"u{i % 4}" for i in range(12)],
            "item_id": [f"i{i % 5}" for i in range(12)],
            "timestamp": [START + i * DAY for i in range(12)],
            "event_type": ["purchase"] * 12,
            "value": [1.0] * 12,
        }
        self.items: dict[str, Any] = {
            "item_id": [f"i{i}" for i in range(5)],
            "title": ["Wool socks", "Red mug", "Desk lamp", "Yoga mat", "Dog bed"],
            "price": [9.5, 12.0, 30.0, 25.0, 40.0],
        }

    def write(self) -> Path:
        """Both tables as Parquet, without touching files a test has already put there."""
        for stem, table in (("interactions", self.events), ("items", self.items)):
            if not any(self.folder.glob(f"{stem}.*")):
                self.parquet(stem, table)
        return self.folder

    def parquet(self, stem: str, table: dict[str, Any] | pa.Table) -> None:
        arrow = table if isinstance(table, pa.Table) else pa.table(table)
        pq.write_table(arrow, self.folder / f"{stem}.parquet")

    def csv(self, stem: str, table: dict[str, Any], **options: Any) -> None:
        pd.DataFrame(table).to_csv(self.folder / f"{stem}.csv", index=False, **options)

    def text(self, name: str, content: str | bytes) -> None:
        data = content.encode() if isinstance(content, str) else content
        (self.folder / name).write_bytes(data)

    def load(self, **config: Any) -> Dataset:
        return load_dataset(self.write(), DataConfig(**config), now=NOW)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)
