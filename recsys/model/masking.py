"""Masked words: item texts as token ids that know their words, and the draws of a masked batch.

Devlin et al., "BERT", NAACL 2019, with whole words (Cui et al., arXiv:1906.08101): a word's pieces are hidden
together. Words are the tokenizer's own, in Chinese texts those of the segmenter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.augment.tokens import cut, language_of
from recsys.errors import ConfigError
from recsys.model.encoder import TextEncoder, Tokens

MASK_SHARE, RANDOM_SHARE = 0.8, 0.1
"""Of the chosen tokens: shown as the mask token, as a random one; the rest are shown as they are."""


@dataclass(frozen=True, slots=True)
class MaskedBatch:
    """What the model sees of some texts, and what it must say of them."""

    ids: Tensor
    """(batch, tokens) int64."""
    attention: Tensor
    """(batch, tokens) int64, 0 where padded."""
    chosen: Tensor
    """(batch, tokens) bool: where it is asked."""
    targets: Tensor
    """(num_chosen,) int64, row by row."""

    def take(self, rows: slice) -> MaskedBatch:
        """The same of some rows."""
        wanted = torch.zeros(len(self.ids), dtype=torch.bool)
        wanted[rows] = True
        told = wanted[self.chosen.nonzero()[:, 0]]
        return MaskedBatch(self.ids[rows], self.attention[rows], self.chosen[rows], self.targets[told])


class MaskableTexts:
    """Texts with the word of every token.

    Args:
        encoder: Its tokenizer must be a fast one with a mask token.
        texts: Not blank.

    Raises:
        ConfigError: a tokenizer that cannot say which word a token is of, or has no mask token.
    """

    def __init__(self, encoder: TextEncoder, texts: Sequence[str]) -> None:
        tokenizer = encoder.tokenizer
        if tokenizer.mask_token_id is None or not getattr(tokenizer, "is_fast", False):
            raise ConfigError(
                f"encoder.name: the tokenizer of '{encoder.config.name}' has no mask token or no words, "
                "so nothing can be masked. Set pretrain.enabled=false"
            )
        even = [" ".join(text.split()) for text in texts]
        encoded = tokenizer(even, truncation=True, max_length=encoder.max_tokens, return_offsets_mapping=True)
        words = [_words(encoded, i, text) for i, text in enumerate(even)]
        lengths = [len(row) for row in words]
        self._words = np.fromiter(chain.from_iterable(words), np.int64, sum(lengths))
        flat = np.fromiter(chain.from_iterable(encoded["input_ids"]), np.int64, sum(lengths))
        self.tokens = Tokens(flat, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
        self._pad_id, self._mask_id = encoder.pad_id, int(tokenizer.mask_token_id)
        special = np.asarray(tokenizer.all_special_ids, np.int64)
        size = int(encoder.model.config.vocab_size)  # type: ignore[union-attr, arg-type]
        self._ordinary = np.setdiff1d(np.arange(size), special)

    def __len__(self) -> int:
        return len(self.tokens)

    def frequencies(self, places: NDArray[np.int64], size: int) -> NDArray[np.int64]:
        """How often each token of the vocabulary stands in some texts, (size,); special ones do not count."""
        wanted = np.zeros(len(self), bool)
        wanted[places] = True
        told = np.repeat(wanted, self.tokens.lengths()) & (self._words >= 0)
        return np.bincount(self.tokens.ids[told], minlength=size)

    def masked(self, places: NDArray[np.int64], rate: float, rng: np.random.Generator) -> MaskedBatch:
        """Some texts with each word chosen by the rate, at least one per text that has words."""
        ids, attention = self.tokens.padded(places, self._pad_id)
        words = self._padded_words(places, ids.shape[1])
        numbers = np.arange(int(words.max(initial=0)) + 1)
        draws = rng.random((len(places), len(numbers)))
        draws[numbers > words.max(axis=1, initial=-1)[:, None]] = np.inf
        picked = (draws < rate) | (draws == draws.min(axis=1, keepdims=True))
        chosen = np.take_along_axis(picked, words.clip(min=0), axis=1) & (words >= 0)
        shown, fate = ids.numpy().copy(), rng.random(words.shape)
        random = self._ordinary[rng.integers(len(self._ordinary), size=words.shape)]
        shown[chosen & (fate < MASK_SHARE)] = self._mask_id
        swapped = chosen & (fate >= MASK_SHARE) & (fate < MASK_SHARE + RANDOM_SHARE)
        shown[swapped] = random[swapped]
        told = torch.from_numpy(chosen)
        return MaskedBatch(torch.from_numpy(shown), attention, told, ids[told])

    def _padded_words(self, places: NDArray[np.int64], width: int) -> NDArray[np.int64]:
        starts, lengths = self.tokens.offsets[places], self.tokens.lengths()[places]
        columns = np.arange(width)
        inside = columns < lengths[:, None]
        words: NDArray[np.int64] = np.where(
            inside, self._words[np.where(inside, starts[:, None] + columns, 0)], -1
        )
        return words


def _words(encoded: Any, i: int, text: str) -> list[int]:
    """The number of each token's word, counted from 0 without gaps; -1 for a special token."""
    numbers: list[int | None] = encoded.word_ids(i)
    if language_of(text) == "zh":
        owner = [number for number, word in enumerate(cut(text, "zh")[0]) for _ in word]
        offsets = encoded["offset_mapping"][i]
        numbers = [
            None if number is None else owner[start]
            for number, (start, _) in zip(numbers, offsets, strict=True)
        ]
    places: dict[int, int] = {}
    return [-1 if number is None else places.setdefault(number, len(places)) for number in numbers]
