"""The text side of a run: an encoder, its whitening, and what they make of the catalogue's texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.artifacts import load_array
from recsys.augment.vectors import Remembered
from recsys.augmented import TextVariants, augment_texts, word_titles
from recsys.config import Config
from recsys.data.contexts_from import contexts_before
from recsys.distributed import training_device
from recsys.lexical import LexicalIndex
from recsys.model.encoder import TextEncoder
from recsys.model.whitening import Whitening
from recsys.prepared import RAW, Prepared
from recsys.pretrain import MASKED_LM, adapt_encoder
from recsys.queries import teach_queries
from recsys.query_tuning import titles_read
from recsys.runs import OpenRun
from recsys.types import Floats

NO_VARIANTS = TextVariants({})
QUERIES = "augmented/queries.parquet"
"""File of a run with the provenance of every wording of a title."""


@dataclass(frozen=True)
class Words:
    """An encoder, its whitening, and the vectors that they make."""

    encoder: TextEncoder
    whitening: Whitening
    raw: Floats
    """(n, hidden) the catalogue's vectors as the encoder was published; baselines and gates read them."""
    vectors: Floats
    """(n, dim) whitened, of this encoder."""
    known: Remembered
    """The published encoder with a memory: it encodes each text once per run, whoever asks."""
    sold: NDArray[np.bool_]
    """(n,) items with an event: training never reads the text of another."""
    adapted: bool = False
    """Whether the encoder is another than the published one."""
    changed: TextVariants = NO_VARIANTS
    """Augmented texts, and what augmentation counted."""
    variants: Floats | None = None
    """(n, dim) of augmented texts, zero where an item has none."""

    def over(self, encoder: TextEncoder, whitening: Whitening, vectors: Floats) -> Words:
        """The same texts, augmented ones included, through another encoder."""
        other = replace(self, encoder=encoder, whitening=whitening, vectors=vectors, adapted=True)
        return replace(other, variants=other._encoded(self.changed))

    def varied(self, prepared: Prepared, config: Config, provenance: Path) -> Words:
        """With the texts that a policy makes of the catalogue's.

        Args:
            prepared: The catalogue, and the rows from before the first cut.
            config: Section `augment` is read.
            provenance: Where the variants' provenance is written.
        """
        cut = prepared.cut_validation
        fit = contexts_before(prepared.contexts, cut, prepared.grain)
        items = prepared.shop.dataset.items
        changed = augment_texts(items, prepared.texts, cut, config, provenance, fit, self.known.unit)
        return replace(self, changed=changed, variants=self._encoded(changed))

    def _encoded(self, changed: TextVariants) -> Floats | None:
        encode = self.encoder.encode if self.adapted else self.known.raw
        return variant_vectors(changed, self.sold, encode, self.whitening)


def variant_vectors(
    changed: TextVariants,
    read: NDArray[np.bool_],
    encode: Callable[[list[str]], Floats],
    whitening: Whitening,
) -> Floats | None:
    """(n, dim) vectors of augmented texts, zero where an item has none; None where nobody has one.

    Args:
        changed: The texts.
        read: (n,) items whose text training reads: the variants of others are not encoded.
        encode: Texts to un-whitened vectors.
        whitening: What makes them those of the catalogue's space.
    """
    texts = {row: text for row, text in changed.texts.items() if read[row]}
    if not texts:
        return None
    vectors = whitening.apply(encode(list(texts.values())))
    variants = np.zeros((len(read), vectors.shape[1]), np.float32)
    variants[list(texts)] = vectors
    return variants


def words_of(run: OpenRun, prepared: Prepared, config: Config) -> Words:
    """The text side that a run begins with: the published encoder, or the one adapted to the catalogue."""
    encoder = TextEncoder.load(config.encoder, training_device(config.run.device), config.train.precision)
    raw: Floats = np.array(load_array(run.work / RAW))
    known = Remembered(run.work / "text_vectors", encoder.encode, prepared.texts, raw)
    whitening = Whitening.fit(raw, config.model.dim, config.model.item_bias)
    sold = prepared.shop.item_counts(prepared.shop.end) > 0
    plain = Words(encoder, whitening, raw, whitening.apply(raw), known, sold)
    return _pretrained(run, prepared, plain, config) if config.pretrain.enabled else plain


def _pretrained(run: OpenRun, prepared: Prepared, words: Words, config: Config) -> Words:
    """Over the encoder adapted to the catalogue's texts, or as before where towers over it rank worse."""
    cut = prepared.cut_validation
    with run.stage("pretrain") as figures:
        result = adapt_encoder(
            words.encoder,
            prepared.texts,
            contexts_before(prepared.contexts, cut, prepared.grain),
            prepared.shop.item_counts(cut),
            config,
            run.folder / "training" / "pretrain",
            validation=prepared.validation,
            raw=words.raw,
            save_to=run.folder / MASKED_LM,
        )
        figures.update(result.report)
    if result.encoder is words.encoder:
        return words
    return words.over(result.encoder, result.whitening, result.text_vectors)


def reader_of_queries(
    run: OpenRun,
    prepared: Prepared,
    words: Words,
    lexical: LexicalIndex,
    config: Config,
) -> TextEncoder:
    """What reads queries: the encoder of the items' texts, or a copy that was taught wordings of titles.

    Args:
        run: Its stage `queries` says what was measured.
        prepared: The catalogue.
        words: The text side that the run ended with.
        lexical: The letters of the catalogue's texts.
        config: Its policy words titles; sections `queries`, `search`, `train`, `encoder` and the seed are
            read beside it.
    """
    items = prepared.shop.dataset.items
    titles = items["title"].fillna("").tolist()
    with run.stage("queries") as figures:
        rows, provenance = titles_read(titles, config), run.folder / QUERIES
        with run.part("augment"):
            worded = word_titles(items, titles, rows, prepared.shop.end, config, provenance)
        result = teach_queries(
            words.encoder,
            titles,
            words.vectors,
            words.whitening,
            lexical,
            config,
            run.folder / "training" / "queries",
            wordings=worded.wordings,
        )
        figures.update(result.report, augmented_titles=worded.counts)
    return result.encoder
