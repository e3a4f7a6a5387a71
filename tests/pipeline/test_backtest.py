"""A run against what came after it: through the one recommendation path, with features of each moment."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from whole_run import Made

from recsys.backtest import measure_run
from recsys.cli import main
from recsys.data.interactions import load_dataset
from recsys.errors import InputError
from recsys.evaluate.hindsight import HINDSIGHT, HINDSIGHT_NOTE
from recsys.fit import Shop
from recsys.measure import K, case_queries, drawn_answers, later_cases, measure_report
from recsys.report_settings import EvaluateConfig

DAY = 86_400


@pytest.fixture(scope="module")
def later(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop of the run with a month more: its last events again, a new item and a new user."""
    folder = tmp_path_factory.mktemp("later")
    events = pd.read_parquet(made.data / "interactions.parquet")
    items = pd.read_parquet(made.data / "items.parquet")
    shift = made.run.moment - int(events["timestamp"].iloc[-300]) + DAY
    more = events.tail(300).assign(timestamp=lambda frame: frame["timestamp"] + shift)
    strange = more.tail(3).assign(user_id="newcomer", item_id=["brand-new", *more["item_id"].tail(2)])
    strange["timestamp"] = more["timestamp"].max() + np.arange(3) * DAY
    pd.concat([events, more, strange]).to_parquet(folder / "interactions.parquet", index=False)
    fresh = items.head(1).assign(item_id="brand-new")
    pd.concat([items, fresh]).to_parquet(folder / "items.parquet", index=False)
    return folder


def shop(made: Made, folder: Path) -> Shop:
    now = made.run.moment + 4000 * DAY
    return Shop(load_dataset(folder, made.run.config.data, now=now), made.run.config)


def test_both_protocols_are_measured_beside_the_baselines(made: Made, later: Path) -> None:
    data = shop(made, later)
    raw = np.random.Generator(np.random.PCG64(0)).normal(size=(len(data.vocabulary), 8)).astype(np.float32)
    sheet = measure_run(made.run, data, "sheet", "all", raw)
    steps = measure_run(made.run, data, "successive", "novel", raw)
    for measured, protocol, task in ((sheet, "sheet", "all"), (steps, "successive", "novel")):
        names = [one.name for one in measured.evaluations]
        assert names[:2] == ["recsys", "towers"]
        assert {"popular", "item_knn", "ease", "ease_decay", "text_whitened", "fusion"} <= set(names)
        assert {(one.protocol, one.task) for one in measured.evaluations} == {(protocol, task)}
        assert names[-1] == HINDSIGHT
        assert measured.comparisons[0].other != HINDSIGHT, "it is no baseline"
        assert HINDSIGHT_NOTE in measured.notes()
        assert len({len(one.users) for one in measured.evaluations}) == 1
        assert measured.comparisons[0].name == "recsys"
    assert sheet.cases == {}
    assert "newcomer" not in sheet.evaluations[0].users  # nobody knew them at the cut
    assert "newcomer" in steps.evaluations[0].users  # their second moment has a history
    assert steps.cases["measured"] >= len(steps.evaluations[0].users)
    assert steps.cases["without_history"] == 1
    assert any("cases measured" in note for note in steps.notes())
    first = steps.evaluations[0]
    assert first.users.nunique() < len(first.users)


def test_of_many_users_a_report_measures_some_and_says_so(made: Made, later: Path) -> None:
    data = shop(made, later)
    raw = np.random.Generator(np.random.PCG64(0)).normal(size=(len(data.vocabulary), 8)).astype(np.float32)
    whole = measure_run(made.run, data, "sheet", "all", raw, baselines=False)
    assert whole.num_users > 20
    assert not any("drawn at random" in note for note in whole.notes()), "who asks for it has everybody"
    answers = data.answers(made.run.moment, data.end)
    assert drawn_answers(answers, len(answers), 0) is answers
    some = drawn_answers(answers, 20, 0)
    assert len(some) == 20
    assert all(some[user].tolist() == answers[user].tolist() for user in some)
    assert list(some) == list(drawn_answers(dict(reversed(answers.items())), 20, 0)), "whatever their order"
    assert list(some) != list(drawn_answers(answers, 20, 1))
    config = data.config.model_copy(update={"evaluate": EvaluateConfig(users=20, cases=30)})
    few = Shop(data.dataset, config)
    run = made.run
    said = measure_report(run.recommender, run.path, few, run.moment, raw, run.augmenter)
    measured = [one for one in said.evaluations if (one.protocol, one.task) == ("sheet", "all")]
    assert {tuple(one.users) for one in measured} == {tuple(some)}
    assert said.notes()[0] == f"20 of {len(answers):,} users are measured, drawn at random."
    assert (said.to_dict()["users"], said.to_dict()["users_came_back"]) == (20, len(answers))


def test_a_case_is_asked_with_what_was_known_before_it(made: Made, later: Path) -> None:
    data = shop(made, later)
    cases = later_cases(data, made.run.moment)
    queries = case_queries(data, cases, exclude_seen=True)
    histories = cases.sheet.histories
    assert len(queries) == len(cases.sheet)
    for case, query in enumerate(queries):
        mine = slice(histories.offsets[case], histories.offsets[case + 1])
        assert query.features is not None
        assert query.k == K
        assert query.features.num_events == mine.stop - mine.start
        assert query.features.as_of == histories.timestamps[mine][-1] < query.moment
        owned = set(data.vocabulary.rows(query.features.owned.item_ids).tolist())
        assert owned == set(histories.rows[mine].tolist())


def test_the_command_prints_tables_or_json(
    made: Made, later: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked = ["evaluate", "--run", str(made.out), "--data", str(later), "--protocol", "successive"]
    assert main([*asked, "--no-baselines", "--json"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in read["evaluations"]] == ["recsys", "towers"]
    assert {one["protocol"] for one in read["evaluations"]} == {"successive"}
    assert "Successive targets" in read["notes"][0]
    assert main([*asked, "--html", str(tmp_path / "r.html"), "--markdown", str(tmp_path / "r.md")]) == 0
    out = capsys.readouterr().out
    assert "Task all, successive targets" in out
    assert "cases of" in out
    assert "text_untuned is left out" in out
    assert "Successive targets" in (tmp_path / "r.md").read_text(encoding="utf-8")


def test_a_run_that_knows_everything_cannot_be_measured(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--run", str(made.out), "--data", str(made.data)]) == 2
    assert "no event is newer" in capsys.readouterr().err


def test_another_shop_is_refused(made: Made, later: Path, tmp_path: Path) -> None:
    events = pd.read_parquet(later / "interactions.parquet")
    items = pd.read_parquet(later / "items.parquet")
    kept = set(events["item_id"].tail(40))
    events[events["item_id"].isin(kept)].to_parquet(tmp_path / "interactions.parquet", index=False)
    items[items["item_id"].isin(kept)].to_parquet(tmp_path / "items.parquet", index=False)
    with pytest.raises(InputError, match="the run recommends items that the data lacks"):
        measure_run(made.run, shop(made, tmp_path), "sheet", "all", baselines=False)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--run", "x"],
        ["--split", "x"],
        ["--run", "x", "--data", "y", "--recs", "z"],
        ["--split", "x", "--recs", "y", "--protocol", "successive"],
    ],
)
def test_lists_or_a_run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1
