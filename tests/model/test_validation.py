import numpy as np
import pytest

from recsys.errors import LeakageError
from recsys.model.validation import ranking_figures, validation_positions


def by_hand(users, items, contexts, positions, wanted=None):
    """ndcg@10 and recall@20 one context at a time."""
    ndcgs, recalls = [], []
    for user, i in zip(users, positions, strict=True):
        history = set(contexts.history(i).rows.tolist())
        targets = {t for t in contexts.targets(i).tolist() if t not in history}
        if wanted is not None:
            targets = {t for t in targets if wanted[t]}
        if not targets:
            continue
        scores = items @ user
        order = [j for j in np.argsort(-scores) if j not in history]
        gains = [1 / np.log2(r + 2) for r, j in enumerate(order[:10]) if j in targets]
        best = sum(1 / np.log2(r + 2) for r in range(min(10, len(targets))))
        ndcgs.append(sum(gains) / best)
        recalls.append(len(targets & set(order[:20])) / len(targets))
    return np.mean(ndcgs), np.mean(recalls), len(ndcgs)


@pytest.mark.parametrize("segment", [False, True])
def test_figures_equal_the_slow_ones(make, segment):
    rng = np.random.default_rng(0)
    histories = [rng.integers(40, size=rng.integers(1, 6)).tolist() for _ in range(50)]
    targets = [rng.integers(40, size=rng.integers(1, 15)).tolist() for _ in range(50)]
    contexts = make(histories, targets, "held_out")
    users = rng.normal(size=(50, 8)).astype(np.float32)
    items = rng.normal(size=(40, 8)).astype(np.float32)
    wanted = np.arange(40) < 8 if segment else None
    found = ranking_figures(users, items, contexts, np.arange(50), wanted)
    ndcg, recall, count = by_hand(users, items, contexts, np.arange(50), wanted)
    assert found["ndcg@10"] == pytest.approx(ndcg, abs=1e-6)
    assert found["recall@20"] == pytest.approx(recall, abs=1e-6)
    assert found["contexts"] == count


def test_what_is_ranked_can_be_restricted(make):
    """The same figures as over a catalogue of the allowed items alone."""
    rng = np.random.default_rng(1)
    allowed = np.arange(40) % 3 == 0
    number = np.cumsum(allowed) - 1
    histories = [rng.integers(40, size=rng.integers(1, 6)).tolist() for _ in range(30)]
    targets = [rng.integers(40, size=rng.integers(1, 15)).tolist() for _ in range(30)]
    users = rng.normal(size=(30, 8)).astype(np.float32)
    items = rng.normal(size=(40, 8)).astype(np.float32)
    contexts = make(histories, targets, "held_out")
    found = ranking_figures(users, items, contexts, np.arange(30), allowed, among=allowed)
    inside = [
        [[int(number[row]) for row in rows if allowed[row]] for rows in side] for side in (histories, targets)
    ]
    small = make(*inside, "held_out")
    alone = ranking_figures(users, items[allowed], small, np.arange(30))
    assert found == pytest.approx(alone)
    assert 0 < found["contexts"] <= 30


def test_rows_without_history_or_novel_target_cannot_be_judged(make):
    contexts = make([[1], [], [1], [1, 2]], [[1], [2], [2], [1, 2, 3]], "held_out")
    np.testing.assert_array_equal(validation_positions(contexts, 10, 0), [2, 3])
    assert len(validation_positions(contexts, 1, 0)) == 1


def test_nothing_to_judge_gives_zeros(make):
    contexts = make([[0]], [[1]], "held_out")
    vectors = np.eye(2, dtype=np.float32)
    figures = ranking_figures(vectors[:1], vectors, contexts, np.arange(1), np.zeros(2, bool))
    assert figures == {"ndcg@10": 0.0, "recall@20": 0.0, "contexts": 0}


def test_augmented_rows_are_refused(make):
    contexts = make([[0]], [[1]], "held_out")
    contexts.parents[0] = 0
    vectors = np.eye(2, dtype=np.float32)
    with pytest.raises(LeakageError):
        ranking_figures(vectors[:1], vectors, contexts, np.arange(1))
