"""Item texts through the top layers alone: what the frozen layers below give is computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.model.encoder import TextEncoder
from recsys.model.whitening import Whitening
from recsys.progress import Progress


class LayerCache:
    """Distinct texts, the hidden states below the top layers of each, and whitened vectors from there on.

    The states are kept flat and unpadded, in the dtype that autocast gives them. Where they would exceed
    `cache_gib` they are computed again each time instead: the result is the same.

    Args:
        encoder: Its top `num_top` layers may change under way, the ones below must not.
        texts: Distinct texts.
        whitening: A fixed, differentiable affine map here.
        num_top: Layers above the cache.
        cache_gib: Largest size of the states.
        batch_tokens: Padded tokens per batch; as the encoder's settings say when None.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        texts: Sequence[str],
        whitening: Whitening,
        num_top: int,
        cache_gib: float,
        batch_tokens: int | None = None,
    ) -> None:
        self._encoder, self._num_top = encoder, num_top
        self._batch_tokens = batch_tokens or encoder.config.batch_tokens
        self._tokens = encoder.tokenize(texts)
        self._mean = torch.from_numpy(whitening.mean).to(encoder.device)
        self._projection = torch.from_numpy(whitening.projection).to(encoder.device)
        size = len(self._tokens.ids) * encoder.hidden * 2 / 2**30
        self._states = self._all_states() if size <= cache_gib else None

    def __len__(self) -> int:
        return len(self._tokens)

    def vectors(self, places: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """Whitened vectors of some texts, in batches by length: (indexes into `places`, (batch, dim)).

        With gradients through the top layers where they are on.
        """
        order = np.argsort(self._tokens.lengths()[places], kind="stable")
        start = 0
        for batch in self._tokens.batches(places, self._batch_tokens):
            ids, mask = self._tokens.padded(batch, self._encoder.pad_id)
            mask = mask.to(self._encoder.device)
            states = self._lower(batch, ids, mask)
            raw = self._encoder.upper(states, mask, self._num_top)
            whitened = (raw - self._mean) @ self._projection
            yield (
                order[start : start + len(batch)],
                torch.nn.functional.normalize(whitened, dim=-1, eps=1e-12),
            )
            start += len(batch)

    def _lower(self, batch: NDArray[np.int64], ids: Tensor, mask: Tensor) -> Tensor:
        if self._states is None:
            with torch.no_grad():
                return self._encoder.lower(ids.to(self._encoder.device), mask, self._num_top)
        starts = torch.from_numpy(self._tokens.offsets[batch])
        places = starts[:, None] + torch.arange(ids.shape[1])
        limit = len(self._states) - 1  # padding reads a neighbour's state, which the mask then hides
        return self._states[places.clamp(max=limit)].to(self._encoder.device)

    def _all_states(self) -> Tensor | None:
        out: Tensor | None = None
        everyone = np.arange(len(self._tokens))
        with Progress(len(everyone), "caching frozen layers", "texts") as bar, torch.no_grad():
            for batch in self._tokens.batches(everyone, self._batch_tokens):
                ids, mask = self._tokens.padded(batch, self._encoder.pad_id)
                states = self._encoder.lower(
                    ids.to(self._encoder.device), mask.to(self._encoder.device), self._num_top
                ).cpu()
                if out is None:
                    out = torch.zeros((len(self._tokens.ids), states.shape[-1]), dtype=states.dtype)
                lengths = self._tokens.lengths()[batch]
                places = np.repeat(self._tokens.offsets[batch], lengths) + _ranges(lengths)
                out[torch.from_numpy(places)] = states[mask.bool()]
                bar.advance(len(batch))
        return out


def _ranges(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """0 to length - 1 for each length, one after the other."""
    ends = np.cumsum(lengths)
    ranges: NDArray[np.int64] = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
    return ranges
