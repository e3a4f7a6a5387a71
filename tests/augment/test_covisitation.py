"""Co-visitation counted block by block is the plain formula, whatever the block and however rows are held."""

from __future__ import annotations

from collections import Counter
from math import log2, sqrt
from pathlib import Path

import numpy as np
import pytest

from recsys.augment import neighbours as module
from recsys.augment.examples import history_sample, item_popularity
from recsys.augment.neighbours import fit_covisitation, newest_contexts, text_neighbours
from recsys.contexts import Contexts, stacked_on_disk

NUM_ITEMS = 60


def contexts(users: int = 120, per_user: int = 1, seed: int = 0) -> Contexts:
    """Histories of up to 45 events, so that some are longer than what is paired."""
    rng = np.random.default_rng(seed)
    size = users * per_user
    lengths, wanted = rng.integers(0, 46, size), rng.integers(1, 4, size)
    liked = rng.dirichlet(np.full(NUM_ITEMS, 0.2))
    rows = rng.choice(NUM_ITEMS - 1, lengths.sum(), p=liked[:-1] / liked[:-1].sum())
    return Contexts(
        user_ids=np.repeat([f"u{i:04}" for i in range(users)], per_user),
        moments=np.tile(np.arange(1_000, 1_000 + per_user), users),
        history_offsets=np.r_[0, np.cumsum(lengths)],
        history_rows=rows,
        history_events=np.zeros(len(rows), np.int64),
        history_timestamps=np.zeros(len(rows), np.int64),
        target_offsets=np.r_[0, np.cumsum(wanted)],
        target_rows=rng.integers(0, NUM_ITEMS - 1, wanted.sum()),
        target_weights=np.ones(wanted.sum(), np.float32),
        weights=np.ones(size, np.float32),
        parents=np.full(size, -1, np.int64),
    )


def plain(rows: Contexts, top: int, min_users: int = 2) -> dict[int, list[int]]:
    """User by user and pair by pair."""
    counts: Counter[tuple[int, int]] = Counter()
    scores: Counter[tuple[int, int]] = Counter()
    newest = {str(user): i for i, user in enumerate(rows.user_ids)}
    for i in newest.values():
        had = sorted({*rows.history(i).rows[-30:].tolist(), *rows.targets(i).tolist()})
        for one in had:
            for other in had:
                counts[one, other] += 1
                scores[one, other] += 1 / log2(1 + len(had))  # type: ignore[assignment]
    found: dict[int, list[tuple[float, int]]] = {}
    for (one, other), count in counts.items():
        if one != other and count >= min_users:
            cosine = scores[one, other] / (sqrt(scores[one, one]) * sqrt(scores[other, other]))
            found.setdefault(one, []).append((-round(cosine, 9), other))
    return {item: [other for _, other in sorted(near)[:top]] for item, near in found.items()}


@pytest.mark.parametrize("steps", [1, 500, 10**9])
@pytest.mark.parametrize("per_user", [1, 3])
def test_blocks_give_the_plain_formula(steps: int, per_user: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STEPS", steps)
    monkeypatch.setattr(module, "_USERS", 7 if steps < 1_000 else 65_536)
    rows = contexts(per_user=per_user)
    fitted = fit_covisitation(rows, NUM_ITEMS, top=5)
    assert {int(k): list(v) for k, v in fitted.neighbours(5).items()} == plain(rows, 5)
    alone = np.full(5, NUM_ITEMS - 1)
    assert not fitted.cosine(alone, np.arange(5)).any(), "nobody had the last item"


def test_one_context_per_user_is_not_copied(tmp_path: Path) -> None:
    rows = contexts()
    assert newest_contexts(rows) is rows
    twice = contexts(per_user=2)
    assert len(newest_contexts(twice)) == 120
    assert (newest_contexts(twice).moments == 1_001).all()
    stacked = stacked_on_disk([rows.take(np.arange(50)), rows.take(np.arange(50, 120))], tmp_path / "x")
    assert newest_contexts(stacked) is stacked
    one, other = fit_covisitation(stacked, NUM_ITEMS), fit_covisitation(rows, NUM_ITEMS)
    assert one.neighbours() == other.neighbours()


def test_what_drift_watches_does_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = contexts()
    popularity = item_popularity(rows, NUM_ITEMS)
    sample = history_sample(rows, popularity)
    expected = [
        popularity[rows.history(i).rows].mean() if len(rows.history(i).rows) else np.nan
        for i in range(len(rows))
    ]
    monkeypatch.setattr("recsys.augment.examples._ROWS", 11)
    monkeypatch.setattr("recsys.augment.examples._EVENTS", 100)
    again = history_sample(rows, item_popularity(rows, NUM_ITEMS))
    np.testing.assert_array_equal(again.numbers["popularity"], sample.numbers["popularity"])
    np.testing.assert_allclose(sample.numbers["popularity"], expected)
    np.testing.assert_array_equal(sample.numbers["length"], np.diff(rows.history_offsets))


def test_items_that_no_row_met_are_no_neighbours_by_text() -> None:
    vectors = np.eye(4, 4, dtype=np.float32)[np.arange(NUM_ITEMS) % 4] + 0.25
    vectors[:] += np.random.default_rng(0).normal(0, 0.2, vectors.shape)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    near = text_neighbours(contexts(), vectors)
    assert near
    assert NUM_ITEMS - 1 not in {*near, *(other for others in near.values() for other in others)}
