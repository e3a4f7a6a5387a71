"""Item text as people wrote it: without markup, control characters and accidents of encoding."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.columns import Coded
from recsys.data.report import Notes

_BLOCKS = (
    "address article aside blockquote br dd div dl dt figure footer h[1-6] header hr img input li main nav "
    "ol option p pre section select table tbody td tfoot th thead tr ul"
)
_INLINE = (
    "a abbr b big body button center code del em font form head html i iframe ins kbd label link mark meta "
    "s small span strike strong style script sub sup svg title tt u video"
)
_NAMES = "|".join(sorted(f"{_BLOCKS} {_INLINE}".split(), key=len, reverse=True))
# Only names that HTML has: "Vector<int>" and "<Untitled>" are text.
_TAG = re.compile(rf"</?({_NAMES}|[a-z]+:[a-z]+)(?=[\s/>])[^<>]*>|<!--.*?-->|<!doctype[^<>]*>", re.I | re.S)
_INLINE_NAME = re.compile("|".join(_INLINE.split()))
_SILENT = re.compile(r"<(script|style)\b[^<>]*>[^<]*</\1\s*>", re.I)
_ENTITY = re.compile(r"&(#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
_INVISIBLE = re.compile(r"[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
_SPACES = re.compile(r"\s+")
_PLACEHOLDERS = frozenset({"nan", "NaN", "None", "none", "null", "NULL", "N/A", "n/a", "#N/A", "<NA>"})
_SUSPECT = r"[<&\x00-\x1f\x7f]|  |^ | $|[^\x00-\x7f]"
_RAW_LIMIT = 20

HTML, CONTROL, UNICODE, WHITESPACE, LONG = (
    "text_html",
    "text_control",
    "text_unicode",
    "text_whitespace",
    "text_too_long",
)


def normalise_text(text: str, limit: int = 2000) -> str:
    """Plain text of at most `limit` characters: no markup, no control characters, NFC, single blanks."""
    return _normalise(text, limit)[0]


def clean_text_column(coded: Coded, name: str, limit: int, notes: Notes) -> Coded:
    """Every distinct text normalised; counts rows by what was done to them."""
    suspect = _suspects(coded.texts, limit)
    done: dict[str, str] = {}
    counts: dict[str, int] = {}
    examples: dict[str, str] = {}
    weights = coded.rows_per_value()
    for place in np.flatnonzero(suspect):
        before = coded.texts[place]
        done[before], kinds = _normalise(before, limit)
        for kind in kinds:
            counts[kind] = counts.get(kind, 0) + int(weights[place])
            examples.setdefault(kind, before)
    for kind, count in counts.items():
        notes.add(kind, name, count, examples[kind])
    notes.add("text_placeholder", name, *coded.count(_PLACEHOLDERS.__contains__))
    done.update(dict.fromkeys(_PLACEHOLDERS, ""))
    return coded.map(lambda value: done.get(value, value))


def _suspects(values: Iterable[str], limit: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    texts = pa.array(values, pa.large_string())
    odd = pc.or_(pc.match_substring_regex(texts, _SUSPECT), pc.greater(pc.utf8_length(texts), limit))
    return np.asarray(odd.to_numpy(zero_copy_only=False), dtype=bool)


def _normalise(text: str, limit: int) -> tuple[str, list[str]]:
    kinds: list[str] = []
    plain = text[: limit * _RAW_LIMIT]  # a megabyte of markup is not worth reading to its end
    if "<" in plain or "&" in plain:
        before, plain = plain, _without_markup(plain)
        if plain != before:
            kinds.append(HTML)
    if not plain.isprintable():
        before, plain = plain, _CONTROL.sub(" ", _INVISIBLE.sub("", plain))
        if plain != before:
            kinds.append(CONTROL)
    if not unicodedata.is_normalized("NFC", plain):
        plain = unicodedata.normalize("NFC", plain)
        kinds.append(UNICODE)
    squeezed = _SPACES.sub(" ", plain).strip()
    if squeezed != plain and not kinds:  # blanks left behind by markup are no finding of their own
        kinds.append(WHITESPACE)
    if len(squeezed) > limit or len(text) > limit * _RAW_LIMIT:
        squeezed = squeezed[:limit].rstrip()
        kinds.append(LONG)
    return squeezed, kinds


def _without_markup(text: str) -> str:
    for _ in range(3):  # escaped twice is common, escaped three times is not
        before = text
        text = _TAG.sub(_tag_space, _SILENT.sub(" ", text))
        text = _ENTITY.sub(lambda found: html.unescape(found.group()), text)
        if text == before:
            break
    return text


def _tag_space(found: re.Match[str]) -> str:
    inline = found.group(1) and _INLINE_NAME.fullmatch(found.group(1).lower())
    return "" if inline else " "
