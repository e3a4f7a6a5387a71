"""The search against worlds whose right answer is known, with kills and a budget that runs out."""

from __future__ import annotations

import json
import logging
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from fake_bench import Clock, FakeBench, Killed, dropout_gains, nothing_gains, only_on_validation

from recsys.arms import Arm, When
from recsys.augment.policy import load_policy
from recsys.config import load_config
from recsys.errors import ConfigError
from recsys.search.bench import Score
from recsys.search.search import Order, search_policy
from recsys.search.space import OFF, fingerprint
from recsys.search.verdict import Result, summary

SHOP = Path("my shop")

IDENTITY = {"data": "one", "seed": "0"}


def searched(bench: FakeBench, out: Path, minutes: float = 30.0, trials: int | None = 14) -> Result:
    return search_policy(lambda: bench, out, Order(minutes, trials), IDENTITY, bench.clock)


def record(out: Path) -> dict[str, object]:
    plain: dict[str, object] = json.loads((out / "search.json").read_text(encoding="utf-8"))
    return plain


@dataclass(frozen=True)
class Over:
    """A search that found something, only to be read."""

    bench: FakeBench
    out: Path
    result: Result


@pytest.fixture(scope="module")
def over(tmp_path_factory: pytest.TempPathFactory) -> Over:
    bench, out = FakeBench(dropout_gains, Clock()), tmp_path_factory.mktemp("over")
    return Over(bench, out, searched(bench, out))


def test_the_arm_that_helps_is_found_and_confirmed(over: Over) -> None:
    result, out = over.result, over.out
    assert result.verdict.outcome == "gain"
    assert "item_dropout" in [op.name for op in result.verdict.policy.history.ops.ops]
    first = result.verdict.report[0]
    assert 0 < first["low"] < first["difference"] < first["high"]
    assert first["p"] < 0.05
    assert len(first["seeds"]) == 3
    best = load_policy(out / "best.toml")
    assert best.policy_id == result.verdict.policy.policy_id
    config = load_config(out / "augment.toml")
    assert config.augment.enabled
    assert load_policy(config.augment.policy).policy_id == best.policy_id
    assert config.augment.fusion == result.verdict.fusion.fusion
    said = "\n".join(summary(out, result, SHOP))
    assert "verdict: augment." in said
    assert f"recsys run --data 'my shop' --out RUNS --config {out / 'augment.toml'}" in said


def test_off_is_trial_0_and_presets_come_next(tmp_path: Path) -> None:
    result = searched(FakeBench(dropout_gains, Clock()), tmp_path, trials=4)
    assert result.trials[0].arm.name == OFF
    assert result.trials[0].state == "complete"
    starts = [trial.parameters["history.from"] for trial in result.trials]
    assert starts == [OFF, "light", "standard", "strong"]
    assert not result.trials[1].arm.policy.representation.ops


def test_where_nothing_helps_off_is_best(tmp_path: Path) -> None:
    result = searched(FakeBench(nothing_gains, Clock()), tmp_path)
    assert result.verdict.outcome == "off"
    assert not load_policy(tmp_path / "best.toml").history.ops.ops
    assert not load_config(tmp_path / "augment.toml").augment.enabled
    said = "\n".join(summary(tmp_path, result, SHOP))
    assert "off is best" in said
    assert "recsys run --data 'my shop' --out RUNS --set augment.enabled=false" in said


def test_a_gain_that_the_newest_slice_does_not_show_is_none(tmp_path: Path) -> None:
    bench = FakeBench(only_on_validation, Clock())
    result = searched(bench, tmp_path)
    assert result.verdict.outcome == "off"
    assert result.verdict.finalists[0]["differences"][0]["low"] > 0, "validation was sure of it"
    assert result.verdict.report[0]["low"] <= 0
    assert "includes zero" in result.verdict.reason or "harms" in result.verdict.reason


def test_where_no_finalist_beats_off_the_newest_slice_is_not_looked_at(tmp_path: Path) -> None:
    def harms(arm: Arm, when: When) -> float:
        return 0.0 if fingerprint(arm) == OFF else -0.05

    bench = FakeBench(harms, Clock())
    result = searched(bench, tmp_path)
    assert result.verdict.outcome == "off"
    assert {when for _, _, when, _ in bench.runs} == {"validation"}
    assert "not looked at" in result.verdict.reason


