"""Masked-language-model training of the encoder on the catalogue, before whitening and fine-tuning.

Gururangan et al., "Don't Stop Pretraining", ACL 2020. The shop's texts teach the encoder which words stand
beside which here. It is kept where towers fitted over its vectors rank warm and cold items better on
validation; the model with its head is saved either way, for ops that ask one to fill in words.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

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
from recsys.contexts import Contexts
from recsys.distributed import join_group
from recsys.model.encoder import TextEncoder
from recsys.model.fitted import TowersFit
from recsys.model.gate import choose_whitening, judge, keep, weights_moved
from recsys.model.masked_lm import MaskedLm
from recsys.model.masking import MaskableTexts, MaskedBatch
from recsys.model.whitening import Whitening
from recsys.optimise import open_board, schedule, set_rates
from recsys.progress import Progress
from recsys.randomness import generator
from recsys.train import fit_towers
from recsys.types import Floats

logger = logging.getLogger(__name__)

HEAD_RATE = 10.0
"""The head learns at so many times the encoder's rate: where it was built it has everything to learn."""
HELD_OUT_SHARE, HELD_OUT_MOST = 0.05, 512
"""Texts that are never trained on, for the loss before and after."""
FEWEST_TEXTS = 20
"""With fewer distinct texts there is nothing to learn that would hold for another."""
WARM_START_TEXTS = 256
CHECKPOINT_STEPS = 20
MASKED_LM = "masked_lm"
"""Folder of the adapted model with its head, loadable by path."""

Fit = Callable[[Floats, TextEncoder, Whitening, int | None], TowersFit]
"""Fits towers over the vectors of an encoder, for so many epochs or (None) until validation says enough."""


@dataclass(frozen=True)
class PretrainResult:
    """The better of the published and the adapted encoder, and how they compared."""

    kept: bool
    """Whether it is the adapted one."""
    encoder: TextEncoder
    whitening: Whitening
    text_vectors: Floats
    report: dict[str, Any]
    """For the manifest: `masked_lm` (loss and accuracy, before and after), `before`, `after`, `kept`…"""


def adapt_encoder(
    encoder: TextEncoder,
    texts: Sequence[str],
    contexts: Contexts,
    item_counts: NDArray[np.int64],
    config: Config,
    folder: Path,
    *,
    validation: Contexts,
    raw: Floats | None = None,
    fit: Fit | None = None,
    save_to: Path | None = None,
    on_step: Callable[[int], None] | None = None,
) -> PretrainResult:
    """Train a copy of the encoder on the catalogue's texts; keep it where warm and cold items gain.

    Both sides of the comparison are towers fitted from zero residuals for the same number of epochs. Killed
    and called again with the same arguments it continues, bit for bit on CPU.

    Args:
        encoder: The published model; it is left as it is.
        texts: The catalogue's original texts, row by row.
        contexts: Original rows of role `fit`, for the comparison alone.
        item_counts: (n,) training events per item.
        config: Sections `pretrain`, `encoder`, `model`, `train`, `run` are read.
        folder: Where the checkpoints and `tensorboard/` live.
        validation: Held-out original rows.
        raw: (n, hidden) the published model's vectors, where they are known.
        fit: Fits the towers of either side; None fits them on `contexts`, without augmentation.
        save_to: Where the adapted model with its head goes; None: `masked_lm` in `folder`.
        on_step: Called with the number of optimiser steps done so far, after each.

    Raises:
        ConfigError: the encoder or its tokenizer cannot be trained this way.
    """
    contexts.require_fit()
    raw = encoder.encode(texts) if raw is None else raw
    whitening = Whitening.fit(raw, config.model.dim, config.model.item_bias)
    vectors = whitening.apply(raw)
    training = Pretraining.on(encoder, texts, config, folder)
    if training is None:
        why = f"{len(_distinct(texts))} distinct texts; {FEWEST_TEXTS} are the least to learn from"
        return PretrainResult(False, encoder, whitening, vectors, {"kept": False, "why": why})
    with deterministic(encoder.device):
        training.run(on_step)
        masked_lm = training.report()
    if training.group.writes:
        training.masked.save(save_to or folder / MASKED_LM)
    adapted = training.masked.encoder()
    new_raw = adapted.encode(texts, "re-encoding the catalogue")

    fits = _Fits(contexts, item_counts, config, folder, validation, fit)
    towers = fits.towers("published", vectors, encoder, whitening, None)
    new_whitening, chosen = choose_whitening(new_raw, whitening, towers, validation, config)
    new_vectors = new_whitening.apply(new_raw)
    again = fits.towers("adapted", new_vectors, adapted, new_whitening, max(towers.epochs, 1))
    before, after = judge(towers, validation, config), judge(again, validation, config)
    kept, why = keep(before, after, config.run.seed)
    moved = weights_moved(encoder, adapted)
    report = {"kept": kept, "why": why, "masked_lm": masked_lm, "before": before.figures}
    report |= {"after": after.figures, "whitening": chosen, "weights_moved": moved}
    logger.info("pretraining %s: %s", "kept" if kept else "not kept", why)
    if kept:
        return PretrainResult(True, adapted, new_whitening, new_vectors, report)
    return PretrainResult(False, encoder, whitening, vectors, report)


