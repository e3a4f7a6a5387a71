from __future__ import annotations

import pytest

from recsys.augment.example import TextExample
from recsys.augment.noise import Typo, mistyped
from recsys.augment.registry import op_from_plain
from recsys.augment.words import Synonym
from recsys.errors import ConfigError
from recsys.randomness import stream

SOFA = Synonym(groups=(("sofa", "couch"), ("lamp", "light")), rate_range=(1.0, 1.0))


def out_of(op: Synonym | Typo, text: str, seed: int = 0) -> str | None:
    done = op.run(TextExample("i", text), stream(seed))
    return None if done is None else done[0].text


def test_synonyms_keep_case_and_punctuation() -> None:
    assert out_of(SOFA, "Sofa, nice LAMP by day") == "Couch, nice LIGHT by day"
    assert out_of(SOFA, "nothing to change here") is None


def test_synonyms_leave_protected_phrases() -> None:
    from recsys.augment.constraints import Protection

    example = Protection(["sofa bed"]).prepare(TextExample("i", "sofa bed with a lamp inside"))
    done = SOFA.run(example, stream(0))
    assert done is not None
    assert done[0].text == "sofa bed with a light inside"


def test_bad_groups_name_the_field() -> None:
    for groups in ([["sofa"]], [["sofa bed", "couch"]], [["sofa", ""]]):
        with pytest.raises(ConfigError, match=r"synonym\.groups"):
            op_from_plain({"op": "synonym", "groups": groups})


def test_typos_keep_first_letter_and_short_words() -> None:
    results = {mistyped("kitchen,", stream(seed)) for seed in range(200)}
    assert len(results) > 15
    assert all(word[0] == "k" and word.endswith(",") and 7 <= len(word) <= 9 for word in results)
    assert out_of(Typo(), "mug cup jar 500ml XR-2000 for") is None
    assert out_of(Typo(), "очень большой красный шар") is None
