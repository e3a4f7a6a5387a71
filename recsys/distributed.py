"""Several processes under torchrun as one: sums of gradients, rows gathered, one writer."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from recsys.errors import DependencyError


@dataclass(frozen=True, slots=True)
class Group:
    """The processes that train together; alone (world 1) every method is a no-op or the identity."""

    rank: int = 0
    world: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process writes checkpoints and logs."""
        return self.rank == 0

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up every parameter's gradient over the processes, in place; a missing one counts as zero."""
        if self.world == 1:
            return
        for parameter in parameters:
            if parameter.requires_grad:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                dist.all_reduce(parameter.grad)

    def sum_number(self, value: float) -> float:
        """The sum of a number over the processes."""
        if self.world == 1:
            return value
        total = torch.tensor([value], dtype=torch.float64, device=self._device())
        dist.all_reduce(total)
        return float(total.item())

    def sum_tensor(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over the processes, in place and returned."""
        if self.world > 1:
            dist.all_reduce(tensor)
        return tensor

    def first(self, value: float) -> float:
        """The first process's number, in every process: so that decisions agree."""
        return self.sum_number(value if self.rank == 0 else 0.0)

    def text(self, value: str) -> str:
        """The first process's text, in every process."""
        if self.world == 1:
            return value
        parcel = [value]
        dist.broadcast_object_list(parcel, src=0)
        return parcel[0]

    def wait(self) -> None:
        """Until every process is here."""
        if self.world > 1:
            dist.barrier()

    def _device(self) -> str:
        return "cuda" if dist.get_backend() == "nccl" else "cpu"


def join_group(device: torch.device) -> Group:
    """The group torchrun started this process in, or this process alone.

    Joins on the first call (nccl on CUDA, gloo elsewhere) and finds the same group on later ones.

    Raises:
        DependencyError: torchrun's variables are there but the processes cannot meet.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Group()
    if not dist.is_initialized():
        try:
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        except (RuntimeError, ValueError) as error:
            raise DependencyError(f"the {world} processes of torchrun cannot meet: {error}") from error
        atexit.register(_leave_group)
    return Group(dist.get_rank(), dist.get_world_size())


def _leave_group() -> None:
    # A process that ends while the group's threads still run is aborted by them.
    if dist.is_initialized():
        dist.destroy_process_group()


def training_device(choice: str) -> torch.device:
    """`auto`, `cpu` or `cuda` as a torch device; under torchrun each process takes the GPU of its local rank.

    Raises:
        DependencyError: CUDA was asked for and torch sees none.
    """
    available = torch.cuda.is_available()
    if choice == "cuda" and not available:
        raise DependencyError("run.device is 'cuda', but torch sees no CUDA device. Set run.device=cpu")
    if choice == "cpu" or not available:
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def limit_threads(number: int | None) -> None:
    """Let torch compute with so many threads from now on in this process; None leaves it as it is."""
    if number is not None:
        torch.set_num_threads(number)
