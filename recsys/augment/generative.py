"""Text ops that ask a masked language model; the base of all ops that ask a model.

The plan holds the words that were put in, so a row is replayed and explained without any model. How questions
and answers travel is in `recsys.augment.asking`.

Wu et al., "Conditional BERT contextual augmentation", ICCS 2019; Garg and Ramakrishnan, "BAE", EMNLP 2020.
"""

from __future__ import annotations

import functools
import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field

from recsys.augment import lexicon
from recsys.augment.asking import Answer, MaskedService, Request, Service
from recsys.augment.constraints import EDGES, Protection
from recsys.augment.example import TextExample
from recsys.augment.op import Counts, Rates
from recsys.augment.text import TextOp, tokens_of
from recsys.augment.words import InsertWords, ReplaceWords, gap_is_open, is_chinese, like
from recsys.randomness import Stream

_BUILT_IN = Protection()
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
        # A title without a known brand mostly begins with it.
        first = 0 if chinese or example.fields.get("brand") else 1
        open_ = [i for i in tokens.editable if i >= first and _may_leave(cores[i], chinese)]
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
                put.append(word.upper() if example.text.isupper() else word)
        return (tuple(places), tuple(put)) if places else None


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
