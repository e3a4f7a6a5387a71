"""Histories and texts to be augmented, range by range: any split gives the same rows as the whole.

What all ranges share (side data, what gates consult) is computed once, before the first range, so that
processes that are forked afterwards have it without asking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recsys.augment.asking import Oracle
from recsys.augment.columns.histories import HistoryRows, SideColumns
from recsys.augment.columns.histories_grow import by_columns, context_rows, grow_rows
from recsys.augment.columns.lazy import Made
from recsys.augment.columns.texts import Originals
from recsys.augment.columns.texts_grow import grow_texts, languages_of
from recsys.augment.constraints import Protection
from recsys.augment.corpus import TextSide, text_side
from recsys.augment.example import NO_NEIGHBOURS, Event, HistoryExample, Item, TextExample
from recsys.augment.examples import context_examples
from recsys.augment.fields import FieldRows, ItemFields
from recsys.augment.gates.gate import Encode, Evidence, Gate
from recsys.augment.gates.panel import sift
from recsys.augment.grow import Grown, grow
from recsys.augment.lending import history_side
from recsys.augment.neighbours import covisitation_neighbours, fit_covisitation
from recsys.augment.policy import Policy
from recsys.augment.rounds import asks, gathered, with_answers
from recsys.augment.tokens import Tokens
from recsys.contexts import Contexts
from recsys.types import Floats

if TYPE_CHECKING:
    import pandas as pd

Cut = Callable[[int, int], Sequence[Tokens]]
"""The texts `start` to `stop`, cut into words."""


class HistoryShards:
    """Training contexts and what their ops and gates read.

    Args:
        contexts: Fit rows, none of them augmented already.
        num_items: Size of the catalogue.
        policy: Its `history` branch is run.
        seed: The run's seed.
        neighbours: Correlated item rows, nearest first; fitted on these contexts when an op needs them.
        friends: User ids by user id, for `social_borrow`.
        elsewhere: Events of another domain by user id, for `cross_domain_borrow`.
        text_vectors: (num_items, dim) whitened, of the catalogue's texts, for ops that look for similar ones.

    Raises:
        LeakageError: the contexts are held out.
    """

    def __init__(
        self,
        contexts: Contexts,
        num_items: int,
        policy: Policy,
        seed: int,
        *,
        neighbours: Mapping[Item, tuple[Item, ...]] | None = None,
        friends: Mapping[str, Sequence[str]] | None = None,
        elsewhere: Mapping[str, Sequence[Event]] | None = None,
        text_vectors: Floats | None = None,
    ) -> None:
        contexts.require_fit()
        if (contexts.parents >= 0).any():
            raise ValueError("these contexts were augmented already")
        self.contexts, self._policy, self._seed = contexts, policy, seed
        self.branch = policy.history
        needs, self._evidence = self.branch.needs, Evidence()
        if "covisitation" in self.branch.evidence or ("neighbours" in needs and neighbours is None):
            self._evidence.covisitation = fit_covisitation(contexts, num_items)
            if neighbours is None:
                neighbours = self._evidence.covisitation.neighbours()
        near = neighbours or NO_NEIGHBOURS
        self._side = history_side(contexts, num_items, needs, near, friends, elsewhere, text_vectors)
        self._columns = SideColumns(self._side, num_items) if by_columns(self.branch) else None
        self._lacks_vectors = "text_neighbours" in needs and text_vectors is None

    def __len__(self) -> int:
        return len(self.contexts)

    @property
    def policy_id(self) -> str:
        """Of the policy that is run."""
        return self._policy.policy_id

    def grown(self, start: int, stop: int) -> Grown[HistoryExample]:
        """What ops, acceptance and gates leave of contexts `start` to `stop`."""
        policy_id = self.policy_id
        if self._columns is not None:
            rows = context_rows(self.contexts, start, stop, self._columns)
            part = grow_rows(rows, self.branch, self._seed, policy_id, start)
        else:
            examples = context_examples(self.contexts, start, stop, self._side)
            part = grow(examples, self.branch, self._seed, "history", policy_id, start)
        if self._lacks_vectors:
            part.counts["skipped:text_neighbours"] = stop - start
        sift(part, self.branch.gates, self._evidence)
        return part


class TextShards:
    """Item texts and what their ops and gates read.

    Args:
        items: The catalogue: `item_id`, and whatever there is of brand, category, tags and price.
        texts: One text per item, in catalogue order.
        policy: Its `text` branch is run.
        seed: The run's seed.
        encode: Texts to unit vectors, for gates that need them.
        oracle: Answers the ops that ask a model; without it they leave every row alone, which is counted.
    """

    def __init__(
        self,
        items: pd.DataFrame,
        texts: Sequence[str],
        policy: Policy,
        seed: int,
        *,
        encode: Encode | None = None,
        oracle: Oracle | None = None,
    ) -> None:
        if len(items) != len(texts):
            raise ValueError(f"{len(items)} items but {len(texts)} texts")
        self.branch, self.oracle, self.texts = policy.text, oracle, texts
        self._policy, self._seed = policy, seed
        self._row_ids = [f"item:{item_id}" for item_id in items["item_id"].tolist()]
        self._fields = ItemFields(items)
        self._protection = Protection(policy.protect, self._fields.values("brand"))
        self._cut: Cut = self.cut
        self._side = TextSide()
        self.evidence = Evidence(
            self._protection, encode=encode, texts=dict(zip(self._row_ids, texts, strict=True))
        )
        for gate in self.branch.gates:
            gate.prepare(self.evidence)

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def asks(self) -> bool:
        """Whether a model has to be asked on the way."""
        return self.oracle is not None and asks(self.branch)

    @property
    def learns(self) -> bool:
        """Whether `learn` has anything to do: it then reads every text of the catalogue."""
        return bool(self.branch.needs & {"behaviour", "synonyms"})

    def cut(self, start: int, stop: int) -> list[Tokens]:
        """The texts `start` to `stop`, cut into words, protected ones marked."""
        rows = zip(self.texts[start:stop], self._fields.rows(start, stop), strict=True)
        return [self._protection.tokenise(text, fields) for text, fields in rows]

    def learn(self, contexts: Contexts, cut: Cut, size: int) -> None:
        """Take in what the catalogue and its buyers say.

        Args:
            contexts: Fit rows.
            cut: What `cut` gave, kept; ranges come in order, and once more when rows grow.
            size: Texts that are asked for at one time.

        Raises:
            LeakageError: the contexts are held out or augmented.
        """
        self._cut = cut
        near = covisitation_neighbours(contexts, len(self))
        spans = ((start, min(start + size, len(self))) for start in range(0, len(self), size))
        plain = (example for span in spans for example in self._examples(*span))
        self._side = text_side(plain, self.branch.needs, near)

    def grown(self, start: int, stop: int, *, early: bool = False) -> Grown[TextExample]:
        """What ops, acceptance and gates leave of the texts `start` to `stop`.

        Args:
            start: First row.
            stop: Row after the last.
            early: Stop before the first gate that needs vectors; `judged` goes on.
        """
        rows = self._rows(start, stop)
        policy_id = self._policy.policy_id
        if not asks(self.branch):
            part = grow_texts(rows, self.branch, self._seed, "text", policy_id, start)
        else:
            examples = rows.examples()
            answers = gathered(examples, self.branch, self._seed, "text", self.oracle)
            part = grow(with_answers(examples, answers), self.branch, self._seed, "text", policy_id, start)
            part.counts.update(answers.counts)
            part.counts.update(languages_of(examples))
        early_gates, late_gates = self._gates()
        sift(part, early_gates if early else (*early_gates, *late_gates), self._fresh())
        return part

    def judged(self, part: Grown[TextExample], encode: Encode) -> None:
        """Let the gates judge that `grown` left out when it stopped early."""
        evidence = self._fresh()
        evidence.encode = encode
        sift(part, self._gates()[1], evidence)

    def originals(self, rows: Sequence[int]) -> list[TextExample]:
        """Some rows as the ops and gates see them."""
        if not rows:
            return []
        first = min(rows)
        examples = list(self._examples(first, max(rows) + 1))
        return [examples[row - first] for row in rows]

    def _gates(self) -> tuple[tuple[Gate[Any], ...], tuple[Gate[Any], ...]]:
        """Gates before the first that needs vectors, and the rest."""
        gates = self.branch.gates
        first = next((i for i, gate in enumerate(gates) if "encode" in gate.needs), len(gates))
        return gates[:first], gates[first:]

    def _fresh(self) -> Evidence:
        """The evidence with an empty cache of vectors: a range's vectors are of no use to the next."""
        return replace(self.evidence, vectors={})

    def _examples(self, start: int, stop: int) -> Iterator[TextExample]:
        yield from self._rows(start, stop).examples()

    def _rows(self, start: int, stop: int) -> Originals:
        """Texts with what goes with them; words and attributes are looked at when somebody asks for them."""
        tokens = None
        if self._cut != self.cut:
            known = self._cut
            tokens = Made(np.arange(start, stop), lambda rows: list(known(int(rows[0]), int(rows[-1]) + 1)))
        return Originals(
            self._row_ids[start:stop],
            self.texts[start:stop],
            FieldRows(self._fields, start, stop, self._side.fields),
            self._protection,
            self._side.synonyms,
            tokens=tokens,
        )


def child_contexts(
    contexts: Contexts,
    parents: NDArray[np.int64],
    lengths: NDArray[np.int64],
    histories: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
) -> Contexts:
    """Children as training rows: their parents' user, moment, targets and weight, and histories of their own.

    Args:
        contexts: The originals.
        parents: (n,) their positions.
        lengths: (n,) events per child.
        histories: Item rows, event codes and timestamps, child after child.
    """
    rows, events, timestamps = histories
    return replace(
        contexts.take(parents),
        history_offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        history_rows=rows,
        history_events=events,
        history_timestamps=timestamps,
        parents=parents,
    )


def flat_histories(
    children: Sequence[HistoryExample],
) -> tuple[NDArray[np.int64], tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Events per child, and item rows, event codes and timestamps, child after child."""
    if isinstance(children, HistoryRows):
        histories = children.histories
        return histories.sizes, (histories.items, histories.events, histories.times)
    lengths = np.array([len(child.history) for child in children], np.int64)
    rows, events, times = (
        np.array([value for child in children for value in getattr(child, name)], np.int64)
        for name in ("history", "event_types", "timestamps")
    )
    return lengths, (rows, events, times)
