"""Exact resume: everything that a training loop is, as one safetensors file replaced atomically.

Tensors are the model, the optimiser's moments and whatever else the loop carries; the counters and the
early-stopping state are JSON in the file's own header. Randomness needs no state: every draw is keyed by
seed, stage, epoch and step. A checkpoint names what it was made from; it is used by the same work only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from recsys.artifacts import replacing
from recsys.contexts import Contexts

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.safetensors"
SNAPSHOTS = "epochs"
"""Folder of the states after past epochs."""


def save_checkpoint(folder: Path, key: str, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Replace the folder's checkpoint: the old one or the new one is there, never a half."""
    header = {"key": key, "state": json.dumps(state)}
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(folder / CHECKPOINT) as temporary:
        save_file(plain, temporary, metadata=header)


def load_checkpoint(folder: Path, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The checkpoint of this very work, or None: there is none, it is another's, or it cannot be read."""
    path = folder / CHECKPOINT
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("key") != key:
                logger.info("%s is of other settings or data: starting anew", path)
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        return tensors, json.loads(header["state"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        logger.warning("%s cannot be read (%s): starting anew", path, error)
        return None


def tensors_under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin so, by the rest of their names."""
    return {name.removeprefix(prefix): v for name, v in tensors.items() if name.startswith(prefix)}


def numbered(name: str, parameters: Sequence[Tensor]) -> dict[str, Tensor]:
    """What learns, by `{name}.{place}`."""
    return {f"{name}.{place}": parameter for place, parameter in enumerate(parameters)}


def restore_numbered(name: str, parameters: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `numbered`, into the parameters themselves."""
    with torch.no_grad():
        for place, parameter in enumerate(parameters):
            parameter.copy_(tensors[f"{name}.{place}"])


class Snapshots:
    """States after past epochs of one piece of work, numbered, to go back to."""

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._key = folder / SNAPSHOTS, key

    def save(self, number: int, tensors: Mapping[str, Tensor]) -> None:
        """Write the state after so many epochs."""
        save_checkpoint(self._folder / str(number), self._key, tensors, {})

    def load(self, number: int) -> dict[str, Tensor] | None:
        """The state after so many epochs, None where it is not there."""
        found = load_checkpoint(self._folder / str(number), self._key)
        return None if found is None else found[0]

    def drop(self, below: int | None = None) -> None:
        """Remove those of fewer epochs, or all."""
        for path in self._folder.glob("*"):
            if below is None or int(path.name) < below:
                shutil.rmtree(path)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state by `optimizer.{parameter number}.{name}`."""
    return {
        f"optimizer.{number}.{name}": value
        for number, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`."""
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, number, field = name.split(".", 2)
            states.setdefault(int(number), {})[field] = value
    tree = optimizer.state_dict()
    optimizer.load_state_dict({"state": states, "param_groups": tree["param_groups"]})


def work_key(*parts: object) -> str:
    """A digest of what a piece of work depends on: arrays, contexts, tensors, and anything with a `repr`."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        _feed(digest, part)
    return digest.hexdigest()


def _feed(digest: Any, part: object) -> None:
    if isinstance(part, Contexts):
        for item in fields(part):
            _feed(digest, getattr(part, item.name))
    elif isinstance(part, Mapping):
        for name in sorted(part):
            _feed(digest, name)
            _feed(digest, part[name])
    elif isinstance(part, np.ndarray):
        digest.update(f"{part.dtype}{part.shape}".encode())
        digest.update(np.ascontiguousarray(part).view(np.uint8).data)
    else:
        digest.update(repr(part).encode())
    digest.update(b"\x1f")


@contextlib.contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Within it torch takes only algorithms that repeat bit for bit (on CPU; CUDA promises less)."""
    before, switch = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic
    filled: bool = switch.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(device.type == "cpu" or before)
    # Filling every new tensor guards against reading memory nobody wrote, at a fifth of the time of a step.
    switch.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        switch.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
