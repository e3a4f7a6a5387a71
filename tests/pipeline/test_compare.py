"""The comparison on a tiny shop: the same arms, whatever interrupts it, and files that say the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from whole_run import Made

from recsys.arms import Arm, Trials
from recsys.cli import main
from recsys.compare import words
from recsys.compare.contenders import Contender, enter
from recsys.compare.misspelled import Misspelled
from recsys.compare.outcomes import Kept, Outcomes
from recsys.compare.run import WORK, Order, run_compare
from recsys.compare.taught import TowersAndReader
from recsys.compare.trainings import TowersAlone, Turn, duration, new_items, refuse_unequal_steps
from recsys.compare.tuned import TunedTowers
from recsys.config import Config
from recsys.errors import ArtifactError, LeakageError, RecsysError
from recsys.search.bench import no_better_for

SEEDS = 2


@dataclass(frozen=True)
class Shop:
    data: Path
    settings: list[str]
    out: Path
    said: str
    record: dict

    def arguments(self, out: Path, *more: str) -> list[str]:
        options = [part for setting in self.settings for part in ("--set", setting)]
        return [
            "compare",
            "--data",
            str(self.data),
            "--out",
            str(out),
            "--seeds",
            str(SEEDS),
            *options,
            *more,
        ]


@pytest.fixture(scope="module")
def shop(made: Made, prepared: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Shop:
    out = tmp_path_factory.mktemp("compare") / "out"
    prepared(out / WORK)
    return Shop(made.data, made.settings, out, "", {})


@pytest.fixture(scope="module")
def done(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The comparison, uninterrupted, with what it printed."""
    with (tmp_path_factory.mktemp("said") / "out").open("w+") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", file)
        assert main(shop.arguments(shop.out)) == 0
        file.seek(0)
        return replace(shop, said=file.read(), record=record(shop.out))


def outcomes_in(out: Path) -> dict[Path, int]:
    """Finished outcomes and when they were written."""
    return {path: path.stat().st_mtime_ns for path in (out / "outcomes").glob("[!.]*.npz")}


def record(out: Path) -> dict:
    return json.loads((out / "compare.json").read_text())


def test_every_planned_segment_gets_a_verdict_and_the_files_agree(done: Shop) -> None:
    said = done.record
    judged = [one for one in said["findings"] if one["verdict"]]
    assert {(one["dimension"], one["segment"]) for one in judged} == {
        ("whole", "whole"), ("history", "1-4"), ("coldness", "0"), ("coldness", "1-5"), ("text", "thin"),
        ("new items", "among themselves"), ("search", "misspelled"),
        ("search", "half, misspelled"),
    }  # fmt: skip
    assert {one["arm"] for one in judged} == {"standard"}
    assert {one["arm"] for one in said["findings"]} >= {"placebo:duplicate", "placebo:random_insert"}
    assert all(
        len(one["differences"]["ndcg@10"]["by_seed"]) == SEEDS for one in judged if one["segment"] == "whole"
    )
    page, table = (done.out / "compare.html").read_text(), (done.out / "compare.md").read_text()
    assert page.count("<img ") == 5, "a forest, two bands, losses, what chose the epochs"
    for one in judged:
        assert one["verdict"]["why"] in table
    assert said["verdict"][0] in done.said
    assert said["next"] in done.said
    assert "http" not in page.replace("http-equiv", "").replace("data:image", "")


def test_a_duplicate_under_mix_is_off_and_was_not_trained(done: Shop) -> None:
    assert len(outcomes_in(done.out)) == SEEDS * 4
    same = [one for one in done.record["findings"] if one["arm"] == "placebo:duplicate"]
    assert all(found["difference"] == 0 for one in same for found in one["differences"].values())


