"""What ops on representations do to the vectors of one optimiser step: the maths and the draws.

Every draw is keyed by (seed, stage, op, epoch, step) and made for the whole batch; a micro-batch or a process
takes its rows of it. So results depend on neither, up to the order of sums.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.augment.representation import (
    DropoutViews,
    Fgm,
    GaussianNoise,
    Mixup,
    Pgd,
    Representation,
    RepresentationOp,
)
from recsys.randomness import generator
from recsys.types import Floats, Rows

T = TypeVar("T", bound=RepresentationOp)


@dataclass(frozen=True, slots=True)
class Changes:
    """How the vectors of one step differ from what the towers give; the default changes nothing."""

    history_items: Rows | None = None
    """Distinct items of the batch's histories, ascending: the rows of `history`."""
    history: Tensor | None = None
    """(num_history_items, dim), added to their history vectors."""
    items: Tensor | None = None
    """(num_candidates, dim), added to the candidates' vectors."""
    users: Tensor | None = None
    """(batch, dim), added to the user vectors."""
    history_noise: Tensor | None = None
    """As `history`, in shares of each vector's own length."""
    items_noise: Tensor | None = None
    """As `items`, in shares of each vector's own length."""
    partners: NDArray[np.int64] | None = None
    """(batch,) place in the batch of the row that each row is mixed with."""
    shares: Floats | None = None
    """(batch,) share of the row itself in the mix."""


@dataclass(frozen=True, slots=True)
class Adversary:
    """How far, and in how many steps, vectors are moved up the loss's gradient."""

    epsilon: float
    steps: int
    step_size: float
    average: bool
    """Whether the weights follow the gradients of all steps or of the last."""
    weight: float

    def scales(self) -> list[float]:
        """What the loss of each pass weighs in the weights' gradient: the clean one, then each step."""
        later = [0.0] * (self.steps - 1) + [1.0]
        if self.average:
            later = [1 / self.steps] * self.steps
        return [1 - self.weight, *(self.weight * share for share in later)]


@dataclass(frozen=True, slots=True)
class Drawn:
    """What was drawn for one step."""

    changes: Changes
    views: DropoutViews | None
    adversary: Adversary | None


class StepDraws:
    """Draws what the ops do at each step of a stage."""

    def __init__(self, representation: Representation, seed: int, stage: str) -> None:
        self._representation, self._seed, self._stage = representation, seed, stage

    def generator(self, op: str, epoch: int, step: int) -> np.random.Generator:
        """The generator of one op at one step: no op touches another's draws."""
        return generator(self._seed, "towers", self._stage, "representation", op, epoch, step)

    def draw(
        self,
        epoch: int,
        step: int,
        batch: int,
        history_items: Rows,
        num_candidates: int,
        dim: int,
        level: float,
    ) -> Drawn:
        """The changes of one step.

        Args:
            epoch: 0-based.
            step: Within the epoch.
            batch: Rows of the whole batch.
            history_items: Distinct items of its histories, ascending.
            num_candidates: Columns of its softmax.
            dim: Length of a vector.
            level: In (0, 1], multiplies each op's chance.
        """
        changes = Changes(history_items=history_items)
        if (noise := self._active(GaussianNoise, epoch, step, level)) is not None:
            op, rng = noise
            item, user = (_between(bounds, rng) / dim**0.5 for bounds in (op.item_range, op.user_range))
            changes = replace(
                changes,
                history_noise=_normal(rng, (len(history_items), dim), item),
                items_noise=_normal(rng, (num_candidates, dim), item),
                users=_normal(rng, (batch, dim), user),
            )
        if (mix := self._active(Mixup, epoch, step, level)) is not None:
            op_mix, rng = mix
            changes = replace(
                changes,
                partners=rng.permutation(batch),
                shares=rng.beta(op_mix.alpha, op_mix.alpha, batch).astype(np.float32),
            )
        views = self._active(DropoutViews, epoch, step, level)
        return Drawn(changes, None if views is None else views[0], self._adversary(epoch, step, level))

    def _adversary(self, epoch: int, step: int, level: float) -> Adversary | None:
        if (fgm := self._active(Fgm, epoch, step, level)) is not None:
            op, rng = fgm
            epsilon = _between(op.epsilon_range, rng)
            return Adversary(epsilon, 1, epsilon, False, op.weight)
        if (pgd := self._active(Pgd, epoch, step, level)) is not None:
            op_pgd, rng = pgd
            epsilon = _between(op_pgd.epsilon_range, rng)
            return Adversary(
                epsilon, op_pgd.steps, op_pgd.step_size, op_pgd.gradients == "average", op_pgd.weight
            )
        return None

    def _active(
        self, kind: type[T], epoch: int, step: int, level: float
    ) -> tuple[T, np.random.Generator] | None:
        op = self._representation.find(kind.name)
        if not isinstance(op, kind):
            return None
        rng = self.generator(op.name, epoch, step)
        return (op, rng) if rng.random() < op.p * level else None


