"""The text side of an arm: the catalogue's texts, augmented ones and queries, as one encoder sees them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recsys.augment.vectors import unit_rows
from recsys.augmented import TextVariants
from recsys.config import ModelConfig
from recsys.model.encoder import TextEncoder
from recsys.model.whitening import Whitening
from recsys.types import Floats
from recsys.words import variant_vectors


class ArmTexts:
    """Texts by vectors; each is encoded once, and the encoder is loaded once something new is asked for.

    Args:
        texts: The catalogue's, one per row.
        raw: (n, hidden) their un-whitened vectors.
        load: Gives the encoder.
        whitening: What takes its vectors into the space of the towers.
    """

    def __init__(
        self, texts: Sequence[str], raw: Floats, load: Callable[[], TextEncoder], whitening: Whitening
    ) -> None:
        self._texts, self._raw, self._load, self.whitening = texts, raw, load, whitening
        self._known: dict[str, Floats] = {}

    @classmethod
    def published(
        cls, texts: Sequence[str], raw: Floats, load: Callable[[], TextEncoder], model: ModelConfig
    ) -> ArmTexts:
        """Through an encoder as it was published: raw vectors are there, and whitening is fitted on them."""
        return cls(texts, raw, load, Whitening.fit(raw, model.dim, model.item_bias))

    @cached_property
    def encoder(self) -> TextEncoder:
        """What encodes."""
        return self._load()

    @cached_property
    def vectors(self) -> Floats:
        """(n, dim) whitened vectors of the catalogue's texts."""
        return self.whitening.apply(self._raw)

    def encode(self, texts: Sequence[str]) -> Floats:
        """(len(texts), dim) whitened vectors of any texts, in the space of the items' own."""
        return self.whitening.apply(self.raw(list(texts)))

    def unit(self, texts: Sequence[str]) -> Floats:
        """Un-whitened vectors of unit norm, for gates."""
        return unit_rows(self.raw(list(texts)))

    def variants(self, grown: TextVariants, read: NDArray[np.bool_]) -> Floats | None:
        """(n, dim) of augmented texts as towers read them, one per item; None where nobody has one."""
        return variant_vectors(grown, read, self.raw, self.whitening)

    def raw(self, texts: list[str]) -> Floats:
        """(len(texts), hidden) vectors as the encoder gives them."""
        if not self._known:
            self._known.update(zip(self._texts, self._raw, strict=True))
        new = sorted(set(texts) - self._known.keys())
        if new:
            self._known.update(zip(new, self.encoder.encode(new), strict=True))
        return np.stack([self._known[text] for text in texts])
