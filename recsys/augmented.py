"""Augmentation as the pipeline asks for it: rows for one fit, variants of the catalogue's texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.artifacts import replacing
from recsys.augment.expand import expand_contexts, expand_texts
from recsys.augment.fuse import Fusion
from recsys.augment.gates.gate import Encode
from recsys.augment.policy import load_policy
from recsys.augment.representation import Representation
from recsys.augment.store import friends_of
from recsys.config import Config
from recsys.contexts import Contexts, Vocabulary
from recsys.generate.oracle import oracle_for
from recsys.types import Floats, Rows

if TYPE_CHECKING:
    from recsys.data.features import FeatureStoreRoom


@dataclass(frozen=True)
class AugmentedRows:
    """Training contexts, their augmented children behind them, and who trains when."""

    contexts: Contexts
    fusion: Fusion | None
    """None where nothing was augmented: every row trains in every epoch."""
    counts: dict[str, int] = field(default_factory=dict)
    representation: Representation = field(default_factory=Representation)
    """What training does to vectors; nothing where augmentation is off."""


def augment_rows(
    contexts: Contexts,
    vocabulary: Vocabulary,
    moment: int,
    config: Config,
    provenance: Path,
    relations: pd.DataFrame | None = None,
    text_vectors: Floats | None = None,
) -> AugmentedRows:
    """Augment the contexts of one fit as configured; off is the identity.

    Args:
        contexts: Originals of role `fit`.
        vocabulary: The catalogue of their rows.
        moment: Unix seconds to note as the time of making: the fit's cut, so that a rerun is the same.
        config: Section `augment` and the seed are read.
        provenance: Where the children's provenance is written.
        relations: The dataset's, for ops that ask friends.
        text_vectors: (n, dim) whitened, for ops that look for similar texts.
    """
    if not config.augment.enabled:
        return AugmentedRows(contexts, None)
    policy, seed = load_policy(config.augment.policy), config.run.seed
    grown = expand_contexts(
        contexts,
        vocabulary,
        policy,
        seed,
        max_expansion=config.augment.max_expansion,
        created=moment,
        friends=friends_of(relations),
        text_vectors=text_vectors,
    )
    _write(provenance, grown.provenance)
    if len(grown.contexts) == len(contexts):
        return AugmentedRows(contexts, None, grown.counts, policy.representation)
    fusion = Fusion(grown.contexts.parents, config.augment, seed, grown.strengths, grown.confidences)
    return AugmentedRows(grown.contexts, fusion, grown.counts, policy.representation)


@dataclass(frozen=True)
class TextVariants:
    """Augmented texts."""

    wordings: dict[int, tuple[str, ...]]
    """By item row; no entry where an item has none."""
    counts: dict[str, int] = field(default_factory=dict)
    every: tuple[str, ...] = ()
    """All of them, in the order of their provenance."""

    @property
    def texts(self) -> dict[int, str]:
        """One by item row, the first."""
        return {row: wordings[0] for row, wordings in self.wordings.items()}


def augment_texts(
    items: pd.DataFrame,
    texts: list[str],
    moment: int,
    config: Config,
    provenance: Path,
    contexts: Contexts | None = None,
    encode: Encode | None = None,
) -> TextVariants:
    """Augmented variants of the catalogue's texts, for training alone; off gives none.

    Args:
        items: The catalogue.
        texts: One per item.
        moment: Unix seconds to note as the time of making.
        config: Section `augment` and the seed are read.
        provenance: Where the variants' provenance is written.
        contexts: Rows of role `fit` from before the moment: with them ops may say of an item what is bought
            with it.
        encode: Texts to unit vectors, for gates that need them; without it they are skipped and counted.
    """
    if not config.augment.enabled:
        return TextVariants({})
    policy = load_policy(config.augment.policy)
    answers = Path(config.augment.answers or provenance.with_name("answers.sqlite"))
    with oracle_for(policy, answers, config.run.device) as oracle:
        grown = expand_texts(
            items,
            texts,
            policy,
            config.run.seed,
            max_expansion=config.augment.max_expansion,
            created=moment,
            contexts=contexts,
            encode=encode,
            oracle=oracle,
        )
        spent = {} if oracle is None else oracle.spent()
    _write(provenance, grown.provenance)
    wordings: dict[int, list[str]] = {}
    for child in np.flatnonzero(grown.parents >= 0).tolist():
        wordings.setdefault(int(grown.parents[child]), []).append(grown.texts[child])
    by_row = {row: tuple(found) for row, found in wordings.items()}
    return TextVariants(by_row, {**grown.counts, **spent}, tuple(grown.texts[len(texts) :]))


def word_titles(
    items: pd.DataFrame, titles: Sequence[str], rows: Rows, moment: int, config: Config, provenance: Path
) -> TextVariants:
    """Other wordings of some items' titles, as somebody might type them; arguments as for `augment_texts`.

    Args:
        items: The catalogue.
        titles: One per item.
        rows: (n,) the items whose title is worded otherwise, distinct.
        moment: Unix seconds to note as the time of making.
        config: Section `augment` and the seed are read.
        provenance: Where the wordings' provenance is written.
    """
    some = items.iloc[rows].reset_index(drop=True)
    found = augment_texts(some, [titles[row] for row in rows], moment, config, provenance)
    by_row = {int(rows[place]): wordings for place, wordings in found.wordings.items()}
    return TextVariants(by_row, found.counts, found.every)


def store_rows(
    store: Path, rows: AugmentedRows, vocabulary: Vocabulary, provenance: Path, config: Config
) -> int:
    """Leave a fit's augmented histories in the feature store, where `augment.kept_batches` says so; how many.

    Args:
        store: The feature store's folder; opened only where there is something to leave.
        rows: What `augment_rows` gave.
        vocabulary: The catalogue of the rows.
        provenance: What `augment_rows` wrote.
        config: Section `augment` is read.
    """
    keep, children = config.augment.kept_batches, int((rows.contexts.parents >= 0).sum())
    if not (keep and children):
        return 0
    _room(store).write_augmented_contexts(rows.contexts, vocabulary, pq.read_table(provenance), keep)
    return children


def store_texts(store: Path, variants: TextVariants, provenance: Path, config: Config) -> int:
    """Leave augmented texts in the feature store, as `store_rows` does histories."""
    if not (config.augment.kept_batches and variants.every):
        return 0
    said = pq.read_table(provenance)
    items = pc.utf8_slice_codeunits(said["parent_id"], len("item:"))
    children = pa.table({"row_id": said["row_id"], "item_id": items, "text": pa.array(variants.every)})
    _room(store).write_texts(children, said, config.augment.kept_batches)
    return len(children)


def _room(store: Path) -> FeatureStoreRoom:
    from recsys.data.features import FeatureStoreRoom

    return FeatureStoreRoom(store)


def _write(path: Path, table: pa.Table) -> None:
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
