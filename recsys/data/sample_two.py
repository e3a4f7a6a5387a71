"""The made-up shop as two shops: one half of its types of product each, the same people in both."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from recsys.artifacts import replacing
from recsys.data.sample import Size, write_sample

HALVES = ("one", "other")


def write_two_shops(folder: Path, size: str, seed: int) -> tuple[Size, dict[str, int]]:
    """Write `FOLDER/one` and `FOLDER/other` beside the whole shop in `FOLDER/whole`.

    Categories are dealt out in turn, by name. Who likes camping and one brand likes them in both, so what
    people did in one shop says something of what they will do in the other.

    Args:
        folder: Made when absent.
        size: Of the whole, a key of `recsys.data.sample.SIZES`.
        seed: The same seed gives the same bytes.

    Returns:
        The size of the whole and the number of events by half.
    """
    shop = write_sample(folder / "whole", size, seed)
    items = pd.read_parquet(folder / "whole" / "items.parquet")
    events = pd.read_parquet(folder / "whole" / "interactions.parquet")
    friends = pd.read_parquet(folder / "whole" / "relations.parquet")
    turn = items["category"].map({name: i % 2 for i, name in enumerate(sorted(set(items["category"])))})
    counts = {}
    for number, half in enumerate(HALVES):
        mine = items[turn == number]
        bought = events[events["item_id"].isin(set(mine["item_id"]))]
        for name, table in (("items", mine), ("interactions", bought), ("relations", friends)):
            with replacing(folder / half / f"{name}.parquet") as temporary:
                table.to_parquet(temporary, index=False)
        counts[half] = len(bought)
    return shop, counts
