"""Tuning: a world with a known best, budgets, kills, one look at the newest slice, and an honest verdict."""

from __future__ import annotations

import json
import tomllib
import zlib
from pathlib import Path

import numpy as np
import pytest

from recsys.config import Config, load_config, with_settings
from recsys.errors import ConfigError
from recsys.search.bench import Score
from recsys.tune.space import LISTS, TOWERS, Knob, fitting, values_of
from recsys.tune.study import Judged
from recsys.tune.tune import Order, tune_settings
from recsys.tune.verdict import summary

SHOP = Path("my shop")

EVERY = (*TOWERS, *LISTS)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Killed(Exception):
    pass


class World:
    """Small shrinkage and many candidates are best; `real` says whether the newest slice agrees.

    Trials take so long that some thirty fit into five minutes.
    """

    share = 0.5

    def __init__(self, clock: Clock, real: float = 1.0, kill_at: int = 0) -> None:
        self.clock, self.real, self.kill_at = clock, real, kill_at
        self.calls: list[str] = []

    def _call(self, name: str, seconds: float) -> None:
        self.calls.append(name)
        self.clock.now += seconds
        if len(self.calls) == self.kill_at:
            raise Killed

    def worth(self, values) -> float:
        towers = -0.01 * abs(np.log(values["model.shrinkage"] / 2))
        return towers + 0.01 * np.log2(values.get("retrieve.two_tower", 200) / 200)

    def towers(self, values, on_epoch, *, share):
        self._call(f"towers {share}", 10.0 * share)
        score, stopped = 0.2 + self.worth({**values, "retrieve.two_tower": 200}), False
        for epoch in (1, 2, 3):
            stopped = on_epoch(epoch, score * epoch / 3)
            if stopped:
                break
        return Judged(score, stopped, {"epochs": 3})

    def lists(self, values):
        self._call("lists", 4.0)
        return Judged(0.3 + self.worth(values))

    def confirm(self, values, seed):
        self._call("confirm", 5.0)
        rng = np.random.default_rng(seed)
        users = np.array([f"u{i}" for i in range(300)])
        figures = 0.3 + 0.05 * rng.standard_normal(300) + self.real * self.worth(values)
        # Not `hash`, which is another in every process: one time in forty nothing would look like harm.
        own = zlib.crc32(str(sorted(values.items())).encode())
        noise = 0.01 * np.random.default_rng([seed, own]).standard_normal(300)
        return Score(users, {"ndcg@10": figures + noise, "recall@20": figures}, 5.0, 3)


def go(world, out, minutes=5.0, config=None, **order):
    config = config or Config()
    return tune_settings(
        lambda: world, out, Order(minutes, **order), config, {"data": "d", "seed": "0"}, world.clock
    )


@pytest.mark.parametrize("knob", EVERY, ids=lambda knob: knob.setting)
def test_every_knob_is_a_setting_whose_bounds_hold_its_values(knob):
    default = values_of([knob], Config())[knob.setting]
    ends = knob.choices or ((round(knob.low), round(knob.high)) if knob.whole else (knob.low, knob.high))
    for value in ends:
        assert values_of([knob], with_settings(Config(), {knob.setting: value}))[knob.setting] == value
    assert default in ends or (knob.choices == () and knob.low <= default <= knob.high)


def test_a_knob_widens_to_what_the_configuration_has():
    config = load_config(
        None, ["model.shrinkage=200", "train.hard_negatives=7", "train.residual_dropout=0.9"]
    )
    knobs = {knob.setting: knob for knob in fitting(TOWERS, config)}
    assert knobs["model.shrinkage"].high == 200
    assert 7 in knobs["train.hard_negatives"].choices
    assert knobs["train.residual_dropout"].high == 0.9
    with pytest.raises(ConfigError, match=r"model\.decay"):
        with_settings(config, {"model.decay": 1.5})
    assert Knob("model.shrinkage", low=0, high=1, log=True).around(0).log is False


