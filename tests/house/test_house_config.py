"""Settings: closed, bounded, stable in their digest, and each of them read somewhere."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from recsys.config import Config, load_config, validate_config
from recsys.errors import ConfigError
from recsys.section import Section

ROOT = Path(__file__).resolve().parents[2]


def sections() -> list[tuple[str, type[Section]]]:
    found = [(name, field.annotation) for name, field in Config.model_fields.items()]
    return [(name, kind) for name, kind in found if isinstance(kind, type) and issubclass(kind, Section)]


def test_defaults_are_valid_and_survive_their_own_toml(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(Config().to_toml(), encoding="utf-8")
    assert load_config(file) == Config()
    assert load_config(file).digest() == Config().digest()


def test_a_file_states_only_differences_and_a_setting_wins_over_it(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[train]\nmax_epochs = 3\nbatch_size = 64\n", encoding="utf-8")
    config = load_config(file, ["train.max_epochs=5"])
    assert (config.train.max_epochs, config.train.batch_size) == (5, 64)
    assert config.train.patience == Config().train.patience


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("augment.enabled=false", False),
        ("run.device=cpu", "cpu"),
        ('run.device="cpu"', "cpu"),
        ("train.learning_rate=2e-4", 2e-4),
        ("rank.hidden=[8, 4]", (8, 4)),
        ("augment.policy=a=b", "a=b"),
        (" run.seed = 3", 3),
    ],
)
def test_one_setting_is_read_as_toml_or_as_a_word(setting: str, value: object) -> None:
    table, name = setting.strip().split("=")[0].strip().split(".")
    assert getattr(getattr(load_config(settings=[setting]), table), name) == value


def test_towers_that_read_more_than_is_kept_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"--set: model.history_length \(50\) is over .* \(20\)"):
        load_config(settings=["features.history_length=20"])
    load_config(settings=["features.history_length=20", "model.history_length=20"])


def test_one_entry_of_a_table_can_be_set() -> None:
    assert load_config(settings=["data.event_weights.purchase=2.0"]).data.event_weights == {"purchase": 2.0}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("train.max_epoch=3", ["'train.max_epoch'", "max_epochs"]),
        ("trian.max_epochs=3", ["'trian'", "train", "augment"]),
        ("train.max_epochs=0", ["train.max_epochs", "greater than or equal to 1", "0"]),
        ("train.max_epochs=many", ["train.max_epochs", "integer", "many"]),
        ("index.kind=faiss", ["index.kind", "'flat'", "'ivf'"]),
        ("train.clip", ["expected section.key=value"]),
        ("clip=1", ["expected section.key=value"]),
        ("train.=1", ["expected section.key=value"]),
        ("rank.hidden.first=3", ["rank.hidden"]),
    ],
)
def test_a_wrong_setting_is_refused_by_name_with_what_would_do(setting: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(settings=[setting])
    assert [word for word in words if word not in str(caught.value)] == []
    assert caught.value.exit_code == 2


def test_two_settings_that_contradict_in_shape_are_refused() -> None:
    with pytest.raises(ConfigError, match="'max_epochs' is not a table"):
        load_config(settings=["train.max_epochs=3", "train.max_epochs.first=4"])


@pytest.mark.parametrize(
    ("content", "word"), [(b"[train", "TOML"), (b"\xff\xfe", "TOML"), (None, "cannot be read")]
)
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, content: bytes | None, word: str) -> None:
    file = tmp_path / "broken.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=word):
        load_config(file)


def test_the_tree_is_frozen() -> None:
    with pytest.raises(ValidationError):
        Config().train.max_epochs = 3  # type: ignore[misc]


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_digests_agree_exactly_when_the_settings_do(one: int, other: int) -> None:
    a, b = (load_config(settings=[f"run.seed={seed}"]) for seed in (one, other))
    assert (a.digest() == b.digest()) == (one == other)


def test_the_digest_does_not_depend_on_how_a_setting_was_stated(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[run]\nseed = 3\n[augment]\nenabled = false\n", encoding="utf-8")
    spoken = load_config(settings=["augment.enabled=false", "run.seed=3"])
    assert load_config(file).digest() == spoken.digest()


@pytest.mark.parametrize(("name", "section"), sections())
def test_every_setting_has_its_sentence(name: str, section: type[Section]) -> None:
    silent = [field for field, info in section.model_fields.items() if not (info.description or "").strip()]
    assert silent == [], f"[{name}] has settings without a sentence of their own"


def test_every_setting_is_read_somewhere() -> None:
    """A declared setting that nothing reads is a promise that nobody keeps."""
    read: set[str] = set()
    for package in ("recsys", "serving", "feature_repo"):
        for file in (ROOT / package).rglob("*.py"):
            if file.name in ("config.py", "settings_page.py"):
                continue
            tree = ast.parse(file.read_text(encoding="utf-8"))
            read |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    unread = [
        f"{table}.{field}" for table, kind in sections() for field in kind.model_fields if field not in read
    ]
    assert unread == []


def test_validate_config_names_its_source() -> None:
    with pytest.raises(ConfigError, match=r"^run 7: there is no setting 'train.x'"):
        validate_config({"train": {"x": 1}}, source="run 7")
