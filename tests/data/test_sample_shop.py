"""The made-up shop: reproducible, valid, sparse, and with something to learn."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys.config import DataConfig
from recsys.data.interactions import Dataset, load_dataset
from recsys.data.sample import SIZES, write_sample


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("shop")
    write_sample(folder, "small", 3)
    return load_dataset(folder, DataConfig())


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_sample(tmp_path / name, "tiny", seed)
    for file in ("items.parquet", "interactions.parquet", "relations.parquet"):
        a, b, c = ((tmp_path / name / file).read_bytes() for name in "abc")
        assert a == b
        assert a != c


def test_the_shop_has_nothing_to_repair(small: Dataset) -> None:
    assert small.report.findings == ()


def test_the_promised_size(small: Dataset) -> None:
    size = SIZES["small"]
    assert (len(small.interactions), small.interactions.user_id.nunique(), len(small.items)) == (
        size.events,
        size.users,
        size.items,
    )


def test_most_users_have_few_events_and_some_have_many(small: Dataset) -> None:
    counts = small.interactions.user_id.value_counts()
    assert (counts < 5).mean() > 0.5
    assert counts.max() > 60


def test_texts_are_in_two_languages_and_some_are_thin(small: Dataset) -> None:
    items = small.items
    chinese = items.title.str.contains(r"[\u4e00-\u9fff]")
    assert 0.2 < chinese.mean() < 0.4
    assert (chinese == (items.language == "zh")).all()
    assert items.title.str.len().min() > 3
    assert (items.description == "").mean() > 0.05
    english = items[~chinese]
    assert (english.description.str.split().str.len() == 1).sum() >= 5
    assert not items.title.str.contains("nan|None|<", regex=True).any()


def test_users_stay_in_their_market(small: Dataset) -> None:
    language = small.items.set_index("item_id").language
    per_user = small.interactions.item_id.map(language).groupby(small.interactions.user_id).nunique()
    assert (per_user == 1).all()


def test_nothing_is_sold_before_it_is_available(small: Dataset) -> None:
    available = small.interactions.item_id.map(small.items.set_index("item_id").available_from)
    assert (small.interactions.timestamp >= available).all()


def test_new_items_appear_late(small: Dataset) -> None:
    events = small.interactions
    cut = events.timestamp.quantile(0.9)
    cold = set(events[events.timestamp >= cut].item_id) - set(events[events.timestamp < cut].item_id)
    assert len(cold) >= 15


def test_repeats_and_returns(small: Dataset) -> None:
    events = small.interactions
    assert 0.1 < events.duplicated(["user_id", "item_id"]).mean() < 0.4
    returns = events[events.event_type == "return"]
    assert 0.005 < len(returns) / len(events) < 0.05
    positive = set(
        zip(*events.loc[events.event_type != "return", ["user_id", "item_id"]].to_numpy().T, strict=True)
    )
    pairs = zip(returns.user_id, returns.item_id, strict=True)
    assert np.mean([pair in positive for pair in pairs]) > 0.95


def test_seasons_move_demand(small: Dataset) -> None:
    events = small.interactions
    kind = events.item_id.map(small.items.set_index("item_id").category)
    month = pd.to_datetime(events.timestamp, unit="s").dt.month
    warm = kind.isin(["Outdoor > tent", "户外 > 帐篷", "Beauty > sunscreen", "美妆 > 防晒霜"])
    share = warm.groupby(month.isin([5, 6, 7, 8])).mean()
    assert share[True] > 1.5 * share[False]


def test_taste_can_be_learned(small: Dataset) -> None:
    """A user's later items share the style of earlier ones far more often than chance (1 in 8)."""
    events = small.interactions.drop_duplicates(["user_id", "item_id"])
    style = events.item_id.map(small.items.set_index("item_id").tags.str.split(", ").str[0])
    previous = style.groupby(events.user_id).shift()
    assert (style == previous)[previous.notna()].mean() > 0.2


def test_friends_share_a_market(small: Dataset) -> None:
    assert small.relations is not None
    assert len(small.relations) > 500
    language = small.items.set_index("item_id").language
    market = (
        small.interactions.assign(l=small.interactions.item_id.map(language)).groupby("user_id").l.first()
    )
    known = small.relations[small.relations.isin(set(market.index)).all(axis=1)]
    assert (known.user_id.map(market) == known.friend_id.map(market)).all()


@pytest.mark.slow
def test_a_large_shop_is_written_in_bounded_memory(tmp_path: Path) -> None:
    """Three million events; ten million, the size `large`, take as much memory and three times as long."""
    code = (
        "import sys; from pathlib import Path; from recsys.data import sample\n"
        "sample.SIZES['large'] = sample.Size(300_000, 300_000, 3_000_000)\n"
        "sample.write_sample(Path(sys.argv[1]), 'large', 0)\n"
        # Of this program alone: a resource usage of the system begins with what the parent had.
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 800 << 10  # KiB
    assert pd.read_parquet(tmp_path / "interactions.parquet", columns=["value"]).shape[0] == 3_000_000