def ascend(offset: Tensor, gradient: Tensor, step_size: float, epsilon: float) -> Tensor:
    """One step up the gradient of each row's own, then back into the ball: (rows, dim).

    `offset + step_size g / |g|`, scaled to length epsilon where it is longer; a row without a gradient stays
    where it is. From zero with a step of epsilon this is the fast gradient method.
    """
    moved = offset + step_size * torch.nn.functional.normalize(gradient, dim=-1, eps=1e-30)
    lengths = moved.norm(dim=-1, keepdim=True)
    pulled: Tensor = moved * (epsilon / lengths.clamp(min=1e-30)).clamp(max=1.0)
    return pulled


def mixed_users(own: Tensor, other: Tensor, shares: Tensor) -> Tensor:
    """`norm(share own + (1 - share) other)`, (batch, dim), shares (batch,)."""
    mixed = shares.unsqueeze(-1) * own + (1 - shares).unsqueeze(-1) * other
    return torch.nn.functional.normalize(mixed, dim=-1, eps=1e-6)


def info_nce(
    first: Tensor, second: Tensor, groups: Tensor, temperature: float, anchors: Tensor | None = None
) -> Tensor:
    """Sum over the anchors of how badly the two views of a row find each other.

    With `s` the similarity over temperature, half the sum of `-log(exp s_ii / sum_j exp s_ij)` from the first
    view to the second and back, where j runs over i itself and the rows of other groups (van den Oord et
    al., arXiv:1807.03748).

    Args:
        first: (n, dim), unit norm.
        second: (n, dim), unit norm.
        groups: (n,) rows of one group are not negatives of each other.
        temperature: Similarities are divided by it.
        anchors: Places whose loss is summed; all by default.
    """
    places = torch.arange(len(first), device=first.device) if anchors is None else anchors
    hidden = groups[places].unsqueeze(1) == groups.unsqueeze(0)
    hidden[torch.arange(len(places), device=first.device), places] = False
    total = first.new_zeros(())
    for here, there in ((first, second), (second, first)):
        similarities = (here[places] @ there.T / temperature).masked_fill(hidden, -torch.inf)
        total = total + torch.nn.functional.cross_entropy(similarities, places, reduction="sum")
    return total / 2


def noisy(vectors: Tensor, noise: Tensor | None) -> Tensor:
    """Vectors with noise in shares of each one's own length; a vector of length zero stays zero."""
    if noise is None:
        return vectors
    changed: Tensor = vectors + noise * vectors.detach().norm(dim=-1, keepdim=True)
    return changed


def dropped(
    shape: tuple[int, ...], bounds: tuple[float, float], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """True where something stays: a rate is drawn between the bounds, then every place by that rate."""
    rate = _between(bounds, rng)
    stays: NDArray[np.bool_] = rng.random(shape, dtype=np.float32) >= rate
    return stays


def keep_one(stays: NDArray[np.bool_], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask of histories (batch, length) after a draw; a row that would lose all keeps its newest."""
    left = stays & mask
    lost = ~left.any(axis=1) & mask.any(axis=1)
    left[lost, mask[lost].argmax(axis=1)] = True
    return left


def _between(bounds: tuple[float, float], rng: np.random.Generator) -> float:
    return float(rng.uniform(*bounds))


def _normal(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> Tensor | None:
    if scale == 0:
        return None
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32) * np.float32(scale))
