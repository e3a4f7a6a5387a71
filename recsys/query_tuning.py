"""The loop that teaches the encoder to read queries: titles, worded otherwise, find their items' texts.

The item side stays as it is, so lists and new items do not change: a copy of the encoder learns to lead a
title, mistyped or cut short as people type it, to where the item's text lies already. That is self-teaching
(Zhuang and Zuccon, "CharacterBERT and Self-Teaching for Improving the Robustness of Dense Retrievers on
Queries with Typos", SIGIR 2022) with the encoder as it was for a teacher.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from recsys.checkpoint import (
    deterministic,
    load_checkpoint,
    numbered,
    optimizer_tensors,
    restore_numbered,
    restore_optimizer,
    save_checkpoint,
    work_key,
)
from recsys.config import Config
from recsys.evaluate.known_item import rows_by_title
from recsys.model.encoder import TextEncoder
from recsys.model.layer_cache import LayerCache
from recsys.model.whitening import Whitening
from recsys.model.wordings import WORDING_TEMPERATURE, Wordings
from recsys.optimise import schedule, set_rates
from recsys.progress import Progress
from recsys.randomness import generator, turn_of_shuffles
from recsys.types import Floats, Rows

logger = logging.getLogger(__name__)

CHECKPOINT_STEPS = 50
BATCH_TOKENS = 1024
"""Padded tokens per batch at most: all titles of a step padded to its longest would be padding by half."""


def titles_read(titles: Sequence[str], config: Config) -> Rows:
    """Item rows whose title some step reads, one per distinct title, ascending: what needs other wordings.

    Args:
        titles: Of the whole catalogue; empty ones are never read.
        config: Section `queries` and the seed are read.
    """
    first = np.array([rows[0] for rows in rows_by_title(titles).values()], np.int64)
    wanted = _num_steps(len(first), config) * config.queries.titles_per_step
    if wanted >= len(first):
        return first
    rng = generator(config.run.seed, "queries", "titles")
    return np.sort(rng.permutation(first)[:wanted])


class QueryTuning:
    """The loop with what it carries from step to step; `encoder` is a copy that learns.

    Each step reads some distinct titles, most of them in another wording. A title's vector must find an item
    that bears the title among the candidates, and lie where that item's text does. Killed and made again with
    the same arguments it goes on, bit for bit on CPU.

    Args:
        encoder: What made the text vectors; it is left as it is.
        titles: Of the whole catalogue.
        vectors: (num_items, dim) whitened vectors of the items' texts: what is to be found.
        whitening: What made them.
        config: Sections `queries`, `train`, `encoder` and the seed are read.
        folder: Where the checkpoint lives.
        wordings: Other wordings of titles by item row; without any, the same steps read titles as they are.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        titles: Sequence[str],
        vectors: Floats,
        whitening: Whitening,
        config: Config,
        folder: Path,
        wordings: Mapping[int, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        self.config, self.folder = config, folder
        self.encoder = encoder.copy()
        self.device = self.encoder.device
        self.num_top = min(config.queries.layers, len(self.encoder.layers()))
        self.learning = self.encoder.unfreeze(self.num_top)
        rows = titles_read(titles, config)
        places = np.full(len(titles), -1, np.int64)
        places[rows] = np.arange(len(rows))
        self.wordings = Wordings.of([titles[row] for row in rows], places, wordings)
        bearers = {found[0]: np.array(found, np.int64) for found in rows_by_title(titles).values()}
        self._bearers = [bearers[row] for row in rows.tolist()]
        """Item rows by title read."""
        self._title_of = np.full(len(titles), -1, np.int64)
        """By item row, the title among those read that it bears."""
        for place, found in enumerate(self._bearers):
            self._title_of[found] = place
        self.num_steps = _num_steps(len(bearers), config)
        self._written = np.flatnonzero(vectors.any(axis=1))
        self._texts = torch.from_numpy(np.array(vectors)).to(self.device)
        # A wording is read about once: nothing is gained by keeping the output of the layers below.
        batch_tokens = min(config.encoder.batch_tokens, BATCH_TOKENS)
        self._layers = LayerCache(
            self.encoder,
            self.wordings.texts,
            whitening,
            self.num_top,
            cache_gib=0.0,
            batch_tokens=batch_tokens,
        )
        group = {"params": self.learning, "peak": config.queries.learning_rate, "weight_decay": 0.01}
        self.optimizer = torch.optim.AdamW([group], fused=True)
        self.losses: list[float] = []
        self.key = work_key(
            "queries", config.queries, config.train.warmup, config.train.clip, config.encoder,
            config.run.seed, list(self.wordings.texts), vectors, whitening.arrays(), encoder.precision,
            [parameter.detach().cpu().numpy() for parameter in self.learning],
        )  # fmt: skip

    def run(self, on_step: Callable[[int], None] | None = None) -> None:
        """Take every step that was not taken before; `on_step` is told how many are done."""
        if not self.num_steps or not len(self._written):
            logger.info("no query can be taught: no item with both a title and a text")
            return
        first = self._restore()
        with (
            deterministic(self.device),
            Progress(self.num_steps, "teaching queries", "steps", first) as bar,
        ):
            for step in range(first, self.num_steps):
                set_rates(self.optimizer, schedule(step, self.num_steps, self.config.train.warmup))
                self.losses.append(self._step(step))
                if (step + 1) % CHECKPOINT_STEPS == 0 or step + 1 == self.num_steps:
                    self._save(step + 1)
                bar.advance(1, f"loss {self.losses[-1]:.4f}")
                if on_step is not None:
                    on_step(step + 1)

    def _step(self, step: int) -> float:
        rng = generator(self.config.run.seed, "queries", step)
        chosen = self._chosen(step)
        targets = np.array(
            [self._bearers[place][rng.integers(len(self._bearers[place]))] for place in chosen]
        )
        candidates = self._candidates(targets, rng)
        read = self.wordings.read(chosen, self.config.queries.mix, rng)
        loss = torch.zeros((), device=self.device)
        self.optimizer.zero_grad(set_to_none=True)
        for batch, vectors in self._layers.vectors(read):
            part = self._loss(vectors, chosen[batch], targets[batch], candidates) / len(read)
            part.backward()  # type: ignore[no-untyped-call]
            loss += part.detach()
        torch.nn.utils.clip_grad_norm_(self.learning, self.config.train.clip)
        self.optimizer.step()
        return float(loss)

    def _loss(self, vectors: Tensor, chosen: Rows, targets: Rows, candidates: Rows) -> Tensor:
        """Summed over queries: -log of the share of who bears its title, and the distance to one of them."""
        texts = self._texts[torch.from_numpy(candidates).to(self.device)]
        right = torch.from_numpy(self._title_of[candidates] == chosen[:, None]).to(self.device)
        scores = vectors @ texts.T / WORDING_TEMPERATURE
        found = torch.logsumexp(scores, 1) - torch.logsumexp(scores.masked_fill(~right, -torch.inf), 1)
        near = (vectors * self._texts[torch.from_numpy(targets).to(self.device)]).sum(dim=1)
        return (found + 1 - near).sum()

    def _chosen(self, step: int) -> Rows:
        """Distinct titles of a step, as places among those read; each pass has an order of its own."""
        count = self.wordings.num_own
        size = min(self.config.queries.titles_per_step, count)
        return turn_of_shuffles(count, size, step, self.config.run.seed, "queries", "pass")

    def _candidates(self, targets: Rows, rng: np.random.Generator) -> Rows:
        """Item rows that a step's queries choose among: all with a text, or the step's own and a draw."""
        most = self.config.queries.candidates
        if len(self._written) <= most:
            return np.union1d(self._written, targets)
        return np.union1d(rng.choice(self._written, most, replace=False), targets)

    def _save(self, step: int) -> None:
        tensors = numbered("encoder", self.learning) | optimizer_tensors(self.optimizer)
        save_checkpoint(self.folder, self.key, tensors, {"step": step, "losses": self.losses})

    def _restore(self) -> int:
        found = load_checkpoint(self.folder, self.key)
        if found is None:
            return 0
        tensors, state = found
        restore_numbered("encoder", self.learning, tensors)
        restore_optimizer(self.optimizer, tensors)
        self.losses = list(state["losses"])
        logger.info("teaching queries: continuing at step %d", state["step"])
        return int(state["step"])


def _num_steps(num_titles: int, config: Config) -> int:
    queries = config.queries
    return min(queries.steps, math.ceil(queries.max_passes * num_titles / queries.titles_per_step))
