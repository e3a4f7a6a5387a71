"""Which texts the ops that append have anything for: the others need no example."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.augment.backfill import AttributeBackfill, TermExpansion
from recsys.augment.columns.texts import TextRows


def is_thin(op: AttributeBackfill, texts: TextRows) -> NDArray[np.bool_]:
    """Whether a text is short enough to be filled up."""
    return np.less_equal(texts.sizes, op.max_words)


def lacks_terms(op: TermExpansion, texts: TextRows) -> NDArray[np.bool_]:
    """Whether a text is short enough, and something is said of what goes with it."""
    cut = texts.cut
    said = cut.cache.get("has terms")
    if said is None:
        terms = cut.originals.attribute("terms")
        said = cut.cache["has terms"] = np.fromiter(map(bool, terms), np.bool_, len(terms))
    known: NDArray[np.bool_] = said[texts.parents]
    return np.less_equal(texts.sizes, op.max_words) & known
