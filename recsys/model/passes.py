"""All passes of one optimiser step under ops on representations: the loss, its adversary, the views."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.augment.representation import Passes
from recsys.model.perturb import Adversary, Changes, Drawn, ascend
from recsys.model.step import Batch, part_loss, views_loss
from recsys.model.towers import TwoTower

Parts = Sequence[NDArray[np.int64]]
"""Places of a batch, one array per micro-batch."""


def plain_pass(model: TwoTower, batch: Batch, parts: Parts, total_weight: float) -> float:
    """One pass over the parts with nothing changed: gradients of the weights, and the loss."""
    total = 0.0
    for part in parts:
        loss = part_loss(model, batch, part, Changes()) / total_weight
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    return total


class StepPasses:
    """Runs the passes of one step and leaves the gradients of the weights in place, not yet summed.

    Args:
        model: The towers.
        batch: All rows of the step.
        parts: The places that this process answers for.
        total_weight: Weight of all pairs of the batch; losses are divided by it.
        sum_tensor: Adds a tensor up over the processes, in place.
    """

    def __init__(
        self,
        model: TwoTower,
        batch: Batch,
        parts: Parts,
        total_weight: float,
        sum_tensor: Callable[[Tensor], Tensor],
    ) -> None:
        self._model, self._batch, self._parts = model, batch, parts
        self._total, self._sum = total_weight, sum_tensor

    def run(self, drawn: Drawn, views_rng: np.random.Generator) -> tuple[float, Passes]:
        """The loss of the unmoved vectors over this process's rows, and what was run for it."""
        forward = backward = 0.0
        if drawn.adversary is None:
            loss = self._pass(drawn.changes, 1.0)
        else:
            loss = self._attacked(drawn.changes, drawn.adversary)
            forward, backward = forward + drawn.adversary.steps, backward + drawn.adversary.steps
        if drawn.views is not None:
            anchors = np.concatenate([*self._parts, np.zeros(0, np.int64)])
            views = views_loss(self._model, self._batch, drawn.views, anchors, views_rng)
            (drawn.views.weight * views).backward()  # type: ignore[no-untyped-call]
            forward, backward = forward + 2, backward + 1
        return loss, Passes(1 + forward, 1 + backward)

    def _attacked(self, changes: Changes, adversary: Adversary) -> float:
        """The clean pass, then one at each place up the gradient, which is that of all processes."""
        assert changes.history_items is not None
        text = self._batch.text
        sizes = (len(changes.history_items), len(self._batch.candidates.rows))
        offsets = [torch.zeros((size, text.shape[1]), device=text.device) for size in sizes]
        scales, losses = adversary.scales(), []
        for number, scale in enumerate(scales):
            last = number + 1 == len(scales)
            leaves = [] if last else [offset.requires_grad_() for offset in offsets]
            moved = replace(changes, history=offsets[0], items=offsets[1])
            losses.append(self._pass(moved, scale, leaves))
            if not last:
                offsets = [
                    ascend(leaf.detach(), self._sum(_gradient(leaf)), adversary.step_size, adversary.epsilon)
                    for leaf in leaves
                ]
        return losses[0]

    def _pass(self, changes: Changes, scale: float, leaves: Sequence[Tensor] = ()) -> float:
        """One pass over the parts; the weights' gradients grow by `scale` times the loss's, the leaves' too.

        At scale 0 the weights are left alone and the leaves have the plain gradient.
        """
        total = 0.0
        for part in self._parts:
            loss = part_loss(self._model, self._batch, part, changes) / self._total
            if scale > 0:
                (scale * loss).backward()  # type: ignore[no-untyped-call]
            else:
                for leaf, gradient in zip(leaves, torch.autograd.grad(loss, leaves), strict=True):
                    leaf.grad = gradient if leaf.grad is None else leaf.grad + gradient
            total += float(loss.detach())
        return total


def _gradient(leaf: Tensor) -> Tensor:
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