def test_arms_of_the_newest_slice_are_the_winner_and_off_with_the_same_seeds(over: Over) -> None:
    bench, result = over.bench, over.result
    report = [(mark, epochs, seed) for mark, seed, when, epochs in bench.runs if when == "report"]
    (winner,) = {mark for mark, *_ in report} - {OFF}
    trained = [(OFF, 5), (OFF, 7), (winner, 7)]
    assert sorted(report) == sorted((*one, seed) for one in trained for seed in (0, 1, 2)), (
        "each as long as its own validation figures chose, and off as long as the winner too"
    )
    assert [one["metric"] for one in result.verdict.as_long] == ["ndcg@10", "recall@20"]
    assert len(bench.chosen) == len(set(bench.chosen))
    assert result.final


def test_what_more_steps_gain_is_no_gain_of_augmentation(tmp_path: Path) -> None:
    class Slower(FakeBench):
        """What is trained for longer is better, and augmentation makes nothing better."""

        def run(self, *args: Any, **options: Any) -> Score:
            score = super().run(*args, **options)
            longer = 0.01 * (score.epochs - 5)
            return replace(score, figures={name: one + longer for name, one in score.figures.items()})

    result = searched(Slower(nothing_gains, Clock(), noise=0.001), tmp_path)
    assert result.verdict.outcome == "off"
    assert "more steps gain, not augmentation" in result.verdict.reason
    assert result.verdict.report[0]["low"] > 0
    assert result.verdict.as_long[0]["low"] <= 0
    assert any("as many epochs" in line for line in summary(tmp_path, result, SHOP))


def test_policies_that_change_nothing_or_are_refused_are_never_trained(tmp_path: Path) -> None:
    bench = FakeBench(dropout_gains, Clock())
    paths = []
    for kind, op in (("text", "word_dropout"), ("history", "crop")):
        paths.append(tmp_path / f"{op}.toml")
        paths[-1].write_text(f'name = "{op}"\n[[{kind}.ops]]\nop = "{op}"\n', encoding="utf-8")
    order = Order(30.0, 8, policies=(OFF, *map(str, paths), str(paths[0])))
    result = search_policy(lambda: bench, tmp_path / "out", order, IDENTITY, bench.clock)
    dropped = [trial for trial in result.trials if trial.state == "dropped"]
    assert [trial.reason for trial in result.trials[1:3]] == [
        "gates refuse 90 of its rows, most for garbled",
        "changes nothing",
    ]
    trained = {mark for mark, *_ in bench.runs}
    assert not {trial.fingerprint for trial in dropped if "the same" not in trial.reason} & trained
    cheap = [mark for mark, _, when, epochs in bench.runs if when == "validation" and epochs <= 4]
    assert len(cheap) == len(set(cheap)), "no policy is tried twice"


def test_what_falls_behind_is_stopped_early(tmp_path: Path) -> None:
    def none_alike(arm: Arm, when: When) -> float:
        harm = 0.0 if fingerprint(arm) == OFF else 1e-4 * int(fingerprint(arm)[:2], 16)
        return dropout_gains(arm, when) - harm

    bench = FakeBench(none_alike, Clock())
    result = searched(bench, tmp_path, trials=20)
    pruned = [trial for trial in result.trials if trial.state == "pruned"]
    assert pruned
    assert all(trial.reason == "falls behind early" and len(trial.curve) < 4 for trial in pruned)
    best = max(trial.score for trial in result.trials if trial.score is not None)
    assert best > 0.1, "and what leads is not"


@pytest.mark.parametrize("kill_at", [0, 3, 10, 18, 24])
def test_a_killed_search_goes_on_to_the_same_kind_of_verdict(kill_at: int, tmp_path: Path) -> None:
    clock = Clock()
    killed = FakeBench(dropout_gains, clock, kill_at=kill_at)
    with pytest.raises(Killed):
        searched(killed, tmp_path)
    spent = json.loads((tmp_path / "spent.json").read_text(encoding="utf-8"))["seconds"]
    second = FakeBench(dropout_gains, clock)
    result = searched(second, tmp_path)
    assert result.verdict.outcome == "gain"
    assert result.seconds >= spent
    whole = [run for run in (*killed.runs, *second.runs) if run[3] >= 5]
    chosen = [*killed.chosen, *second.chosen]
    assert len(chosen) == len(set(chosen)), "nor are the epochs of an arm chosen twice"
    assert len(whole) == len(set(whole)), "a whole training is not done twice"
    assert second.told["facts"] == 0, "the choices of a study stay as they were"
    assert [trial.number for trial in result.trials] == list(range(14)), "the one that was running is there"


