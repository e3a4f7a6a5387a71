"""Ranked lists as one array: item rows, best first, padded with -1 at the end."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.errors import InputError
from recsys.evaluate.answers import AnswerSheet, ItemSets, item_rows, members, refuse_augmented
from recsys.types import Rows


def lists_from_frame(
    frame: pd.DataFrame, sheet: AnswerSheet, length: int, drop: ItemSets | None = None
) -> Rows:
    """Lists of a table `user_id`, `item_id`, `rank` (1 is best), one row per user of the sheet.

    Lists of users outside the sheet are ignored; a user without a list gets an empty one. The first of two
    equal items counts. Items in `drop` are taken out and the rest moves up, before the cut to `length`.

    Returns:
        (num_users, length) item rows.

    Raises:
        LeakageError: a row carries a `parent_id`.
        InputError: an item outside the catalogue, a rank that is not a number, or no user in common.
    """
    refuse_augmented(frame, "the lists")
    if not sheet.users.is_unique:
        raise ValueError("a table of lists needs one case per user; pass an array instead")
    users = sheet.users.get_indexer(pd.Index(frame["user_id"].astype(str)))
    asked = users >= 0
    if len(sheet) and not asked.any():
        example = str(frame["user_id"].iloc[0]) if len(frame) else None
        raise InputError("no list is for a user of the answer sheet", column="user_id", example=example)
    ranks = pd.to_numeric(frame["rank"], errors="coerce").to_numpy(dtype=np.float64)[asked]
    if np.isnan(ranks).any():
        raise InputError("ranks that are not numbers", column="rank", count=int(np.isnan(ranks).sum()))
    items = item_rows(frame["item_id"][asked], sheet.items, "the lists")
    return _scatter(users[asked], items, ranks, (len(sheet), len(sheet.items), length), drop)


def clean_lists(lists: Rows, num_items: int, length: int, drop: ItemSets | None = None) -> Rows:
    """The array form of the same: repeats and dropped items out, the rest moved up, cut to `length`."""
    if lists.ndim != 2:
        raise ValueError(f"lists must be (users, length), got shape {lists.shape}")
    if lists.size and (lists.max() >= num_items or lists.min() < -1):
        raise ValueError(f"list rows must be in [-1, {num_items})")
    users = np.arange(len(lists))[:, None]
    keys = np.where(lists >= 0, users * num_items + lists, -1)
    keep = (lists >= 0) & ~_repeated(lists)
    if drop is not None:
        keep &= ~members(keys.ravel(), drop.keys(num_items)).reshape(keys.shape)
    order = np.argsort(~keep, axis=1, kind="stable")[:, :length]
    cleaned = np.take_along_axis(np.where(keep, lists, -1), order, axis=1)
    return np.pad(cleaned, ((0, 0), (0, length - cleaned.shape[1])), constant_values=-1)


def lists_to_frame(lists: Rows, users: pd.Index, items: pd.Index) -> pd.DataFrame:
    """The table `user_id`, `item_id`, `rank` of an array of lists."""
    rows, columns = np.nonzero(lists >= 0)
    return pd.DataFrame(
        {
            "user_id": np.asarray(users, object)[rows],
            "item_id": np.asarray(items, object)[lists[rows, columns]],
            "rank": columns + 1,
        }
    )


def _scatter(
    users: Rows, items: Rows, ranks: NDArray[np.float64], shape: tuple[int, int, int], drop: ItemSets | None
) -> Rows:
    num_users, num_items, length = shape
    order = np.lexsort((ranks, users))
    keys = users[order] * num_items + items[order]
    _, first = np.unique(keys, return_index=True)  # the best rank of each pair
    keep = np.zeros(len(keys), np.bool_)
    keep[first] = True
    if drop is not None:
        keep &= ~members(keys, drop.keys(num_items))
    owners, picked = keys[keep] // num_items, keys[keep] % num_items
    starts = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=num_users))])
    places = np.arange(len(owners)) - starts[owners]
    lists = np.full((num_users, length), -1, np.int64)
    kept = places < length
    lists[owners[kept], places[kept]] = picked[kept]
    return lists


def _repeated(lists: Rows) -> NDArray[np.bool_]:
    """Places that hold an item which stands earlier in the same list."""
    order = np.argsort(lists, axis=1, kind="stable")
    ordered = np.take_along_axis(lists, order, axis=1)
    again = np.zeros(lists.shape, np.bool_)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    repeated = np.zeros(lists.shape, np.bool_)
    np.put_along_axis(repeated, order, again, axis=1)
    return repeated
