"""Towers over an encoder that every training trains for itself: what texts, or an option, teach BERT."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np

from recsys.arm_texts import ArmTexts
from recsys.arms import Arm, Trials
from recsys.checkpoint import deterministic
from recsys.compare.contenders import Contender
from recsys.compare.outcomes import Kept
from recsys.compare.trainings import Depth, kept_of
from recsys.config import Config, with_settings
from recsys.model.gate import choose_whitening
from recsys.placebo import placebo_texts
from recsys.pretrain import Pretraining
from recsys.tuning import Tuning


class TunedTowers(Depth):
    """The encoder trained before the first cut, as a run does it; then towers over it before the second.

    It is pretrained and fine-tuned as far as the settings say. A run keeps such an encoder only where
    validation gains. Here every arm keeps its own, whatever it is worth: else arms would be compared of which
    some were tuned and others were not. Titles with a word mistyped are sought among the texts' vectors, as
    search does it.
    """

    kind = "tuned"
    price = 2.0
    on_top = ", and the fine-tuning of the encoder in every training on top of it"

    def outcome(self, contender: Contender, seed: int, epochs: int, share: float) -> Kept:
        """Train once and rank for the users of the newest slice."""
        config = with_settings(self.trials.config, contender.changes)
        started = time.perf_counter()
        texts, losses = tuned_texts(self.trials, contender.arm, seed, epochs, share, config)
        tuned = time.perf_counter() - started
        done = self.trials.run(
            contender.arm, seed, when="report", epochs=epochs, share=share, config=config, task=self.task,
            texts=texts,
        )  # fmt: skip
        kept = kept_of(self, done, self.misspelled.ranks(texts.vectors, texts))
        kept.about.update(
            tuning_losses=[round(loss, 4) for loss in losses],
            steps=done.steps + len(losses),
            seconds={"fine-tuning": round(tuned, 2), **done.seconds},
        )
        return kept


def tuned_texts(
    trials: Trials, arm: Arm, seed: int, epochs: int, share: float, config: Config
) -> tuple[ArmTexts, list[float]]:
    """The texts of an arm through an encoder trained on them, and the loss of each step of fine-tuning.

    Args:
        trials: The dataset.
        arm: Whose policy changes the texts that the encoder reads; a placebo's are `placebo_texts`.
        seed: Of augmentation, towers, pretraining and fine-tuning.
        epochs: Of the towers that the encoder is fine-tuned under.
        share: Share of the users whose rows are trained on.
        config: What all arms share; with `pretrain` and `finetune` off the texts are as published.
    """
    config = trials.configured(arm, seed, config)
    folder = trials.folder(arm, seed, "tuning")
    texts = _pretrained(trials, config, folder / "pretrain")
    losses: list[float] = []
    if config.finetune.enabled:
        texts, losses = _finetuned(trials, arm, texts, seed, epochs, share, config, folder)
    shutil.rmtree(folder, ignore_errors=True)
    return texts, losses


def _pretrained(trials: Trials, config: Config, folder: Path) -> ArmTexts:
    """Over the encoder adapted to the catalogue where that is wanted; over the published one otherwise."""
    published, catalogue = trials.texts, trials.prepared.texts
    if not config.pretrain.enabled:
        return published
    training = Pretraining.on(published.encoder, catalogue, config, folder)
    if training is None:
        return published
    with deterministic(published.encoder.device):
        training.run()
    adapted = training.masked.encoder()
    return ArmTexts.published(catalogue, adapted.encode(catalogue), lambda: adapted, config.model)


def _finetuned(
    trials: Trials,
    arm: Arm,
    start: ArmTexts,
    seed: int,
    epochs: int,
    share: float,
    config: Config,
    folder: Path,
) -> tuple[ArmTexts, list[float]]:
    catalogue, cut = trials.prepared.texts, trials.cut("validation")
    fit, counts = trials.rows_before(cut, share)
    fitted = trials.fit(arm, seed, "validation", epochs=epochs, share=share, config=config, texts=start)
    towers = fitted.towers
    if arm.placebo is None:
        wordings = trials.wordings(arm, fit, cut, config, folder).wordings
    else:
        wordings = placebo_texts(arm.placebo, catalogue, np.flatnonzero(counts > 0), seed)
    tuning = Tuning(start.encoder, catalogue, fit, towers, start.whitening, config, folder, wordings)
    tuning.run()
    raw = tuning.encoder.encode(catalogue)
    judged = trials.judged("validation")
    whitening, _ = choose_whitening(raw, start.whitening, towers, judged, config)
    return ArmTexts(catalogue, raw, lambda: tuning.encoder, whitening), tuning.losses
