"""How varied a batch of texts is: bounds on distinct word pairs and on pairs that nobody has said before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from recsys.augment.compose import Compose
from recsys.augment.constraints import Acceptance
from recsys.augment.example import TextExample
from recsys.augment.expand import expand_texts
from recsys.augment.gates.distance import WordPairs, distinct_n, novelty, variety
from recsys.augment.gates.drift import Drift, Sample, consistent
from recsys.augment.policy import Branch, Policy, policy_from_plain
from recsys.augment.text import TextOp

RNG = np.random.default_rng(4)
WORDS = ["".join(RNG.choice(list("bcdfghjkmnprstvz"), 6)) for _ in range(400)]
TEXTS = [" ".join(RNG.choice(WORDS, 7)) for _ in range(300)]
ITEMS = pd.DataFrame({"item_id": [f"i{n}" for n in range(300)], "title": TEXTS})
EVERYBODY = np.arange(300)
IDS = [f"r{i}" for i in range(300)]


class Phrase(TextOp):
    """Harmful as a batch: says the same of many items, each of them fluently."""

    name = "phrase"
    share: float = 1.0

    def sample(self, example: TextExample, rng: Any, strength: float) -> tuple[Any, ...] | None:
        return (rng.random() < self.share,)

    def edit(self, example: TextExample, values: tuple[Any, ...]) -> TextExample:
        word = example.text.split()[0]
        text = f"{word} a thing that everybody wants" if values[0] else example.text + " too"
        return example._replace(text=text, tokens=None)


def pairs(texts: list[str]) -> WordPairs:
    return WordPairs.of(text.split() for text in texts)


def test_variety_is_what_the_definitions_say() -> None:
    texts = ["a b c", "a b", "c", ""]
    children = ["a b d", "a b d", "c", "x y"]
    distinct, novel = variety(pairs(texts), pairs(children), np.arange(4))
    cut = [text.split() for text in children]
    assert distinct == pytest.approx(distinct_n(cut) / distinct_n([text.split() for text in texts]))
    assert novel == pytest.approx(novelty([text.split() for text in texts], cut, 2))
    assert novel == pytest.approx(3 / 5)


def test_pairs_are_taken_with_their_rows() -> None:
    whole = pairs(TEXTS)
    rows = np.array([5, 5, 0, 299])
    part, wanted = whole.take(rows), pairs([TEXTS[i] for i in rows])
    assert part.offsets.tolist() == wanted.offsets.tolist()
    assert part.codes.tolist() == wanted.codes.tolist()
    assert len(np.unique(whole.codes)) == len({p for t in TEXTS for p in zip(t.split(), t.split()[1:])})  # noqa: B905


def samples(children: list[str]) -> tuple[Sample, Sample]:
    return Sample(pairs=pairs(TEXTS)), Sample(pairs=pairs(children))


def test_a_batch_that_says_one_thing_is_thinned_to_the_bound() -> None:
    children = [f"{text.split()[0]} a thing that everybody wants" for text in TEXTS[:200]] + TEXTS[200:]
    before, after = samples(children)
    drift = Drift(min_distinct_2=0.6)
    kept, counts = consistent(drift, before, after, EVERYBODY, IDS, 0)
    assert counts == {"rejected:drift:distinct_2": 300 - len(kept)}
    assert 50 < len(kept) < 250
    assert variety(before.pairs, after.take(kept).pairs, kept)[0] >= 0.6  # type: ignore[arg-type]
    assert np.mean(kept >= 200) > 0.4, "those that say something of their own stay"
    assert len(consistent(drift, *samples(TEXTS), EVERYBODY, IDS, 0)[0]) == 300, "copies are as varied"
    refused = consistent(drift.model_copy(update={"action": "refuse"}), before, after, EVERYBODY, IDS, 0)
    assert len(refused[0]) == 0


def test_novelty_is_bounded_on_both_sides() -> None:
    new = [" ".join(RNG.permutation(text.split())) for text in TEXTS[:150]] + TEXTS[150:]
    kept, counts = consistent(Drift(max_novelty=0.2), *samples(new), EVERYBODY, IDS, 0)
    assert counts == {"rejected:drift:novelty:high": 300 - len(kept)}
    assert np.mean(kept >= 150) > 0.6, "what is all new goes first"
    kept, counts = consistent(Drift(min_novelty=0.7), *samples(new), EVERYBODY, IDS, 0)
    assert counts == {"rejected:drift:novelty:low": 300 - len(kept)}
    assert np.mean(kept < 150) > 0.6, "what adds nothing goes first"
    assert len(consistent(Drift(), *samples(new), EVERYBODY, IDS, 0)[0]) == 300, "the defaults do not ask"


@pytest.mark.parametrize(("share", "left"), [(1.0, 0), (0.7, 270)])
def test_an_expansion_counts_what_is_too_uniform(share: float, left: int) -> None:
    def run(**drift: Any) -> tuple[int, dict[str, int]]:
        branch = Branch(
            ops=Compose(ops=(Phrase(share=share),)),
            acceptance=Acceptance(max_modification=1.0),
            drift=Drift(max_psi=100.0, **drift),
        )
        grown = expand_texts(ITEMS, TEXTS, Policy(name="harm", text=branch), 0, created=0)
        return len(grown.texts) - 300, grown.counts

    free, _ = run()
    assert free == 300, "without the bound it goes through"
    held, counts = run(min_distinct_2=0.5)
    assert held <= left
    assert counts["rejected:drift:distinct_2"] == 300 - held
    assert counts["accepted"] == held


def test_bounds_round_trip() -> None:
    plain = {"name": "x", "text": {"ops": [{"op": "word_swap"}], "drift": {"min_distinct_2": 0.5}}}
    assert policy_from_plain(plain).to_plain() == plain
