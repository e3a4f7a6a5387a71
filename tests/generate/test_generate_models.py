"""Masked language models and translation pairs of the real classes, tiny and untrained."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tiny_models import CHINESE, ENGLISH, marian_folder, masked_folder

from recsys.augment.asking import Answer, Request
from recsys.augment.generative import MaskedLM
from recsys.augment.rewriting import BackTranslation
from recsys.augment.tokens import is_dictionary_word
from recsys.errors import ArtifactError, ConfigError, DependencyError
from recsys.generate import masked, translate
from recsys.generate.cache import AnswerFile, answer_key
from recsys.generate.oracle import ModelOracle


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "bert": str(masked_folder(folder / "bert")),
        "there": str(marian_folder(folder / "there")),
        "back": str(marian_folder(folder / "back", seed=1)),
    }


def fill(model: str, pieces: tuple[str, ...], *sizes: int, top_k: int = 20) -> Request:
    return Request(MaskedLM(model=model, top_k=top_k).service, (pieces, sizes))


def translation(folders: dict[str, str], text: str, seed: int = 0, **settings: object) -> Request:
    op = BackTranslation.model_validate(
        {"to": folders["there"], "back": folders["back"], "max_tokens": 14, **settings}
    )
    return Request(op.service, (text,), seed)


class TestMaskedModel:
    def test_an_english_gap_gets_whole_words_with_scores_in_order(self, folders: dict[str, str]) -> None:
        request = fill(folders["bert"], ("large ", " shirt, 2 packs"), 0, top_k=5)
        (gap,) = ModelOracle(device="cpu").answer([request])[request].value
        assert len(gap) == 5
        assert all(word in ENGLISH for word, _ in gap)
        scores = [score for _, score in gap]
        assert scores == sorted(scores, reverse=True)
        assert all(score < 0 for score in scores)

    def test_a_chinese_gap_gets_dictionary_words_of_its_length(self, folders: dict[str, str]) -> None:
        request = fill(folders["bert"], ("红色", "短袖上衣，适合", "穿着"), 2, 3)
        two, three = ModelOracle(device="cpu").answer([request])[request].value
        assert two
        for gap, size in ((two, 2), (three, 3)):
            for word, _ in gap:
                assert len(word) == size
                assert set(word) <= set(CHINESE)
                assert is_dictionary_word(word)

    def test_the_words_depend_on_what_stands_around(self, folders: dict[str, str]) -> None:
        requests = [
            fill(folders["bert"], pieces, 0) for pieces in (("soft ", " shirt"), ("ceramic mug for ", ""))
        ]
        first, second = (answer.value for answer in ModelOracle(device="cpu").answer(requests).values())
        assert first != second

    def test_batches_change_nothing(self, folders: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
        texts = [("soft ", " shirt"), ("a nice " * 6, " mug"), ("gift ", " and plate set")]
        requests = [fill(folders["bert"], pieces, 0) for pieces in texts]
        together = ModelOracle(device="cpu").answer(requests)
        monkeypatch.setitem(masked._PADDED_TOKENS, "cpu", 1)
        apart = ModelOracle(device="cpu").answer(list(reversed(requests)))
        for request in requests:
            (a,), (b,) = together[request].value, apart[request].value
            assert [word for word, _ in a] == [word for word, _ in b]
            assert [score for _, score in a] == pytest.approx([score for _, score in b], abs=2e-4)

    def test_the_head_runs_at_the_gaps_as_it_would_everywhere(
        self, folders: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        request = fill(folders["bert"], ("soft ", " shirt, ", " and light"), 0, 0)
        there = ModelOracle(device="cpu").answer([request])[request].value
        monkeypatch.setattr(masked, "_HEADS", ())
        everywhere = ModelOracle(device="cpu").answer([request])[request].value
        for a, b in zip(there, everywhere, strict=True):
            assert [word for word, _ in a] == [word for word, _ in b]
            assert [score for _, score in a] == pytest.approx([score for _, score in b], abs=2e-4)

    def test_a_gap_beyond_the_models_length_stays_empty(self, folders: dict[str, str]) -> None:
        request = fill(folders["bert"], ("soft ", " shirt" * 80, " mug"), 0, 0)
        near, far = ModelOracle(device="cpu").answer([request])[request].value
        assert near
        assert far == ()

    def test_a_mask_in_the_text_itself_is_refused(self, folders: dict[str, str]) -> None:
        request = fill(folders["bert"], ("soft [MASK] ", " shirt"), 0)
        assert ModelOracle(device="cpu").answer([request]) == {request: Answer(None, "special_token")}

    def test_a_model_without_a_head_is_refused(self, tmp_path: Path) -> None:
        folder = masked_folder(tmp_path / "encoder", head=False)
        with pytest.raises(ConfigError, match=r"masked_lm: .* lacks \d+ of the weights .* without its head"):
            ModelOracle(device="cpu").answer([fill(str(folder), ("a ", ""), 0)])


class TestTranslator:
    def test_a_beam_search_draws_nothing(self, folders: dict[str, str]) -> None:
        request = translation(folders, "soft warm cotton shirt", beams=2, max_tokens=24)
        first = ModelOracle(device="cpu").answer([request])
        assert first[request].value
        assert ModelOracle(device="cpu").answer([request]) == first

    def test_samples_are_keyed_by_request_not_by_batch(
        self, folders: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        texts = ["soft warm cotton shirt for men", "ceramic mug", "daily travel bottle"]
        requests = [translation(folders, text, seed, beams=1) for text in texts for seed in (1, 2)]
        together = ModelOracle(device="cpu").answer(requests)
        monkeypatch.setitem(translate._PADDED_TOKENS, "cpu", 1)
        assert ModelOracle(device="cpu").answer(list(reversed(requests))) == together
        assert len({answer.value for answer in together.values()}) > len(texts)

    def test_the_search_is_part_of_the_question(self, folders: dict[str, str]) -> None:
        cold = translation(folders, "soft warm cotton shirt", 1, beams=1, top_k=1)
        other = translation(folders, "soft warm cotton shirt", 2, beams=1, top_k=1)
        answers = ModelOracle(device="cpu").answer([cold, other])
        assert answers[cold] == answers[other]  # with one token to choose from, nothing is drawn

    def test_long_texts_and_language_codes_are_refused(self, folders: dict[str, str]) -> None:
        long, code = translation(folders, "soft " * 60), translation(folders, ">>fra<< soft shirt")
        answers = ModelOracle(device="cpu").answer([long, code])
        assert answers[long].refused == "too_long"
        assert answers[code].refused == "special_token"


class TestModels:
    def test_a_missing_model_names_the_op_and_what_to_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(DependencyError, match=r"masked_lm: the model 'no/such' .* Give the folder"):
            ModelOracle(device="cpu").answer([fill("no/such", ("a ", ""), 0)])

    def test_a_missing_package_names_the_op_and_the_extra(
        self, folders: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "recsys.generate.masked", None)
        with pytest.raises(DependencyError, match=r"masked_lm: .* Install the 'train' extra"):
            ModelOracle(device="cpu").answer([fill(folders["bert"], ("a ", ""), 0)])

    def test_pickled_weights_are_refused(self, tmp_path: Path) -> None:
        folder = masked_folder(tmp_path / "bert")
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        with pytest.raises(DependencyError, match=r"no \.safetensors weights"):
            ModelOracle(device="cpu").answer([fill(str(folder), ("a ", ""), 0)])

    def test_a_damaged_model_is_a_clear_error(self, tmp_path: Path) -> None:
        folder = masked_folder(tmp_path / "bert")
        (folder / "config.json").write_text("{", encoding="utf-8")
        with pytest.raises(DependencyError, match=r"masked_lm: the model in .* cannot be opened"):
            ModelOracle(device="cpu").answer([fill(str(folder), ("a ", ""), 0)])

    def test_known_answers_load_no_model(
        self, folders: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        requests = [fill(folders["bert"], ("soft ", " shirt"), 0), translation(folders, "soft " * 60)]
        with ModelOracle(tmp_path / "a.sqlite", "cpu") as oracle:
            first = oracle.answer(requests)

        def fail(*args: object) -> None:
            raise AssertionError("a model was opened")

        monkeypatch.setattr(masked, "opened", fail)
        monkeypatch.setattr(translate, "opened", fail)
        with ModelOracle(tmp_path / "a.sqlite", "cpu") as oracle:
            assert oracle.answer(requests) == first

    def test_another_model_in_the_same_folder_is_asked_anew(self, tmp_path: Path) -> None:
        folder = masked_folder(tmp_path / "bert")
        request = fill(str(folder), ("soft ", " shirt"), 0)
        with ModelOracle(tmp_path / "a.sqlite", "cpu") as oracle:
            first = oracle.answer([request])
        masked_folder(folder, seed=5)
        with ModelOracle(tmp_path / "a.sqlite", "cpu") as oracle:
            assert oracle.answer([request]) != first
            assert oracle.spent()["oracle:from_file"] == 0


class TestAnswerFile:
    def test_values_come_back_as_they_went(self, tmp_path: Path) -> None:
        value = ((("wörter", -1.5), ("词", -2.0)), ())
        with_many = {answer_key("x", ("text", i), 0): [value, ""] for i in range(1200)}
        AnswerFile(tmp_path / "a.sqlite").put(with_many.items())
        found = AnswerFile(tmp_path / "a.sqlite").get([*with_many, "missing"])
        assert found == dict.fromkeys(with_many, (value, ""))

    def test_the_first_answer_stays(self, tmp_path: Path) -> None:
        file = AnswerFile(tmp_path / "a.sqlite")
        file.put([("key", "first")])
        file.put([("key", "second")])
        assert file.get(["key"]) == {"key": "first"}

    def test_keys_tell_apart_who_what_and_seed(self) -> None:
        keys = {
            answer_key(who, content, seed)
            for who in ("a", "b")
            for content in (("x",), ("x", ""), ("x", "y"), (("x",), "y"))
            for seed in (0, 1)
        }
        assert len(keys) == 16

    def test_a_file_of_something_else_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a.sqlite").write_text("this is no database, " * 100, encoding="utf-8")
        with pytest.raises(ArtifactError, match=r"a\.sqlite: the answers kept there"):
            AnswerFile(tmp_path / "a.sqlite")