@dataclass(frozen=True, slots=True)
class _Fits:
    """Fits the towers of either side of the comparison alike."""

    contexts: Contexts
    item_counts: NDArray[np.int64]
    config: Config
    folder: Path
    validation: Contexts
    fit: Fit | None

    def towers(
        self, side: str, vectors: Floats, encoder: TextEncoder, whitening: Whitening, epochs: int | None
    ) -> TowersFit:
        if self.fit is not None:
            return self.fit(vectors, encoder, whitening, epochs)
        return fit_towers(
            self.contexts, vectors, self.item_counts, self.config, self.folder / side,
            validation=self.validation, epochs=epochs, stage="pretrain",
        )  # fmt: skip


class Pretraining:
    """The masked-language-model loop with what it carries between steps; `masked` is a copy that learns."""

    @classmethod
    def on(
        cls, encoder: TextEncoder, texts: Sequence[str], config: Config, folder: Path
    ) -> Pretraining | None:
        """The loop over the distinct texts of a catalogue; None where there are too few to learn from."""
        distinct = _distinct(texts)
        return cls(encoder, distinct, config, folder) if len(distinct) >= FEWEST_TEXTS else None

    def __init__(self, encoder: TextEncoder, distinct: list[str], config: Config, folder: Path) -> None:
        self.config, self.folder, self.seed = config.pretrain, folder, config.run.seed
        self.warmup, self.clip = config.train.warmup, config.train.clip
        self.group = join_group(encoder.device)
        self.texts = MaskableTexts(encoder, distinct)
        order = generator(self.seed, "pretrain", "held out").permutation(len(distinct))
        held_out = min(max(1, round(HELD_OUT_SHARE * len(distinct))), HELD_OUT_MOST)
        self.held_out, self.fit = np.sort(order[:held_out]), np.sort(order[held_out:])
        self.masked = MaskedLm(encoder)
        self.scale = self._warm_start()
        self.learning = _unfreeze(self.masked, encoder, self.config.layers)
        self.num_batches = len(self._batches(0))
        self.num_steps = min(self.config.steps, max(1, math.ceil(self.config.max_passes * self.num_batches)))
        self.optimizer = self._build_optimizer()
        self.losses: list[float] = []
        self.before: dict[str, float] = {}
        self.key = work_key(
            "pretrain", config.pretrain, config.encoder, self.seed, self.warmup, self.clip, self.group.world,
            distinct, encoder.precision,
        )  # fmt: skip

    def run(self, on_step: Callable[[int], None] | None = None) -> None:
        """Take every step that was not taken before; `on_step` is told how many are done."""
        first = self._restore()
        self.before = self.before or self._judge()
        board = open_board(self.folder, self.group)
        with Progress(self.num_steps, "masked words", "steps", first, self.group.writes) as bar:
            for step in range(first, self.num_steps):
                set_rates(self.optimizer, schedule(step, self.num_steps, self.warmup))
                loss = self._step(step)
                self.losses.append(loss)
                board.add_scalar("pretrain/loss", loss, step + 1)
                if (step + 1) % CHECKPOINT_STEPS == 0 or step + 1 == self.num_steps:
                    self._save(step + 1)
                bar.advance(1, f"loss {loss:.4f}")
                if on_step is not None:
                    on_step(step + 1)
        board.close()

    def report(self) -> dict[str, Any]:
        """Loss and accuracy on texts that were not trained on, before and after, on the same masks."""
        return {
            "before": self.before,
            "after": self._judge(),
            "head": "built" if self.masked.built else "loaded",
            "head_scale": self.scale,
            "held_out_texts": len(self.held_out),
            "texts": len(self.fit),
            "steps": self.num_steps,
            "passes": round(self.num_steps / self.num_batches, 2),
            "losses": [round(value, 4) for value in self.losses],
        }

    def _step(self, step: int) -> float:
        turn, place = divmod(step, self.num_batches)
        batches = self._batches(turn)
        rng = generator(self.seed, "pretrain", "masks", step)
        whole = self.texts.masked(batches[place], self.config.mask_rate, rng)
        mine = whole.take(slice(self.group.rank, None, self.group.world))
        self.optimizer.zero_grad(set_to_none=True)
        loss = _summed_loss(self.masked, mine) / max(len(whole.targets), 1)
        loss.backward()  # type: ignore[no-untyped-call]
        self.group.sum_gradients(self.learning)
        torch.nn.utils.clip_grad_norm_(self.learning, self.clip)
        self.optimizer.step()
        return self.group.sum_number(float(loss.detach()))

    def _batches(self, turn: int) -> list[NDArray[np.int64]]:
        """The batches of one pass: texts of like length together, which of them and in which order drawn."""
        rng = generator(self.seed, "pretrain", "order", turn)
        batches = list(self.texts.tokens.batches(rng.permutation(self.fit), self.config.batch_tokens))
        return [batches[i] for i in rng.permutation(len(batches))]

    def _warm_start(self) -> float | None:
        if not self.masked.built:
            return None
        size = int(self.masked.model.config.vocab_size)  # type: ignore[union-attr, arg-type]
        sample = self.fit[:: max(1, len(self.fit) // WARM_START_TEXTS)]
        frequencies = self.texts.frequencies(self.fit, size)
        return self.masked.warm_start(frequencies, lambda: self._judge(sample)["loss"])

    def _judge(self, places: NDArray[np.int64] | None = None) -> dict[str, float]:
        """Mean loss and accuracy over masked tokens of the held-out texts (or others), on fixed masks."""
        rng, total, right, count = generator(self.seed, "pretrain", "judge"), 0.0, 0, 0
        places = self.held_out if places is None else places
        with torch.inference_mode():
            for part in self.texts.tokens.batches(places, self.config.batch_tokens):
                batch = self.texts.masked(part, self.config.mask_rate, rng)
                logits = self.masked.logits(batch)
                targets = batch.targets.to(logits.device)
                total += float(nn.functional.cross_entropy(logits, targets, reduction="sum"))
                right += int((logits.argmax(dim=1) == targets).sum())
                count += len(targets)
        return {"loss": round(total / max(count, 1), 4), "accuracy": round(right / max(count, 1), 4)}

    def _build_optimizer(self) -> torch.optim.AdamW:
        head = {id(parameter) for parameter in self.masked.head.parameters()}
        rate = self.config.learning_rate
        groups = [
            {"params": [p for p in self.learning if id(p) not in head], "peak": rate, "weight_decay": 0.01},
            {
                "params": [p for p in self.learning if id(p) in head],
                "peak": HEAD_RATE * rate,
                "weight_decay": 0.0,
            },
        ]
        return torch.optim.AdamW(groups, fused=True)

    def _save(self, step: int) -> None:
        if self.group.writes:
            tensors = numbered("learning", self.learning)
            state = {"step": step, "losses": self.losses, "before": self.before}
            save_checkpoint(self.folder, self.key, tensors | optimizer_tensors(self.optimizer), state)
        self.group.wait()

    def _restore(self) -> int:
        found = load_checkpoint(self.folder, self.key)
        if found is None:
            return 0
        tensors, state = found
        restore_numbered("learning", self.learning, tensors)
        restore_optimizer(self.optimizer, tensors)
        self.losses, self.before = list(state["losses"]), state["before"]
        logger.info("pretraining: continuing at step %d", state["step"])
        return int(state["step"])


def _distinct(texts: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(text for text in texts if text.strip()))


def _summed_loss(masked: MaskedLm, batch: MaskedBatch) -> torch.Tensor:
    logits = masked.logits(batch)
    return nn.functional.cross_entropy(logits, batch.targets.to(logits.device), reduction="sum")


def _unfreeze(masked: MaskedLm, encoder: TextEncoder, layers: int) -> list[nn.Parameter]:
    """The head and the top layers learn; the word embeddings, which are the head's output layer, do not."""
    for parameter in masked.model.parameters():
        parameter.requires_grad_(False)
    top = masked.layers()[-min(layers, len(encoder.layers())) :]
    embeddings = {id(parameter) for parameter in masked.base.get_input_embeddings().parameters()}  # type: ignore[operator]
    chosen = {
        id(parameter): parameter
        for part in (*top, masked.head)
        for parameter in part.parameters()
        if id(parameter) not in embeddings
    }
    for parameter in chosen.values():
        parameter.requires_grad_(True)
    return list(chosen.values())
