"""Words for gaps from a masked language model (Devlin et al., "BERT", NAACL 2019)."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recsys.augment.asking import Answer, MaskedService, Request
from recsys.augment.tokens import is_dictionary_word
from recsys.errors import ConfigError
from recsys.generate.batches import by_length, device_of, opened
from recsys.generate.locate import model_digest, model_folder
from recsys.generate.oracle import Done

_PADDED_TOKENS = {"cpu": 4096, "cuda": 32_768}
_HEADS = ("cls", "lm_head")
"""Where models of the BERT and RoBERTa kind keep what turns states into words."""
_CHARACTERS = {1: 200, 2: 32, 3: 12, 4: 8}
"""Likeliest characters per place that are combined into Chinese words, by the word's length."""
_MOST_COMBINED = 600


class _Loaded(NamedTuple):
    model: Any
    tokenizer: Any
    device: torch.device
    words: list[str]
    """Text of each token, without the sign of its kind."""
    english: Tensor
    """(vocabulary,) whether a token is a whole English word."""
    characters: Tensor
    """(vocabulary,) whether a token is one Chinese character."""


class MaskedModel:
    """Any masked language model of the BERT family, by folder or hub name; loaded with the first question.

    A request's content is the text around n gaps (n + 1 pieces) and per gap the number of Chinese characters,
    0 for an English word. An English gap is one mask, so that a whole word of the vocabulary comes out; a
    Chinese gap has a mask per character, and what is no word of the segmenter's dictionary is left out.

    Args:
        service: The model and how many words per gap.
        device: `auto`, `cpu` or `cuda`.
    """

    def __init__(self, service: MaskedService, device: str = "auto") -> None:
        self._service, self._device = service, device
        self._folder = model_folder(service.op, service.model)
        self._asked = 0

    @functools.cached_property
    def identity(self) -> str:
        """The model's files and the number of words."""
        return f"masked/1/{model_digest(self._folder)}/{self._service.top_k}"

    def spent(self) -> Mapping[str, int]:
        """Texts that went through the model."""
        return {"masked_texts": self._asked}

    def close(self) -> None:
        """Let go of the model."""
        self.__dict__.pop("_loaded", None)

    def answer(self, requests: Sequence[Request], done: Done) -> None:
        """Per gap a tuple of (word, log-probability), likeliest first; a gap that was cut off has none."""
        loaded = self._loaded
        limit = _longest(loaded)
        special = set(loaded.tokenizer.all_special_tokens)
        encoded: list[list[int]] = []
        open_: list[Request] = []
        for request in requests:
            pieces, sizes = request.content
            if any(sign in piece for piece in pieces for sign in special):
                done(request, Answer(None, "special_token"))
                continue
            mask = loaded.tokenizer.mask_token
            masks = [mask * max(size, 1) for size in sizes]
            text = "".join(itertools.chain.from_iterable(zip(pieces, [*masks, ""], strict=True)))
            encoded.append(loaded.tokenizer(text, truncation=True, max_length=limit)["input_ids"])
            open_.append(request)
        for batch in by_length([len(ids) for ids in encoded], _PADDED_TOKENS[loaded.device.type]):
            found = self._proposed(loaded, [encoded[i] for i in batch], [open_[i] for i in batch])
            for i, value in zip(batch, found, strict=True):
                done(open_[i], Answer(value))
            self._asked += len(batch)

    @functools.cached_property
    def _loaded(self) -> _Loaded:
        from transformers import AutoModelForMaskedLM, AutoTokenizer  # slow to import

        op = self._service.op
        model, tokenizer = opened(op, self._folder, AutoModelForMaskedLM, AutoTokenizer)
        if tokenizer.mask_token is None:
            raise ConfigError(f"{op}: the model '{self._service.model}' has no mask token")
        device = device_of(self._device)
        size = int(model.config.vocab_size)
        words, whole = _vocabulary(tokenizer, size)
        english = [ok and w.isascii() and w.isalpha() for w, ok in zip(words, whole, strict=True)]
        characters = [len(w) == 1 and "\u4e00" <= w <= "\u9fff" for w in words]
        masks = (torch.tensor(column, device=device) for column in (english, characters))
        return _Loaded(model.to(device), tokenizer, device, words, *masks)

    def _proposed(
        self, loaded: _Loaded, encoded: list[list[int]], requests: list[Request]
    ) -> list[tuple[tuple[tuple[str, float], ...], ...]]:
        batch = loaded.tokenizer.pad({"input_ids": encoded}, return_tensors="pt").to(loaded.device)
        mask_id = loaded.tokenizer.mask_token_id
        with torch.inference_mode():
            rows, columns = torch.nonzero(batch["input_ids"] == mask_id, as_tuple=True)
            scores = torch.log_softmax(_logits(loaded.model, batch, rows, columns).float(), dim=-1)
        owners = rows.tolist()
        start = 0
        found = []
        for number, request in enumerate(requests):
            stop = start
            while stop < len(owners) and owners[stop] == number:
                stop += 1
            found.append(self._gaps(loaded, scores[start:stop], request.content[1]))
            start = stop
        return found

    def _gaps(
        self, loaded: _Loaded, scores: Tensor, sizes: Sequence[int]
    ) -> tuple[tuple[tuple[str, float], ...], ...]:
        """The words of one text's gaps from the scores (masks, vocabulary)."""
        gaps: list[tuple[tuple[str, float], ...]] = []
        at = 0
        for size in sizes:
            part = scores[at : at + max(size, 1)]
            at += max(size, 1)
            if len(part) < max(size, 1):
                gaps.append(())
            elif size == 0:
                gaps.append(tuple(_best(loaded.words, part[0], loaded.english, self._service.top_k)))
            else:
                gaps.append(self._chinese(loaded, part))
        return tuple(gaps)

    def _chinese(self, loaded: _Loaded, scores: Tensor) -> tuple[tuple[str, float], ...]:
        """Words of one character per place; the places' probabilities are taken as independent."""
        width = _CHARACTERS.get(len(scores))
        if width is None:
            return ()
        places = [_best(loaded.words, row, loaded.characters, width) for row in scores]
        if not all(places):
            return ()
        combined = list(itertools.product(*places))
        totals = np.array([sum(score for _, score in parts) for parts in combined])
        kept: list[tuple[str, float]] = []
        for i in np.argsort(-totals, kind="stable")[:_MOST_COMBINED].tolist():
            word = "".join(character for character, _ in combined[i])
            if is_dictionary_word(word):
                kept.append((word, round(float(totals[i]), 4)))
                if len(kept) == self._service.top_k:
                    break
        return tuple(kept)


