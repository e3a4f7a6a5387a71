"""One text per item: what the encoder reads of a product."""

from __future__ import annotations

import pandas as pd

from recsys.data.text import normalise_text

__all__ = ["MAX_ITEM_TEXT", "item_texts", "normalise_text"]

MAX_ITEM_TEXT = 2000
"""Characters of an item text; the encoder cuts at its own number of tokens long before."""
_ORDER = ("title", "brand", "category", "description", "tags")
_ENDS = ".!?。！？…"


def item_texts(items: pd.DataFrame) -> list[str]:
    """Title, brand, category, description and tags as one text per item, in catalogue order.

    A field that an earlier field already says, whatever its case, is not repeated; absent fields leave no
    trace. Prices are no part of it: numbers mean little to a text encoder and change daily. An item
    without any text gives ''.
    """
    columns = [items[name].tolist() if name in items else [""] * len(items) for name in _ORDER]
    return [_joined(fields) for fields in zip(*columns, strict=True)]


def _joined(fields: tuple[str, ...]) -> str:
    said = ""
    text = ""
    for field in fields:
        plain = field.strip().casefold()
        if not plain or _contains(said, plain):
            continue
        said = f"{said}\n{plain}"
        separator = "" if not text else (" " if text[-1] in _ENDS else ". ")
        text = f"{text}{separator}{field.strip()}"
        if len(text) >= MAX_ITEM_TEXT:
            return text[:MAX_ITEM_TEXT].rstrip()
    return text


def _contains(said: str, plain: str) -> bool:
    """Whether a field was already said as whole words ("Art" is not said by "Smart")."""
    start = said.find(plain)
    while start >= 0:
        end = start + len(plain)
        if not _inside_word(said, start) and not _inside_word(said, end):
            return True
        start = said.find(plain, start + 1)
    return False


def _inside_word(text: str, place: int) -> bool:
    if place <= 0 or place >= len(text):
        return False
    left, right = text[place - 1], text[place]
    return left.isascii() and right.isascii() and left.isalnum() and right.isalnum()
