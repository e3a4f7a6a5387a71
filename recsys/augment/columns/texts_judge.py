"""Acceptance over columns of texts: what `Acceptance.judge` says of each pair, from arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.augment.columns.runs import Ints, offsets_of, owners, places
from recsys.augment.columns.texts import TextRows
from recsys.augment.constraints import Acceptance
from recsys.augment.tokens import PROTECTED

ACCEPTED, UNCHANGED, TOO_SHORT, TOO_DIFFERENT, SPAN_LOST = range(5)
REASONS = ("", "unchanged", "too_short", "too_different", "protected_span_lost")


class Judged(NamedTuple):
    """What acceptance says of candidates, one each."""

    reasons: NDArray[np.int64]
    """Numbers of `REASONS`."""
    gone: NDArray[np.float64]
    """Share of the original's words that is gone."""
    texts: pa.Array
    """How the candidates read."""


def judge_texts(acceptance: Acceptance, rows: TextRows) -> Judged:
    """Hold edited texts against their originals."""
    cut, parents = rows.cut, rows.parents
    texts = rows.texts()
    before = cut.offsets[parents + 1] - cut.offsets[parents]
    after = rows.sizes
    lost, of = _lost(rows, before)
    missing = np.bincount(of[~_said_elsewhere(rows, cut.words[lost], of)], minlength=len(rows))
    share = np.maximum(missing, before - after) / np.maximum(before, 1)
    share[before == 0] = 0.0
    reasons = np.full(len(rows), ACCEPTED, np.int64)
    # What is said last stands: `Acceptance` asks in the opposite order and gives the first reason.
    for row in _doubtful(rows, lost, of):
        reasons[row] = _protected_lost(acceptance, rows, row)
    reasons[share > acceptance.max_modification] = TOO_DIFFERENT
    reasons[(after < np.minimum(acceptance.min_length, before)) | (after == 0)] = TOO_SHORT
    same = pc.equal(texts, cut.arrow.take(pa.array(parents)))
    reasons[same.to_numpy(zero_copy_only=False)] = UNCHANGED
    return Judged(reasons, share, texts)


def _lost(rows: TextRows, before: Ints) -> tuple[Ints, Ints]:
    """Places of the originals' words that candidates no longer have, and whose candidate each is."""
    cut, ends = rows.cut, offsets_of(before)
    of = owners(rows.offsets)
    own = rows.source < cut.offsets[-1]  # the rest is what ops put in
    if not own.all():
        of, kept = of[own], rows.source[own]
    else:
        kept = rows.source
    shift = cut.offsets[rows.parents] - ends[:-1]
    gone = np.ones(ends[-1], np.bool_)
    gone[kept - shift[of]] = False
    at = np.flatnonzero(gone)
    whose = np.searchsorted(ends, at, side="right") - 1
    return at + shift[whose], whose


def _said_elsewhere(rows: TextRows, words: Ints, of: Ints) -> NDArray[np.bool_]:
    """Whether a candidate has a word, at any place."""
    # One bit of 64 for each word that a candidate has: where a word's bit is off, it is not there.
    one, masks = np.uint64(1), np.zeros(len(rows), np.uint64)
    full = np.flatnonzero(rows.sizes)
    if len(full):
        bits = one << (rows.words & 63).astype(np.uint64)
        masks[full] = np.bitwise_or.reduceat(bits, rows.offsets[full])
    perhaps = np.flatnonzero((masks[of] >> (words & 63).astype(np.uint64)) & one)
    where, ends = places(rows.offsets, of[perhaps])
    alike = rows.words[where] == np.repeat(words[perhaps], np.diff(ends))
    found = np.zeros(len(words), np.bool_)
    found[perhaps[owners(ends)[alike]]] = True
    return found


def _doubtful(rows: TextRows, lost: Ints, of: Ints) -> list[int]:
    """Candidates that lost a protected word, or got one from an op: rare, and looked at one by one."""
    states = rows.cut.states
    suspects = set(of[states[lost] == PROTECTED].tolist())
    first = int(rows.cut.offsets[-1])
    if len(states) > first and (states[first:] == PROTECTED).any():
        put_in = (rows.source >= first) & (states[rows.source] == PROTECTED)
        suspects.update(owners(rows.offsets)[put_in].tolist())
    return sorted(suspects)


def _protected_lost(acceptance: Acceptance, rows: TextRows, row: int) -> int:
    one = rows.take(np.array([row]))
    original = one.cut.every().take(one.parents).examples([one.cut.originals.texts[int(one.parents[0])]])
    reason, _ = acceptance.judge(original[0], one.examples()[0])
    return SPAN_LOST if reason == REASONS[SPAN_LOST] else ACCEPTED
