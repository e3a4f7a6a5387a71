"""How an op asks a model that it cannot wait for: requests, answers, and the table that travels with rows.

An op sees one row at a time, a model wants many at once. So an op looks its request up in a table of answers.
While answers are being gathered, a request that has none ends the row's turn; later it leaves the row alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class MaskedService:
    """A masked language model that proposes words for gaps."""

    op: str
    """The op that asks: for messages, no part of what an answer depends on."""
    model: str
    """Folder or hub name."""
    top_k: int
    """Words per gap."""


@dataclass(frozen=True, slots=True)
class TranslationService:
    """Two translation models, there and back."""

    op: str
    to: str
    """Folder or hub name of the model from the texts' language to another."""
    back: str
    """Folder or hub name of the model from there back."""
    to_prefix: str
    back_prefix: str
    beams: int
    """1 samples, keyed by the request's seed; more is a beam search."""
    temperature: float
    top_k: int
    max_tokens: int


@dataclass(frozen=True, slots=True)
class ChatService:
    """A chat model behind an OpenAI-compatible endpoint, with what it may cost."""

    op: str
    base_url: str
    model: str
    mode: Literal["rewrite", "expand"]
    temperature: float
    max_output_tokens: int
    items_per_call: int
    structured: bool
    """Whether the endpoint is asked to hold to the JSON schema."""
    api_key_env: str
    concurrency: int
    timeout: float
    max_retries: int
    prompt_price: float
    """Per million tokens."""
    output_price: float
    """Per million tokens."""
    max_tokens_budget: int | None
    max_cost: float | None


Service = MaskedService | TranslationService | ChatService


@dataclass(frozen=True, slots=True)
class Request:
    """One question about one row."""

    service: Service
    content: tuple[Any, ...]
    """Plain values: texts, numbers, and tuples of them."""
    seed: int = 0
    """Keys what the service samples; 0 where it samples nothing."""


class Answer(NamedTuple):
    """What a service said: plain values, or why it said nothing."""

    value: Any
    refused: str = ""
    """`budget`, `unreachable`, `bad_output`, …; empty where there is a value."""


class Oracle(Protocol):
    """Answers many requests at once; `recsys.generate` holds the real ones."""

    def answer(self, requests: Sequence[Request]) -> Mapping[Request, Answer]:
        """An answer for each request, be it a refusal."""

    def spent(self) -> Mapping[str, int]:
        """Whole numbers of what it has cost so far, by name."""


class Waiting(Exception):
    """A row has to wait for an answer."""


@dataclass(slots=True)
class Answers:
    """Answers by request, read-only for ops; it can be handed to other processes."""

    table: dict[Request, Answer] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    """What ops noted of rows that they left alone."""

    def ask(self, request: Request) -> Answer | None:
        """The answer, or None where nobody gave one."""
        return self.table.get(request)

    def note(self, reason: str) -> None:
        """Count why an op left a row alone."""
        self.counts[reason] += 1


@dataclass(slots=True)
class Gathering(Answers):
    """The table while it is being filled: what it lacks is noted down and ends the row's turn."""

    wanted: dict[Request, None] = field(default_factory=dict)
    """Open requests in the order in which they came up."""

    def ask(self, request: Request) -> Answer | None:
        """The answer.

        Raises:
            Waiting: there is none yet.
        """
        found = self.table.get(request)
        if found is None:
            self.wanted[request] = None
            raise Waiting
        return found


class _Nobody(Answers):
    """No answer to anything, and nothing counted: one object serves all rows and threads."""

    __slots__ = ()

    def note(self, reason: str) -> None:
        """Nothing: the default table is shared."""


NO_ANSWERS: Answers = _Nobody()