def _logits(model: Any, batch: Any, rows: Tensor, columns: Tensor) -> Tensor:
    """(masks, vocabulary) at the given places; the head, a third of a small model, runs there alone."""
    head = next((getattr(model, name) for name in _HEADS if hasattr(model, name)), None)
    if head is None:
        everywhere: Tensor = model(**batch).logits
        return everywhere[rows, columns]
    states = model.base_model(**batch).last_hidden_state[rows, columns]
    there: Tensor = head(states.unsqueeze(0))
    return there.squeeze(0)


def _best(words: list[str], scores: Tensor, allowed: Tensor, count: int) -> list[tuple[str, float]]:
    """The likeliest allowed tokens with their log-probabilities."""
    held = scores.masked_fill(~allowed, -torch.inf)
    top = torch.topk(held, min(count, len(held)))
    pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return [(words[token], round(score, 4)) for token, score in pairs if score > -torch.inf]


def _vocabulary(tokenizer: Any, size: int) -> tuple[list[str], list[bool]]:
    """Text of each token, and whether it begins a word, by the signs of WordPiece, SentencePiece, BPE."""
    tokens = [token or "" for token in tokenizer.convert_ids_to_tokens(range(min(size, len(tokenizer))))]
    tokens += [""] * (size - len(tokens))
    special = set(tokenizer.all_special_tokens)
    starts = next((sign for sign in ("▁", "Ġ") if sum(t.startswith(sign) for t in tokens) > 1), None)
    words, whole = [], []
    for token in tokens:
        if token in special:
            words.append("")
        else:
            words.append(token.removeprefix(starts) if starts else token.removeprefix("##"))
        begins = token.startswith(starts) if starts else not token.startswith("##")
        whole.append(begins and bool(words[-1]))
    return words, whole


def _longest(loaded: _Loaded) -> int:
    """Tokens that the model takes; RoBERTa's positions begin at 2."""
    positions = int(getattr(loaded.model.config, "max_position_embeddings", 512) or 512)
    if int(getattr(loaded.model.config, "pad_token_id", 0) or 0) == 1:
        positions -= 2
    return min(positions, int(loaded.tokenizer.model_max_length), 512)
