"""Text ops that put a whole new text in the place of the old: translation there and back, and a chat model.

The plan holds the new text, so a row is replayed and explained without any model.

Back-translation: Sennrich, Haddow and Birch, ACL 2016; Edunov et al., EMNLP 2018, for sampling.
"""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections import Counter
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from recsys.augment.asking import ChatService, Request, TranslationService
from recsys.augment.constraints import EDGES, Protection
from recsys.augment.example import TextExample
from recsys.augment.gates.text import made_up
from recsys.augment.generative import AskingOp
from recsys.augment.text import rebuilt, tokens_of
from recsys.augment.tokens import ADDED, EDITABLE, PROTECTED, Tokens, flat
from recsys.randomness import Stream

_BUILT_IN = Protection()
_SEEDS = 2**31


class WholeTextOp(AskingOp):
    """Shared course of the ops that put a whole new text in the place of the old one.

    A text that loses a protected span, or says a number, size, colour or negation that neither the old text
    nor its attributes know, is left out and counted as `refused:<op>:<reason>`.
    """

    parameters = ("text",)

    @abstractmethod
    def request(self, example: TextExample, seed: int) -> Request | None:
        """What is asked about a row; None leaves it alone."""

    def sample(self, example: TextExample, rng: Stream, strength: float) -> tuple[Any, ...] | None:
        """Ask for the text; strength is the chance that the row is tried."""
        if strength < 1.0 and not rng.chance(strength):
            return None
        request = self.request(example, rng.below(_SEEDS))
        text = None if request is None else self.asked(example, request)
        if text is None:
            return None
        text = " ".join(text.split())
        reason = _fault(example, text)
        if reason is not None:
            example.answers.note(f"refused:{self.name}:{reason}")
            return None
        return (text,)

    def edit(self, example: TextExample, values: tuple[Any, ...]) -> TextExample:
        """Put the text in; what was protected is so again, and new facts are not edited again."""
        before = tokens_of(example)
        after = _BUILT_IN.tokenise(values[0], example.fields)
        kept = Counter(_cores(before))
        states = bytearray()
        for word, state in zip(after.words, after.states, strict=True):
            core = word.strip(EDGES).lower()
            if kept[core] > 0:
                kept[core] -= 1
                states.append(PROTECTED)
            else:
                states.append(EDITABLE if state == EDITABLE else ADDED)
        return rebuilt(example, after, after.words, bytes(states))


class BackTranslation(WholeTextOp):
    """Translates a text into another language and back, by a pair of Marian models."""

    name = "back_translation"
    model_settings: ClassVar[tuple[str, ...]] = ("to", "back")

    to: str = Field(min_length=1)
    """The model out of the texts' language, by folder (relative to the policy's file) or by hub name."""
    back: str = Field(min_length=1)
    """The model back into the texts' language."""
    language: Literal["en", "zh"] = "en"
    """The texts' language; texts in another one are left alone and counted."""
    to_prefix: str = ""
    """What a model with several target languages wants in front, such as ">>cmn_Hans<<"."""
    back_prefix: str = ""
    """The same for the way back."""
    beams: int = Field(4, ge=1, le=16)
    """Width of the beam search; 1 samples, which varies more."""
    temperature: float = Field(0.9, gt=0, le=10)
    """Of sampling alone."""
    top_k: int = Field(50, ge=1, le=1000)
    """Of sampling alone: likeliest tokens among which one is drawn."""
    max_tokens: int = Field(128, ge=8, le=512)
    """Longer texts are left alone and counted; a translation is cut there."""

    @functools.cached_property
    def service(self) -> TranslationService:
        """The pair and how it searches; what a beam search does not read is the same for all."""
        sampled = (self.temperature, self.top_k) if self.beams == 1 else (1.0, 0)
        return TranslationService(
            self.name,
            self.to,
            self.back,
            self.to_prefix,
            self.back_prefix,
            self.beams,
            *sampled,
            self.max_tokens,
        )

    def request(self, example: TextExample, seed: int) -> Request | None:
        """The text, where it is in the language of the pair."""
        tokens = tokens_of(example)
        if tokens.language != self.language:
            example.answers.note(f"skipped:{self.name}:language")
            return None
        return Request(self.service, (tokens.text,), seed if self.beams == 1 else 0)


