"""Translation there and back by a pair of Marian models (Junczys-Dowmunt et al., "Marian", ACL 2018)."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recsys.augment.asking import Answer, Request, TranslationService
from recsys.generate.batches import by_length, device_of, opened
from recsys.generate.locate import model_digest, model_folder
from recsys.generate.oracle import Done
from recsys.randomness import generator

_PADDED_TOKENS = {"cpu": 1024, "cuda": 16_384}


class _Direction(NamedTuple):
    model: Any
    tokenizer: Any
    prefix: str
    name: str


class Translator:
    """A pair of Marian models, loaded with the first question; a request's content is one text.

    A beam search draws nothing. Sampling draws per request from its own seed, so a text's translation does
    not depend on the batch in which it was made (up to the rounding of padded sums).

    Args:
        service: The models and how they search.
        device: `auto`, `cpu` or `cuda`.
    """

    def __init__(self, service: TranslationService, device: str = "auto") -> None:
        self._service, self._device = service, device
        self._folders = [model_folder(service.op, name) for name in (service.to, service.back)]
        self._counts = {"translated_texts": 0}

    @functools.cached_property
    def identity(self) -> str:
        """Both models' files and the search."""
        s = self._service
        digests = "/".join(map(model_digest, self._folders))
        search = (s.to_prefix, s.back_prefix, s.beams, s.temperature, s.top_k, s.max_tokens)
        return f"translate/1/{digests}/{search}"

    def spent(self) -> Mapping[str, int]:
        """Texts that went there and back."""
        return self._counts

    def close(self) -> None:
        """Let go of the models."""
        self.__dict__.pop("_pair", None)

    def answer(self, requests: Sequence[Request], done: Done) -> None:
        """The text that came back; refused are texts that are too long, or of which nothing came back."""
        there, back = self._pair
        open_: list[Request] = []
        lengths: list[int] = []
        for request in requests:
            length = len(there.tokenizer(there.prefix + request.content[0], verbose=False)["input_ids"])
            if request.content[0].lstrip().startswith(">>"):
                done(request, Answer(None, "special_token"))  # it would choose the target language
            elif length > self._service.max_tokens:
                done(request, Answer(None, "too_long"))
            else:
                open_.append(request)
                lengths.append(length)
        for batch in by_length(lengths, _PADDED_TOKENS[device_of(self._device).type]):
            chosen = [open_[i] for i in batch]
            seeds = [request.seed for request in chosen]
            middle = self._translated(there, [request.content[0] for request in chosen], seeds)
            for request, text in zip(chosen, self._translated(back, middle, seeds), strict=True):
                done(request, Answer(text) if text else Answer(None, "bad_output"))
            self._counts["translated_texts"] += len(batch)

    @functools.cached_property
    def _pair(self) -> tuple[_Direction, _Direction]:
        s = self._service
        return (
            self._direction(self._folders[0], s.to_prefix, "there"),
            self._direction(self._folders[1], s.back_prefix, "back"),
        )

    def _direction(self, folder: Path, prefix: str, name: str) -> _Direction:
        from transformers import MarianMTModel, MarianTokenizer  # slow to import

        model, tokenizer = opened(self._service.op, folder, MarianMTModel, MarianTokenizer)
        return _Direction(model.to(device_of(self._device)), tokenizer, f"{prefix} " if prefix else "", name)

    def _translated(self, direction: _Direction, texts: list[str], seeds: list[int]) -> list[str]:
        """Translations of a batch; an empty text stays empty."""
        s = self._service
        places = [i for i, text in enumerate(texts) if text.strip()]
        out = [""] * len(texts)
        if not places:
            return out
        batch = direction.tokenizer(
            [direction.prefix + texts[i] for i in places],
            return_tensors="pt",
            padding=True,
            truncation=True,
            max_length=min(s.max_tokens, int(direction.model.config.max_position_embeddings)),
        ).to(direction.model.device)
        settings: dict[str, Any] = {"num_beams": s.beams}
        if s.beams == 1:
            noise = _KeyedSampling([seeds[i] for i in places], direction.name, s.temperature, s.top_k)
            settings = {"num_beams": 1, "logits_processor": [noise]}
        with torch.inference_mode():
            made = direction.model.generate(**batch, **settings, do_sample=False, max_new_tokens=s.max_tokens)
        decoded = direction.tokenizer.batch_decode(made, skip_special_tokens=True)
        for place, text in zip(places, decoded, strict=True):
            out[place] = text.strip()
        return out


class _KeyedSampling:
    """Top-k sampling by the Gumbel-max trick, so that a greedy search draws, each row from its own seed.

    argmax(score / temperature + Gumbel noise) is a draw from the softmax (Maddison, Tarlow and Minka,
    "A* sampling", NeurIPS 2014).
    """

    def __init__(self, seeds: list[int], name: str, temperature: float, top_k: int) -> None:
        self._seeds, self._name, self._temperature, self._top_k = seeds, name, temperature, top_k

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (rows, vocabulary) with noise on the likeliest tokens, all others ruled out."""
        count = min(self._top_k, scores.shape[-1])
        step = int(input_ids.shape[-1])
        top = torch.topk(scores.float(), count, dim=-1)
        noise = np.stack([generator(seed, self._name, step).gumbel(size=count) for seed in self._seeds])
        values = top.values / self._temperature + torch.from_numpy(noise).to(top.values)
        return torch.full_like(scores, -torch.inf, dtype=torch.float32).scatter(-1, top.indices, values)
