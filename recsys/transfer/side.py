"""One shop of a transfer: prepared once, with its texts whitened over its own catalogue."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from recsys.artifacts import load_array
from recsys.augmented import AugmentedRows
from recsys.config import Config
from recsys.contexts import Contexts
from recsys.data.contexts_from import contexts_before
from recsys.data.features import FeatureStoreRoom
from recsys.data.interactions import Dataset, load_dataset
from recsys.data.log import positives
from recsys.errors import InputError
from recsys.evaluate.answers import AnswerSheet, Histories, answer_sheet, training_histories
from recsys.fit import Shop
from recsys.model.fitted import TowersFit
from recsys.model.whitening import Whitening
from recsys.prepared import RAW, Prepared, encode_texts, load_prepared, prepare_shop
from recsys.runs import open_run
from recsys.train import fit_towers
from recsys.types import Floats

_STORE = "features"
_JUDGED = "judged"


@dataclass(frozen=True)
class Side:
    """A shop with its contexts and text vectors."""

    prepared: Prepared
    config: Config
    work: Path
    raw: Floats
    """(n, hidden) of the un-tuned encoder."""
    whitening: Whitening
    """Fitted on this catalogue's texts: no event has a part in it."""
    vectors: Floats
    """(n, dim)"""

    @property
    def shop(self) -> Shop:
        """The checked data."""
        return self.prepared.shop

    def fit_rows(self, cut: int) -> Contexts:
        """Training rows from before a cut."""
        return contexts_before(self.prepared.contexts, cut, self.prepared.grain)

    def towers(
        self,
        seed: int,
        cut: int,
        like: TowersFit | None = None,
        rows: AugmentedRows | None = None,
        name: str = "own",
    ) -> TowersFit:
        """Towers fitted on what came before a cut.

        Args:
            seed: Of the training.
            cut: Unix seconds.
            like: Train for as many epochs, with its lift; without it validation stops and chooses.
            rows: Instead of `fit_rows(cut)`, with how its augmented rows take part.
            name: Of the folder of checkpoints; no draw depends on it.
        """
        run = self.config.run.model_copy(update={"seed": seed})
        config = self.config.model_copy(update={"run": run})
        return fit_towers(
            self.fit_rows(cut) if rows is None else rows.contexts,
            self.vectors,
            self.shop.item_counts(cut),
            config,
            self.work / "training" / f"{name}-{seed}-{cut}",
            validation=self.prepared.validation if like is None else None,
            epochs=None if like is None else max(like.epochs, 1),
            lift=None if like is None else like.lift,
            fusion=None if rows is None else rows.fusion,
            stage="transfer",
        )


@dataclass(frozen=True)
class Judged:
    """Who is recommended to, as known just before the newest slice, and what they took in it."""

    contexts: Contexts
    sheet: AnswerSheet
    train: Histories
    """Everybody's events before the slice."""


def prepare_side(data: Path, work: Path, config: Config, before: int | None = None) -> Side:
    """Check a dataset, join its features and encode its texts, or find all that under `work` again.

    Args:
        data: Folder with `interactions` and `items`.
        work: Folder of this shop alone.
        config: The configuration; nothing is augmented.
        before: Unix seconds: events from then on are not looked at. For a shop that shares users with
            another, whose future they would tell.

    Raises:
        RecsysError: bad data or configuration, or nothing is left before the moment.
    """
    dataset = load_dataset(data, config.data)
    inputs = dict(dataset.digests)
    if before is not None:
        dataset = _cut_off(dataset, before, data)
        inputs["before"] = str(before)
    shop = Shop(dataset, config)
    run = open_run(work, config, inputs)
    if "features" not in run.manifest.stages:
        prepare_shop(run, shop, work / _STORE)
    prepared = load_prepared(run, shop)
    if "encode" not in run.manifest.stages:
        encode_texts(run, prepared, config)
    raw: Floats = np.array(load_array(run.work / RAW))
    whitening = Whitening.fit(raw, config.model.dim)
    return Side(prepared, config, run.folder, raw, whitening, whitening.apply(raw))


def judge(side: Side, known_elsewhere: Collection[str] = ()) -> Judged:
    """The newest slice of a shop: users with an answer in it and a history before it, here or elsewhere.

    Args:
        side: The shop.
        known_elsewhere: Users who are judged even where this shop knows nothing of them yet.
    """
    shop, prepared, folder = side.shop, side.prepared, side.work / _JUDGED
    if not folder.is_dir():
        log = shop.dataset.interactions
        room = FeatureStoreRoom(side.work.parent / _STORE)
        room.held_out_contexts(
            log, prepared.cut_report, shop.vocabulary, side.config.features, side.config.data.event_weights
        ).write(folder)
    contexts = Contexts.load(folder)
    elsewhere = np.isin(contexts.user_ids, sorted(known_elsewhere))
    contexts = contexts.take((np.diff(contexts.history_offsets) > 0) | elsewhere)
    contexts.require_original()
    ids: Sequence[str] = shop.vocabulary.item_ids
    history, log = shop.events(prepared.cut_report), shop.dataset.interactions
    truth = positives(log[log["timestamp"] >= prepared.cut_report])
    sheet = answer_sheet(history, truth, ids, contexts.user_ids.tolist())
    return Judged(contexts, sheet, training_histories(history, ids))


def _cut_off(dataset: Dataset, before: int, data: Path) -> Dataset:
    log = dataset.interactions
    kept = log[log["timestamp"] < before].reset_index(drop=True)
    if not len(kept):
        raise InputError(
            "it shares users with the shop that is recommended in, and all its events are newer than what is "
            "known there",
            file=str(data), column="timestamp", count=len(log),
        )  # fmt: skip
    return replace(dataset, interactions=kept)
