"""Fitting the towers over fixed text vectors: one loop that reads top to bottom.

Every draw is keyed by (seed, stage, epoch, step), so a run that was killed at any step and started again
walks the same path. Several processes under torchrun share each global batch and walk it too, up to the
order of sums.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.augment.fuse import in_force, rising, tail_start
from recsys.augment.representation import Passes, Representation
from recsys.checkpoint import (
    Snapshots,
    deterministic,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
    tensors_under,
    work_key,
)
from recsys.config import AugmentConfig, Config
from recsys.contexts import Contexts
from recsys.distributed import join_group, training_device
from recsys.model.batching import batch_for, seen_items, target_pairs, trainable
from recsys.model.fitted import TowersFit
from recsys.model.gate import choose_lift
from recsys.model.loop_state import LoopState
from recsys.model.negatives import Negatives
from recsys.model.passes import Parts, StepPasses, plain_pass
from recsys.model.perturb import StepDraws
from recsys.model.popularity import Popularity
from recsys.model.repeats import weighing_repeats
from recsys.model.row_gradients import Steps
from recsys.model.row_order import Fusion, RowOrder
from recsys.model.step import Batch, mixed_text
from recsys.model.towers import TwoTower
from recsys.model.validation import ranking_figures, validation_positions
from recsys.optimise import Board, build_optimizer, open_board, schedule, set_rates
from recsys.progress import Progress
from recsys.randomness import generator
from recsys.types import Floats

logger = logging.getLogger(__name__)


def fit_towers(
    contexts: Contexts,
    text_vectors: Floats,
    item_counts: NDArray[np.int64],
    config: Config,
    folder: Path,
    *,
    validation: Contexts | None = None,
    epochs: int | None = None,
    fusion: Fusion | None = None,
    text_variants: Floats | None = None,
    representation: Representation | None = None,
    lift: float | None = None,
    stage: str = "select",
    on_step: Callable[[int], None] | None = None,
    on_epoch: Callable[[int, float], bool] | None = None,
) -> TowersFit:
    """Fit both towers; killed and called again with the same arguments it continues, bit for bit on CPU.

    Args:
        contexts: Rows of role `fit`, augmented ones possibly among them; rows without a history are skipped.
        text_vectors: (n, dim) whitened text vectors of the catalogue.
        item_counts: (n,) positive training events per item; 0 makes an item cold: text alone, never a
            negative.
        config: Sections `model`, `train`, `augment` (mixing of text variants) and `run` are read.
        folder: Where the checkpoint and `tensorboard/` live.
        validation: Held-out rows; needed when `epochs` is None.
        epochs: Train exactly so many epochs; None stops early on validation ndcg@10 and keeps the best. Where
            rows or texts are augmented, their clean tail is walked then, as in a fit for so many epochs.
        fusion: Chooses the rows of each epoch; None takes all.
        text_variants: (n, dim) vectors of augmented texts (zero row: none), used in training only.
        representation: What is done to vectors inside training, to its last step.
        lift: How far items without evidence are raised, chosen before; None chooses it on `validation`, and
            takes `model.lift` where there is none.
        stage: Names the fit in logs and in the keys of its draws.
        on_step: Called with the number of optimiser steps done so far, after each.
        on_epoch: Called with the number of epochs done and the newest validation ndcg@10 (NaN without
            validation rows) after each; True ends the fit there.

    Raises:
        LeakageError: rows that may not be trained on.
        ValueError: neither `validation` nor `epochs`.
    """
    contexts.require_fit()
    if epochs is None and validation is None:
        raise ValueError("fit_towers() needs validation rows or a number of epochs")
    fit = _Fit(
        contexts, text_vectors, item_counts, config, folder, validation, epochs, fusion, text_variants,
        representation or Representation(), stage,
    )  # fmt: skip
    with deterministic(fit.device):
        fit.run(on_step, on_epoch)
        return fit.result(lift)


class _Fit:
    """One fit: the model, the optimiser and the counters, with the loop over them."""

    def __init__(
        self,
        contexts: Contexts,
        text_vectors: Floats,
        item_counts: NDArray[np.int64],
        config: Config,
        folder: Path,
        validation: Contexts | None,
        epochs: int | None,
        fusion: Fusion | None,
        text_variants: Floats | None,
        representation: Representation,
        stage: str,
    ) -> None:
        contexts = weighing_repeats(contexts, config.train.repeat_weight)
        self.contexts, self.config, self.folder, self.stage = contexts, config, folder, stage
        self.validation, self.item_counts = validation, item_counts
        self.text_vectors = text_vectors
        self.popularity = Popularity.of(contexts, item_counts, over_time=config.model.bias_over_time)
        self.early_stopping = epochs is None
        self.num_epochs = config.train.max_epochs if epochs is None else epochs
        self.device = training_device(config.run.device)
        self.group = join_group(self.device)
        self.text = torch.from_numpy(np.array(text_vectors, np.float32)).to(self.device)
        variants = None if text_variants is None else torch.from_numpy(np.array(text_variants))
        self.variants = None if variants is None else variants.to(self.device)
        self.representation = representation if config.augment.enabled else Representation()
        self.draws = StepDraws(self.representation, config.run.seed, stage)
        self.has_tail = fusion is not None or text_variants is not None
        rows, seed = trainable(contexts), config.run.seed
        self.order = RowOrder(rows, fusion, config.train.epoch_contexts, seed, stage)
        originals = int((contexts.parents[rows] < 0).sum())
        in_epoch = min(originals, config.train.epoch_contexts)
        self.batch = batch_for(in_epoch, config.train.batch_size, config.train.min_steps)
        seen = seen_items(contexts, item_counts)
        self.negatives = Negatives(contexts, text_vectors, seen, config.train, seed, stage)
        self.state = LoopState()
        self._begin()
        self.best: dict[str, Tensor] = {}
        limit = config.train.validation_contexts
        self.judged = None if validation is None else validation_positions(validation, limit, config.run.seed)
        self.key = work_key(
            "towers", stage, epochs, config.model, config.train, config.augment, config.run.seed,
            self.group.world, contexts, text_vectors, item_counts, text_variants, validation,
            self.representation,
        )  # fmt: skip
        self.snapshots = Snapshots(folder, self.key)

    def _begin(self) -> None:
        dim = self.text.shape[1]
        self.model = TwoTower(self.item_counts, dim, self.config.model, self.popularity).to(self.device)
        self.optimizer = build_optimizer(self.model, self.config.train)
        self.steps = Steps(self.model, self.optimizer, self.config.train.clip, self.group.world)

    def run(
        self,
        on_step: Callable[[int], None] | None,
        on_epoch: Callable[[int, float], bool] | None,
    ) -> None:
        self._restore()
        if self.state.finished:
            logger.info("%s: the towers are fitted already", self.stage)
            return
        board = open_board(self.folder, self.group)
        if not self.state.chosen:
            self._search(on_step, on_epoch, board)
            self._rewind()
        for epoch in range(self.state.epoch, self.state.chosen):
            self._epoch(epoch, on_step, board)
        self.state.finished = True
        self._save()
        board.close()
        if self.group.writes:
            self.snapshots.drop()

    def _search(
        self,
        on_step: Callable[[int], None] | None,
        on_epoch: Callable[[int, float], bool] | None,
        board: Board,
    ) -> None:
        """Epochs up to the last, or until validation or the caller says that it is enough."""
        while self.state.epoch < self.num_epochs and not self._stops():
            self._epoch(self.state.epoch, on_step, board)
            newest = self.state.validation[-1] if self.state.validation else math.nan
            if on_epoch is not None and on_epoch(self.state.epoch, newest):
                break

    def _epoch(self, epoch: int, on_step: Callable[[int], None] | None, board: Board) -> None:
        state, batch = self.state, self.batch
        positions, weights = self.order.of(epoch, self.state.chosen or self.num_epochs)
        num_steps = math.ceil(len(positions) / batch)
        if not state.step:
            self.negatives.refresh(self.model, self.text, epoch)
        label = f"{self.stage}: epoch {epoch + 1} of {self.num_epochs}"
        with Progress(len(positions), label, "contexts", state.step * batch, self.group.writes) as bar:
            for step in range(state.step, num_steps):
                span = slice(step * batch, (step + 1) * batch)
                self._set_rate(epoch, step, num_steps)
                loss = self._step(positions[span], weights[span], epoch, step)
                state.step, state.loss = step + 1, state.loss + loss
                done = epoch * num_steps + step + 1
                if (step + 1) % self.config.train.checkpoint_steps == 0:
                    self._save()
                board.add_scalar(f"{self.stage}/loss", loss, done)
                bar.advance(len(positions[span]), f"loss {state.loss / (step + 1):.4f}")
                if on_step is not None:
                    on_step(done)
        state.rate = bar.rate
        self._close_epoch(epoch, num_steps, board)

    def _close_epoch(self, epoch: int, num_steps: int, board: Board) -> None:
        state = self.state
        state.losses.append(state.loss / max(num_steps, 1))
        state.epoch, state.step, state.loss = epoch + 1, 0, 0.0
        if self.validation is not None and self.judged is not None and not state.chosen:
            figure = self.group.first(self._ndcg() if self.group.writes else 0.0)
            state.validation.append(figure)
            board.add_scalar(f"{self.stage}/validation_ndcg@10", figure, epoch + 1)
            if self.early_stopping and state.best_epoch == epoch + 1:
                self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        if self._may_rewind and self.group.writes:
            self.snapshots.save(epoch + 1, self._tensors())
        shown = f", validation ndcg@10 {state.validation[-1]:.5f}" if state.validation else ""
        logger.info("%s: epoch %d, loss %.4f%s", self.stage, epoch + 1, state.losses[-1], shown)
        self._save()
        if self._may_rewind and self.group.writes:
            self.snapshots.drop(below=tail_start(state.best_epoch, self.config.augment))

    @property
    def _may_rewind(self) -> bool:
        return self.early_stopping and self.has_tail and not self.state.chosen

    def _rewind(self) -> None:
        """Go back to where the clean tail of the best epoch begins, if its epochs were not clean already.

        Early stopping looks at epochs whose tail is still to come, since nobody knows then which is the last.
        """
        state, augment = self.state, self.config.augment
        if not self._may_rewind or not state.best_epoch:
            return
        start, best = tail_start(state.best_epoch, augment), state.best_epoch
        if not any(in_force(epoch, self.num_epochs, augment) for epoch in range(start, best)):
            return
        logger.info("%s: epochs %d to %d again, on originals only", self.stage, start + 1, best)
        found = self.snapshots.load(start)
        self._begin()
        if found is None:  # the very beginning, or somebody removed it
            start = 0
        else:
            self.model.load_state_dict(tensors_under(found, "model."))
            restore_optimizer(self.optimizer, found)
        state.epoch, state.step, state.loss, state.chosen = start, 0, 0.0, best
        self._save()

    def _level(self, share: Callable[[int, int, AugmentConfig], float], epoch: int) -> float:
        """Share of an augmentation that is in force."""
        return share(epoch, self.state.chosen or self.num_epochs, self.config.augment)

    def _stops(self) -> bool:
        behind = len(self.state.validation) - self.state.best_epoch
        return self.early_stopping and behind >= self.config.train.patience

    def _set_rate(self, epoch: int, step: int, num_steps: int) -> None:
        # The horizon is the configured one even when fewer epochs were asked for, so that a refit for k
        # epochs walks the schedule that chose k.
        horizon = max(self.num_epochs, self.config.train.max_epochs) * num_steps
        set_rates(self.optimizer, schedule(epoch * num_steps + step, horizon, self.config.train.warmup))

    def _step(self, positions: NDArray[np.int64], weights: Floats, epoch: int, step: int) -> float:
        """One optimiser step on a global batch; the candidates and the norm are those of the whole batch."""
        train = self.config.train
        rng = generator(self.config.run.seed, "towers", self.stage, epoch, step)
        pairs = target_pairs(self.contexts, positions, weights)
        candidates = self.negatives.candidates(pairs, rng)
        kept = torch.from_numpy(
            (rng.random(len(self.text), dtype=np.float32) >= train.residual_dropout).astype(np.float32)
        ).to(self.device)
        chance = self._level(in_force, epoch) * self.config.augment.text_mix
        text = mixed_text(self.text, self.variants, chance, rng)
        total_weight = max(float(pairs.weights.sum(dtype=np.float64)), 1e-12)
        self.optimizer.zero_grad(set_to_none=True)
        mine = np.arange(self.group.rank, len(positions), self.group.world)
        parts = np.array_split(mine, min(train.accumulate, max(len(mine), 1)))
        length = self.config.model.history_length
        batch = Batch(self.contexts, positions, weights, candidates, text, kept, length, self.negatives)
        loss = self._passes(batch, parts, total_weight, epoch, step)
        self.group.sum_gradients(self.model.parameters())
        self.steps.step()
        return self.group.sum_number(loss)

    def _passes(self, batch: Batch, parts: Parts, total_weight: float, epoch: int, step: int) -> float:
        """Gradients of this process's rows; the loss is that of vectors before an adversary moves them."""
        level = self._level(rising, epoch)
        if not self.representation.ops or not level:
            self.state.count(Passes(1, 1))
            return plain_pass(self.model, batch, parts, total_weight)
        drawn = self.draws.draw(
            epoch, step, len(batch.positions), batch.history_items(), len(batch.candidates.rows),
            self.text.shape[1], level,
        )  # fmt: skip
        passes = StepPasses(self.model, batch, parts, total_weight, self.group.sum_tensor)
        loss, taken = passes.run(drawn, self.draws.generator("views", epoch, step))
        self.state.count(taken)
        return loss

    def _ndcg(self) -> float:
        assert self.validation is not None
        assert self.judged is not None
        fit = self._snapshot(self.model.state_dict())
        users = fit.user_vectors(self.validation, self.judged)
        return ranking_figures(users, fit.item_vectors(), self.validation, self.judged)["ndcg@10"]

    def _snapshot(self, tensors: dict[str, Tensor]) -> TowersFit:
        state = self.state
        return TowersFit(
            state={name: value.cpu().numpy().copy() for name, value in self.model.whole(tensors).items()},
            text_vectors=self.text_vectors,
            item_counts=self.item_counts,
            config=self.config.model,
            epochs=state.best_epoch if self.early_stopping else state.epoch,
            validation=tuple(state.validation),
            losses=tuple(state.losses),
            examples_per_second=state.rate,
            popularity=self.popularity.now,
            passes_per_step=state.passes_per_step,
        )

    def result(self, lift: float | None) -> TowersFit:
        stopped = self.early_stopping and self.best and not self.state.chosen
        best = self.best if stopped else self.model.state_dict()
        fitted = self._snapshot(best)
        if lift is None:
            lift = self.config.model.lift
            if self.validation is not None and self.judged is not None and len(self.judged):
                chosen = choose_lift(fitted, self.validation, self.judged) if self.group.writes else 0.0
                lift = self.group.first(chosen)
        return replace(fitted, lift=lift)

    def _save(self) -> None:
        if self.group.writes:
            tensors = self._tensors() | {f"best.{k}": v for k, v in self.best.items()}
            save_checkpoint(self.folder, self.key, tensors, self.state.to_plain())
        self.group.wait()

    def _tensors(self) -> dict[str, Tensor]:
        model = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        return model | optimizer_tensors(self.optimizer) | self.negatives.tensors()

    def _restore(self) -> None:
        found = load_checkpoint(self.folder, self.key)
        if found is None:
            return
        tensors, state = found
        self.state = LoopState.from_plain(state)
        self.model.load_state_dict(tensors_under(tensors, "model."))
        self.best = {k: v.to(self.device) for k, v in tensors_under(tensors, "best.").items()}
        restore_optimizer(self.optimizer, tensors)
        self.negatives.restore(tensors, self.state.epoch, self.device)
        if not self.state.finished:
            logger.info(
                "%s: continuing at epoch %d, step %d", self.stage, self.state.epoch + 1, self.state.step
            )
