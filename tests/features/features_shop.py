"""A small shop with a known answer: two rich users, one sparse, returns, ties, missing facts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

DAY = 86_400
START = 1_700_006_400  # a midnight
SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


@dataclass(frozen=True)
class Shop:
    interactions: pd.DataFrame
    items: pd.DataFrame


def events_frame(rows: list[tuple[str, str, int, str]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp", "event_type"])
    return frame.astype({"timestamp": np.int64}).assign(value=1.0)


def items_frame(number: int) -> pd.DataFrame:
    rows = np.arange(number)
    return pd.DataFrame(
        {
            "item_id": [f"i{row}" for row in rows],
            "title": [f"item {row}" for row in rows],
            "description": "",
            "category": np.where(rows % 5 == 0, "", np.char.add("c", (rows % 3).astype(str))),
            "brand": np.char.add("b", (rows % 4).astype(str)),
            "tags": "",
            "price": np.where(rows % 7 == 0, np.nan, rows + 0.25),
            "in_stock": True,
            "available_from": np.nan,
        }
    )


def random_shop(seed: int, num_users: int = 12, num_items: int = 30, num_events: int = 400) -> Shop:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "user_id": [f"u{code}" for code in rng.integers(0, num_users, num_events)],
            "item_id": [f"i{code}" for code in rng.integers(0, num_items, num_events)],
            "timestamp": START + rng.integers(0, 60 * 24, num_events) * 3_600,
            "event_type": rng.choice(["purchase", "view", "return"], num_events, p=[0.5, 0.4, 0.1]),
        }
    ).drop_duplicates(ignore_index=True)
    return Shop(frame.sort_values("timestamp", kind="stable", ignore_index=True), items_frame(num_items))
