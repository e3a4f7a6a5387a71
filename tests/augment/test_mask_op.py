"""A masked event keeps its place and says nothing, from the op to the user's vector and back from disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray

from recsys.augment.constraints import Acceptance
from recsys.augment.example import HistoryExample
from recsys.augment.examples import history_samples
from recsys.augment.expand import expand_contexts
from recsys.augment.explain import explain, replay
from recsys.augment.gates.gate import Evidence
from recsys.augment.gates.history import LabelConsistency, Related
from recsys.augment.neighbours import fit_covisitation
from recsys.augment.policy import policy_from_plain
from recsys.augment.store import load_row
from recsys.cli import main
from recsys.config import Config
from recsys.contexts import MASKED, Contexts, Vocabulary, concatenate
from recsys.model.batching import pad_histories, trainable
from recsys.model.fitted import TowersFit
from recsys.model.towers import UserTower
from recsys.train import fit_towers

NUM_ITEMS = 40
VOCABULARY = Vocabulary([f"i{row}" for row in range(NUM_ITEMS)])
POLICY = policy_from_plain(
    {
        "name": "masked",
        "history": {
            "ops": [{"op": "mask", "rate_range": [0.3, 0.6], "min_length": 3}],
            "acceptance": {"max_modification": 0.8},
            "gates": [{"gate": "label_consistency"}, {"gate": "related"}],
            "drift": {},
        },
    }
)


def walks(count: int = 120, length: int = 6) -> Contexts:
    """Everybody walks a ring of 20 items; the other items are never met."""
    starts = np.random.default_rng(1).integers(0, 20, count)
    rows = (starts[:, None] + np.arange(length + 1)) % 20
    moments = np.full(count, 1_000_000, np.int64)
    return Contexts(
        user_ids=np.array([f"u{i}" for i in range(count)]),
        moments=moments,
        history_offsets=np.arange(0, count * length + 1, length, dtype=np.int64),
        history_rows=rows[:, :length].reshape(-1).astype(np.int64),
        history_events=np.zeros(count * length, np.int64),
        history_timestamps=np.tile(1_000_000 - 3600 * np.arange(length, 0, -1, dtype=np.int64), count),
        target_offsets=np.arange(count + 1, dtype=np.int64),
        target_rows=rows[:, length].astype(np.int64),
        target_weights=np.ones(count, np.float32),
        weights=np.ones(count, np.float32),
        parents=np.full(count, -1, np.int64),
    )


def unit_rows(count: int, dim: int) -> NDArray[np.float32]:
    rows = np.random.default_rng(0).normal(size=(count, dim))
    unit: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def masked_children() -> Contexts:
    grown = expand_contexts(walks(), VOCABULARY, POLICY, seed=5, created=0)
    children = grown.contexts.take(grown.contexts.parents >= 0)
    assert len(children) > 60, grown.counts
    return children


def test_masks_survive_disk_and_concatenation(tmp_path: Path) -> None:
    children = masked_children()
    assert (children.history_rows == MASKED).sum() >= len(children)
    both = concatenate([walks(), children])
    both.write(tmp_path)
    again = Contexts.load(tmp_path)
    assert (np.asarray(again.history_rows) == both.history_rows).all()
    assert np.diff(children.history_offsets).tolist() == [6] * len(children)


def test_a_masked_event_keeps_the_lags_of_those_before_it() -> None:
    contexts = walks(1)
    hidden = contexts.history_rows.copy()
    hidden[4] = MASKED  # the newest but one
    masked = Contexts(**{n: getattr(contexts, n) for n in contexts.__slots__} | {"history_rows": hidden})
    padded = pad_histories(masked, np.array([0]), 10)
    assert padded.mask.tolist() == [[True, False, True, True, True, True]]
    assert padded.rows[0, 1] == 0
    assert padded.rows[0, 2] == contexts.history_rows[3]
    tower, vectors = UserTower(10, 0.5), torch.from_numpy(unit_rows(NUM_ITEMS, 8))

    def pooled(rows: Contexts) -> np.ndarray:
        batch = pad_histories(rows, np.array([0]), 10)
        parts = (batch.events, batch.gaps, batch.mask)
        user = tower(vectors[torch.from_numpy(batch.rows)], *map(torch.from_numpy, parts))
        return user.detach().numpy()[0]  # type: ignore[no-any-return]

    newest_first = contexts.history_rows[::-1]
    wanted = sum(0.5**lag * vectors[row].numpy() for lag, row in enumerate(newest_first) if lag != 1)
    np.testing.assert_allclose(pooled(masked), wanted / np.linalg.norm(wanted), rtol=1e-5)
    dropped = contexts.take(np.array([0]))
    keep = np.arange(6) != 4
    shorter = Contexts(
        **{n: getattr(dropped, n) for n in dropped.__slots__}
        | {
            "history_rows": dropped.history_rows[keep],
            "history_events": dropped.history_events[keep],
            "history_timestamps": dropped.history_timestamps[keep],
            "history_offsets": np.array([0, 5]),
        }
    )
    assert np.abs(pooled(masked) - pooled(shorter)).max() > 1e-3, "dropping it closes the gap"


def test_a_history_that_is_masked_whole_trains_nothing_and_is_refused() -> None:
    contexts = walks(2)
    hidden = contexts.history_rows.copy()
    hidden[:6] = MASKED
    masked = Contexts(**{n: getattr(contexts, n) for n in contexts.__slots__} | {"history_rows": hidden})
    assert trainable(masked).tolist() == [1]
    row = HistoryExample("u", (1, 2), (0, 0), (1, 2), (9,))
    bare = row._replace(history=(MASKED, MASKED))
    assert Acceptance(max_modification=1.0).judge(row, bare)[0] == "nothing_known"


def test_towers_train_on_masked_rows(tmp_path: Path) -> None:
    children, config = masked_children(), Config()
    config = config.model_copy(update={"train": config.train.model_copy(update={"batch_size": 32})})
    everything = concatenate([walks(), children])
    counts = np.bincount(everything.target_rows, minlength=NUM_ITEMS)
    vectors = unit_rows(NUM_ITEMS, 16)
    fit = fit_towers(everything, vectors, counts, config, tmp_path, epochs=2)
    assert isinstance(fit, TowersFit)
    users = fit.user_vectors(children)
    assert np.isfinite(users).all()
    np.testing.assert_allclose(np.linalg.norm(users, axis=1), 1.0, rtol=1e-4)


def test_gates_and_drift_read_over_a_mask() -> None:
    contexts = walks()
    evidence = Evidence(covisitation=fit_covisitation(contexts, NUM_ITEMS))
    row = HistoryExample("u", (3, 4, 5, 6), (0,) * 4, (1, 2, 3, 4), (7,))
    masked = row._replace(history=(3, MASKED, 5, 6))
    for gate in (LabelConsistency(), Related()):
        verdicts = gate.judge([row], [masked], evidence)
        assert verdicts.reasons == [None]
        assert verdicts.scores[0] == pytest.approx(1.0, abs=0.1)
    stranger = row._replace(history=(30, MASKED, MASKED, 6))
    assert Related(min_share=0.6).judge([row], [stranger], evidence).reasons == ["unrelated_events"]
    children = masked_children()
    _, after = history_samples(contexts, children, NUM_ITEMS)
    counts = np.bincount(np.concatenate([contexts.history_rows, contexts.target_rows]))
    known = children.history(0).rows[children.history(0).rows != MASKED]
    assert after.numbers["popularity"][0] == pytest.approx(np.log1p(counts[known]).mean())


def test_a_stored_masked_row_explains_and_replays(tmp_path: Path) -> None:
    pd.DataFrame({"item_id": VOCABULARY.item_ids, "title": "mug"}).to_parquet(tmp_path / "items.parquet")
    events = [(f"u{u}", f"i{(u + step) % 20}", 1_600_000_000 + step) for u in range(60) for step in range(7)]
    frame = pd.DataFrame(events, columns=["user_id", "item_id", "timestamp"])
    frame.to_parquet(tmp_path / "interactions.parquet")
    (tmp_path / "mine.toml").write_text(POLICY.to_toml())
    out = tmp_path / "out"
    run = [
        "augment",
        "run",
        "--data",
        str(tmp_path),
        "--policy",
        str(tmp_path / "mine.toml"),
        "--out",
        str(out),
    ]
    assert main(run) == 0
    row_ids = pq.read_table(out / "provenance.parquet")["row_id"].to_pylist()
    assert len(row_ids) > 30
    stored, policy = load_row(out, row_ids[0])
    assert MASKED in stored.row.history  # type: ignore[union-attr]
    assert replay(stored.provenance, stored.original, policy)[1:4] == stored.row[1:4]
    shown = str(explain(stored.provenance, stored.original, policy, stored.item_ids))
    assert "[mask]" in shown
    assert "i39" not in shown
    assert main(["augment", "replay", row_ids[0], "--from", str(out)]) == 0
