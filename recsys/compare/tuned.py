"""Towers over an encoder that each training fine-tunes for itself: what augmented texts teach BERT."""

from __future__ import annotations

import shutil
import time

import numpy as np

from recsys.arm_texts import ArmTexts
from recsys.arms import Arm, Trials
from recsys.compare.contenders import Contender
from recsys.compare.outcomes import Kept
from recsys.compare.trainings import Depth, kept_of
from recsys.config import Config, with_settings
from recsys.model.gate import choose_whitening
from recsys.placebo import placebo_texts
from recsys.tuning import Tuning


class TunedTowers(Depth):
    """The encoder fine-tuned before the first cut, as a run does it; then towers over it before the second.

    A run keeps a fine-tuned encoder only where validation gains. Here every arm keeps its own, whatever it is
    worth: else arms would be compared of which some were tuned and others were not. Titles with a word
    mistyped are sought among the texts' vectors, as search does it.
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
    """The texts of an arm through an encoder fine-tuned on them, and the loss of each step.

    Args:
        trials: The dataset.
        arm: Whose policy changes the texts that the encoder reads; a placebo's are `placebo_texts`.
        seed: Of augmentation, towers and fine-tuning.
        epochs: Of the towers that the encoder is fine-tuned under.
        share: Share of the users whose rows are trained on.
        config: What all arms share.
    """
    published, catalogue = trials.texts, trials.prepared.texts
    config = trials.configured(arm, seed, config)
    cut, folder = trials.cut("validation"), trials.folder(arm, seed, "tuning")
    fit, counts = trials.rows_before(cut, share)
    towers = trials.fit(arm, seed, "validation", epochs=epochs, share=share, config=config).towers
    if arm.placebo is None:
        wordings = trials.wordings(arm, fit, cut, config, folder).wordings
    else:
        wordings = placebo_texts(arm.placebo, catalogue, np.flatnonzero(counts > 0), seed)
    tuning = Tuning(published.encoder, catalogue, fit, towers, published.whitening, config, folder, wordings)
    tuning.run(progress=False)
    shutil.rmtree(folder, ignore_errors=True)
    raw = tuning.encoder.encode(catalogue)
    judged = trials.judged("validation")
    whitening, _ = choose_whitening(raw, published.whitening, towers, judged, config)
    return ArmTexts(catalogue, raw, lambda: tuning.encoder, whitening), tuning.losses
