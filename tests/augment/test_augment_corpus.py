"""What the catalogue and its buyers say, on catalogues whose right answer is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from recsys.augment.backfill import AttributeBackfill, TermExpansion
from recsys.augment.confusions import HOMOPHONES, LOOK_ALIKES
from recsys.augment.constraints import Protection
from recsys.augment.corpus import TextSide, behaviour_terms, corpus_words, nearby_attributes, text_side
from recsys.augment.example import TextExample
from recsys.augment.examples import with_side
from recsys.augment.noise import ChineseNoise, KeyboardNoise, neighbour_keys
from recsys.augment.registry import op_from_plain
from recsys.augment.wordnet import open_wordnet
from recsys.augment.words import MinedSynonym, Synonym, WordInsertion
from recsys.errors import ConfigError
from recsys.randomness import stream

PROTECTION = Protection(brands=["acme"])


def catalogue(texts: list[str], fields: dict[str, str] | None = None) -> list[TextExample]:
    return [PROTECTION.prepare(TextExample(f"item:{i}", text, fields or {})) for i, text in enumerate(texts)]


# Items 0-4 are bare mugs, bought with items 5-9 that say "coffee" and "espresso"; the rest is about gardens.
TEXTS = ["plain mug"] * 5 + ["coffee beans espresso roast acme 500g red"] * 5 + ["garden hose"] * 50
NEAR = dict.fromkeys(range(5), (5, 6, 7))


def test_terms_are_what_the_neighbours_say_more_often_than_chance() -> None:
    words = corpus_words(catalogue(TEXTS))
    terms = behaviour_terms(words, NEAR)
    assert set(terms) == set(range(5)), "items without neighbours have none"
    assert set(terms[0]) == {"coffee", "beans", "espresso", "roast"}, "no brand, size or colour is lent"
    assert behaviour_terms(words, {0: (5, 10, 11, 12, 13, 14, 15, 16)}) == {}, (
        "one neighbour's word is chance"
    )
    assert behaviour_terms(words, {0: (5, 6)}, min_pmi=5.0) == {}
    assert "garden" not in words.names, "said by too many"


def test_terms_reach_the_op_and_only_with_neighbours() -> None:
    examples = catalogue(TEXTS)
    side = text_side(examples, frozenset({"behaviour"}), NEAR)
    carried = list(with_side(examples, side))
    op = TermExpansion(count_range=(2, 2))
    done = op.run(carried[0], stream(1))
    assert done is not None
    assert done[0].text.startswith("plain mug goes with: ")
    assert len(done[0].text.split(": ")[1].split(", ")) == 2
    assert op.run(carried[20], stream(1)) is None
    assert text_side(examples, frozenset(), NEAR) == TextSide()


def test_missing_attributes_come_from_agreeing_neighbours() -> None:
    fields = [
        {},
        {"category": "Tea", "brand": "A"},
        {"category": "Tea", "brand": "B"},
        {"category": "Tea"},
        {"category": "X"},
    ]
    near = {0: (1, 2, 3), 1: (2, 3, 4)}
    assert nearby_attributes(fields, near) == {0: {"nearby_category": "Tea"}}
    assert nearby_attributes(fields, {0: (1, 2)}) == {}, "two are no majority"


def test_backfill_says_nothing_twice() -> None:
    op = AttributeBackfill()
    full = {"category": "Kitchen, Mugs", "brand": "Acme", "terms": "saucer, spoon", "price_band": "low"}
    done = op.run(TextExample("i", "Mug. Acme. Kitchen|Mugs", full), stream(0))
    assert done is not None
    assert "brand" not in done[0].text
    assert "category" not in done[0].text
    assert "goes with: saucer, spoon" in done[0].text
    assert op.run(TextExample("i", "Mug. Acme. Kitchen|Mugs", {**full, "terms": ""}), stream(0)) is None


def test_synonyms_need_text_and_behaviour() -> None:
    frames = ["comfy {} for living room corner", "modern {} with wooden legs", "leather {} seats guests"]
    texts = [frame.format(word) for word in ("sofa", "couch") for frame in frames * 3]
    texts += [frame.format("hammer") for frame in frames * 3] + ["bolt nut"] * 80
    examples = catalogue(texts)
    sofas, couches, hammers = range(9), range(9, 18), range(18, 27)
    near = {i: tuple(j for j in (*sofas, *couches) if j != i)[:10] for i in (*sofas, *couches)}
    near |= {i: tuple(j for j in couches)[:10] for i in sofas}
    near |= {i: tuple(j for j in sofas)[:10] for i in couches}
    near |= {i: tuple(range(30, 40)) for i in hammers}
    synonyms = text_side(examples, frozenset({"synonyms"}), near).synonyms
    assert synonyms["sofa"] == ("couch",)
    assert synonyms["couch"] == ("sofa",)
    assert "hammer" not in synonyms, "the same text, but other buyers"
    assert "sofa" not in text_side(examples, frozenset({"synonyms"})).synonyms, "no behaviour, no synonym"


def test_mined_words_leave_what_the_item_is() -> None:
    carried = {"synonyms": {"lamp": ("keyboard",), "nice": ("pretty",)}}
    op = MinedSynonym(rate_range=(1.0, 1.0))
    free = op.run(TextExample("i", "a nice lamp here", **carried), stream(0))
    kept = op.run(TextExample("i", "a nice lamp here", {"category": "Office, Lamp"}, **carried), stream(0))
    assert free is not None
    assert free[0].text == "a pretty keyboard here"
    assert kept is not None
    assert kept[0].text == "a pretty lamp here"


def test_spelling_variants_need_no_behaviour() -> None:
    frames = ["bright {} pencil case", "water {} drawing", "my {} theme paper"]
    texts = [frame.format(word) for word in ("flavour", "flavor") for frame in frames * 3] + ["bolt"] * 120
    assert text_side(catalogue(texts), frozenset({"synonyms"})).synonyms["flavour"] == ("flavor",)


def test_a_lexicon_file_becomes_part_of_the_policy(tmp_path: Path) -> None:
    file = tmp_path / "shop.txt"
    file.write_text("sofa couch settee  # furniture\n\n# nothing\n杯子 马克杯\n", encoding="utf-8")
    op = op_from_plain({"op": "synonym", "lexicon": str(file), "groups": [["lamp", "light"]]})
    assert isinstance(op, Synonym)
    assert op.groups == (("lamp", "light"), ("sofa", "couch", "settee"), ("杯子", "马克杯"))
    file.unlink()
    assert op_from_plain(op.to_plain()) == op
    for bad in (str(file), str(tmp_path)):
        with pytest.raises(ConfigError, match="lexicon cannot be read"):
            op_from_plain({"op": "synonym", "lexicon": bad})


def test_insertion_never_opens_a_protected_span() -> None:
    op = WordInsertion(count_range=(30, 30), words=("pretty",))
    done = op.run(PROTECTION.prepare(TextExample("i", "nice mug without lead paint 12 oz cups")), stream(0))
    assert done is not None
    assert "without lead paint" in done[0].text
    assert "12 oz" in done[0].text
    assert done[0].text.endswith("cups") or done[0].text.endswith("pretty")


def test_keys_are_those_beside() -> None:
    assert set(neighbour_keys("s")) == set("adwezx")
    assert "p" not in neighbour_keys("s")
    for letter in "qwertyuiopasdfghjklzxcvbnm":
        for other in neighbour_keys(letter):
            assert letter in neighbour_keys(other)
    done = KeyboardNoise(slip=0.0).run(TextExample("i", "kitchen for the big one"), stream(3))
    assert done is not None
    wrong = [(a, b) for a, b in zip("kitchen", done[0].text, strict=False) if a != b]
    assert len(wrong) == 1
    assert wrong[0][1] in neighbour_keys(wrong[0][0])


def test_chinese_errors_never_make_a_protected_word() -> None:
    for table in (HOMOPHONES, LOOK_ALIKES):
        assert len(table) > 150
        for char, others in table.items():
            assert char not in others
            for other in (char, *others):
                assert not PROTECTION.spans(f"这{other}里"), (char, other)
    done = ChineseNoise(shapes=False).run(TextExample("i", "他的手机壳在这里很好看"), stream(0))
    assert done is not None
    changed = [(a, b) for a, b in zip("他的手机壳在这里很好看", done[0].text, strict=True) if a != b]
    assert [b in HOMOPHONES[a] for a, b in changed] == [True]


def test_wordnet_is_optional(tmp_path: Path) -> None:
    assert open_wordnet(str(tmp_path)) is None
    op = op_from_plain({"op": "wordnet_synonym", "folder": str(tmp_path)})
    assert op.run(TextExample("i", "soft warm cotton shirt"), stream(0)) is None
