"""Variants that come too close to another item's text are found among many, and in the same way each time."""

from __future__ import annotations

import sys
from typing import Any

import datasketch
import numpy as np
import pytest

from recsys.augment.example import TextExample
from recsys.augment.gates.duplicates import NearDuplicate
from recsys.augment.gates.gate import Evidence
from recsys.augment.gates.shingles import CatalogueIndex, Shingling
from recsys.errors import DependencyError

RNG = np.random.default_rng(0)
WORDS = ["".join(RNG.choice(list("abcdefghijklmnoprstuvwy"), RNG.integers(4, 9))) for _ in range(600)]
CATALOGUE = {f"item:{i}": " ".join(RNG.choice(WORDS, 8)) for i in range(1500)}
CATALOGUE |= {
    "item:kettle": "Stainless steel electric kettle with a wooden handle for the kitchen",
    "item:kettle2": "Stainless steel electric kettle with a wooden grip for the kitchen",
    "item:zh": "红色纯棉短袖上衣男士夏季宽松运动休闲透气",
    "item:zh2": "蓝色加厚羊毛围巾女士冬季保暖百搭礼物",
}


def verdict(row_id: str, text: str, gate: NearDuplicate, evidence: Evidence) -> tuple[float, str | None]:
    verdicts = gate.judge([TextExample(row_id, CATALOGUE[row_id])], [TextExample(row_id, text)], evidence)
    return verdicts.scores[0], verdicts.reasons[0]


def test_a_text_close_to_another_item_is_refused_and_a_far_one_is_not() -> None:
    evidence, gate = Evidence(texts=CATALOGUE), NearDuplicate()
    close = CATALOGUE["item:7"] + "s"
    assert verdict("item:3", close, NearDuplicate(max_jaccard_other=1.0), evidence) == (1.0, None)
    score, reason = verdict("item:3", close, gate, evidence)
    assert reason == "duplicate_of_other"
    assert score == pytest.approx(1 - 35 / 36, abs=0.15)
    assert verdict("item:3", CATALOGUE["item:3"] + " nice", gate, evidence)[1] is None
    assert (
        verdict("item:zh2", "红色纯棉短袖上衣男士夏季宽松运动休闲透气轻", gate, evidence)[1]
        == "duplicate_of_other"
    )
    assert verdict("item:zh2", CATALOGUE["item:zh2"] + "实用", gate, evidence)[1] is None


def test_an_item_may_stay_as_close_to_its_like_as_it_was() -> None:
    evidence, gate = Evidence(texts=CATALOGUE), NearDuplicate(max_jaccard_other=0.6)
    longer = CATALOGUE["item:kettle"] + ", cordless"
    assert verdict("item:kettle", longer, gate, evidence)[1] is None
    nearer = CATALOGUE["item:kettle"].replace("handle ", "")
    assert verdict("item:kettle", nearer, gate, evidence)[1] == "duplicate_of_other"


@pytest.mark.parametrize("unit", ["characters", "words"])
def test_estimates_are_close_to_the_truth(unit: str) -> None:
    shingling = Shingling(unit, 4 if unit == "characters" else 1, 2, 256)  # type: ignore[arg-type]
    texts = [CATALOGUE[f"item:{i}"] for i in range(60)]
    for text in texts:
        other = " ".join([*text.split()[:-2], "another"])
        one, two = shingling.of(text), shingling.of(other)
        exact = len(one & two) / len(one | two)
        first, second = shingling.signatures([text, other])
        assert (first == second).mean() == pytest.approx(exact, abs=0.14)
    assert shingling.of("纯棉上衣") == {part.encode() for part in ("纯棉", "棉上", "上衣")}
    assert len(shingling.of("")) == 1


def test_most_of_what_lies_over_the_bound_is_found() -> None:
    index = CatalogueIndex(CATALOGUE, Shingling("characters", 4, 2, 128), 0.8)
    rows = [f"item:{i}" for i in range(300)]
    changed = [CATALOGUE[row] + "s" for row in rows]
    # Asked in the name of an item that is nothing like them.
    found = index.nearest(["item:zh"] * 300, changed)
    assert np.mean(found > 0.85) > 0.95
    strangers = [" ".join(RNG.choice(WORDS, 8)) for _ in range(300)]
    assert index.nearest(["item:zh"] * 300, strangers).max() < 0.7


