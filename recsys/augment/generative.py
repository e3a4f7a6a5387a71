"""Text ops that ask a model: a masked language model, a pair of translation models, or a chat model.

The plan holds the words that were put in, so a row is replayed and explained without any model. How questions
and answers travel is in `recsys.augment.asking`.

Masked words: Wu et al., "Conditional BERT contextual augmentation", ICCS 2019; Garg and Ramakrishnan, "BAE",
EMNLP 2020. Back-translation: Sennrich, Haddow and Birch, ACL 2016; Edunov et al., EMNLP 2018, for sampling.
"""

from __future__ import annotations

import functools
import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from recsys.augment import lexicon
from recsys.augment.asking import Answer, ChatService, MaskedService, Request, Service, TranslationService
from recsys.augment.constraints import EDGES, Protection
from recsys.augment.example import TextExample
from recsys.augment.gates.text import made_up
from recsys.augment.op import Counts, Rates
from recsys.augment.text import TextOp, rebuilt, tokens_of
from recsys.augment.tokens import ADDED, EDITABLE, PROTECTED, Tokens, flat
from recsys.augment.words import InsertWords, ReplaceWords, gap_is_open, is_chinese, like
from recsys.randomness import Stream

_BUILT_IN = Protection()
_SEEDS = 2**31
_GAP = "\0"


class AskingOp(TextOp):
    """An op that needs an answer; without one it leaves the row alone, which is counted."""

    needs = frozenset({"oracle"})
    model_settings: ClassVar[tuple[str, ...]] = ()
    """Settings that name a model by folder or hub name."""

    @property
    @abstractmethod
    def service(self) -> Service:
        """Who is asked, and how."""

    def asked(self, example: TextExample, request: Request) -> Any:
        """The answer's value; None where there is none, which is counted as `skipped:<op or reason>`."""
        answer: Answer | None = example.answers.ask(request)
        if answer is None:
            example.answers.note(f"skipped:{self.name}")
        elif answer.refused:
            example.answers.note(f"skipped:{answer.refused}")
        else:
            return answer.value
        return None


class _MaskedOp(AskingOp):
    """Shared settings and draw of the ops that ask a masked language model."""

    model_settings: ClassVar[tuple[str, ...]] = ("model",)

    model: str = Field(min_length=1)
    """A masked language model, by folder (relative to the policy's file) or by hub name."""
    top_k: int = Field(20, ge=1, le=200)
    """Likeliest words per gap among which one is drawn."""
    temperature: float = Field(1.0, gt=0, le=10)
    """Below 1 prefers the likeliest words, above 1 evens them out."""

    @functools.cached_property
    def service(self) -> MaskedService:
        """The model and how many words it proposes."""
        return MaskedService(self.name, self.model, self.top_k)

    def proposed(self, example: TextExample, words: list[str], sizes: tuple[int, ...]) -> Any:
        """Per gap the model's words and their log-probabilities; None where it did not say any."""
        text = tokens_of(example).joiner.join(words)
        if text.count(_GAP) != len(sizes):  # the text itself has the sign
            return None
        return self.asked(example, Request(self.service, (tuple(text.split(_GAP)), sizes)))

    def drawn(self, proposed: Sequence[Sequence[Any]], banned: set[str], rng: Stream, chinese: bool) -> str:
        """One of the proposed words that may stand here; empty where none may."""
        kept = [
            (word, score)
            for word, score in proposed
            if word.lower() not in banned and _may_enter(word, chinese)
        ]
        if not kept:
            return ""
        best = max(score for _, score in kept)
        weights = [math.exp((score - best) / self.temperature) for _, score in kept]
        word: str = kept[rng.weighted(weights)][0]
        return word


class MaskedLM(_MaskedOp, ReplaceWords):
    """Replaces whole words by ones that a masked language model expects in their place."""

    name = "masked_lm"

    rate_range: Rates = (0.05, 0.2)
    """Share of the words that is masked; at least one."""

    def sample(self, example: TextExample, rng: Stream, strength: float) -> tuple[Any, ...] | None:
        """Mask words, ask for others, and draw among them."""
        tokens = tokens_of(example)
        chinese = tokens.language == "zh"
        cores = [word.strip(EDGES) for word in tokens.words]
        open_ = [i for i in tokens.editable if _may_leave(cores[i], chinese)]
        if not open_:
            return None
        count = max(int(rng.uniform(*self.rate_range) * strength * len(tokens.words) + 0.5), 1)
        positions = [open_[i] for i in rng.sample(len(open_), min(count, len(open_)))]
        words = list(tokens.words)
        for i in positions:
            words[i] = words[i].replace(cores[i], _GAP, 1)
        sizes = tuple(len(cores[i]) if chinese else 0 for i in positions)
        proposals = self.proposed(example, words, sizes)
        if proposals is None:
            return None
        places, put = [], []
        said = {core.lower() for core in cores}
        for i, proposed in zip(positions, proposals, strict=True):
            if word := self.drawn(proposed, said, rng, chinese):
                said.add(word.lower())
                places.append(i)
                put.append(tokens.words[i].replace(cores[i], like(word, cores[i]), 1))
        return (tuple(places), tuple(put)) if places else None


