"""Cuts in time: shares, ties, and agreement with the protocol that results are measured by."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.config import SplitConfig
from recsys.data.split import events_before, held_out_targets, temporal_cuts
from recsys.errors import InputError

SHARED = Path(__file__).resolve().parents[3] / "shared"


@given(
    st.lists(st.integers(1, 60), min_size=3, max_size=80).filter(lambda times: len(set(times)) >= 3),
    st.floats(0.05, 0.45),
    st.floats(0.05, 0.45),
)
def test_three_parts_are_never_empty_and_no_moment_is_divided(
    days: list[int], validation: float, report: float
) -> None:
    times = np.array(days, np.int64) * 86_400
    first, second = temporal_cuts(times, SplitConfig(validation=validation, report=report))
    assert first < second
    parts = [times[times < first], times[(times >= first) & (times < second)], times[times >= second]]
    assert all(len(part) for part in parts)
    assert sum(map(len, parts)) == len(times)


def test_shares_come_from_the_end() -> None:
    times = np.random.default_rng(0).permutation(np.arange(1_000_000_000, 1_000_010_000)).astype(np.int64)
    first, second = temporal_cuts(times, SplitConfig(validation=0.1, report=0.2))
    assert (times >= second).sum() == 2000
    assert ((times >= first) & (times < second)).sum() == 1000


def test_too_few_moments_are_refused() -> None:
    with pytest.raises(InputError, match=r"too few distinct moments.*4 rows.*three moments"):
        temporal_cuts(np.array([5, 5, 9, 9], np.int64), SplitConfig())


def log(rows: list[tuple[str, str, int, str]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp", "event_type"])


def test_held_out_targets_by_hand() -> None:
    events = log(
        [
            ("known", "a", 1, "purchase"),
            ("returner", "a", 2, "return"),  # nothing positive before the cut: not known
            ("known", "b", 10, "view"),
            ("known", "b", 11, "purchase"),  # the same pair once
            ("known", "a", 12, "purchase"),  # a repeat counts
            ("known", "c", 13, "return"),  # never a target
            ("returner", "b", 14, "purchase"),
            ("new", "b", 15, "purchase"),
            ("known", "d", 20, "purchase"),  # at the end: outside
        ]
    )
    assert held_out_targets(events, 10, 20).to_dict("list") == {
        "user_id": ["known"] * 2,
        "item_id": ["b", "a"],
    }
    assert held_out_targets(events, 10).item_id.tolist() == ["b", "a", "d"]
    assert events_before(events, 10).item_id.tolist() == ["a", "a"]


@pytest.mark.parametrize("name", ["steam_reviews_au", "completejourney_sample"])
def test_agrees_with_the_measuring_protocol(name: str, tmp_path: Path) -> None:
    script, data = SHARED / "bench" / "split.py", SHARED / "data" / name
    if not script.is_file() or not data.is_dir():
        pytest.skip(f"{script} or {data} is not on this machine")
    subprocess.run([sys.executable, script, data, tmp_path], check=True, capture_output=True)
    events = pd.read_parquet(data / "interactions.parquet")
    _, cut = temporal_cuts(events["timestamp"].to_numpy(), SplitConfig(report=0.1))
    before = events_before(events, cut)
    info = json.loads((tmp_path / "cutoff.json").read_text())
    assert len(before) == info["train_events"]
    assert str(before["timestamp"].max()) == info["cutoff"]
    targets = held_out_targets(events, cut)
    truth = pd.read_parquet(tmp_path / "truth.parquet")
    assert set(zip(targets.user_id, targets.item_id, strict=True)) == set(
        zip(truth.user_id, truth.item_id, strict=True)
    )
    assert len(targets) == len(truth)
    assert sorted(targets.user_id.unique()) == pd.read_parquet(tmp_path / "users.parquet").user_id.tolist()
