"""Which rows an epoch reads: all of them, or so many and the next ones in the next epoch."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.model.row_order import RowOrder
from recsys.randomness import generator
from recsys.train import fit_towers


class Halves:
    """Even rows weigh a half; row 3 is not usable."""

    def select(self, epoch, num_epochs):
        return np.arange(10), np.where(np.arange(10) % 2, 1.0, 0.5).astype(np.float32)


def test_a_small_shop_reads_everything_in_each_epoch():
    rows = np.arange(5, 12)
    order = RowOrder(rows, None, 7, 3, "select")
    positions, weights = order.of(2, 4)
    expected = rows[generator(3, "towers", "select", "order", 2).permutation(7)]
    assert positions.tolist() == expected.tolist(), "the order that every fit has had"
    assert weights.tolist() == [1] * 7
    assert positions.tolist() != order.of(1, 4)[0].tolist()


def test_of_a_large_shop_epochs_go_on_through_shuffles():
    rows = np.arange(100, 120)
    epochs = [RowOrder(rows, None, 5, 0, "select").of(epoch, 12)[0] for epoch in range(8)]
    assert all(len(np.unique(one)) == 5 for one in epochs)
    for four in (epochs[:4], epochs[4:]):
        assert sorted(np.concatenate(four)) == rows.tolist(), "each row once in four epochs"
    assert np.concatenate(epochs[:4]).tolist() != np.concatenate(epochs[4:]).tolist()


def test_fusion_chooses_first():
    usable = np.delete(np.arange(10), 3)
    positions, weights = RowOrder(usable, Halves(), 6, 0, "final").of(0, 1)
    assert len(positions) == 6
    assert 3 not in positions
    assert weights.tolist() == np.where(positions % 2, 1.0, 0.5).tolist()


@pytest.mark.parametrize(("most", "steps"), [(1000, 14), (200, 14), (64, 4), (20, 2)])
def test_a_fit_takes_as_many_steps_as_its_epochs_have_rows_for(
    shop, unit_vectors, config, tmp_path, most, steps
):
    contexts = shop(200, 24, 0)
    counts = np.bincount(contexts.target_rows, minlength=24)
    config = config.model_copy(update={"train": config.train.model_copy(update={"epoch_contexts": most})})
    taken = []
    fit_towers(contexts, unit_vectors, counts, config, tmp_path, epochs=2, on_step=taken.append)
    assert taken == list(range(1, steps + 1))