ODD = [
    "",
    "a",
    "ab!",
    "12",
    "Ünïcode täxt mit Umlaut",
    "🎁 gift",
    "红色 T恤 XL码",
    "短",
    "x" * 300,
    "a b c d",
]


@pytest.mark.parametrize(
    "shingling",
    [
        Shingling("characters", 4, 2, 128),
        Shingling("characters", 1, 1, 16),
        Shingling("characters", 9, 3, 32),
        Shingling("words", 2, 2, 64),
    ],
)
def test_signatures_are_those_of_the_library(shingling: Shingling, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.augment.gates.shingles._BLOCK", 7)
    texts = [*ODD, *list(CATALOGUE.values())[-60:]]
    plain = datasketch.MinHash.generator(map(shingling.of, texts), num_perm=shingling.num_perm, seed=1)
    assert np.array_equal(shingling.signatures(texts), [one.hashvalues for one in plain])
    assert shingling.signatures([]).shape == (0, shingling.num_perm)


def plain_nearest(texts: dict[str, str], asked: list[tuple[str, str]], threshold: float) -> list[float]:
    """The same question answered by the library's own index, one text at a time."""
    shingling, found = Shingling("characters", 4, 2, 128), []
    lsh = datasketch.MinHashLSH(threshold=threshold, num_perm=128, weights=(0.3, 0.7))

    def signature(text: str) -> Any:
        (one,) = datasketch.MinHash.generator([shingling.of(text)], num_perm=128, seed=1)
        return one

    known = {text: signature(text) for text in dict.fromkeys(texts.values())}
    for text, one in known.items():
        lsh.insert(text, one)
    for row_id, text in asked:
        one, own = signature(text), texts.get(row_id)
        near = [
            one.jaccard(known[other])
            for other in lsh.query(one)
            if other != own and (own is None or one.jaccard(known[other]) > known[own].jaccard(known[other]))
        ]
        found.append(max(near, default=0.0))
    return found


@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_answers_are_those_of_the_librarys_own_index(
    threshold: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recsys.augment.gates.shingles._PAIRS", 50)
    # A template makes many alike, as in real catalogues; some texts stand there twice.
    texts = {f"item:{i}": f"Scented candle {WORDS[i % 40]} {WORDS[i % 7]} in a glass jar" for i in range(400)}
    texts |= dict(list(CATALOGUE.items())[:300]) | {"item:zh": CATALOGUE["item:zh"], "item:odd": ""}
    names = list(texts)
    asked = [(name, texts[names[int(RNG.integers(len(names)))]].replace("a", "e", 1)) for name in names]
    asked += [("nobody", text) for text in ODD] + [("item:3", text) for text in ODD]
    index = CatalogueIndex(texts, Shingling("characters", 4, 2, 128), threshold)
    got = index.nearest([name for name, _ in asked], [text for _, text in asked])
    assert got.tolist() == plain_nearest(texts, asked, threshold)
    assert (got > 0).sum() > 100


def test_verdicts_do_not_depend_on_the_process_or_the_batch() -> None:
    gate = NearDuplicate()
    rows = [TextExample(f"item:{i}", CATALOGUE[f"item:{i}"]) for i in range(40)]
    changed = [row._replace(text=CATALOGUE[f"item:{i + 41}"] + "x") for i, row in enumerate(rows)]
    whole = gate.judge(rows, changed, Evidence(texts=CATALOGUE))
    evidence = Evidence(texts=CATALOGUE)
    parts = [gate.judge(rows[i : i + 7], changed[i : i + 7], evidence) for i in range(0, 40, 7)]
    assert whole.scores == [score for part in parts for score in part.scores]
    assert whole.reasons == [reason for part in parts for reason in part.reasons]


def test_the_catalogue_is_indexed_once_and_only_where_it_is_asked_for() -> None:
    evidence, exact = Evidence(texts=CATALOGUE), NearDuplicate(max_jaccard_other=1.0)
    exact.prepare(evidence)
    assert not evidence.indices
    gate = NearDuplicate()
    gate.prepare(evidence)
    (index,) = evidence.indices.values()
    verdict("item:3", "anything", gate, evidence)
    assert list(evidence.indices.values()) == [index]


def test_without_the_library_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(DependencyError, match="max_jaccard_other = 1"):
        NearDuplicate().prepare(Evidence(texts=CATALOGUE))
