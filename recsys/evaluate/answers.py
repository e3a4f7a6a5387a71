"""What is known of the users of an evaluation: their histories before the cut and their answers after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.contexts import Contexts, Vocabulary
from recsys.errors import InputError, LeakageError
from recsys.types import NEGATIVE_EVENTS, Rows

Offsets = NDArray[np.int64]
Protocol = Literal["sheet", "successive"]
"""`sheet`: one case per user, all that came later as answers. `successive`: one per user and moment."""


@dataclass(frozen=True, slots=True)
class ItemSets:
    """One set of item rows per user, in CSR form: user i has `rows[offsets[i]:offsets[i + 1]]`, ascending."""

    offsets: Offsets
    """(num_users + 1,)"""
    rows: Rows

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def sizes(self) -> Rows:
        """(num_users,) items per user."""
        return np.diff(self.offsets)

    @property
    def users(self) -> Rows:
        """(num_pairs,) the user of each pair."""
        return np.repeat(np.arange(len(self)), self.sizes)

    def keys(self, num_items: int) -> Rows:
        """(num_pairs,) one ascending number per (user, item) pair."""
        return self.users * num_items + self.rows

    @classmethod
    def from_pairs(cls, users: Rows, items: Rows, num_users: int, num_items: int) -> ItemSets:
        """Distinct pairs, however often and in whatever order they are given."""
        keys = np.unique(users.astype(np.int64) * num_items + items)
        return cls(_offsets(keys // num_items, num_users), keys % num_items)

    def without(self, other: ItemSets, num_items: int) -> ItemSets:
        """The pairs that are not in `other`."""
        keep = ~members(self.keys(num_items), other.keys(num_items))
        return ItemSets(_offsets(self.users[keep], len(self)), self.rows[keep])

    def take(self, users: Rows) -> ItemSets:
        """The sets of some users, in the given order."""
        offsets, positions = _spans(self.offsets, users)
        return ItemSets(offsets, self.rows[positions])


@dataclass(frozen=True, slots=True)
class Histories:
    """Positive events by user in CSR form, oldest first within a user: the only food of a baseline."""

    offsets: Offsets
    """(num_users + 1,)"""
    rows: Rows
    timestamps: NDArray[np.int64]
    """Unix seconds."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def users(self) -> Rows:
        """(num_events,) the user of each event."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    @property
    def lags(self) -> Rows:
        """(num_events,) steps back from the user's newest event, which has lag 0."""
        return np.repeat(self.offsets[1:], np.diff(self.offsets)) - 1 - np.arange(len(self.rows))

    @classmethod
    def from_events(cls, users: Rows, items: Rows, timestamps: NDArray[np.int64], n: int) -> Histories:
        """Group events by user; events of one second keep the order in which they are given."""
        order = np.lexsort((timestamps, users))
        return cls(_offsets(users, n), items[order].astype(np.int64), timestamps[order])

    def take(self, users: Rows) -> Histories:
        """The histories of some users, in the given order."""
        offsets, positions = _spans(self.offsets, users)
        return Histories(offsets, self.rows[positions], self.timestamps[positions])

    def distinct(self, num_items: int) -> ItemSets:
        """The items that each user has."""
        return ItemSets.from_pairs(self.users, self.rows, len(self), num_items)


@dataclass(frozen=True, slots=True)
class AnswerSheet:
    """The users of an evaluation. A row is a case: one user, or one (user, moment) where users repeat.

    Build it with `answer_sheet`, `answers_from_contexts` or `load_split`: they refuse augmented rows.
    """

    users: pd.Index
    """(n,) user ids; intervals resample users, so the cases of one user stay together."""
    items: pd.Index
    """(num_items,) the whole catalogue, in row order."""
    truth: ItemSets
    """What each case did afterwards."""
    histories: Histories
    """What each case had before, oldest first."""
    history_counts: NDArray[np.int64]
    """(n,) positive events before the cut, uncapped."""
    item_counts: NDArray[np.int64]
    """(num_items,) positive events before the cut, of all users."""
    protocol: Protocol = "sheet"

    def __len__(self) -> int:
        return len(self.users)