def test_a_search_that_is_over_does_not_look_again(over: Over) -> None:
    first, out = over.result, over.out
    before = record(out)

    def must_not() -> FakeBench:
        raise AssertionError("the data were opened again")

    again = search_policy(must_not, out, Order(90.0), IDENTITY)
    assert again.verdict.outcome == "gain"
    assert again.verdict.policy.policy_id == first.verdict.policy.policy_id
    assert record(out) == before
    assert [*summary(out, again, SHOP)] == [*summary(out, first, SHOP)]


def test_minutes_that_run_out_give_no_verdict_and_more_minutes_one(tmp_path: Path) -> None:
    clock = Clock()
    result = searched(FakeBench(dropout_gains, clock), tmp_path, minutes=0.2)
    assert result.verdict.outcome == "undecided"
    assert not load_policy(tmp_path / "best.toml").history.ops.ops
    assert "more --minutes" in "\n".join(summary(tmp_path, result, SHOP))
    more = searched(FakeBench(dropout_gains, clock), tmp_path, minutes=30)
    assert more.verdict.outcome == "gain"


@pytest.mark.parametrize("minutes", [1.0, 3.0, 6.0])
def test_the_budget_holds(minutes: float, tmp_path: Path) -> None:
    bench = FakeBench(dropout_gains, Clock())
    result = searched(bench, tmp_path, minutes=minutes, trials=None)
    assert bench.clock.now <= minutes * 60 + bench.price, "one training more at most"
    assert result.seconds == pytest.approx(bench.clock.now)
    if minutes >= 6:
        assert result.verdict.outcome == "gain"
        assert bench.clock.now > 0.5 * minutes * 60, "and it is used"


class Slow(FakeBench):
    """Every training, cheap or whole, has to augment and to rank besides."""

    def run(self, *args: Any, **options: Any) -> Score:
        self.clock.now += 55.0
        score = super().run(*args, **options)
        return replace(score, seconds=score.seconds + 55.0)


@pytest.mark.parametrize("minutes", [11.0, 12.0, 13.0, 14.0, 15.0])
def test_slow_trials_do_not_eat_the_finalists_minutes(minutes: float, tmp_path: Path) -> None:
    bench = Slow(dropout_gains, Clock())
    result = searched(bench, tmp_path, minutes=minutes, trials=None)
    assert result.verdict.outcome != "undecided", result.verdict.reason
    assert bench.clock.now <= minutes * 60


def test_what_the_minutes_will_do_is_said_early(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        searched(Slow(dropout_gains, Clock()), tmp_path, minutes=14.0, trials=3)
    assert "minutes of 14.0 minutes are kept for 1 finalist(s) with 1 seed(s)" in caplog.text
    assert "of 14.0 minutes are spent" in caplog.text


def test_another_search_in_the_folder_is_refused(tmp_path: Path) -> None:
    bench = FakeBench(dropout_gains, Clock())
    searched(bench, tmp_path, trials=2)
    with pytest.raises(ConfigError, match="another data"):
        search_policy(lambda: bench, tmp_path, Order(30.0), {"data": "two", "seed": "0"}, bench.clock)


def test_everything_is_on_record(over: Over) -> None:
    result, out = over.result, over.out
    kept = record(out)
    assert kept["verdict"] == "gain"
    assert kept["ops_left_out"] == {"chinese_noise": "changes 0 of 100 rows"}
    trials = kept["trials"]
    assert isinstance(trials, list)
    assert [trial["number"] for trial in trials] == list(range(len(result.trials)))
    for trial in trials:
        assert trial["state"] in ("complete", "pruned", "dropped")
        assert (trial["ndcg@10"] is None) == (trial["state"] != "complete")
        assert trial["state"] == "complete" or trial["reason"]
        assert trial["seconds"] >= 0
        assert trial["parameters"]
        assert "op" in str(trial["policy"]) or trial["policy"].keys() == {"name"}
    assert tomllib.loads((out / "best.toml").read_text(encoding="utf-8"))["name"] == "found"
