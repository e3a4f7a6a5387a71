"""Towers over an encoder that each training fine-tunes for itself: what augmented texts teach BERT."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass

import numpy as np

from recsys.arm_texts import ArmTexts
from recsys.arms import Trials
from recsys.compare.contenders import Contender
from recsys.compare.misspelled import MISSPELLED, Misspelled
from recsys.compare.outcomes import Kept
from recsys.compare.trainings import NEW_ITEMS, Turn, new_items
from recsys.config import with_settings
from recsys.evaluate.evaluate import Task
from recsys.model.gate import choose_whitening
from recsys.placebo import placebo_texts
from recsys.tuning import tuned_encoder


@dataclass(frozen=True)
class TunedTowers:
    """The encoder fine-tuned before the first cut, as a run does it; then towers over it before the second.

    A run keeps a fine-tuned encoder only where validation gains. Here every arm keeps its own, whatever it is
    worth: else arms would be compared of which some were tuned and others were not. Titles with a word
    mistyped are sought among the texts' vectors, as search does it.
    """

    trials: Trials
    misspelled: Misspelled
    task: Task = "novel"

    @property
    def name(self) -> str:
        """Part of an outcome's identity."""
        return f"tuned {self.task}"

    @property
    def price(self) -> float:
        """What one training costs, in trainings of the towers alone; fine-tuning comes on top."""
        return 2.0

    @property
    def on_top(self) -> str:
        """What the price leaves out, in words."""
        return ", and the fine-tuning of the encoder in every training on top of it"

    def outcome(self, contender: Contender, seed: int, epochs: int, share: float) -> Kept:
        """Train once and rank for the users of the newest slice."""
        config = with_settings(self.trials.config, contender.changes)
        started = time.perf_counter()
        texts, losses = tuned_texts(self.trials, contender, seed, epochs, share)
        tuned = time.perf_counter() - started
        done = self.trials.run(
            contender.arm, seed, when="report", epochs=epochs, share=share, config=config, task=self.task,
            texts=texts,
        )  # fmt: skip
        assert done.towers is not None
        about = {
            "losses": list(done.losses), "tuning_losses": losses, "steps": done.steps + len(losses),
            "epochs": done.epochs, "counts": done.counts,
            "seconds": {"fine-tuning": round(tuned, 2), **done.seconds},
            MISSPELLED: self.misspelled.ranks(texts.vectors, texts),
        }  # fmt: skip
        lists = {NEW_ITEMS: new_items(self.trials, done.towers, self.task)}
        return Kept(done.lists, about, lists)

    def shared_by(self, turn: Turn) -> str:
        """Nothing."""
        return ""


def tuned_texts(
    trials: Trials, contender: Contender, seed: int, epochs: int, share: float = 1.0
) -> tuple[ArmTexts, list[float]]:
    """The texts of an arm through an encoder fine-tuned on them, and the loss of each step.

    Args:
        trials: The dataset.
        contender: Whose policy changes the texts that the encoder reads; a placebo's are `placebo_texts`.
        seed: Of augmentation, towers and fine-tuning.
        epochs: Of the towers that the encoder is fine-tuned under.
        share: Share of the users whose rows are trained on.
    """
    arm, published, catalogue = contender.arm, trials.texts, trials.prepared.texts
    config = trials.configured(arm, seed, with_settings(trials.config, contender.changes))
    cut, folder = trials.cut("validation"), trials.folder(arm, seed, "tuning")
    fit, counts = trials.rows_before(cut, share)
    towers = trials.fit(arm, seed, "validation", epochs=epochs, share=share, config=config).towers
    if arm.placebo is None:
        wordings = trials.wordings(arm, fit, cut, config, folder).wordings
    else:
        sold = np.flatnonzero(counts > 0)
        wordings = placebo_texts(arm.placebo, catalogue, sold, seed)
    encoder, losses = tuned_encoder(
        published.encoder, catalogue, fit, towers, published.whitening, config, folder,
        wordings=wordings, progress=False,
    )  # fmt: skip
    shutil.rmtree(folder, ignore_errors=True)
    raw = encoder.encode(catalogue)
    judged = trials.judged("validation")
    whitening, _ = choose_whitening(raw, published.whitening, towers, judged, config)
    return ArmTexts(catalogue, raw, lambda: encoder, whitening), [round(loss, 4) for loss in losses]