def answer_sheet(
    history: pd.DataFrame, truth: pd.DataFrame, item_ids: Sequence[str], users: Sequence[str] | None = None
) -> AnswerSheet:
    """A sheet from the events before a cut and those after it.

    Args:
        history: `user_id`, `item_id`, `timestamp` (and `event_type`) of every user before the cut.
        truth: `user_id`, `item_id` after the cut (negative events are left out where typed).
        item_ids: The catalogue, in row order.
        users: Whom to evaluate; default: users with a positive event before and after the cut.

    Raises:
        LeakageError: a row carries a `parent_id`: it is augmented.
        InputError: an event's item is not in the catalogue.
    """
    items = pd.Index(np.asarray(item_ids, dtype=object))
    train, user_index = _training_events(history, items)
    answers = positives(truth, "the answers")
    answer_users = answers["user_id"].astype(str)
    if users is None:
        chosen = pd.Index(answer_users.unique()).intersection(user_index).sort_values()
    else:
        chosen = pd.Index(np.asarray(users, dtype=object)).astype(str).drop_duplicates()
    rows = user_index.get_indexer(chosen)
    histories = _take_or_empty(train, rows)
    place = chosen.get_indexer(pd.Index(answer_users))
    asked = place >= 0
    answer_rows = item_rows(answers["item_id"], items, "the answers")
    return AnswerSheet(
        users=chosen,
        items=items,
        truth=ItemSets.from_pairs(place[asked], answer_rows[asked], len(chosen), len(items)),
        histories=histories,
        history_counts=np.diff(histories.offsets),
        item_counts=np.bincount(train.rows, minlength=len(items)).astype(np.int64),
    )


def training_histories(history: pd.DataFrame, item_ids: Sequence[str]) -> Histories:
    """Every user's positive events before the cut: what the baselines are fitted on."""
    return _training_events(history, pd.Index(np.asarray(item_ids, dtype=object)))[0]


def answers_from_contexts(
    contexts: Contexts,
    vocabulary: Vocabulary,
    item_counts: NDArray[np.int64],
    history_counts: NDArray[np.int64] | None = None,
) -> AnswerSheet:
    """A sheet with one case per held-out context (successive targets, each with its own past).

    `history_counts` (n,) are uncapped counts, where the contexts' histories are cut to a length.

    Raises:
        LeakageError: a context is augmented.
    """
    contexts.require_original()
    num_cases = len(contexts)
    targets = np.repeat(np.arange(num_cases), np.diff(contexts.target_offsets))
    histories = Histories(contexts.history_offsets, contexts.history_rows, contexts.history_timestamps)
    return AnswerSheet(
        users=pd.Index(contexts.user_ids.astype(object)),
        items=pd.Index(np.asarray(vocabulary.item_ids, dtype=object)),
        truth=ItemSets.from_pairs(targets, contexts.target_rows, num_cases, len(vocabulary)),
        histories=histories,
        history_counts=np.diff(histories.offsets) if history_counts is None else history_counts,
        item_counts=item_counts,
        protocol="successive",
    )


