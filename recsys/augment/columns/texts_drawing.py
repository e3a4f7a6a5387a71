"""Which texts an op draws on, and the way out for those that it edits one by one."""

from __future__ import annotations

from collections.abc import Callable
from json import JSONEncoder
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.augment.columns.edits import Chains, Edited, Json, named
from recsys.augment.columns.runs import Ints, offsets_of
from recsys.augment.columns.texts import LANGUAGES, TextRows
from recsys.augment.example import TextExample
from recsys.augment.text import TextOp
from recsys.streams import Streams

Strengths = float | NDArray[np.float64]
_CHINESE = LANGUAGES.index("zh")
_encode = JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Drawing(NamedTuple):
    """Texts on which an op draws."""

    rows: Ints
    """Their positions in the batch."""
    part: TextRows
    streams: Streams
    strengths: NDArray[np.float64]
    """(n,) in (0, 1]."""

    def take(self, chosen: Ints) -> Drawing:
        """Some of them."""
        part, streams = self.part.take(chosen), self.streams.take(chosen)
        return Drawing(self.rows[chosen], part, streams, self.strengths[chosen])

    def amount(self, low: int, high: int) -> Ints:
        """(n,) a count drawn from a range and scaled by the strength, to the nearest."""
        drawn = (low + self.streams.below(high - low + 1)) * self.strengths + 0.5
        return drawn.astype(np.int64)


Editor = Callable[[Any, Drawing], Edited[TextRows] | None]
"""From an op and the texts on which it draws to what it edits; positions are the batch's."""


def drawing(op: TextOp, batch: TextRows, streams: Streams) -> Drawing:
    """The texts of a batch on which an op draws: what `TextOp.plan` asks before it samples."""
    sizes = batch.sizes
    known = np.array([name in op.languages for name in LANGUAGES])
    tried = (sizes >= op.min_words) & known[batch.languages]
    strengths = np.ones(len(batch))
    if op.taper is not None:
        low, high = op.taper
        fading = (high - sizes) / max(high - low, 1)
        strengths = np.where(sizes <= low, 1.0, np.where(sizes >= high, 0.0, fading))
        tried &= strengths > 0.0
    whole = Drawing(np.arange(len(batch)), batch, streams, strengths)
    if op.p < 1.0:  # a text that is not tried does not draw, but nobody asks its stream again
        tried &= streams.chance(op.p)
    return whole if tried.all() else whole.take(np.flatnonzero(tried))


def by_columns(edit: Editor) -> Callable[[Any, TextRows, Streams], Edited[TextRows] | None]:
    """The column form of an op, from its editor of texts whose words white space parts; Chinese go singly."""

    def form(op: TextOp, batch: TextRows, streams: Streams) -> Edited[TextRows] | None:
        texts = drawing(op, batch, streams)
        chinese = texts.part.languages == _CHINESE
        if not chinese.any():
            return edit(op, texts) if len(texts.rows) else None
        rest = texts.take(np.flatnonzero(~chinese))
        parts = [edit(op, rest) if len(rest.rows) else None, singly(op, texts.take(np.flatnonzero(chinese)))]
        return _together(batch, [part for part in parts if part is not None and len(part.rows)])

    return form


def one_by_one(worth: Callable[[Any, TextRows], NDArray[np.bool_]] | None = None) -> Any:
    """The column form of an op that has none: it samples and edits one by one where that is worth it.

    Args:
        worth: From the op and texts to whether it could do anything to each; all where left out.
    """

    def form(op: TextOp, batch: TextRows, streams: Streams) -> Edited[TextRows] | None:
        texts = drawing(op, batch, streams)
        if worth is not None and len(texts.rows):
            texts = texts.take(np.flatnonzero(worth(op, texts.part)))
        return singly(op, texts)

    return form


def singly(op: TextOp, texts: Drawing) -> Edited[TextRows] | None:
    """Sample and edit texts one by one."""
    done: list[tuple[int, TextExample, str]] = []
    examples = texts.part.examples()
    strengths = texts.strengths.tolist()
    for row, (example, rng) in enumerate(zip(examples, texts.streams.singly(), strict=True)):
        values = op.sample(example, rng, strengths[row])
        if values is not None:
            done.append((row, op.edit(example, values), _encode(values)[1:-1]))
    if not done:
        return None
    chosen = np.array([row for row, _, _ in done])
    after = _pooled(texts.part, chosen, [example for _, example, _ in done])
    values = Json("", pa.array([said for _, _, said in done], pa.string()), "")
    return named(op.name, texts.rows[chosen], after, values)


def _pooled(part: TextRows, rows: Ints, edited: list[TextExample]) -> TextRows:
    """Edited examples as rows: a word stands where one of its text's words like it stood, or is put in."""
    cut, names = part.cut, part.cut.vocabulary.words
    pool_words, pool_states = cut.words, cut.states
    source: list[int] = []
    put_in: list[tuple[int, str, int]] = []
    sizes = []
    for row, example in zip(rows.tolist(), edited, strict=True):
        tokens = example.tokens
        assert tokens is not None
        free: dict[tuple[str, int], list[int]] = {}
        for place in part.source[part.offsets[row] : part.offsets[row + 1]].tolist()[::-1]:
            free.setdefault((names[pool_words[place]], int(pool_states[place])), []).append(place)
        for word, state in zip(tokens.words, tokens.states, strict=True):
            places = free.get((word, state))
            if not places:
                put_in.append((len(source), word, state))
            source.append(places.pop() if places else -1)
        sizes.append(len(tokens.words))
    merged = np.array(source, np.int64)
    if put_in:
        numbers = cut.vocabulary.numbers([word for _, word, _ in put_in])
        states = np.array([state for _, _, state in put_in], np.uint8)
        merged[[at for at, _, _ in put_in]] = cut.add(numbers, states)
    return TextRows(cut, part.parents[rows], merged, offsets_of(np.array(sizes, np.int64)))


def _together(batch: TextRows, parts: list[Edited[TextRows]]) -> Edited[TextRows] | None:
    """What an op did to some rows and to others."""
    if len(parts) < 2:
        return parts[0] if parts else None
    rows = np.concatenate([part.rows for part in parts])
    order = np.argsort(rows)
    plans = pa.concat_arrays([part.plans.whole() for part in parts]).take(pa.array(order))
    after = batch.merged([(part.rows, part.batch) for part in parts]).take(rows[order])
    chains = Chains(np.zeros(len(rows), np.int64), parts[0].chains.names)
    return Edited(rows[order], after, Json("", plans, ""), chains)
