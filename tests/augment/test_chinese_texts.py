"""Chinese texts stay readable: paths whole, colours kept, no mark beside a mark, sentences still closed."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from recsys.augment.constraints import Protection
from recsys.augment.example import TextExample
from recsys.augment.op import Op
from recsys.augment.registry import OPS
from recsys.augment.tokens import language_of
from recsys.config import DataConfig
from recsys.data.catalogue import item_texts
from recsys.data.interactions import load_dataset
from recsys.data.sample import write_sample
from recsys.randomness import stream

PATH = "家居, 园艺 > 床品, 毯子 > 盖毯"
TEXT = f"静室专业盖毯. {PATH}. 静室盖毯，居家夜晚好帮手，可与抱枕套搭配使用。 专业, 居家夜晚"
COLOURS = ("陶土色", "姜黄色", "牛皮纸色", "米色", "藏青色", "深蓝色")


def variants(op: Op[TextExample], text: str, number: int = 60) -> set[str]:
    example = Protection().prepare(TextExample("item:1", text))
    done = (op.run(example, stream(0, "test", i)) for i in range(number))
    return {one[0].text for one in done if one is not None}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("shop")
    write_sample(folder, "tiny", seed=3)
    texts = item_texts(load_dataset(folder, DataConfig()).items)
    chinese = [text for text in texts if language_of(text) == "zh"]
    assert len(chinese) > 40
    return chinese


def test_clauses_move_within_their_sentence_and_a_path_is_one() -> None:
    found = variants(OPS["clause_shuffle"](unit="clause"), TEXT)
    assert len(found) >= 3
    for text in found:
        assert Counter(text) == Counter(TEXT)
        assert text.startswith("静室专业盖毯. ")
        assert f"{PATH}. " in text
        assert text.endswith("。 专业, 居家夜晚") or text.endswith(f"{PATH}. 专业, 居家夜晚")
        assert text.count("可与抱枕套搭配使用。 ") == 1, "the clause that closes a sentence stays its last"
    assert any("居家夜晚好帮手，静室盖毯，可" in text for text in found)


def test_an_english_path_with_commas_is_one_and_nothing_runs_together() -> None:
    text = "Soft mug. Home, Garden > Kitchen, Dining > Cups. Holds heat, fits well, looks nice. gift, easy"
    for unit in ("sentence", "clause"):
        found = variants(OPS["clause_shuffle"](unit=unit), text)
        assert found
        for one in found:
            assert "Garden > Kitchen, Dining > Cups." in one
            assert one.endswith((" looks nice. gift, easy", " Cups. gift, easy"))


@pytest.mark.parametrize("unit", ["sentence", "clause"])
def test_shuffled_texts_of_the_made_up_shop_read_like_texts(unit: str, shop: list[str]) -> None:
    changed = 0
    for text in shop:
        for one in variants(OPS["clause_shuffle"](unit=unit), text, 6):
            changed += 1
            marks = re.findall(r"[，。,.]\s*(?=[，。,.])|[.。](?=[^\s\d。])", text)
            assert re.findall(r"[，。,.]\s*(?=[，。,.])|[.。](?=[^\s\d。])", one) == marks, one
            assert one[-1] == text[-1]
    assert changed > 40


def test_dropout_leaves_no_mark_without_words(shop: list[str]) -> None:
    op = OPS["word_dropout"](rate_range=(0.2, 0.4))
    found = [one for text in shop for one in variants(op, text, 6)]
    assert len(found) > 100
    bare = [one for one in found if re.search(r"[，,]\s*[，。,.]|。\s*[，,]|  |> *\.", one)]
    assert not bare


def test_dropout_counts_words_and_not_marks() -> None:
    op = OPS["word_dropout"](rate_range=(0.2, 0.2), min_keep=1)
    text = "，".join(["适合", "休闲", "运动", "日常", "旅行"]) + "。"
    assert all(len(re.findall(r"[\u4e00-\u9fff]{2}", one)) == 4 for one in variants(op, text))


@pytest.mark.parametrize("colour", COLOURS)
def test_colours_are_protected_also_those_that_no_list_has(colour: str) -> None:
    text = f"蕨与果经典发梳 {colour} 中号. 适合日常护肤"
    assert any(colour in span for span in Protection().spans(text))
    for name in ("word_dropout", "word_swap", "chinese_noise"):
        assert all(colour in one for one in variants(OPS[name](), text))


def test_no_word_op_edits_a_category_path(shop: list[str]) -> None:
    path = re.compile(r"[^\s.。，,;；>]+(?: > [^\s.。，,;；>]+)+")
    seen = 0
    for name in ("word_dropout", "word_swap", "chinese_noise", "clause_shuffle"):
        for text in shop:
            paths = path.findall(text)
            for one in variants(OPS[name](), text, 3):
                seen += len(paths)
                assert all(said in one for said in paths), (name, one)
    assert seen > 200


def test_path_and_people_are_spans_of_their_own() -> None:
    spans = Protection().spans("青峰帐篷 双人. 户外 > 无线 > 帐篷. 适合两人份")
    assert "户外 > 无线 > 帐篷" in spans
    assert any("双人" in span for span in spans)
