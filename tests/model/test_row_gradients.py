"""Gradients that stay the rows a step read: the same training as over whole tables, step for step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.augment.representation import DropoutViews, Fgm, GaussianNoise, Mixup, Pgd, Representation
from recsys.config import Config
from recsys.contexts import Contexts
from recsys.model import row_gradients
from recsys.model.fitted import TowersFit
from recsys.model.row_gradients import Steps, pays_for
from recsys.model.towers import TwoTower
from recsys.optimise import build_optimizer
from recsys.train import fit_towers
from recsys.types import Floats

OPS = {
    "none": (),
    "noise and views": (GaussianNoise(), DropoutViews()),
    "mixup and an adversary": (Mixup(), Pgd(steps=2)),
    "fgm": (Fgm(),),
}


class Killed(Exception):
    pass


def fit(
    shop: Callable[..., Contexts],
    vectors: Floats,
    config: Config,
    folder: Path,
    *ops: object,
    **changes: object,
) -> TowersFit:
    contexts = shop(200, 24, 0)
    counts = np.bincount(contexts.target_rows, minlength=24)
    options = {"epochs": 3, "representation": Representation(ops=ops)} | changes
    return fit_towers(contexts, vectors, counts, config, folder, **options)


def trained(config: Config, **changes: object) -> Config:
    return config.model_copy(update={"train": config.train.model_copy(update=changes)})


@pytest.mark.parametrize("ops", OPS.values(), ids=OPS)
@pytest.mark.parametrize("clip", [1.0, 0.02])
def test_a_fit_is_that_over_whole_tables(shop, unit_vectors, config, tmp_path, monkeypatch, ops, clip):
    config = trained(config, clip=clip, accumulate=2, hard_negatives=3, hard_after=1)
    by_rows: list[bool] = []
    inner = Steps.step

    def step(steps: Steps) -> None:
        by_rows.append(any(one.grad is not None and one.grad.is_sparse for one in steps._parameters))
        inner(steps)

    monkeypatch.setattr(Steps, "step", step)
    whole = fit(shop, unit_vectors, config, tmp_path / "whole", *ops)
    monkeypatch.setattr(row_gradients, "LARGE", 0)
    rows = fit(shop, unit_vectors, config, tmp_path / "rows", *ops)
    assert by_rows == [False] * 21 + [True] * 21, "200 rows in batches of 32, three times"
    np.testing.assert_allclose(rows.losses, whole.losses, rtol=2e-5)
    for name in ("target_residual", "history_residual", "bias"):
        np.testing.assert_allclose(rows.state[name], whole.state[name], atol=2e-4, err_msg=name)
    rate = config.train.learning_rate * 1.01
    other = fit(shop, unit_vectors, trained(config, learning_rate=rate), tmp_path / "other", *ops)
    assert np.abs(other.state["bias"] - rows.state["bias"]).max() > 2e-4, "the test can fail"


@pytest.mark.parametrize("step", [3, 8])
def test_killed_it_resumes_bit_for_bit(shop, unit_vectors, config, tmp_path, monkeypatch, step):
    monkeypatch.setattr(row_gradients, "LARGE", 0)
    whole = fit(shop, unit_vectors, config, tmp_path / "whole", Fgm())

    def kill(done: int) -> None:
        if done == step:
            raise Killed

    with pytest.raises(Killed):
        fit(shop, unit_vectors, config, tmp_path / "killed", Fgm(), on_step=kill)
    again = fit(shop, unit_vectors, config, tmp_path / "killed", Fgm())
    assert again.losses == whole.losses
    for name, value in whole.state.items():
        assert value.tobytes() == again.state[name].tobytes(), name


def test_rows_of_one_step_are_gone_in_the_next_and_momentum_moves_them_on(config, monkeypatch):
    """Two steps that read one row each, beside AdamW over whole gradients."""
    monkeypatch.setattr(row_gradients, "LARGE", 0)
    counts = np.full(6, 5)
    models = [TwoTower(counts, 8, config.model) for _ in range(2)]
    optimizers = [build_optimizer(model, config.train) for model in models]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = 0.01
    steps = Steps(models[0], optimizers[0], 0.01, world=1)
    text = torch.nn.functional.normalize(torch.randn(6, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    wanted = torch.ones(8) / 8
    moved = []
    for row in (1, 4):
        for model, optimizer in zip(models, optimizers, strict=True):
            optimizer.zero_grad(set_to_none=True)
            rows = torch.tensor([row])
            (1 - model.items(text[rows], rows, "target") @ wanted).sum().backward()
            assert model.target_residual.grad.is_sparse == model.sparse == (model is models[0])
            if model.sparse:
                steps.step()
            else:
                torch.nn.utils.clip_grad_norm_(model.parameters(), 0.01)
                optimizer.step()
        moved.append(models[0].target_residual[1].detach().clone())
        torch.testing.assert_close(models[0].target_residual, models[1].target_residual)
    assert (moved[0] != moved[1]).any(), "momentum moves a row that the second step did not read"


@pytest.mark.parametrize(("items", "world", "pays"), [(6_001, 1, True), (6_000, 1, False), (6_001, 2, False)])
def test_it_is_for_large_tables_in_one_process(config, items, world, pays):
    cold = np.zeros(50, np.int64)  # items without events have no row in the tables
    model = TwoTower(np.concatenate([np.ones(items, np.int64), cold]), 8, config.model)
    assert pays_for(model, world) == pays
