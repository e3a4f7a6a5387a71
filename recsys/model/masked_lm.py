"""An encoder with a masked-language-model head: loaded where its files have one, built where they do not.

The head is BERT's own: a dense layer, an activation, a layer norm, and the word embeddings as the output
layer with a bias per token. A model that was trained for sentences comes without it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recsys.errors import ConfigError
from recsys.model.encoder import TextEncoder, layers_of, model_source
from recsys.model.masking import MaskedBatch

HEADS = ("cls", "lm_head")
"""Where models of the BERT family keep the head."""
SCALES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Scales of a new head's layer norm, of which the one that predicts best is taken."""


class MaskedLm:
    """A copy of an encoder's model, with a head.

    Args:
        encoder: Its weights are copied.

    Raises:
        ConfigError: an architecture without a masked-language-model head of the BERT kind.
    """

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder, self._tokenizer, self.device = encoder, encoder.tokenizer, encoder.device
        self.model, missing = _load(encoder)
        base = getattr(self.model, str(self.model.base_model_prefix), None)
        head = next((getattr(self.model, name) for name in HEADS if hasattr(self.model, name)), None)
        if not isinstance(base, nn.Module) or not isinstance(head, nn.Module):
            raise ConfigError(_unfit(encoder))
        self.base, self.head = base, head
        own = encoder.model.state_dict()
        self.base.load_state_dict({name: own[name] for name in self.base.state_dict()})
        self.model.eval().to(self.device)
        self.built = any(not name.startswith(f"{self.model.base_model_prefix}.") for name in missing)
        """Whether the files had no head."""

    def layers(self) -> list[nn.Module]:
        """The transformer layers, bottom first."""
        return layers_of(self.base, self._encoder.config.name)

    def warm_start(self, frequencies: NDArray[np.int64], loss: Callable[[], float]) -> float:
        """Begin a new head as the identity before the word embeddings, with the tokens' frequencies as bias.

        Args:
            frequencies: (vocabulary,) how often each token stands in the texts.
            loss: Measures the head as it stands; the scale with the lowest is taken.

        Returns:
            The scale of the layer norm.
        """
        share = (frequencies + 0.01) / (frequencies + 0.01).sum()
        norms = [part for part in self.head.modules() if isinstance(part, nn.LayerNorm)]
        with torch.no_grad():
            for part in self.head.modules():
                if isinstance(part, nn.Linear) and part.in_features == part.out_features:
                    part.weight.copy_(torch.eye(part.in_features))
                    part.bias.zero_()
            for parameter in self.head.parameters():
                if parameter.shape == (len(share),):
                    parameter.copy_(torch.from_numpy(np.log(share)))
        losses = []
        for scale in SCALES:
            self._scale(norms, scale)
            losses.append(loss())
        best = SCALES[int(np.argmin(losses))]
        self._scale(norms, best)
        return best

    def logits(self, batch: MaskedBatch) -> Tensor:
        """Scores of every token of the vocabulary where the batch asks, (num_chosen, vocabulary) float32."""
        with self._encoder.autocast():
            states = self.base(
                input_ids=batch.ids.to(self.device), attention_mask=batch.attention.to(self.device)
            ).last_hidden_state
            scores: Tensor = self.head(states[batch.chosen.to(self.device)])
        return scores.float()

    def encoder(self) -> TextEncoder:
        """A text encoder with the weights as they stand."""
        made = self._encoder.copy()
        made.model.load_state_dict(self.base.state_dict(), strict=False)  # a pooler stays as it was
        return made

    def save(self, folder: Path) -> None:
        """Replace a folder that `AutoModelForMaskedLM` and `AutoTokenizer` load; weights as safetensors."""
        temporary = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(temporary, ignore_errors=True)
        self.model.save_pretrained(temporary)  # type: ignore[operator]
        self._tokenizer.save_pretrained(temporary)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)

    def _scale(self, norms: list[nn.LayerNorm], scale: float) -> None:
        with torch.no_grad():
            for norm in norms:
                norm.weight.fill_(scale)
                norm.bias.zero_()


def _load(encoder: TextEncoder) -> tuple[nn.Module, list[str]]:
    from transformers import AutoModelForMaskedLM  # slow to import
    from transformers.utils import logging

    source, offline = model_source(encoder.config.name)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # a head that is missing is built: no news
    try:
        model, loading = AutoModelForMaskedLM.from_pretrained(
            source,
            local_files_only=offline,
            dtype=torch.float32,
            attn_implementation="sdpa",
            output_loading_info=True,
        )
    except ValueError as error:
        raise ConfigError(_unfit(encoder)) from error
    finally:
        logging.set_verbosity(verbosity)
    return model, sorted(loading["missing_keys"])


def _unfit(encoder: TextEncoder) -> str:
    return (
        f"encoder.name: '{encoder.config.name}' has no masked-language-model head of the BERT kind, so it "
        "cannot be pretrained on the catalogue. Set pretrain.enabled=false"
    )
