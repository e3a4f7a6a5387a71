"""Which items say little of themselves: the one definition, for augmentation, reports and comparisons.

Text is thin under `THIN_WORDS` words, or where an attribute is missing that most other items have.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

THIN_WORDS = 8
"""Texts with fewer words are thin."""
COMMON = 0.5
"""An attribute that more than this share of the items has is missing where an item lacks it."""
ATTRIBUTES = ("category", "brand", "price", "tags")
"""What is looked for beside the text."""
_CHINESE = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]{1,2}")
_CHINESE_MARKS = re.compile(r"[\u3000-\u303f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65]")


def num_words(text: str) -> int:
    """Words between white space, and of Chinese two characters a word, which needs no dictionary."""
    if not text.isascii():
        text = _CHINESE.sub(" x ", _CHINESE_MARKS.sub(" ", text))
    return len(text.split())


def short_texts(texts: Sequence[str]) -> NDArray[np.bool_]:
    """(n,) which texts have fewer than `THIN_WORDS` words."""
    return np.array([num_words(text) < THIN_WORDS for text in texts], np.bool_)


def missing_attributes(attributes: Mapping[str, Sequence[object]]) -> dict[str, NDArray[np.bool_]]:
    """By attribute, (n,) which items lack it: of those that more than `COMMON` have, and not all.

    Args:
        attributes: Values by name, one per item; None, NaN, `pandas.NA` and what is empty is missing.
    """
    found = {}
    for name, values in attributes.items():
        lacking = np.array([_is_missing(value) for value in values], np.bool_)
        if lacking.any() and lacking.mean() < 1 - COMMON:
            found[name] = lacking
    return found


def thin_items(texts: Sequence[str], attributes: Mapping[str, Sequence[object]]) -> NDArray[np.bool_]:
    """(n,) which items are thin, by their text or by an attribute.

    Args:
        texts: One per item.
        attributes: As `missing_attributes` takes them.
    """
    thin = short_texts(texts)
    for lacking in missing_attributes(attributes).values():
        thin = thin | lacking
    return thin


def _is_missing(value: Any) -> bool:
    if isinstance(value, str | list | tuple | np.ndarray):
        return len(value) == 0
    # NaN and NaT differ from themselves; whether pandas' NA does is NA, neither true nor false.
    differs = value != value
    return value is None or not isinstance(differs, bool | np.bool_) or bool(differs)
