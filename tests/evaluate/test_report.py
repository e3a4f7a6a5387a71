from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from recsys.evaluate.answers import AnswerSheet, Histories
from recsys.evaluate.evaluate import Evaluation, compare, evaluate_lists
from recsys.evaluate.measure import Measure, measure_baselines
from recsys.evaluate.plots import learning_curves
from recsys.evaluate.report import (
    Example,
    ReportContent,
    flatten,
    markdown,
    write_json,
    write_report,
)
from recsys.evaluate.standard import standard_baselines
from recsys.evaluate.tables import (
    Grid,
    OnTerminal,
    comparison_grid,
    cutoff_grid,
    overview_grids,
    results_grid,
    segment_grids,
    short_grids,
    shown_grid,
    to_markdown,
)

EVIL = "<script>alert('x')</script> $\\frac$ [bold]|pipe"
STAGES = {
    "split": {"seconds": 0.25, "cut": 17},
    "train": {
        "seconds": 61.5,
        "epochs": [{"epoch": 1, "loss": 3.5, "ndcg@10": 0.01}, {"epoch": 2, "loss": 3.1, "ndcg@10": 0.02}],
        "finetune": {"losses": [2.0, 1.5, 1.25]},
        "kept": "frozen",
        "names": ["a", "b"],
        "hidden": [64, 32, 16],
    },
}


@pytest.fixture(scope="module")
def evaluations(split: tuple[AnswerSheet, Histories], vectors: np.ndarray) -> list[Evaluation]:
    sheet, train = split
    lists = np.tile(np.arange(50), (len(sheet), 1))
    chosen = standard_baselines(train, vectors).baselines
    both = measure_baselines(sheet, train, chosen, Measure(space=vectors, replicates=30))
    return [
        one
        for task in ("all", "novel")
        for one in [
            evaluate_lists(lists, sheet, task, name=EVIL, vectors=vectors, replicates=30),
            *both[task],
        ]
    ]


@pytest.fixture(scope="module")
def content(evaluations: list[Evaluation]) -> ReportContent:
    return ReportContent(
        title=EVIL,
        evaluations=evaluations,
        comparisons=[compare(evaluations[0], evaluations[1], replicates=30)],
        settings={"train": {"max_epochs": 12, "learning_rate": 1e-3}, "name": EVIL},
        stages=STAGES,
        data_report={"interactions": {"read": 1234567, "duplicates": 3}},
        examples=[Example(EVIL, [EVIL], ["Kettle", EVIL]), Example("newcomer", [], ["Kettle"])],
        notes=[EVIL],
    )


