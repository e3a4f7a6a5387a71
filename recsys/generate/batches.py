"""What the models that run here share: the device, batches by length, and how a saved model is opened."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from recsys.errors import ConfigError, DependencyError


def device_of(choice: str) -> torch.device:
    """`auto` takes CUDA where torch sees it.

    Raises:
        DependencyError: CUDA was asked for and torch sees none.
    """
    available = torch.cuda.is_available()
    if choice == "cuda" and not available:
        raise DependencyError("CUDA was asked for, but torch sees no such device. Take the device 'cpu'")
    return torch.device("cuda" if available and choice != "cpu" else "cpu")


def by_length(lengths: Sequence[int], padded_tokens: int) -> Iterator[list[int]]:
    """Positions sorted by length, in batches of at most so many padded tokens (one text at least)."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[place] > padded_tokens:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def opened(op: str, folder: Path, model_class: Any, tokenizer_class: Any) -> tuple[Any, Any]:
    """A saved model with its tokenizer, in float32; no weight may be missing.

    Raises:
        DependencyError: it cannot be read.
        ConfigError: it was read, but has no weights for what is asked of it (an encoder without a head).
    """
    from transformers.utils import logging as remarks  # slow to import

    level = remarks.get_verbosity()
    remarks.set_verbosity(logging.CRITICAL)  # what it says of missing weights is said below
    remarks.disable_progress_bar()  # type: ignore[no-untyped-call]  # it reports the loading of some tensors
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on optional packages
            tokenizer = tokenizer_class.from_pretrained(folder, local_files_only=True)
            model, loading = model_class.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except (OSError, ValueError, ImportError, KeyError, AssertionError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DependencyError(f"{op}: the model in {folder} cannot be opened ({reason})") from error
    finally:
        remarks.set_verbosity(level)
    missing = sorted(loading["missing_keys"])
    if missing:
        raise ConfigError(
            f"{op}: the model in {folder} lacks {len(missing)} of the weights that {model_class.__name__} "
            f"needs, for example {missing[0]}: it was saved without its head. Give a model that has one"
        )
    return model.eval(), tokenizer
