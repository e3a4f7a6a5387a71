"""A run augments a shop where its own validation says so, and leaves it alone otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from whole_run import Made

from recsys import pipeline, policy_choice
from recsys.artifacts import load_manifest
from recsys.augment.policy import load_policy
from recsys.cli import main
from recsys.config import AugmentConfig, load_config
from recsys.errors import ConfigError
from recsys.loading import FEATURE_MEANS, _feature_means
from recsys.policy_choice import OFF, choose_policy, falls_behind, is_open, require_policies, with_policy


def judged(rng: np.random.Generator, gain: float, recall: float = 0.0, noise: float = 0.05) -> np.ndarray:
    change = rng.normal(0, noise, (400, 2)) + np.array([gain, recall])
    return np.clip(0.4 + change, 0, 1)


OWNERS = np.arange(400)


def test_a_policy_that_helps_is_taken_and_the_better_of_two() -> None:
    rng = np.random.default_rng(0)
    found = {OFF: judged(rng, 0.0), "light": judged(rng, 0.02), "strong": judged(rng, 0.05)}
    choice = choose_policy(found, OWNERS, 0)
    assert choice.policy == "strong"
    assert choice.differences["strong"]["ndcg@10"]["low"] > 0
    assert "against off" in choice.why
    assert choose_policy({name: found[name] for name in (OFF, "light")}, OWNERS, 0).policy == "light"


def test_of_two_that_help_alike_the_milder_is_taken() -> None:
    rng = np.random.default_rng(0)
    found = {OFF: judged(rng, 0.0), "light": judged(rng, 0.03), "strong": judged(rng, 0.031)}
    assert choose_policy(found, OWNERS, 0).policy == "light"
    assert (
        choose_policy({name: found[name] for name in (OFF, "strong", "light")}, OWNERS, 0).policy == "strong"
    )


def test_what_costs_recall_is_not_taken() -> None:
    rng = np.random.default_rng(1)
    found = {OFF: judged(rng, 0.0), "light": judged(rng, 0.05, recall=-0.05)}
    assert choose_policy(found, OWNERS, 0).policy == OFF


def test_policies_that_change_nothing_are_mostly_refused() -> None:
    refused = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        found = {name: judged(rng, 0.0) for name in (OFF, "light", "standard", "strong")}
        refused += choose_policy(found, OWNERS, seed).policy == OFF
    assert refused >= 93


def test_nothing_to_judge_by_is_off() -> None:
    nothing = np.empty((0, 2))
    choice = choose_policy({OFF: nothing, "light": nothing}, np.empty(0, np.int64), 0)
    assert choice.policy == OFF
    assert "0 validation contexts" in choice.why
    assert choose_policy({OFF: nothing}, np.empty(0, np.int64), 0).why.startswith("there is no candidate")


def test_a_candidate_far_behind_is_not_trained_to_its_end() -> None:
    behind = falls_behind([0.1, 0.3, 0.2])
    assert not behind(1, 0.01)  # it may learn more slowly, up to the epoch at which off was best
    assert behind(2, 0.23)
    assert not behind(2, 0.25)
    assert behind(5, 0.1)
    assert not behind(2, float("nan"))  # nothing to judge by
    assert not falls_behind([])(3, 0.0)


def test_settled_configurations() -> None:
    config = load_config(None, [])
    assert is_open(config)
    assert not is_open(with_policy(config, "light"))
    assert with_policy(config, "light").augment.policy == "light"
    assert not with_policy(config, OFF).augment.enabled
    assert not is_open(load_config(None, ["augment.enabled=false"]))


@pytest.mark.parametrize("setting", ["augment.candidates=['lihgt']", "augment.policy=lihgt"])
def test_a_policy_that_is_not_there_is_said_before_anything_takes_time(setting: str) -> None:
    with pytest.raises(ConfigError, match="lihgt"):
        require_policies(load_config(None, [setting]))


def run_settings(made: Made, *more: str) -> list[str]:
    return [part for one in [*made.settings, "finetune.enabled=false", *more] for part in ("--set", one)]


def enough(*_: object) -> None:
    raise ConfigError("what is asked for was done")


@pytest.fixture(scope="module")
def auto(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("auto")
    settings = run_settings(made, "augment.policy=auto", "rank.slices=1", "rank.trees=5")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recsys.ranking.MIN_LISTS", 12)  # so that a shop of some hundred users has a ranker
        assert main(["run", "--data", str(made.data), "--out", str(out), *settings]) == 0
    return (out / "live").resolve()


@pytest.mark.slow
def test_a_run_says_what_it_chose_and_why(auto: Path) -> None:
    stages = load_manifest(auto).stages
    said = stages["policy"]
    tried = set(AugmentConfig().candidates)
    assert said["policy"] in {OFF, *tried}
    assert set(said["differences"]) == tried
    assert set(said["epochs"]) == {OFF, *tried}
    assert min(said["epochs"].values()) >= 1
    makes_rows = said["policy"] != OFF and bool(load_policy(said["policy"]).history.ops.ops)
    assert bool(stages["select"]["augmented_rows"]) == makes_rows
    for fit in ("select", "report", "final"):  # every fit is augmented as was chosen
        assert (auto / "augmented" / f"{fit}_histories.parquet").is_file() == makes_rows
    assert (auto / "training" / "select").is_dir()
    assert not (auto / "training" / "policies").exists()
    assert stages["select"]["seconds"] < said["seconds"]  # it found the fit done


@pytest.mark.slow
def test_the_ranker_that_is_served_has_learned_from_the_newest_slice(auto: Path) -> None:
    stages = load_manifest(auto).stages
    taught, served = stages["ranker"], stages["served_ranker"]
    assert taught["kept"]
    assert served["kept"]
    assert served["lists"] > served["users"] > 12, "those of validation too"
    means = _feature_means(load_manifest(auto))
    assert means is not None
    np.testing.assert_allclose(means, served[FEATURE_MEANS], rtol=1e-6)
    assert served[FEATURE_MEANS] != taught[FEATURE_MEANS]


def test_a_run_ends_a_candidate_that_is_far_behind(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy_choice, "KEEPS_UP", 1e9)  # nobody is ever good enough
    monkeypatch.setattr(pipeline, "_select", enough)
    asked = ["augment.policy=auto", 'augment.candidates=["light"]', "train.max_epochs=6", "train.patience=6"]
    settings = run_settings(made, *asked)
    assert main(["run", "--data", str(made.data), "--out", str(tmp_path), *settings]) != 0
    (folder,) = (path.parent for path in tmp_path.glob("*/manifest.json"))
    epochs = load_manifest(folder).stages["policy"]["epochs"]
    assert epochs[OFF] == 6
    assert epochs["light"] < 6


@pytest.mark.slow
def test_the_fit_of_the_chosen_policy_is_that_of_a_run_told_to_use_it(
    made: Made, auto: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = load_manifest(auto).stages
    chosen = said["policy"]["policy"]
    monkeypatch.setattr(pipeline, "_ranker", enough)
    settings = run_settings(made, "augment.enabled=false" if chosen == OFF else f"augment.policy={chosen}")
    assert main(["run", "--data", str(made.data), "--out", str(tmp_path), *settings]) != 0
    (folder,) = (path.parent for path in tmp_path.glob("*/manifest.json"))
    again = load_manifest(folder).stages
    assert "policy" not in again
    assert again["select"]["losses"] == said["select"]["losses"]