def load_split(folder: Path) -> tuple[AnswerSheet, Histories]:
    """A split folder: `train/interactions.parquet`, `train/items.parquet`, `truth.parquet`, `users.parquet`.

    Returns the sheet and every user's history before the cut.

    Raises:
        InputError: a file or a column is missing.
    """
    history = read_table(folder / "train" / "interactions.parquet", ("user_id", "item_id", "timestamp"))
    items = read_table(folder / "train" / "items.parquet", ("item_id",))
    truth = read_table(folder / "truth.parquet", ("user_id", "item_id"))
    users = read_table(folder / "users.parquet", ("user_id",))
    item_ids = items["item_id"].astype(str).drop_duplicates().tolist()
    sheet = answer_sheet(history, truth, item_ids, users["user_id"].astype(str).tolist())
    return sheet, training_histories(history, item_ids)


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A Parquet file that must have some columns.

    Raises:
        InputError: it cannot be read, or a column is missing.
    """
    try:
        frame = pd.read_parquet(path)
    except FileNotFoundError as error:
        raise InputError("there is no such file", file=str(path)) from error
    except (OSError, ValueError) as error:  # pyarrow's errors are both
        raise InputError(f"not a readable Parquet file ({error})", file=str(path)) from error
    for column in columns:
        if column not in frame:
            known = ", ".join(map(str, frame.columns[:12]))
            raise InputError("the column is missing", file=str(path), column=column, hint=f"It has {known}")
    return frame


def refuse_augmented(frame: pd.DataFrame, where: str) -> None:
    """Raise when a table carries augmented rows (a `parent_id` that is not null).

    Raises:
        LeakageError: always in that case.
    """
    if "parent_id" not in frame:
        return
    augmented = frame["parent_id"].notna()
    if augmented.any():
        example = frame.loc[augmented, "parent_id"].iloc[0]
        raise LeakageError(
            f"{where}: {int(augmented.sum()):,} augmented rows reached evaluation (parent_id, for example "
            f"{example!r}); it takes originals only"
        )


def item_rows(item_ids: pd.Series[str], items: pd.Index, where: str) -> Rows:
    """Catalogue rows of item ids.

    Raises:
        InputError: an id is not in the catalogue.
    """
    rows = items.get_indexer(pd.Index(item_ids.astype(str)))
    unknown = rows < 0
    if unknown.any():
        example = str(item_ids[unknown].iloc[0])
        raise InputError(
            "items outside the catalogue", file=where, column="item_id", count=int(unknown.sum()),
            example=example, hint="Evaluate against the catalogue that the lists were made from",
        )  # fmt: skip
    return rows.astype(np.int64)


def members(keys: Rows, ascending: Rows) -> NDArray[np.bool_]:
    """Whether each key is in an ascending array; faster than `np.isin`, which sorts both again."""
    if len(ascending) == 0:
        return np.zeros(keys.shape, np.bool_)
    places = np.searchsorted(ascending, keys)
    return np.asarray(ascending[np.minimum(places, len(ascending) - 1)] == keys)


def positives(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """The rows that are not negative feedback, all of them where no type is given.

    Raises:
        LeakageError: a row is augmented.
    """
    refuse_augmented(frame, where)
    if "event_type" not in frame:
        return frame
    return frame[~frame["event_type"].isin(NEGATIVE_EVENTS)]


def _training_events(history: pd.DataFrame, items: pd.Index) -> tuple[Histories, pd.Index]:
    positive = positives(history, "the training events")
    codes, users = pd.factorize(positive["user_id"].astype(str))
    rows = item_rows(positive["item_id"], items, "the training events")
    seconds = unix_seconds(positive["timestamp"])
    return Histories.from_events(codes.astype(np.int64), rows, seconds, len(users)), pd.Index(users)


def unix_seconds(times: pd.Series[int] | pd.Series[pd.Timestamp]) -> NDArray[np.int64]:
    """Integers are Unix seconds already; dates become them."""
    if pd.api.types.is_numeric_dtype(times):
        return np.asarray(times, np.int64)
    stamps = pd.to_datetime(times, utc=True).to_numpy(dtype="datetime64[s]")
    return stamps.astype(np.int64)


def _take_or_empty(histories: Histories, rows: Rows) -> Histories:
    """Histories by row; row -1 (a user without any) is empty."""
    known = rows >= 0
    taken = histories.take(rows[known])
    sizes = np.zeros(len(rows), np.int64)
    sizes[known] = np.diff(taken.offsets)
    return Histories(np.concatenate([[0], np.cumsum(sizes)]), taken.rows, taken.timestamps)


def _offsets(users: Rows, num_users: int) -> Offsets:
    return np.concatenate([[0], np.cumsum(np.bincount(users, minlength=num_users))]).astype(np.int64)


def _spans(offsets: Offsets, picked: Rows) -> tuple[Offsets, Rows]:
    sizes = np.diff(offsets)[picked]
    new = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    positions = np.arange(new[-1]) - np.repeat(new[:-1] - offsets[:-1][picked], sizes)
    return new, positions.astype(np.int64)
