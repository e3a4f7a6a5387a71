"""A small split with everything that can go wrong: returns, repeats, cold items, users on one side only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys.evaluate.answers import AnswerSheet, Histories, load_split

NUM_ITEMS = 60


def write_split(folder: Path, seed: int = 7) -> Path:
    """Tastes in two groups, a long tail, some returns; items 50 and above are sold after the cut only."""
    random = np.random.Generator(np.random.PCG64(seed))
    train, truth = [], []
    weights = 1 / np.arange(1, 26)
    weights = weights / weights.sum()
    for user in range(80):
        base = 25 * (user % 2)
        num = 1 + int(random.integers(0, 6)) ** 2 + (60 if user < 3 else 0)
        for step in range(num):
            item = base + int(random.choice(25, p=weights))
            kind = "return" if random.random() < 0.1 and step else "purchase"
            train.append((f"u{user}", f"i{item}", 1_000_000 + int(random.integers(0, 4_000_000)), kind))
        for _ in range(int(random.integers(0, 5))):
            item = base + int(random.choice(25, p=weights))
            if random.random() < 0.2:
                item = 50 + int(random.integers(0, 10))
            truth.append((f"u{user}", f"i{item}", 6_000_000, "purchase"))
    truth.append(("newcomer", "i1", 6_000_000, "purchase"))
    columns = ["user_id", "item_id", "timestamp", "event_type"]
    history = pd.DataFrame(train, columns=columns).sort_values("timestamp", kind="stable")
    answers = pd.DataFrame(truth, columns=columns).drop_duplicates(["user_id", "item_id"])
    users = sorted(set(history.user_id) & set(answers.user_id))
    items = pd.DataFrame({"item_id": [f"i{i}" for i in range(NUM_ITEMS)]})
    items["title"] = [f"Thing {i}" for i in range(NUM_ITEMS)]
    (folder / "train").mkdir(parents=True)
    history.to_parquet(folder / "train" / "interactions.parquet", index=False)
    items.to_parquet(folder / "train" / "items.parquet", index=False)
    answers[answers.user_id.isin(users)].to_parquet(folder / "truth.parquet", index=False)
    pd.DataFrame({"user_id": users}).to_parquet(folder / "users.parquet", index=False)
    return folder


@pytest.fixture(scope="session")
def split_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_split(tmp_path_factory.mktemp("split") / "shop")


@pytest.fixture(scope="session")
def split(split_folder: Path) -> tuple[AnswerSheet, Histories]:
    sheet, train = load_split(split_folder)
    for array in (sheet.truth.rows, sheet.histories.rows, sheet.item_counts, train.rows):
        array.flags.writeable = False  # whoever writes into shared data fails here
    return sheet, train


@pytest.fixture(scope="session")
def vectors() -> np.ndarray:
    random = np.random.Generator(np.random.PCG64(3))
    table = random.normal(size=(NUM_ITEMS, 12)).astype(np.float32)
    return table / np.linalg.norm(table, axis=1, keepdims=True)


@pytest.fixture(scope="session")
def lists_file(split_folder: Path, split: tuple[AnswerSheet, Histories]) -> Path:
    """Lists with repeats of an item, a user who is not asked for, a user without a list."""
    sheet, _ = split
    random = np.random.Generator(np.random.PCG64(11))
    rows = []
    for user in sheet.users[1:]:
        order = random.permutation(NUM_ITEMS)[:40]
        for rank, item in enumerate([*order, order[0]], start=1):
            rows.append((user, f"i{item}", rank))
    rows += [("stranger", "i0", 1)]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "rank"]).sample(frac=1, random_state=5)
    path = split_folder / "lists.parquet"
    frame.to_parquet(path, index=False)
    return path
