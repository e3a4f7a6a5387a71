from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from recsys.augment.gates.panel import GATES
from recsys.augment.policy import PRESETS, Policy, load_policy, policy_from_plain
from recsys.augment.registry import COMPOSITES, OPS
from recsys.augment.representation import REPRESENTATION_OPS
from recsys.errors import ConfigError

DOCS = Path(__file__).parents[2] / "docs" / "augmentation.md"


@pytest.mark.parametrize("name", PRESETS)
def test_presets_load_print_and_round_trip(name: str, tmp_path: Path) -> None:
    policy = load_policy(name)
    assert policy.name == name
    assert policy.description
    file = tmp_path / "again.toml"
    file.write_text(policy.to_toml(), encoding="utf-8")
    again = load_policy(file)
    assert again == policy
    assert again.policy_id == policy.policy_id
    assert repr(policy).startswith(f"policy {policy.policy_id}")


def test_off_is_empty_and_others_are_not() -> None:
    assert not load_policy("off").history.ops.ops
    assert not load_policy("off").text.ops.ops
    for name in PRESETS[1:]:
        policy = load_policy(name)
        assert bool(policy.history.ops.ops) == (name not in ("adversarial", "spelling"))
        assert bool(policy.text.ops.ops) == (name != "adversarial")
        assert bool(policy.representation.ops) == (name == "adversarial")


def test_every_packaged_policy_is_a_preset() -> None:
    import recsys.augment

    files = (Path(recsys.augment.__file__).parent / "policies").glob("*.toml")
    assert {file.stem for file in files} == set(PRESETS)


def test_id_follows_what_the_policy_does() -> None:
    plain = load_policy("standard").to_plain()
    assert policy_from_plain({**plain, "description": "other"}).policy_id == load_policy("standard").policy_id
    assert policy_from_plain({**plain, "protect": ["x"]}).policy_id != load_policy("standard").policy_id
    plain["history"]["copies"] = 2
    assert policy_from_plain(plain).policy_id != load_policy("standard").policy_id


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name = "x"\n[[history.ops]]\nop = "word_swap"', ["history.ops[0]", "word_swap", "text op"]),
        ('name = "x"\n[[text.ops]]\nop = "word_swp"', ["text.ops[0]", "word_swp", "word_swap"]),
        (
            'name = "x"\n[[text.ops]]\nop = "word_dropout"\nrate_range = [0.5, 2.0]',
            ["word_dropout.rate_range"],
        ),
        ('name = "x"\n[text]\ncopies = 0', ["text.copies"]),
        ('name = "x"\n[text.acceptance]\nmax_modification = 3', ["text.acceptance.max_modification"]),
        ('name = "x"\n[texts]\ncopies = 1', ["policy.texts", "history"]),
        ('name = "x"\n[text]\nops = 3', ["text.ops", "list"]),
        ("name = ", ["not valid TOML"]),
        ('description = "no name"', ["policy.name"]),
    ],
)
def test_errors_name_the_place(text: str, words: list[str], tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_policy(file)
    message = str(caught.value)
    assert str(file) in message
    assert all(word in message for word in words), message


def test_unknown_policies_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Presets: off, light, standard, strong, cold-start, zh"):
        load_policy("standrad")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_policy(tmp_path / "missing.toml")


def test_settings_are_frozen() -> None:
    policy = load_policy("light")
    with pytest.raises(ValueError, match="frozen"):
        policy.name = "other"  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        policy.text.ops.ops[0].p = 0.1
    assert Policy.model_config["extra"] == "forbid"


def test_every_op_setting_has_a_sentence() -> None:
    for op in {**OPS, **COMPOSITES}.values():
        for name, field in op.model_fields.items():
            assert field.description, f"{op.name}.{name}"


def test_the_guide_names_every_op_and_lists_gates_and_presets() -> None:
    guide = DOCS.read_text(encoding="utf-8")
    rows = {
        line.split("|")[1].strip().strip("`"): line for line in guide.splitlines() if line.startswith("| `")
    }
    assert set(rows) == set(PRESETS) | set(GATES)
    short = guide.partition("\n## Ops\n")[2].partition("\n### ")[0]
    assert {*OPS, *COMPOSITES, *REPRESENTATION_OPS} <= set(re.findall(r"`([a-z_]+)`", short))
    for name, gate in GATES.items():
        assert f"| {gate.kind} |" in rows[name]
        assert (gate.__doc__ or "").splitlines()[0].rstrip(".") in rows[name], name
    for name in PRESETS:
        assert load_policy(name).description.rstrip(".") in rows[name]


def test_packaged_files_are_plain_toml() -> None:
    for name in PRESETS:
        assert tomllib.loads(load_policy(name).to_toml())["name"] == name


def test_auto_is_for_a_run_to_choose() -> None:
    with pytest.raises(ConfigError, match="chosen inside `recsys run`"):
        load_policy("auto")
