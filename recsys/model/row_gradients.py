"""An optimiser step that does not make whole gradients of tables of which it read few rows.

A whole gradient of a large table is nearly all zeros, and to make it, measure it, scale it and give its
memory back takes longer than the rest of the step. AdamW itself still walks the whole tables: momentum moves
rows long after they were read.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recsys.model.towers import TwoTower

LARGE = 6_000
"""Rows of a table from which on this pays: about three times what a step reads of it."""


def pays_for(model: TwoTower, world: int) -> bool:
    """Whether a model's tables should have rows for gradients: on a CPU, large ones, in one process."""
    table = model.target_residual
    return world == 1 and table.device.type == "cpu" and len(table) > LARGE


class Steps:
    """Clips gradients and takes the optimiser's step.

    Where gradients are rows, they are laid into a table of zeros that is kept from step to step, and taken
    out again.

    Args:
        model: Whose parameters learn; its tables have rows for gradients from here on where that pays.
        optimizer: Over them.
        clip: Largest norm of all gradients together.
        world: Processes that train together.
    """

    def __init__(self, model: TwoTower, optimizer: torch.optim.Optimizer, clip: float, world: int) -> None:
        model.sparse = pays_for(model, world)
        self._parameters, self._optimizer, self._clip = list(model.parameters()), optimizer, clip
        self._zeros: dict[nn.Parameter, Tensor] = {}

    @torch.no_grad()
    def step(self) -> None:
        """What `clip_grad_norm_` and `optimizer.step()` do, with rows up to the order of sums."""
        given = {one: one.grad for one in self._parameters if one.grad is not None}
        read = {one: gradient.coalesce() for one, gradient in given.items() if gradient.is_sparse}
        values = [read[one].values() if one in read else gradient for one, gradient in given.items()]
        scale = (self._clip / (nn.utils.get_total_norm(values) + 1e-6)).clamp(max=1.0)
        for value in values:
            value.mul_(scale)
        for table, gradient in read.items():
            if table not in self._zeros:
                self._zeros[table] = torch.zeros_like(table)
            table.grad = self._zeros[table].index_copy_(0, gradient.indices()[0], gradient.values())
        self._optimizer.step()
        for table, gradient in read.items():
            self._zeros[table].index_fill_(0, gradient.indices()[0], 0.0)