def test_more_seeds_train_what_is_missing_alone(done: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(done.arguments(done.out, "--seeds", "1")) == 0
    assert "all 4 trainings were finished before" in capsys.readouterr().err


@pytest.mark.slow
def test_processes_train_what_one_would(done: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    before = outcomes_in(done.out)
    arguments = ["--arms", "off", "light", "--no-placebos", "--workers", "2"]
    assert main(done.arguments(done.out, *arguments)) == 0
    said = capsys.readouterr().err
    assert f"{SEEDS} were finished before" in said
    assert len(outcomes_in(done.out)) == len(before) + SEEDS
    assert outcomes_in(done.out).items() >= before.items()


@pytest.mark.slow
def test_a_killed_comparison_goes_on_to_the_same_figures(
    done: Shop, prepared: Callable[[Path], Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    prepared(out / WORK)
    command = [sys.executable, "-m", "recsys", *done.arguments(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and len(outcomes_in(out)) < 2:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    finished = outcomes_in(out)
    assert 2 <= len(finished) < SEEDS * 4
    assert main(done.arguments(out)) == 0
    assert outcomes_in(out).items() >= finished.items(), "trained once"
    assert record(out)["findings"] == done.record["findings"]


def test_another_process_is_kept_out(done: Shop, held_by_another, capsys: pytest.CaptureFixture[str]) -> None:
    with held_by_another(done.out):
        assert main(done.arguments(done.out)) == 1
    assert "another process writes there" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["light"],
        ["--arms", "off"],
        ["--arms", "off", "nonsense"],
        ["--share", "1.5"],
        ["--set", "augment.enabled=false"],
        ["--task", "some"],
    ],
)
def test_bad_usage_is_two_and_one_line(
    shop: Shop, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "--data", str(shop.data), "--out", str(tmp_path / "o"), *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_missing_data_and_a_file_in_the_folders_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    for data, out in ((tmp_path / "nowhere", tmp_path / "o"), (tmp_path, tmp_path / "file")):
        command = ["compare", "--data", str(data), "--out", str(out), "--set", "track.enabled=off"]
        assert main(command) == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture(scope="module")
def trials(done: Shop, made: Made) -> Trials:
    return Trials.prepare(done.data, done.out / WORK, made.plain)


def test_augmented_rows_are_refused_as_those_that_are_judged(trials: Trials) -> None:
    report = trials._report
    parents = np.full(len(report), -1)
    parents[3] = 0
    leaking = Trials(trials.prepared, trials.config, trials.work, replace(report, parents=parents))
    with pytest.raises(LeakageError, match="1 augmented rows reached evaluation"):
        leaking.run(Arm.of("off"), 0, when="report", epochs=1)


def test_a_part_of_the_data_is_a_part_of_its_own(shop: Shop, done: Shop) -> None:
    entered = enter(["off", "light"], None, done.settings, placebos=False)
    found = run_compare(shop.data, done.out, entered, Order(1, (0.5,)), TowersAlone, lambda line: None)
    judged = {one.name: one for one in found.findings if one.verdict}
    assert judged["data 50%"].main.users == judged["whole"].main.users
    assert set(found.epochs) == {1.0, 0.5}
    assert found.steps[0.5] < found.steps[1.0] or found.epochs[0.5] > found.epochs[1.0]


# Small parts.


def kept(steps: int) -> Kept:
    return Kept(np.zeros((1, 2), np.int64), {"steps": steps})


def test_arms_that_took_other_steps_are_refused() -> None:
    turns = [Turn(Contender(Arm.of(name)), 0, 1.0, 1, name) for name in ("off", "light")]
    assert refuse_unequal_steps(turns, [kept(7), kept(7)]) == {1.0: 7}
    with pytest.raises(RecsysError, match="light took 9 optimiser steps and off 7"):
        refuse_unequal_steps(turns, [kept(7), kept(9)])


def test_an_outcome_comes_back_and_a_damaged_one_says_what_to_do(tmp_path: Path) -> None:
    outcomes = Outcomes(tmp_path, {"data": "a"})
    key = outcomes.key(seed=1, trained="off")
    assert key != Outcomes(tmp_path, {"data": "b"}).key(seed=1, trained="off")
    assert key != outcomes.key(seed=2, trained="off")
    assert not outcomes.has(key)
    others = {"new items": np.array([[7, 8]])}
    outcomes.keep(key, Kept(np.array([[3, -1]]), {"steps": 2, "losses": [0.5]}, others))
    found = outcomes.load(key)
    assert (found.lists.tolist(), found.about) == ([[3, -1]], {"steps": 2, "losses": [0.5]})
    assert {name: rows.tolist() for name, rows in found.others.items()} == {"new items": [[7, 8]]}
    (tmp_path / f"{key}.npz").write_bytes(b"PK half")
    with pytest.raises(ArtifactError, match="delete it"):
        outcomes.load(key)


def test_patience_counts_epochs_after_the_best() -> None:
    stop = no_better_for(2)
    assert [stop(i + 1, figure) for i, figure in enumerate([0.1, 0.3, 0.2, 0.25])] == [
        False,
        False,
        False,
        True,
    ]


def test_durations_are_said_as_people_say_them() -> None:
    assert [duration(s) for s in (12, 240, 9000)] == ["12 seconds", "4 minutes", "2.5 hours"]


def test_the_defaults_compare_the_candidates() -> None:
    assert enter([], None, []).contenders[1].name == Config().augment.candidates[0]


# With an encoder of their own.


def test_new_items_are_ranked_among_themselves(trials: Trials) -> None:
    new = trials.sheet("report").item_counts == 0
    done = trials.run(Arm.of("off"), 0, when="report", epochs=1)
    assert done.towers is not None
    lists = new_items(trials, done.towers, "novel")
    assert new.any()
    assert new[lists[lists >= 0]].all()
    assert ((lists >= 0).sum(axis=1) == min(new.sum(), 20)).all()
    scores = done.towers.user_vectors(trials.judged("report")) @ done.towers.item_vectors().T
    best = np.flatnonzero(new)[scores[:, new].argmax(axis=1)]
    assert (lists[:, 0] == best).mean() > 0.95, "but for ties"


def test_misspelled_queries_have_the_same_ranks_however_many_are_scored_at_once(
    trials: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = trials.texts.vectors
    at_once = Misspelled(trials).ranks(vectors)
    monkeypatch.setattr("recsys.evaluate.known_item._CELLS", 3 * len(vectors))
    assert Misspelled(trials).ranks(vectors) == at_once
    assert list(at_once) == ["misspelled", "half, misspelled"]
    for ranks in at_once.values():
        assert len(ranks) > 10
        assert min(ranks) >= 1


def test_every_arm_fine_tunes_its_encoder(done: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    hard = ["finetune.steps=8", "finetune.max_passes=100", "finetune.learning_rate=0.01", "finetune.layers=1"]
    few = ["--seeds", "1", *(part for setting in hard for part in ("--set", setting))]
    arms = ["--arms", "off", "spelling", "placebo:random_insert"]
    arguments = done.arguments(done.out, "--finetune", "--no-placebos", *few, *arms)
    assert main(arguments) == 0
    assert "and the fine-tuning of the encoder in every training on top" in capsys.readouterr().err
    found = record(done.out)
    assert found["facts"]["depth"] == "tuned"
    search = [one for one in found["findings"] if one["dimension"] == "search"]
    assert {one["arm"] for one in search} == {"spelling", "placebo:random_insert"}
    assert any(one["differences"]["mrr@20"]["difference"] for one in search), "other texts, another encoder"
    assert not list((done.out / "work").rglob("*-tuning")), "nothing is left of a tuning"


def test_every_arm_teaches_queries_and_lists_stay(done: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    hard = ["queries.steps=12", "queries.max_passes=100", "queries.learning_rate=0.01", "queries.layers=1"]
    few = ["--seeds", "1", *(part for setting in hard for part in ("--set", setting))]
    arms = ["--arms", "off", "spelling", "placebo:random_insert"]
    assert main(done.arguments(done.out, "--search", "--no-placebos", *few, *arms)) == 0
    assert "and the teaching of queries in every training on top" in capsys.readouterr().err
    found = record(done.out)
    assert found["facts"]["depth"] == "search"
    search = [one for one in found["findings"] if one["dimension"] == "search"]
    assert {one["arm"] for one in search} == {"spelling", "placebo:random_insert"}
    assert any(one["differences"]["mrr@20"]["difference"] for one in search), "other titles, another reader"
    assert not list((done.out / "work").rglob("*-queries")), "nothing is left of the teaching"


def test_a_reader_is_beside_the_towers_and_takes_the_same_steps_in_every_arm(trials: Trials) -> None:
    misspelled, few = Misspelled(trials), {"queries.steps": 4, "queries.learning_rate": 0.01}
    depth, alone = TowersAndReader(trials, misspelled), TowersAlone(trials, misspelled)
    off, spelling = (Contender(Arm.of(name), changes=few) for name in ("off", "spelling"))
    plain, first, second = (depth_.outcome(one, 0, 1, 1.0) for depth_, one in
                            ((alone, off), (depth, off), (depth, spelling)))  # fmt: skip
    assert np.array_equal(plain.lists, first.lists)
    assert plain.about["steps"] + 4 == first.about["steps"] == second.about["steps"]
    assert plain.about["ranks"] != first.about["ranks"] != second.about["ranks"]
    assert depth.outcome(off, 0, 1, 0.5).about["steps"] == alone.outcome(off, 0, 1, 0.5).about["steps"]


def test_readers_that_differ_in_how_they_are_taught_stand_beside_the_same_towers(
    trials: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted, run = [], Trials.run
    monkeypatch.setattr(
        Trials, "run", lambda *given, **more: fitted.append(given[1].name) or run(*given, **more)
    )
    depth = TowersAndReader(trials, Misspelled(trials))
    arms = [
        Contender(Arm.of("off"), changes={"queries.steps": steps, "queries.learning_rate": 0.01})
        for steps in (2, 3)
    ]
    turns = [Turn(one, seed, 1.0, 1, "") for seed in (0, 1) for one in arms]
    kept = [depth.outcome(turn.contender, turn.seed, 1, 1.0) for turn in turns]
    assert fitted == ["off", "off"], "once for each seed"
    assert [depth.shared_by(turn) for turn in turns[:2]] == [depth.shared_by(turns[0])] * 2
    assert depth.shared_by(turns[0]) != depth.shared_by(turns[2])
    assert kept[0].about["steps"] + 1 == kept[1].about["steps"]
    assert kept[0].about["ranks"] != kept[1].about["ranks"]
    assert kept[2].about["losses"] != kept[0].about["losses"]


@pytest.mark.parametrize(("depth", "more"), [("towers", ""), ("search", " --set queries.policy=spelling")])
def test_what_reads_queries_is_to_be_taught_as_it_was_judged(
    monkeypatch: pytest.MonkeyPatch, depth: str, more: str
) -> None:
    best = Contender(Arm.of("spelling"), ("augment.policy=spelling",))
    monkeypatch.setattr(words, "to_use", lambda done: best)
    line = words.next_line(SimpleNamespace(depth=f"{depth} novel"), Path("D"), None)
    assert line == f"recsys run --data D --out RUNS --set augment.policy=spelling{more}"


@pytest.mark.parametrize(
    "two", [("--lists", "--finetune"), ("--lists", "--search"), ("--finetune", "--search")]
)
def test_trainings_go_to_one_depth(done: Shop, tmp_path: Path, two: tuple[str, str]) -> None:
    assert main(done.arguments(tmp_path / "o", *two)) == 2


@pytest.mark.parametrize(("depth", "off"), [("--finetune", "finetune"), ("--search", "queries")])
def test_a_depth_that_settings_switch_off_is_refused(
    done: Shop, tmp_path: Path, depth: str, off: str
) -> None:
    assert main(done.arguments(tmp_path / "o", depth, "--set", f"{off}.enabled=false")) == 2


def test_an_encoder_is_trained_as_far_as_settings_say(trials: Trials) -> None:
    off, misspelled = Contender(Arm.of("off")), Misspelled(trials)
    alone = TowersAlone(trials, misspelled).outcome(off, 0, 1, 1.0)
    depth = TunedTowers(trials, misspelled)

    def trained(**changes: object) -> Kept:
        short = {"finetune.steps": 4, "pretrain.steps": 4, "finetune.learning_rate": 0.01} | changes
        return depth.outcome(replace(off, changes=short), 0, 1, 1.0)

    published = trained(**{"finetune.enabled": False})
    tuned = trained()
    adapted = trained(**{"finetune.enabled": False, "pretrain.enabled": True})
    both = trained(**{"pretrain.enabled": True})
    assert np.array_equal(published.lists, alone.lists), "what neither trains is the encoder as published"
    assert published.about["steps"] == adapted.about["steps"] == alone.about["steps"]
    assert tuned.about["steps"] == both.about["steps"] == alone.about["steps"] + 4
    lists = [one.lists for one in (published, tuned, adapted, both)]
    assert all(not np.array_equal(a, b) for i, a in enumerate(lists) for b in lists[i + 1 :])


# Whole lists, and ablations over them.


def test_whole_lists_are_judged_with_every_source(done: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    out = done.out
    arguments = done.arguments(out, "--lists", "--no-placebos", "--seeds", "1")
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert "2 trainings of" in said.err
    assert "a ranker and the lists of every training on top" in said.err
    assert "the first took" in said.err
    assert record(out)["facts"]["depth"] == "lists"
    assert record(out)["facts"]["placebos"].startswith("none took part")
    assert main(arguments) == 0
    assert "all 2 trainings were finished before" in capsys.readouterr().err


def test_a_part_of_the_data_is_not_for_whole_lists(done: Shop, tmp_path: Path) -> None:
    assert main(done.arguments(tmp_path / "o", "--lists", "--share", "0.5")) == 2
    for what in ("sources", "all"):
        ablate = done.arguments(tmp_path / "o", "--what", what, "--share", "0.5")[1:]
        assert main(["ablate", *ablate]) == 2


def test_ops_are_tried_on_parts_of_the_data_as_well(
    done: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def noted(data, out, entered, order, *rest, **more) -> None:
        asked.append(order)
        raise RecsysError("enough")

    monkeypatch.setattr("recsys.compare.run.run_compare", noted)
    ablate = done.arguments(tmp_path / "o", "--what", "ops", "--share", "0.5", "--share", "0.2")[1:]
    assert main(["ablate", *ablate]) != 0
    assert [order.shares for order in asked] == [(0.2, 0.5)]


def test_sources_are_left_out_one_by_one(done: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["ablate", *done.arguments(done.out, "--what", "sources", "--seeds", "1")[1:]]
    assert main(arguments) == 0
    said = capsys.readouterr()
    found = json.loads((done.out / "ablate-sources.json").read_text())
    arms = {one["arm"] for one in found["findings"]}
    assert "without two_tower" in arms
    assert all(arm.startswith("without ") for arm in arms)
    assert {one["reference"] for one in found["findings"]} == {"default"}
    assert not any(one["dimension"] == "search" for one in found["findings"]), "sources touch no vector"
    assert "earns its place" in said.out
    assert "Against default, in percent of it" in said.out


def test_options_of_teaching_queries_are_tried_one_by_one(
    done: Shop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = {"enabled=false": {"queries.enabled": False}, "candidates=2": {"queries.candidates": 2}}
    tried["candidates=4097"] = {"queries.candidates": 4097}  # of fewer items than either
    monkeypatch.setattr("recsys.compare.ablations.flipped", lambda config, sections: tried)
    hard = ["queries.titles_per_step=8", "queries.steps=12", "queries.learning_rate=0.01", "queries.layers=1"]
    few = ["--seeds", "1", *(part for setting in hard for part in ("--set", setting))]
    arguments = ["ablate", *done.arguments(done.out, "--what", "queries", *few)[1:]]
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert "nothing changes with candidates=4097" in said.err
    found = json.loads((done.out / "ablate-queries.json").read_text())
    search = [one for one in found["findings"] if one["dimension"] == "search"]
    assert {one["arm"] for one in search} == {"enabled=false", "candidates=2"}
    assert not any(
        one["differences"]["ndcg@10"]["differing"] for one in found["findings"] if one["segment"] == "whole"
    )


def test_what_changes_no_list_is_left_out_and_said(done: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--what", "features", "--seeds", "2", "--set", "rank.enabled=false")
    arguments = ["ablate", *done.arguments(done.out, *asked)[1:]]
    assert main(arguments) == 2, "without a ranker no group of its features matters"
    said = capsys.readouterr().err
    assert "nothing changes with without match" in said
    assert "nothing that was tried changes a list" in said
