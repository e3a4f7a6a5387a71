"""The space: built from the ops' own fields, every draw a valid policy of ops that apply."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import optuna
import pytest
from fake_bench import FACTS
from pydantic import BaseModel, Field

from recsys.augment.compose import leaves
from recsys.augment.op import Counts, Rates
from recsys.augment.policy import PRESETS, load_policy, policy_from_plain
from recsys.augment.registry import OPS
from recsys.config import AugmentConfig
from recsys.search.settings import settings_of
from recsys.search.space import OFF, Facts, Space, fingerprint, starting_points


class Dice:
    """Draws at random, and remembers what was asked."""

    def __init__(self, seed: int, force: dict[str, Any] | None = None) -> None:
        self.random, self.force = random.Random(seed), force or {}
        self.values: dict[str, Any] = {}
        self.choices: dict[str, list[Any]] = {}

    def _keep(self, name: str, value: Any) -> Any:
        assert name not in self.values, f"{name} is asked twice"
        self.values[name] = self.force.get(name, value)
        return self.values[name]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        assert low < high
        assert low > 0 or not log
        return float(self._keep(name, self.random.choice([low, high, self.random.uniform(low, high)])))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        assert low < high
        assert low >= 1 or not log
        return int(self._keep(name, self.random.randint(low, high)))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        self.choices[name] = list(choices)
        return self._keep(name, self.random.choice(list(choices)))


def a_space(facts: Facts = FACTS) -> Space:
    return Space(facts, starting_points(PRESETS))


@pytest.mark.parametrize("seed", range(150))
def test_every_draw_is_a_policy_that_reads_back(seed: int) -> None:
    arm = a_space().arm(Dice(seed), "trial-1")
    plain = json.loads(json.dumps(arm.policy.to_plain()))
    assert policy_from_plain(plain).policy_id == arm.policy.policy_id
    assert AugmentConfig(**arm.fusion.model_dump()) == arm.fusion


def test_ops_that_do_not_apply_are_never_drawn_anew() -> None:
    space = a_space()
    drawn = set()
    for seed in range(200):
        dice = Dice(seed, {"history.from": "ops drawn anew", "text.from": "ops drawn anew"})
        arm = space.arm(dice, "trial-1")
        drawn |= {
            leaf.name for branch in (arm.policy.history, arm.policy.text) for leaf in leaves(branch.ops)
        }
    assert drawn == {"crop", "item_dropout", "word_dropout"}


@pytest.mark.parametrize("name", sorted(OPS))
def test_settings_of_every_op_stay_in_their_bounds(name: str) -> None:
    settings = settings_of(OPS[name], leave=("taper",))
    assert "p" in [setting.name for setting in settings]
    required = {
        field: "x" for field, info in OPS[name].model_fields.items() if info.is_required()
    }  # a model's name, an address
    for seed in range(30):
        dice = Dice(seed)
        drawn = {setting.name: setting.draw(dice, "it") for setting in settings}
        try:
            OPS[name].model_validate({**required, **drawn})
        except ValueError:
            if not required:
                raise


def test_settings_are_read_from_the_fields() -> None:
    class Op(BaseModel):
        share: float = Field(0.5, ge=0, le=1)
        strict: float = Field(0.2, gt=0, lt=0.5)
        most: int = Field(3, ge=1, le=3)
        fixed: int = Field(0, ge=0)
        rates: Rates = (0.1, 0.5)
        counts: Counts = (1, 2)
        flag: bool = True
        words: tuple[str, ...] = ()
        label: str = "x"
        single: int = Field(1, ge=1, le=1)

    found = {setting.name: setting for setting in settings_of(Op)}
    assert found.keys() == {"share", "strict", "most", "rates", "counts", "flag"}
    assert (found["share"].low, found["share"].high) == (0.125, 1)
    assert found["strict"].low == 0.05
    assert found["strict"].high < 0.5
    assert (found["most"].low, found["most"].high) == (1, 3)
    assert (found["counts"].low, found["counts"].high) == (1, 8)
    assert "flag" not in {setting.name for setting in settings_of(Op, leave=("flag",))}


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != OFF])
def test_a_preset_is_among_the_starts_as_it_is(preset: str) -> None:
    space, policy = a_space(), load_policy(preset)
    if not (policy.history.ops.ops or policy.text.ops.ops):
        pytest.skip("changes neither histories nor texts")
    arm = space.arm(optuna.trial.FixedTrial(space.starts[preset]), preset)
    assert arm.policy.history.to_plain() == policy.history.to_plain()
    assert arm.policy.text.to_plain() == policy.text.to_plain()
    assert arm.fusion == AugmentConfig(), "with the default fusion"


def test_off_is_the_first_start() -> None:
    space = a_space()
    assert next(iter(space.starts)) == OFF
    assert fingerprint(space.arm(optuna.trial.FixedTrial(space.starts[OFF]), OFF)) == OFF


def test_policies_that_share_a_branch_are_one_choice() -> None:
    policies = starting_points(PRESETS)
    twin = policies["light"].model_copy(update={"name": "twin", "text": policies["strong"].text})
    space, dice = Space(FACTS, {**policies, "twin": twin}), Dice(0)
    space.arm(dice, "x")
    assert "light" in dice.choices["history.from"]
    assert "twin" not in dice.choices["history.from"], "its histories are those of light"
    arm = space.arm(optuna.trial.FixedTrial(space.starts["twin"]), "x")
    assert arm.policy.history.to_plain() == policies["light"].history.to_plain()
    assert arm.policy.text.to_plain() == policies["strong"].text.to_plain()


def test_a_fingerprint_is_of_what_is_done() -> None:
    space = a_space()
    start = space.starts["light"]
    one = space.arm(optuna.trial.FixedTrial(start), "a")
    same = space.arm(optuna.trial.FixedTrial(start), "b")
    other = space.arm(optuna.trial.FixedTrial({**start, "fusion.mix_probability": 0.9}), "c")
    unread = one._replace(fusion=one.fusion.model_copy(update={"weight": 0.9}))
    assert fingerprint(one) == fingerprint(same) == fingerprint(unread)
    assert fingerprint(one) != fingerprint(other)


def test_strength_may_fade_where_rows_of_this_dataset_are_rich() -> None:
    force = {"history.from": "ops drawn anew", "history.1.op": "crop", "history.1.crop.taper": "rich rows"}
    arm = a_space().arm(Dice(1, {**force, "history.2.op": "none"}), "x")
    assert arm.policy.history.ops.ops[0].taper == (3, 9)
