from __future__ import annotations

import numpy as np
import pytest

from recsys.augment.fuse import EvenSteps, Fusion
from recsys.config import AugmentConfig

ORIGINALS = 400
# Every second original has a child, the first also a second one.
PARENTS = np.concatenate([np.full(ORIGINALS, -1), np.arange(0, ORIGINALS, 2), [0]]).astype(np.int64)
STRENGTHS = np.concatenate([np.zeros(ORIGINALS), np.linspace(0.1, 0.9, len(PARENTS) - ORIGINALS)]).astype(
    np.float32
)


def fusion(name: str, **settings: object) -> Fusion:
    config = AugmentConfig.model_validate({"fusion": name, "clean_tail": 0.2, **settings})
    return Fusion(PARENTS, config, 0, STRENGTHS)


@pytest.mark.parametrize("name", ["concatenate", "weight", "mix", "curriculum"])
class TestEveryStrategy:
    def test_steps_are_equal_to_off(self, name: str) -> None:
        sizes = {len(fusion(name).select(epoch, 10).rows) for epoch in range(10)}
        assert sizes == {ORIGINALS}

    def test_clean_tail_is_originals_once_each(self, name: str) -> None:
        chosen = fusion(name)
        for epoch in range(10):
            augmented = (PARENTS[chosen.select(epoch, 10).rows] >= 0).sum()
            assert (augmented > 0) == (epoch < 8), epoch
        assert sorted(chosen.select(9, 10).rows) == list(range(ORIGINALS))

    def test_same_epoch_same_rows(self, name: str) -> None:
        first, second = fusion(name).select(3, 10), fusion(name).select(3, 10)
        assert (first.rows == second.rows).all()
        assert (fusion(name).select(2, 10).rows != first.rows).any()

    def test_off_and_childless_are_originals(self, name: str) -> None:
        for chosen in (
            fusion(name, enabled=False),
            Fusion(PARENTS[:ORIGINALS], AugmentConfig.model_validate({"fusion": name}), 0),
        ):
            selection = chosen.select(0, 10)
            assert sorted(selection.rows) == list(range(ORIGINALS))
            assert (selection.weights == 1).all()


def test_mix_replaces_by_own_child_with_the_given_chance() -> None:
    chosen = fusion("mix", mix_probability=0.5)
    shares = []
    for epoch in range(50):
        rows = chosen.select(epoch, 100).rows
        own = np.where(PARENTS[rows] >= 0, PARENTS[rows], rows)
        assert (own == np.arange(ORIGINALS)).all()
        shares.append((PARENTS[rows] >= 0).mean())
    assert 0.23 < np.mean(shares) < 0.27
    both = {int(fusion("mix", mix_probability=1.0).select(e, 100).rows[0]) for e in range(40)}
    assert both == {ORIGINALS, len(PARENTS) - 1}


def test_mix_draws_do_not_depend_on_other_rows() -> None:
    fewer = np.concatenate([PARENTS[: ORIGINALS + 1]])
    config = AugmentConfig(fusion="mix", mix_probability=0.5)
    for epoch in range(10):
        few = Fusion(fewer, config, 0).select(epoch, 100).rows[0] >= ORIGINALS
        many = Fusion(PARENTS, config, 0).select(epoch, 100).rows[0] >= ORIGINALS
        assert few == many


def test_concatenate_sees_every_row_equally_often() -> None:
    chosen = fusion("concatenate", clean_tail=0.0)
    rows = np.concatenate([chosen.select(epoch, 300).rows for epoch in range(300)])
    counts = np.bincount(rows, minlength=len(PARENTS))
    assert counts.max() - counts.min() <= 1


def test_weight_weighs_children_by_confidence() -> None:
    config = AugmentConfig(fusion="weight", weight=0.5)
    confidences = np.full(len(PARENTS), 0.5, np.float32)
    selection = Fusion(PARENTS, config, 0, confidences=confidences).select(0, 10)
    augmented = PARENTS[selection.rows] >= 0
    assert set(selection.weights[augmented]) == {np.float32(0.25)}
    assert set(selection.weights[~augmented]) == {np.float32(1.0)}


def test_curriculum_rises_from_gentle_to_all() -> None:
    chosen = fusion("curriculum", mix_probability=0.9)
    shares, hardest = [], []
    for epoch in range(40):
        rows = chosen.select(epoch, 100).rows
        augmented = rows[PARENTS[rows] >= 0]
        shares.append(len(augmented))
        hardest.append(STRENGTHS[augmented].max(initial=0.0))
    assert shares[0] < shares[10] < shares[35]
    assert hardest[0] < 0.2
    assert hardest[0] < hardest[10] < hardest[35]
    assert hardest[35] > 0.8


def test_bad_tables_are_refused() -> None:
    with pytest.raises(ValueError, match="max_expansion"):
        fusion("mix", max_expansion=0.1)
    with pytest.raises(ValueError, match="parents"):
        Fusion(np.array([-1, 0, 1]), AugmentConfig(max_expansion=5), 0)
    with pytest.raises(ValueError, match="epoch"):
        fusion("mix").select(10, 10)


class TestEvenSteps:
    """Children of originals without a history, and children that lost theirs, change no number of steps."""

    @pytest.mark.parametrize("name", ["concatenate", "weight", "mix", "curriculum"])
    @pytest.mark.parametrize("lost", ["originals", "children", "some of both", "nothing"])
    def test_every_epoch_has_the_usable_rows_of_off(self, name: str, lost: str) -> None:
        usable = np.ones(len(PARENTS), bool)
        if lost != "nothing":
            usable[:100:2] = lost == "children"
            usable[ORIGINALS : ORIGINALS + 60] = lost == "originals"
        rows = np.flatnonzero(usable)
        size = int((rows < ORIGINALS).sum())
        even = EvenSteps(fusion(name), rows, size, seed=0)
        for epoch in range(10):
            chosen = even.select(epoch, 10)
            assert np.isin(chosen.rows, rows).sum() == size
            assert len(chosen.rows) == len(chosen.weights)

    def test_what_is_even_already_stays_as_it_is(self) -> None:
        chosen = EvenSteps(fusion("mix"), np.arange(len(PARENTS)), ORIGINALS, 0).select(2, 10)
        assert (chosen.rows == fusion("mix").select(2, 10).rows).all()
