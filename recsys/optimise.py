"""What the training loops share beside the model: the optimiser's groups, the rate's schedule, the board."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from recsys.config import TrainConfig
from recsys.distributed import Group
from recsys.model.towers import TwoTower


def tower_parameters(model: TwoTower) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """What items have of their own, and the few numbers that all share: together, every parameter."""
    own = [model.target_residual, model.history_residual]
    shared = [*model.user.parameters(), model.log_temperature]
    if model.bias is not None and model.bias_slopes is not None:
        own.append(model.bias)
        shared.append(model.bias_slopes)
    return own, shared


def build_optimizer(model: TwoTower, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with a rate of their own for the few numbers that all items share, which must travel far."""
    residuals, biases = tower_parameters(model)
    groups = [
        {"params": residuals, "peak": config.learning_rate, "weight_decay": config.weight_decay},
        {"params": biases, "peak": config.user_learning_rate, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, fused=True)


def schedule(step: int, num_steps: int, warmup: float) -> float:
    """Share of the peak rate: linear warm-up, then a cosine from 1 to a tenth."""
    rising = warmup * num_steps
    if step < rising:
        return (step + 1) / (rising + 1)
    past = (step - rising) / max(num_steps - rising, 1)
    return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * min(past, 1.0)))


def set_rates(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Set every group's rate to a share of its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * share


class Board(Protocol):
    """What the loop needs of a TensorBoard writer."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """One point of a curve."""
        ...

    def close(self) -> None:
        """Write what is pending."""
        ...


class _NoBoard:
    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        pass

    def close(self) -> None:
        pass


def open_board(folder: Path, group: Group) -> Board:
    """A TensorBoard writer under `folder/tensorboard`; in all processes but the first it does nothing."""
    if not group.writes:
        return _NoBoard()
    from torch.utils.tensorboard import SummaryWriter  # slow to import

    writer: Any = SummaryWriter(str(folder / "tensorboard"))
    board: Board = writer
    return board