def test_it_finds_what_is_better_and_the_newest_slice_says_so(tmp_path):
    world = World(Clock())
    result = go(world, tmp_path)
    assert result.verdict.outcome == "gain"
    assert result.verdict.changes["model.shrinkage"] < 8
    assert result.verdict.changes["retrieve.two_tower"] > 300
    assert result.seconds <= 5 * 60 + 10
    best = load_config(tmp_path / "best.toml")
    assert best == with_settings(Config(), result.verdict.changes)
    record = json.loads((tmp_path / "tune.json").read_text())
    assert record["towers"]["trials"][0]["values"] == values_of(TOWERS, Config())
    assert max(record["towers"]["importance"], key=record["towers"]["importance"].get) == "model.shrinkage"
    assert {trial["state"] for trial in record["towers"]["trials"]} == {"complete", "stopped"}
    lines = "\n".join(summary(tmp_path, result, SHOP))
    assert "verdict: tuned" in lines
    assert "importance: model.shrinkage" in lines
    assert f"recsys run --data 'my shop' --out RUNS --config {tmp_path / 'best.toml'}" in lines
    assert world.calls.count("confirm") == 6  # both sides, three seeds
    assert go(world, tmp_path).verdict == result.verdict  # and never again
    assert world.calls.count("confirm") == 6


def test_what_validation_liked_and_new_events_do_not_is_not_taken(tmp_path):
    result = go(World(Clock(), real=-1.0), tmp_path)
    assert result.verdict.outcome == "defaults"
    assert "lies below zero" in result.verdict.reason
    assert load_config(tmp_path / "best.toml") == Config()
    assert "the defaults are best" in "\n".join(summary(tmp_path, result, SHOP))
    neither = go(World(Clock(), real=0.0), tmp_path / "b")
    assert neither.verdict.outcome == "defaults"
    assert "includes zero" in neither.verdict.reason


def test_where_nothing_is_better_the_newest_slice_is_not_looked_at(tmp_path):
    config = load_config(None, ["model.shrinkage=2", "retrieve.two_tower=400"])
    world = World(Clock())
    result = go(world, tmp_path, minutes=2, config=config, trials=6)
    assert result.verdict.outcome == "defaults"
    assert "confirm" not in world.calls
    assert tomllib.loads((tmp_path / "best.toml").read_text()) == {
        "model": {"shrinkage": 2.0}, "retrieve": {"two_tower": 400}
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("call", [3, 29, 36, 43], ids=["tried", "fitted whole", "lists", "confirmed"])
def test_a_killed_search_goes_on_and_repeats_nothing_that_was_finished(tmp_path, call):
    clock = Clock()
    try:
        go(World(clock, kill_at=call), tmp_path)
    except Killed:
        spent = json.loads((tmp_path / "spent.json").read_text())["seconds"]
        assert spent > 0
    again = World(clock)
    result = go(again, tmp_path)
    assert result.verdict.outcome == "gain"
    assert result.seconds <= 5 * 60 + 15
    numbers = [trial["number"] for trial in result.towers["trials"]]
    assert numbers == list(range(len(numbers)))


def test_too_few_minutes_decide_nothing_and_more_go_on(tmp_path):
    clock = Clock()
    first = go(World(clock), tmp_path, minutes=0.01)
    assert first.verdict.outcome == "undecided"
    assert "none yet" in "\n".join(summary(tmp_path, first, SHOP))
    assert go(World(clock), tmp_path, minutes=5).verdict.outcome == "gain"


def test_a_folder_of_another_search_is_refused(tmp_path):
    clock = Clock()
    go(World(clock), tmp_path, minutes=0.01)
    with pytest.raises(ConfigError, match="another data"):
        tune_settings(lambda: World(clock), tmp_path, Order(1.0), Config(), {"data": "other"}, clock)