class MaskedLMInsertion(_MaskedOp, InsertWords):
    """Inserts words that a masked language model expects between others, never into a protected span."""

    name = "masked_lm_insertion"

    count_range: Counts = (1, 2)
    """How many words are inserted; strength scales it."""

    def sample(self, example: TextExample, rng: Stream, strength: float) -> tuple[Any, ...] | None:
        """Open gaps, ask what may stand there, and draw."""
        tokens = tokens_of(example)
        chinese = tokens.language == "zh"
        gaps = [i for i in range(1, len(tokens.words)) if gap_is_open(tokens.states, i)]
        low, high = self.count_range
        count = min(int((low + rng.below(high - low + 1)) * strength + 0.5), len(gaps))
        if count < 1:
            return None
        chosen = [gaps[i] for i in rng.sample(len(gaps), count)]
        words = list(tokens.words)
        for gap in reversed(chosen):
            words.insert(gap, _GAP)
        proposals = self.proposed(example, words, (2 if chinese else 0,) * count)
        if proposals is None:
            return None
        places, put = [], []
        said = {word.strip(EDGES).lower() for word in tokens.words}
        for gap, proposed in zip(chosen, proposals, strict=True):
            if word := self.drawn(proposed, said, rng, chinese):
                said.add(word.lower())
                places.append(gap)
                put.append(word)
        return (tuple(places), tuple(put)) if places else None


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

    @functools.cached_property
    def service(self) -> ChatService:
        """The endpoint with its limits."""
        names = ChatService.__dataclass_fields__.keys() - {"op"}
        return ChatService(op=self.name, **{name: getattr(self, name) for name in names})

    def request(self, example: TextExample, seed: int) -> Request | None:
        """The text, its language, what must stay word by word and, to say more, what its row knows."""
        tokens = tokens_of(example)
        fields = tuple(sorted(example.fields.items())) if self.mode == "expand" else ()
        return Request(self.service, (tokens.text, tokens.language, tuple(_runs(tokens)), fields), seed)


def _fault(example: TextExample, text: str) -> str | None:
    """Why a new text may not stand for the old one."""
    before = tokens_of(example)
    after = _BUILT_IN.tokenise(text, example.fields)
    if not text:
        return "empty"
    if after.language != before.language:
        return "language_changed"
    said, folded = text.lower(), flat(text)
    for run, count in Counter(_runs(before)).items():
        if (said.count(run.lower()) if before.language == "zh" else folded.count(flat(run))) < count:
            return "protected_span_lost"
    if Counter(_cores(before)) - Counter(word.strip(EDGES).lower() for word in after.words):
        return "protected_span_lost"
    return "attribute_added" if made_up(example, text, _BUILT_IN) else None


def _runs(tokens: Tokens) -> list[str]:
    """Protected words as they stand, neighbours together, without the punctuation around them."""
    runs: list[list[str]] = [[]]
    for word, state in zip(tokens.words, tokens.states, strict=True):
        if state == PROTECTED:
            runs[-1].append(word)
        elif runs[-1]:
            runs.append([])
    joined = (tokens.joiner.join(run).strip(EDGES + " ") for run in runs)
    return [run for run in joined if any(map(str.isalnum, run))]


def _cores(tokens: Tokens) -> list[str]:
    """Protected words in lower case, without punctuation; mere signs left out."""
    pairs = zip(tokens.words, tokens.states, strict=True)
    cores = (word.strip(EDGES).lower() for word, state in pairs if state == PROTECTED)
    return [core for core in cores if any(map(str.isalnum, core))]


def _may_leave(core: str, chinese: bool) -> bool:
    """Whether a word says enough to be masked, and is one that a model can put another for."""
    if not core or core.lower() in lexicon.COMMON:
        return False
    if chinese:
        return core.isalpha() and len(core) in (2, 3, 4) and all(map(is_chinese, core))
    return core.isascii() and core.isalpha() and len(core) > 2


@functools.lru_cache(maxsize=65_536)
def _may_enter(word: str, chinese: bool) -> bool:
    """Whether a proposed word is a word of the text's language that says no fact."""
    if not word.isalpha() or word.isascii() == chinese or word.lower() in lexicon.COMMON:
        return False
    if chinese:
        return len(word) > 1 and all(map(is_chinese, word)) and not any(_BUILT_IN.tokenise(word).states)
    return len(word) > 2 and not any(_BUILT_IN.tokenise(word).states)
