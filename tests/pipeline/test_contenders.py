"""Who may take part in a comparison: arms that differ in augmentation alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from recsys.compare.contenders import differences, enter
from recsys.config import Config, load_config, with_settings
from recsys.errors import ConfigError
from recsys.placebo import PLACEBOS

POLICY = 'name = "mine"\n[[history.ops]]\nop = "item_dropout"\n'


def names(entered) -> list[str]:
    return [one.name for one in entered.contenders]


def test_the_configured_policy_against_off_and_placebos_beside_them() -> None:
    entered = enter([], None, ["augment.policy=standard", "augment.text_mix=0.3"])
    assert names(entered) == ["off", "standard", *(f"placebo:{name}" for name in PLACEBOS)]
    assert entered.placebos == names(entered)[2:]
    assert entered.contenders[1].settings == ("augment.policy=standard", "augment.text_mix=0.3")
    assert names(enter([], None, ["augment.policy=light"], placebos=False)) == ["off", "light"]


def test_a_policy_still_to_be_chosen_is_every_candidate() -> None:
    entered = enter([], None, ['augment.candidates=["light", "strong"]'], placebos=False)
    assert names(entered) == ["off", "light", "strong"]
    assert entered.contenders[2].settings == ("augment.policy=strong",)


def test_off_is_the_reference_wherever_it_is_named() -> None:
    assert enter(["strong", "off", "light"], None, []).reference.name == "off"
    assert enter(["strong", "light"], None, []).reference.name == "strong"
    assert (
        names(enter(["off", "light", "placebo:duplicate"], None, [], placebos=False))[-1]
        == "placebo:duplicate"
    )


def test_a_policy_file_and_a_settings_file_are_arms(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(POLICY)
    (tmp_path / "soft.toml").write_text('[augment]\npolicy = "light"\nmix_probability = 0.2\n')
    arms = [str(tmp_path / "mine.toml"), str(tmp_path / "soft.toml")]
    entered = enter(["off", *arms], None, ["train.max_epochs=3"], placebos=False)
    assert names(entered) == ["off", "mine", "soft"]
    assert entered.config.train.max_epochs == 3
    assert entered.contenders[2].arm.fusion.mix_probability == 0.2
    assert entered.contenders[1].settings == (f"augment.policy={arms[0]}",)
    assert entered.contenders[2].settings == (f"--config {arms[1]}",)


def test_a_settings_file_lies_over_the_shared_one(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text("[train]\nmax_epochs = 7\n[data.event_weights]\nview = 0.5\n")
    (tmp_path / "arm.toml").write_text('[augment]\npolicy = "light"\n[train]\nmax_epochs = 7\n')
    entered = enter(["off", str(tmp_path / "arm.toml")], tmp_path / "shop.toml", [])
    assert entered.config.train.max_epochs == 7
    assert entered.config.data.event_weights["view"] == 0.5


def test_arms_that_differ_elsewhere_are_refused(tmp_path: Path) -> None:
    (tmp_path / "arm.toml").write_text('[augment]\npolicy = "light"\n[train]\nmax_epochs = 5\npatience = 9\n')
    arm = str(tmp_path / "arm.toml")
    with pytest.raises(ConfigError, match=r"\[augment\] alone: train.max_epochs is 12 .* 5 in .*1 more"):
        enter(["off", arm], None, [])
    with pytest.raises(ConfigError, match=r"train\.patience"):
        enter(["off", arm], None, ["train.max_epochs=5"])
    assert enter(["off", arm], None, ["train.max_epochs=5", "train.patience=9"]).config.train.patience == 9


def test_two_settings_files_must_agree_with_one_another_only(tmp_path: Path) -> None:
    for name, policy in (("a", "light"), ("b", "strong")):
        (tmp_path / f"{name}.toml").write_text(f'[augment]\npolicy = "{policy}"\n[train]\nmax_epochs = 5\n')
    arms = [str(tmp_path / "a.toml"), str(tmp_path / "b.toml")]
    assert enter(arms, None, []).config.train.max_epochs == 5
    (tmp_path / "b.toml").write_text('[augment]\npolicy = "strong"\n')
    with pytest.raises(ConfigError, match="max_epochs"):
        enter(arms, None, [])
    (tmp_path / "b.toml").write_text("[augment]\nmix_probability = 0.2\n")
    with pytest.raises(ConfigError, match="which policy"):
        enter(["off", arms[1]], None, [])


@pytest.mark.parametrize(
    ("arms", "settings", "words"),
    [
        (["off"], [], "every arm is off"),
        ([], ["augment.enabled=false"], "augmentation is off in the configuration"),
        (["light", "light"], [], "two arms are called 'light'"),
        (["nonsense"], [], "no policy 'nonsense'"),
        (["off", "placebo:x"], [], "no placebo 'x'. There are placebo:duplicate"),
        (["off", "missing.toml"], [], "cannot be read"),
    ],
)
def test_what_cannot_be_compared_is_refused(arms: list[str], settings: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        enter(arms, None, settings)


def test_arms_that_do_the_same_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.toml").write_text(POLICY.replace("mine", name))
    with pytest.raises(ConfigError, match="'a' and 'b' do the same"):
        enter([str(tmp_path / "a.toml"), str(tmp_path / "b.toml")], None, [])


def test_a_duplicate_is_trained_anew_only_where_it_is_not_off() -> None:
    def duplicate(setting: str):
        entered = enter([], None, [setting])
        return next(one for one in entered.contenders if one.name == "placebo:duplicate")

    assert duplicate("augment.fusion=mix").identity == "off"
    assert duplicate("augment.fusion=concatenate").identity != "off"


def test_differences_name_settings_and_leave_augmentation_out() -> None:
    one, other = Config(), load_config(None, ["augment.policy=strong", "model.decay=0.8"])
    assert differences(one, other) == {"model.decay": (0.9, 0.8)}
    assert with_settings(one, {"model.decay": 0.8}).model == other.model
    assert with_settings(one, {}) is one
