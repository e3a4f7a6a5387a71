"""How varied an expansion's texts are: distinct n-grams, and n-grams that are new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.augment.gates.distance import distinct_n, novelty
from recsys.augment.tokens import cut, language_of


@dataclass(frozen=True, slots=True)
class Variety:
    """How varied texts are: parents and their variants, as many of the one as of the other."""

    language: str
    pairs: int
    distinct: tuple[tuple[float, float], tuple[float, float]]
    """distinct-1 and distinct-2, each before and after."""
    novelty: tuple[float, float, float]
    """Share of the variants' 1-, 2- and 3-grams that no original looked at has."""


def text_variety(
    originals: Sequence[Sequence[str]], parents: Sequence[str], words: Sequence[Sequence[str]]
) -> list[Variety]:
    """Figures of all pairs, and of each language apart.

    Args:
        originals: Words of original texts: what is not new.
        parents: The texts that were augmented, one per variant.
        words: The variants' words.
    """
    languages = np.array([language_of(text) for text in parents], str)
    before = [words_of(text) for text in parents]
    rows = []
    for language in ("all", *sorted(set(languages.tolist()))):
        chosen = range(len(parents)) if language == "all" else np.flatnonzero(languages == language).tolist()
        own, other = [before[i] for i in chosen], [words[i] for i in chosen]
        if not own:
            continue
        known = [*originals, *before]
        one, two = ((distinct_n(own, n), distinct_n(other, n)) for n in (1, 2))
        rows.append(
            Variety(
                language,
                len(own),
                (one, two),
                (novelty(known, other, 1), novelty(known, other, 2), novelty(known, other, 3)),
            )
        )
    return rows


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text in lower case, cut as the ops cut them."""
    return cut(text.lower(), language_of(text))[0]
