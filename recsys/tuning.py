"""The loop of item-centric fine-tuning: what a step reads, and how its gradient reaches the encoder.

Per step some hundreds of distinct items are drawn and encoded with gradients, interactions with them enter
one loss against one another, and one backward goes through the encoder: the cost is per item, not per
interaction. Items outside the draw are no candidates: the interactions of a step are chosen by its items, so
these are wanted more often than the rest, and the encoder would learn that what was drawn is wanted until all
texts look alike. The gradient reaches the encoder through a cut at the item vectors, so that processes share
the texts of a step whatever contexts they hold; on request the texts are encoded twice, so that no more than
one batch's graph is in memory (gradient caching, Gao et al., RepL4NLP 2021).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.checkpoint import (
    deterministic,
    load_checkpoint,
    numbered,
    optimizer_tensors,
    restore_numbered,
    restore_optimizer,
    save_checkpoint,
    tensors_under,
    work_key,
)
from recsys.config import Config
from recsys.contexts import Contexts
from recsys.distributed import join_group
from recsys.model.batching import (
    Candidates,
    pairs_among,
    seen_items,
    target_pairs,
)
from recsys.model.encoder import TextEncoder
from recsys.model.fitted import TowersFit
from recsys.model.item_draws import ItemDraws, distinct_texts
from recsys.model.layer_cache import LayerCache
from recsys.model.negatives import Negatives
from recsys.model.popularity import Popularity
from recsys.model.repeats import weighing_repeats
from recsys.model.step import batch_loss
from recsys.model.towers import TwoTower
from recsys.model.whitening import Whitening
from recsys.model.wordings import WORDING_TEMPERATURE, Wordings
from recsys.optimise import open_board, schedule, set_rates, tower_parameters
from recsys.progress import Progress
from recsys.randomness import generator

logger = logging.getLogger(__name__)

CACHED_CONTEXTS = 256
"""Contexts whose share of the loss is held in memory at a time under gradient caching."""
TOWER_SHARE = 0.1
"""Towers learn along at this share of the rates they were fitted with."""


class Tuning:
    """The fine-tuning loop with what it carries from step to step; `encoder` is a copy that learns.

    Killed and made again with the same arguments, which are those of `recsys.finetune.finetune_encoder`, it
    goes on, bit for bit on CPU.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        texts: Sequence[str],
        contexts: Contexts,
        towers_fit: TowersFit,
        whitening: Whitening,
        config: Config,
        folder: Path,
        wordings: Mapping[int, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        contexts.require_fit()
        contexts = weighing_repeats(contexts, config.train.repeat_weight)
        self.config, self.contexts, self.folder = config, contexts, folder
        self.device, self.group = encoder.device, join_group(encoder.device)
        self.encoder = encoder.copy()
        self.num_top = min(config.finetune.layers, len(self.encoder.layers()))
        self.learning = self.encoder.unfreeze(self.num_top)
        self.seen = seen_items(contexts, towers_fit.item_counts)
        vectors, seed = towers_fit.text_vectors, config.run.seed
        self.negatives = Negatives(contexts, vectors, self.seen, config.train, seed, "finetune")
        self.places, distinct = distinct_texts(texts, self.seen)
        self.draws = ItemDraws(contexts, self.seen, self.places, config.finetune, seed)
        self.wordings = Wordings.of(distinct, self.places, wordings)
        read = self.wordings.texts
        self.cache = LayerCache(self.encoder, read, whitening, self.num_top, config.finetune.cache_gib)
        passes = config.finetune.max_passes * len(distinct) / config.finetune.items_per_step
        self.num_steps = min(config.finetune.steps, max(1, math.ceil(passes)))
        self.frozen = torch.from_numpy(np.array(towers_fit.text_vectors)).to(self.device)
        self.text = self.frozen.clone()
        popularity = Popularity.of(contexts, towers_fit.item_counts, over_time=config.model.bias_over_time)
        model = TwoTower(towers_fit.item_counts, self.frozen.shape[1], config.model, popularity)
        self.model = model.to(self.device)
        self.model.load_whole({k: torch.from_numpy(v.copy()) for k, v in towers_fit.state.items()})
        self.optimizer = self._build_optimizer()
        self.losses: list[float] = []
        self.key = work_key(
            "finetune", config.finetune, config.train, config.model, config.encoder, config.run.seed,
            self.group.world, contexts, list(read), towers_fit.state, whitening.arrays(),
            encoder.precision, [config.augment.encoder_mix, config.augment.clean_tail],
        )  # fmt: skip

    def run(self, on_step: Callable[[int], None] | None = None) -> None:
        """Take every step that was not taken before; `on_step` is told how many are done."""
        if not len(self.cache) or not self.draws.num_pairs:
            logger.info("nothing to fine-tune on: no item with both a text and an interaction")
            return
        with deterministic(self.device):
            self._walk(on_step)

    def _walk(self, on_step: Callable[[int], None] | None) -> None:
        num_steps, first = self.num_steps, self._restore()
        board = open_board(self.folder, self.group)
        with Progress(num_steps, "fine-tuning the encoder", "steps", first, self.group.writes) as bar:
            for step in range(first, num_steps):
                self._set_rate(step)
                loss = self._step(step)
                self.losses.append(loss)
                board.add_scalar("finetune/loss", loss, step + 1)
                if (step + 1) % self.config.finetune.refresh_steps == 0 or step + 1 == num_steps:
                    self._refresh(everyone=step + 1 < num_steps)
                    self._save(step + 1)
                bar.advance(1, f"loss {loss:.4f}")
                if on_step is not None:
                    on_step(step + 1)
        board.close()

    def _step(self, step: int) -> float:
        rng = generator(self.config.run.seed, "finetune", step)
        chosen = self.draws.texts_of(step)
        items = self.draws.items_with(chosen)
        positions, candidates = self.draws.held_against(items, rng)
        pairs = pairs_among(target_pairs(self.contexts, positions), candidates.rows)
        kept = torch.from_numpy(
            (rng.random(len(self.text)) >= self.config.finetune.residual_dropout).astype(np.float32)
        ).to(self.device)
        self.optimizer.zero_grad(set_to_none=True)
        twice = self.config.finetune.gradient_cache
        read = self._read(step, chosen)
        with torch.set_grad_enabled(not twice):
            vectors, graphs = self._encode(read)
        # The cut: the loss sees the vectors as leaves, the encoder then sees only their gradient.
        leaf = vectors.detach().requires_grad_()
        places = np.searchsorted(chosen, self.places[items])
        total = max(float(pairs.weights.sum(dtype=np.float64)), 1e-12)
        mine = positions[self.group.rank :: self.group.world]
        parts = math.ceil(len(mine) / CACHED_CONTEXTS) if twice else 1
        loss = 0.0
        for part in np.array_split(mine, max(parts, 1)):
            loss += self._part(leaf, items, places, part, candidates, kept, total)
        if self.group.writes:
            tied = self._kept_near(leaf, items, places, read)
            tied.backward()  # type: ignore[no-untyped-call]
            loss += float(tied.detach())
        assert leaf.grad is not None
        gradient = self.group.sum_tensor(leaf.grad)
        if twice:
            self._encode_again(read, gradient)
        else:
            self._backward(graphs, gradient)
        self.group.sum_gradients([*self.learning, *self.model.parameters()])
        torch.nn.utils.clip_grad_norm_(self.learning, self.config.train.clip)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.train.clip)
        self.optimizer.step()
        own = read[places] < self.wordings.num_own
        self.text = self._with(leaf, items[own], places[own]).detach()
        return self.group.sum_number(loss)

    def _kept_near(
        self, leaf: Tensor, items: NDArray[np.int64], places: NDArray[np.int64], read: NDArray[np.int64]
    ) -> Tensor:
        """What ties a step's vectors: own texts to their un-tuned vectors, other wordings to their own texts.

        A wording must find the vector of its own text, as of the newest refresh, among those of all texts of
        the step. Drawing the two together alone would be content with all texts in one place.
        """
        device, finetune = self.device, self.config.finetune
        own = read[places] < self.wordings.num_own
        rows, found = (torch.from_numpy(part[own]).to(device) for part in (items, places))
        near = torch.nn.functional.embedding(found, leaf)
        drift = (1 - (near * self.frozen[rows]).sum(dim=1)).sum() / max(len(items), 1)
        total = finetune.drift_weight * drift
        varied = torch.from_numpy(np.flatnonzero(read >= self.wordings.num_own)).to(device)
        if len(varied):
            first = items[np.unique(places, return_index=True)[1]]  # an item of each of the step's texts
            texts = self.text[torch.from_numpy(first).to(device)]
            scores = leaf[varied] @ texts.T / WORDING_TEMPERATURE
            total = total + finetune.wording_weight * torch.nn.functional.cross_entropy(scores, varied)
        return total

    def _read(self, step: int, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        """The texts that a step reads in the place of those chosen; the last steps read items' own."""
        augment, clean = self.config.augment, 1 - self.config.augment.clean_tail
        chance = augment.encoder_mix if step < clean * self.num_steps else 0.0
        return self.wordings.read(chosen, chance, generator(self.config.run.seed, "finetune", "read", step))

    def _with(self, leaf: Tensor, items: NDArray[np.int64], places: NDArray[np.int64]) -> Tensor:
        """The catalogue's text vectors with the step's own in their place."""
        rows, found = (torch.from_numpy(part).to(self.device) for part in (items, places))
        return self.text.index_copy(0, rows, torch.nn.functional.embedding(found, leaf))

    def _part(
        self,
        leaf: Tensor,
        items: NDArray[np.int64],
        places: NDArray[np.int64],
        positions: NDArray[np.int64],
        candidates: Candidates,
        kept: Tensor,
        total: float,
    ) -> float:
        """The share of some contexts in the loss, and its gradients."""
        pairs = pairs_among(target_pairs(self.contexts, positions), candidates.rows)
        loss = batch_loss(
            self.model, self._with(leaf, items, places), self.contexts, positions, pairs, candidates, kept,
            self.config.model.history_length, self.negatives,
        ) / total  # fmt: skip
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def _encode(self, chosen: NDArray[np.int64]) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Vectors of the chosen texts in every process, and the graphs of those that this one encoded."""
        own = np.arange(len(chosen))[self.group.rank :: self.group.world]
        vectors = torch.zeros((len(chosen), self.text.shape[1]), device=self.device)
        graphs = []
        for places, part in self.cache.vectors(chosen[own]):
            rows = torch.from_numpy(own[places]).to(self.device)
            vectors[rows] = part.detach()
            graphs.append((rows, part))
        return self.group.sum_tensor(vectors), graphs

    def _backward(self, graphs: list[tuple[Tensor, Tensor]], gradient: Tensor) -> None:
        if graphs:
            torch.autograd.backward([part for _, part in graphs], [gradient[rows] for rows, _ in graphs])

    def _encode_again(self, chosen: NDArray[np.int64], gradient: Tensor) -> None:
        """Gradient caching: each batch of texts once more, with its graph, and straight back through it."""
        own = np.arange(len(chosen))[self.group.rank :: self.group.world]
        for places, part in self.cache.vectors(chosen[own]):
            rows = torch.from_numpy(own[places]).to(self.device)
            part.backward(gradient[rows])  # type: ignore[no-untyped-call]

    def _refresh(self, everyone: bool) -> None:
        """Bring the vectors of all seen items up to date with the encoder."""
        if not everyone:
            return
        with torch.no_grad():
            vectors, _ = self._encode(np.arange(self.wordings.num_own))
        known = self.seen[self.places[self.seen] >= 0]
        rows = torch.from_numpy(known).to(self.device)
        self.text[rows] = vectors[torch.from_numpy(self.places[known]).to(self.device)]

    def _build_optimizer(self) -> torch.optim.AdamW:
        train = self.config.train
        residuals, biases = tower_parameters(self.model)
        groups = [
            {"params": self.learning, "peak": self.config.finetune.learning_rate, "weight_decay": 0.01},
            {"params": residuals, "peak": TOWER_SHARE * train.learning_rate, "weight_decay": 0.0},
            {"params": biases, "peak": TOWER_SHARE * train.user_learning_rate, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, fused=True)

    def _set_rate(self, step: int) -> None:
        set_rates(self.optimizer, schedule(step, self.num_steps, self.config.train.warmup))

    def _save(self, step: int) -> None:
        if self.group.writes:
            tensors = numbered("encoder", self.learning)
            tensors |= {f"model.{k}": v for k, v in self.model.state_dict().items()}
            tensors |= {"text": self.text} | optimizer_tensors(self.optimizer)
            save_checkpoint(self.folder, self.key, tensors, {"step": step, "losses": self.losses})
        self.group.wait()

    def _restore(self) -> int:
        found = load_checkpoint(self.folder, self.key)
        if found is None:
            return 0
        tensors, state = found
        restore_numbered("encoder", self.learning, tensors)
        self.model.load_state_dict(tensors_under(tensors, "model."))
        self.text = tensors["text"].to(self.device)
        restore_optimizer(self.optimizer, tensors)
        self.losses = list(state["losses"])
        logger.info("fine-tuning: continuing at step %d", state["step"])
        return int(state["step"])