class LLMRewrite(WholeTextOp):
    """Rewrites or expands a text by a chat model behind an OpenAI-compatible endpoint, within a budget."""

    name = "llm_rewrite"

    base_url: str = Field(pattern=r"^https?://[^\s@?#]+$")
    """Of the endpoint, such as "http://localhost:8000/v1"; no user name or key in it."""
    model: str = Field(min_length=1)
    """The model's name at the endpoint."""
    mode: Literal["rewrite", "expand"] = "rewrite"
    """Say the same in other words, or say more from the item's own attributes."""
    api_key_env: str = Field("", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$|^$")
    """Environment variable that holds the key; empty sends none. The key itself is in no file."""
    min_words: int = Field(1, ge=0)
    """Texts with fewer words are left alone."""
    temperature: float = Field(0.7, ge=0, le=2)
    """Of the model's sampling."""
    max_output_tokens: int = Field(200, ge=16, le=4000)
    """Tokens of the answer per item, at most."""
    items_per_call: int = Field(1, ge=1, le=50)
    """Items that share one prompt: cheaper, but an answer may then depend on its neighbours."""
    structured: bool = True
    """Ask the endpoint to hold to the JSON schema; turn it off where it does not know `response_format`."""
    concurrency: int = Field(4, ge=1, le=64)
    """Calls at one time."""
    timeout: float = Field(60.0, gt=0, le=600)
    """Seconds that one call may take."""
    max_retries: int = Field(4, ge=0, le=10)
    """Further tries after a refusal for load or a failure of the server."""
    prompt_price: float = Field(0.0, ge=0)
    """Money per million tokens sent."""
    output_price: float = Field(0.0, ge=0)
    """Money per million tokens received."""
    max_tokens_budget: int | None = Field(None, ge=1)
    """Tokens that one run may spend, sent and received; the rows after it are left alone and counted."""
    max_cost: float | None = Field(None, gt=0)
    """Money that one run may spend, at the prices above."""

    @field_validator("base_url")
    @classmethod
    def _bare(cls, url: str) -> str:
        return url.rstrip("/")

    @model_validator(mode="after")
    def _priced(self) -> LLMRewrite:
        if self.max_cost is not None and not self.prompt_price + self.output_price:
            raise ValueError("max_cost: bounds nothing without prompt_price or output_price")
        return self

    @functools.cached_property
    def service(self) -> ChatService:
        """The endpoint with its limits."""
        names = ChatService.__dataclass_fields__.keys() - {"op"}
        return ChatService(op=self.name, **{name: getattr(self, name) for name in names})

    def request(self, example: TextExample, seed: int) -> Request | None:
        """The text, its language, what must stay word by word and, to say more, what its row knows."""
        tokens = tokens_of(example)
        fields = tuple(sorted(example.fields.items())) if self.mode == "expand" else ()
        return Request(self.service, (tokens.text, tokens.language, tuple(_kept(example)), fields), seed)


def _fault(example: TextExample, text: str) -> str | None:
    """Why a new text may not stand for the old one."""
    before = tokens_of(example)
    after = _BUILT_IN.tokenise(text, example.fields)
    if not text:
        return "empty"
    if after.language != before.language:
        return "language_changed"
    said, folded = text.lower(), flat(text)
    for run, count in Counter(_kept(example)).items():
        if (said.count(run.lower()) if before.language == "zh" else folded.count(flat(run))) < count:
            return "protected_span_lost"
    if Counter(_cores(before)) - Counter(word.strip(EDGES).lower() for word in after.words):
        return "protected_span_lost"
    return "attribute_added" if made_up(example, text, _BUILT_IN) else None


def _kept(example: TextExample) -> list[str]:
    """What must stand in a new text as it stands in this one: built-in spans, and the user's own phrases."""
    tokens = tokens_of(example)
    text = tokens.text
    again = _BUILT_IN.tokenise(text, example.fields)
    same = again.words == tokens.words
    spans = _BUILT_IN.spans(text, example.fields) if same else []
    runs: list[list[str]] = [[]]
    for i, (word, state) in enumerate(zip(tokens.words, tokens.states, strict=True)):
        if state == PROTECTED and not (same and again.states[i] == PROTECTED):
            runs[-1].append(word)
        elif runs[-1]:
            runs.append([])
    kept = (part.strip(EDGES + " ") for part in (*spans, *map(tokens.joiner.join, runs)))
    return [part for part in kept if any(map(str.isalnum, part))]


def _cores(tokens: Tokens) -> list[str]:
    """Protected words in lower case, without punctuation; mere signs left out."""
    pairs = zip(tokens.words, tokens.states, strict=True)
    cores = (word.strip(EDGES).lower() for word, state in pairs if state == PROTECTED)
    return [core for core in cores if any(map(str.isalnum, core))]
