"""What every fit begins with: features in the store, contexts out of it, and the catalogue's text vectors.

Made once into a run's folder and read from there: by the pipeline, by each process of torchrun, and by the
arms of a comparison.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recsys.artifacts import load_manifest, write_array
from recsys.config import Config
from recsys.contexts import Contexts
from recsys.data.catalogue import item_texts
from recsys.data.split import temporal_cuts
from recsys.distributed import training_device
from recsys.fit import Shop
from recsys.model.encoder import TextEncoder
from recsys.runs import OpenRun

RAW = "raw_vectors.npy"
"""The un-tuned encoder's vectors, in a run's work folder."""


@dataclass(frozen=True)
class Prepared:
    """What the model stages work on."""

    shop: Shop
    contexts: Contexts
    """Of the whole log; each fit takes those before its cut."""
    grain: int
    validation: Contexts
    cut_validation: int
    cut_report: int
    texts: list[str]


def prepare_shop(run: OpenRun, shop: Shop, store_folder: Path) -> None:
    """Features into the store, training rows out of it, into the run."""
    from recsys.data.features import FeatureStoreRoom  # what follows needs no Feast, nor does a GPU machine

    config, log = shop.config, shop.dataset.interactions
    with run.stage("features") as figures:
        store = FeatureStoreRoom(store_folder)
        figures["rows"] = store.write(shop.dataset, config.features)
        store.apply()
        store.materialize()
        weights = config.data.event_weights
        contexts = store.training_contexts(log, shop.vocabulary, config.features, weights)
        start, end = temporal_cuts(log["timestamp"].to_numpy(np.int64), config.split)
        early = log[log["timestamp"] < end]
        validation = store.held_out_contexts(early, start, shop.vocabulary, config.features, weights)
        contexts.write(run.work / "contexts")
        validation.write(run.work / "validation")
        figures.update(
            contexts=len(contexts),
            validation_users=len(validation),
            grain_seconds=store.grain,
            cut_validation=start,
            cut_report=end,
        )


def load_prepared(run: OpenRun, shop: Shop) -> Prepared:
    """What `prepare_shop` left in the run."""
    said = load_manifest(run.folder).stages["features"]
    return Prepared(
        shop,
        Contexts.load(run.work / "contexts"),
        said["grain_seconds"],
        Contexts.load(run.work / "validation"),
        said["cut_validation"],
        said["cut_report"],
        item_texts(shop.dataset.items),
    )


def write_report_contexts(folder: Path, shop: Shop, prepared: Prepared, store: Path) -> None:
    """Held-out contexts of the newest slice, as known just before its cut."""
    from recsys.data.features import FeatureStoreRoom  # arms that are prepared go on without Feast

    config = shop.config
    FeatureStoreRoom(store).held_out_contexts(
        shop.dataset.interactions,
        prepared.cut_report,
        shop.vocabulary,
        config.features,
        config.data.event_weights,
    ).write(folder)


def encode_texts(run: OpenRun, prepared: Prepared, config: Config) -> None:
    """The un-tuned encoder's vectors of the catalogue, into the run's work folder; each text once."""
    with run.stage("encode") as figures:
        cache = run.work / RAW
        if not cache.is_file():
            encoder = TextEncoder.load(
                config.encoder, training_device(config.run.device), config.train.precision
            )
            write_array(cache, encoder.encode(prepared.texts, progress="item texts"))
            figures["device"] = str(encoder.device)
        figures["texts"] = len(set(prepared.texts))