class Page(HTMLParser):
    """Which tags a page has, and which addresses they point to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_escapes_text_and_loads_nothing(content: ReportContent, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(path, content)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert text.startswith("<!doctype html>")
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert page.text.count("<script>alert('x')</script>") >= 8  # shown as text wherever it was given
    assert page.addresses
    assert all(address.startswith("data:image/svg+xml;base64,") for address in page.addresses)
    assert not re.search(r"url\(|@import", text)


def test_page_holds_every_part(content: ReportContent, tmp_path: Path) -> None:
    write_report(tmp_path / "r.html", content)
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    for expected in (
        "task all", "task novel", "item_knn", "text_whitened", "coldness", "Paired differences", "1,234,567",
        "train.max_epochs", "61.5", "Kettle", "newcomer", "interactions.duplicates", "Learning curves",
    ):  # fmt: skip
        assert expected in page.text, expected
    figures = [base64.b64decode(a.split(",", 1)[1]).decode() for a in page.addresses]
    assert len(figures) == 2 * 3 + 2
    assert all(figure.lstrip().startswith("<?xml") and "<script" not in figure for figure in figures)


def test_page_is_the_same_each_time_and_under_a_megabyte(content: ReportContent, tmp_path: Path) -> None:
    write_report(tmp_path / "a.html", content)
    write_report(tmp_path / "b.html", content)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert (tmp_path / "a.html").stat().st_size < 1_000_000


def test_a_report_of_figures_alone(evaluations: list[Evaluation], tmp_path: Path) -> None:
    write_report(tmp_path / "r.html", ReportContent("Plain", evaluations[:1]))
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    for absent in ("Examples", "Settings", "Learning curves", "Differences", "Seconds per stage"):
        assert absent not in page.text


def test_json_is_plain_and_complete(content: ReportContent, tmp_path: Path) -> None:
    write_json(tmp_path / "r.json", content)
    read = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert read["title"] == EVIL
    assert len(read["evaluations"]) == len(content.evaluations)
    first = read["evaluations"][0]
    assert first["task"] == "all"
    assert set(first["metrics"]["ndcg@10"]) == {"mean", "low", "high"}
    assert set(first["segments"]) == {"history", "sparse", "coldness", "answers"}
    assert set(first["catalogue"]["gini@5"]) == {"mean", "low", "high"}
    assert first["segments"]["coldness"]["0"]["users"] > 0
    assert read["comparisons"][0]["other"] == "popular"


def test_markdown_tables_are_rectangular(content: ReportContent) -> None:
    text = markdown(content)
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 2 * 7 + 1
    assert text.endswith(f"\n\n{EVIL}\n")
    for lines in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1


def test_terminal_takes_text_literally(evaluations: list[Evaluation]) -> None:
    console = Console(width=240, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(OnTerminal(results_grid(evaluations[:2])))
    assert EVIL in console.export_text()


@pytest.mark.parametrize("width", [80, 100, 300])
def test_a_narrow_terminal_breaks_no_word(width: int) -> None:
    columns = (
        "segment",
        "users",
        "metric",
        "off",
        "difference, 95% interval",
        "effect d",
        "p, Holm",
        "verdict",
    )
    figures = ("3,611", "recall@20", "0.00000", "+0.00000 [+0.00000, +0.00000]", "+0.037", "0.328")
    names = ("coldness 1-5", "new items among themselves")
    rows = tuple((name, *figures, "cannot tell") for name in names)
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(OnTerminal(Grid("spelling against off", columns, rows)))
    shown = console.export_text()
    assert all(cell_len(line.rstrip()) <= width for line in shown.splitlines())
    for cell in (*columns, *names, *figures, "cannot tell"):
        assert set(cell.split()) <= set(shown.split()), cell


def test_of_no_width_that_fits_a_word_nothing_is_lost() -> None:
    console = Console(width=30, record=True, file=io.StringIO())
    console.print(OnTerminal(Grid("A title", ("system", "ndcg@10"), (("x" * 60, "0.12345"),))))
    shown = console.export_text()
    assert shown.count("x") == 60
    assert "0.12345" in shown


def test_grids_show_what_was_measured(evaluations: list[Evaluation]) -> None:
    grid = results_grid(evaluations[:3])
    assert grid.columns == ("system", "ndcg@10", "recall@20", "hit@10", "mrr@20", "map@10")
    mean = evaluations[1]["ndcg@10"].mean
    assert grid.rows[1][1].startswith(f"{mean:.5f} [")
    shown = shown_grid(evaluations[:3])
    assert shown.columns[1:] == (
        "coverage@10", "gini@10", "novelty@10", "popularity_bias@10", "diversity@10",
    )  # fmt: skip
    assert shown.rows[2][1].startswith(f"{evaluations[2].catalogue['coverage@10'].mean:.5f} [")
    cutoffs = cutoff_grid(evaluations[:3])
    assert [row[0] for row in cutoffs.rows[:5]] == ["ndcg@5", "ndcg@10", "ndcg@20", "ndcg@50", "recall@5"]
    assert len(cutoffs.rows) == 20
    assert len(cutoffs.columns) == 4
    history, sparse, coldness, answers = segment_grids(evaluations[:3])
    assert history.title.endswith("ndcg@10 by history")
    assert sparse.columns[1].startswith("1-3 (n=")
    assert coldness.title.endswith("recall@20 by coldness")
    assert len(coldness.columns) == 5
    assert answers.columns[2].startswith("novel (n=")
    assert len(overview_grids(evaluations[:3])) == 7
    assert [grid.title.rsplit(" by ")[-1] for grid in short_grids(evaluations[:3])[1:]] == [
        "history", "coldness",
    ]  # fmt: skip


def test_no_repeats_under_novel(evaluations: list[Evaluation]) -> None:
    novel = next(one for one in evaluations if one.task == "novel")
    assert len(novel.segment("answers", "repeat")) == 0
    same, whole = novel.segment("answers", "novel").figures["ndcg@10"], novel["ndcg@10"]
    assert same.mean == whole.mean
    # Both are columns of one product in single precision, which need not add them up in the same order.
    assert (same.low, same.high) == pytest.approx((whole.low, whole.high), rel=1e-6)


def test_an_empty_segment_is_a_dash(split: tuple[AnswerSheet, Histories]) -> None:
    sheet, _ = split
    lists = np.tile(np.arange(20), (len(sheet), 1))
    short = AnswerSheet(
        sheet.users, sheet.items, sheet.truth, sheet.histories, np.full(len(sheet), 2), sheet.item_counts
    )
    evaluation = evaluate_lists(lists, short, replicates=20)
    assert segment_grids([evaluation])[0].rows[0][-1] == "–"
    other = evaluate_lists(lists[:, ::-1].copy(), short, replicates=0, name="b")
    text = to_markdown(comparison_grid([compare(evaluation, other, replicates=20)]))
    assert "| history >50 | 0 | – |" in text


def test_curves_are_found_in_stages() -> None:
    curves = {curve.title: curve for curve in learning_curves(STAGES)}
    assert set(curves) == {"train: epochs", "train: finetune: losses"}
    assert curves["train: epochs"].axis == "epoch"
    assert curves["train: epochs"].lines == {"loss": (3.5, 3.1), "ndcg@10": (0.01, 0.02)}
    assert curves["train: finetune: losses"].lines == {"losses": (2.0, 1.5, 1.25)}


def test_flatten_keeps_order_and_shortens_long_lists() -> None:
    rows = flatten({"b": {"x": True, "y": {}}, "a": list(range(20)), "c": None})
    assert rows[0] == ("b.x", "True")
    assert rows[1] == ("b.y", "{}")
    assert rows[2][1].endswith("… (20 in all)")
    assert rows[3] == ("c", "None")
