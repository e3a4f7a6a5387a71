"""Fine-tuning BERT, and the rule that decides whether it is kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys.config import Config
from recsys.contexts import Contexts
from recsys.model.encoder import TextEncoder
from recsys.model.fitted import TowersFit
from recsys.model.gate import choose_whitening, judge, keep, weights_moved
from recsys.model.whitening import Whitening
from recsys.train import fit_towers
from recsys.tuning import Tuning
from recsys.types import Floats

logger = logging.getLogger(__name__)

Refit = Callable[[Floats, TextEncoder, Whitening], TowersFit]


@dataclass(frozen=True)
class FinetuneResult:
    """The better of the frozen and the fine-tuned model, and how they compared."""

    kept: bool
    """Whether it is the fine-tuned one."""
    encoder: TextEncoder
    whitening: Whitening
    text_vectors: Floats
    towers: TowersFit
    report: dict[str, Any]
    """For the manifest: `before`, `after`, `weights_moved`, `kept`, `why`, how many `wordings` were read."""


def finetune_encoder(
    encoder: TextEncoder,
    texts: Sequence[str],
    contexts: Contexts,
    towers_fit: TowersFit,
    whitening: Whitening,
    config: Config,
    folder: Path,
    *,
    validation: Contexts,
    wordings: Mapping[int, Sequence[str]] | None = None,
    refit: Refit | None = None,
    stage: str = "select",
    on_step: Callable[[int], None] | None = None,
) -> FinetuneResult:
    """Fine-tune a copy of the encoder's top layers, then keep it where warm and cold items gain.

    Both sides of the comparison are towers fitted from zero residuals over their own text vectors for the
    same number of epochs. Killed and called again with the same arguments it continues, bit for bit on CPU.

    Args:
        encoder: The frozen model; it is left as it is.
        texts: The catalogue's texts, row by row.
        contexts: Original rows of role `fit`.
        towers_fit: Towers fitted over the frozen model's text vectors.
        whitening: What made those.
        config: Sections `finetune`, `train`, `model`, `run` and the mixing of `augment` are read.
        folder: Where the checkpoint and `tensorboard/` live.
        validation: Held-out original rows.
        wordings: Augmented texts by item row: in their place the encoder reads them by chance.
        refit: Fits the towers over new text vectors exactly as `towers_fit` was fitted over the old ones;
            None fits them on `contexts` alone, without augmentation.
        stage: The stage of `towers_fit`: a refit here makes the same draws.
        on_step: Called with the number of optimiser steps done so far, after each.
    """
    tuning = Tuning(encoder, texts, contexts, towers_fit, whitening, config, folder, wordings or {})
    tuning.run(on_step)
    tuned, losses = tuning.encoder, tuning.losses
    raw = tuned.encode(texts, "re-encoding the catalogue")
    new_whitening, chosen = choose_whitening(raw, whitening, towers_fit, validation, config)
    vectors = new_whitening.apply(raw)
    if refit is None:
        after_fit = fit_towers(
            contexts, vectors, towers_fit.item_counts, config, folder / "refit",
            validation=validation, epochs=max(towers_fit.epochs, 1), stage=stage,
        )  # fmt: skip
    else:
        after_fit = refit(vectors, tuned, new_whitening)
    before = judge(towers_fit, validation, config)
    after = judge(after_fit, validation, config)
    kept, why = keep(before, after, config.run.seed)
    report = {
        "kept": kept,
        "why": why,
        "before": before.figures,
        "after": after.figures,
        "wordings": tuning.wordings.num_others,
        "whitening": chosen,
        "weights_moved": weights_moved(encoder, tuned),
        "drift": round(float(1 - (vectors * towers_fit.text_vectors).sum(axis=1).mean()), 5)
        if chosen == "kept"
        else None,
        "losses": [round(value, 4) for value in losses],
    }
    logger.info("fine-tuning %s: %s", "kept" if kept else "not kept", why)
    if kept:
        return FinetuneResult(True, tuned, new_whitening, vectors, after_fit, report)
    return FinetuneResult(False, encoder, whitening, towers_fit.text_vectors, towers_fit, report)
