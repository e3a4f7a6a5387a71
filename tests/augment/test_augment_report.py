"""The page of an expansion: figures as in the files, text escaped, what is missing said."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.augment.gates.distance import distinct_n
from recsys.augment.gates.drift import Sample, measure
from recsys.augment.report.compare import compare_numbers
from recsys.augment.report.page import gather, write_report
from recsys.augment.report.samples import diff_parts
from recsys.augment.tokens import cut
from recsys.cli import main
from recsys.errors import ArtifactError

HOSTILE = "<script src=x \"quoted\" & 'single' {{ 7 * 7 }}"
"""In titles, where whole tags are cleaned away when data are read; ids are as they are."""
TAG = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    titles = [
        f"Soft warm cotton shirt {HOSTILE} for men",
        "Mug",
        "红色纯棉短袖上衣，适合运动休闲，夏天穿着很舒服",
        "Big lamp for the living room. Nice light. Easy to use",
    ]
    items = pd.DataFrame({"item_id": [f"i{i}{TAG}" for i in range(12)], "title": titles * 3})
    items["category"] = ["Home > Kitchen", "家居", "<b>Bold</b>"] * 4
    items["price"] = [float(i + 1) for i in range(12)]
    items.to_parquet(folder / "items.parquet")
    events = [
        (f"u{u}{TAG}", f"i{(u + step) % 12}{TAG}", 1_600_000_000 + step)
        for u in range(40)
        for step in range(u % 9 + 1)
    ]
    pd.DataFrame(events, columns=["user_id", "item_id", "timestamp"]).to_parquet(
        folder / "interactions.parquet"
    )
    return folder


def expanded(shop: Path, out: Path, policy: str = "strong") -> Path:
    command = ["augment", "run", "--data", str(shop), "--policy", policy, "--out", str(out)]
    assert main([*command, "--max-expansion", "2"]) == 0
    return out


@pytest.fixture(scope="module")
def expansion(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return expanded(shop, tmp_path_factory.mktemp("out") / "strong")


@pytest.fixture
def copied(expansion: Path, tmp_path: Path) -> Path:
    for file in expansion.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


class Page(HTMLParser):
    """Tags that were opened, and the cells of each table row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.rows: list[list[str]] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.rows[-1][-1] += data.strip()


def page_of(folder: Path, tmp_path: Path) -> tuple[str, Page]:
    path = tmp_path / "page" / "report.html"
    write_report(folder, path)
    text = path.read_text(encoding="utf-8")
    return text, Page(text)


def test_text_of_items_is_escaped_and_nothing_is_loaded(expansion: Path, tmp_path: Path) -> None:
    text, page = page_of(expansion, tmp_path)
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert html.escape(TAG, quote=False) in text, "the hostile ids are shown, as text"
    assert "&lt;script src=x" in text, "and the hostile title"
    assert "{{ 7 * 7 }}" in text, "an item's braces are no template"
    assert not re.search(r"""<[a-z]+ [^<>]*(?:src|href)\s*=|@import|url\(""", text), (
        "the page needs nothing else"
    )
    assert "default-src 'none'" in text


def test_counts_on_the_page_are_those_of_the_files(expansion: Path, tmp_path: Path) -> None:
    _, page = page_of(expansion, tmp_path)
    counts = json.loads((expansion / "counts.json").read_text(encoding="utf-8"))
    provenance = pq.read_table(expansion / "provenance.parquet").to_pandas()
    for kind in ("history", "text"):
        rejected = {k[9:]: v for k, v in counts[kind].items() if k.startswith("rejected:")}
        tried = counts[kind]["accepted"] + sum(rejected.values())
        row = next(cells for cells in page.rows if cells[0] == kind)
        wanted = [counts[kind]["rows"], tried, counts[kind]["accepted"], sum(rejected.values())]
        assert row[1:] == [f"{n:,}" for n in [*wanted, counts[kind].get("left_alone", 0)]]
        for reason, count in rejected.items():
            assert [reason, f"{count:,}"] in [cells[:2] for cells in page.rows]
        for op, count in provenance[provenance["kind"] == kind]["op"].value_counts().items():
            assert [op, f"{count:,}"] in [cells[:2] for cells in page.rows]


def test_reasons_by_op_are_shown_where_they_were_recorded(copied: Path, tmp_path: Path) -> None:
    counts = json.loads((copied / "counts.json").read_text(encoding="utf-8"))
    counts["ops"] = {"text": {"word_swap>typo": {"accepted": 1234, "too_long": 56, "rejected:garbled": 7}}}
    counts["text"]["tokens_out"] = 98_765
    (copied / "counts.json").write_text(json.dumps(counts), encoding="utf-8")
    (copied / "timing.json").write_text(
        json.dumps(
            {
                "workers": 2,
                "seconds": {"text": 2.0, "total": 4.0},
                "models": {"oracle:calls": 17, "oracle:cost_millionths": 1_234_500},
            }
        ),
        encoding="utf-8",
    )
    text, page = page_of(copied, tmp_path)
    row = next(cells for cells in page.rows if cells and cells[0] == "word_swap>typo")
    assert row[1:3] == ["1,234", "63"]
    assert "garbled 7, too_long 56" in text
    assert ["text: originals per second", "6"] in page.rows, "12 texts in two seconds"
    assert ["text: tokens_out", "98,765"] in page.rows
    assert ["text, seconds", "2"] in page.rows
    assert ["models: calls", "17"] in page.rows
    assert ["models: cost, in the unit of the prices given", "1.2345"] in page.rows
    assert ["workers", "2"] in page.rows
    assert ["tokens and money of models", "not recorded"] not in page.rows


def test_what_was_not_recorded_is_said(expansion: Path, copied: Path, tmp_path: Path) -> None:
    counts = json.loads((copied / "counts.json").read_text(encoding="utf-8"))
    counts.pop("ops", None)
    (copied / "counts.json").write_text(json.dumps(counts), encoding="utf-8")
    (copied / "timing.json").unlink(missing_ok=True)
    _, page = page_of(copied, tmp_path)
    assert ["seconds", "not recorded"] in page.rows
    assert ["tokens and money of models", "not recorded"] in page.rows
    assert any(cells[2:3] == ["not recorded"] for cells in page.rows)


def test_drift_is_what_the_gate_measures(expansion: Path) -> None:
    content = gather(expansion, 0)
    texts = pq.read_table(expansion / "texts.parquet").to_pandas()
    lengths = texts["text"].str.len().to_numpy(np.float64)
    child = texts["parent_id"].notna().to_numpy()
    wanted = measure(Sample({"length": lengths[~child]}), Sample({"length": lengths[child]}))
    shown = next(one for one in content.numbers if one.name == "text length, characters")
    assert shown.psi_training == pytest.approx(wanted["psi:length"])
    assert shown.after == (child.sum(), pytest.approx(lengths[child].mean()), np.median(lengths[child]))
    histories = pq.read_table(expansion / "histories.parquet").to_pandas()
    sizes, grown = histories["item_ids"].map(len), histories["parent_id"].notna()
    shown = next(one for one in content.numbers if one.name.startswith("history length"))
    assert (shown.before[1], shown.after[1]) == (
        pytest.approx(sizes[~grown].mean()), pytest.approx(sizes[grown].mean())
    )  # fmt: skip


def test_mixes_count_the_events_of_histories(expansion: Path) -> None:
    content = gather(expansion, 0)
    histories = pq.read_table(expansion / "histories.parquet").to_pandas()
    events = histories[histories["parent_id"].isna()]["item_ids"].explode().dropna()
    chinese = (events.str.extract(r"i(\d+)")[0].astype(int) % 3 == 1).mean()
    mix = next(one for one in content.mixes if one.name == "category, events of histories")
    assert {label: before for label, before, _ in mix.labels}["家居"] == pytest.approx(chinese)


def test_variety_is_of_parents_against_their_variants(expansion: Path) -> None:
    content = gather(expansion, 0)
    texts = pq.read_table(expansion / "texts.parquet").to_pandas()
    children = texts[texts["parent_id"].notna()]
    by_language = {row.language: row for row in content.variety}
    assert by_language["all"].pairs == len(children)
    assert {"en", "zh"} <= by_language.keys()
    chinese = [cut(text.lower(), "zh")[0] for text in children["text"] if "红" in text]
    assert by_language["zh"].distinct[0][1] == pytest.approx(distinct_n(chinese, 1))
    assert 0 < by_language["all"].novelty[2] < 1


def test_samples_take_turns_over_ops_and_are_drawn_alike_again(expansion: Path) -> None:
    content = gather(expansion, 3)
    assert content == gather(expansion, 3)
    for kind in ("history", "text"):
        shown = [sample for sample in content.samples if sample.kind == kind]
        assert len(shown) == 3
        assert len({sample.op for sample in shown}) == 3, "every op has its turn first"
    everything = gather(expansion, 200).samples
    assert len(everything) == pq.read_table(expansion / "provenance.parquet").num_rows
    for sample in everything:
        after = [word for change, word in sample.parts if change != "gone"]
        if sample.kind == "text":
            stored = pq.read_table(expansion / "texts.parquet", filters=[("row_id", "=", sample.row_id)])
            assert sample.joiner.join(after) == " ".join(stored["text"][0].as_py().split())
        else:
            stored = pq.read_table(expansion / "histories.parquet", filters=[("row_id", "=", sample.row_id)])
            assert [re.findall(r"\((i\d+[^(]*\(1\)[^(]*)\)$", word)[0] for word in after] == stored[
                "item_ids"
            ][0].as_py()


def test_diff_shows_every_word_of_both() -> None:
    before, after = ["a", "b", "c"], ["a", "x", "c", "d"]
    parts = diff_parts(before, after)
    assert parts == [("same", "a"), ("gone", "b"), ("new", "x"), ("same", "c"), ("new", "d")]


def test_an_empty_expansion_has_a_page(shop: Path, tmp_path: Path) -> None:
    folder = expanded(shop, tmp_path / "off", "off")
    text, page = page_of(folder, tmp_path)
    assert "Nothing was augmented." in text
    assert ["history", "0", "0", "0", "0", "0"] in page.rows
    content = gather(folder, 10)
    assert all(one.psi_training == 0 and one.after[0] == 0 for one in content.numbers)
    assert content.samples == ()


def test_numbers_that_are_missing_are_left_out() -> None:
    numbers = compare_numbers("x", np.array([1.0, np.nan, 3.0]), np.array([np.nan]))
    assert numbers.before == (2, 2.0, 2.0)
    assert numbers.after == (0, 0.0, 0.0)
    assert (numbers.psi_training, numbers.psi_alone) == (0.0, 0.0)


@pytest.mark.parametrize("name", ["counts.json", "texts.parquet", "provenance.parquet", "policy.toml"])
def test_a_missing_file_is_named(name: str, copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copied / name).unlink()
    assert main(["augment", "report", "--from", str(copied)]) == 1
    said = capsys.readouterr().err
    assert name in said
    assert "recsys augment run" in said
    assert not (copied / "report.html").exists()


@pytest.mark.parametrize("name", ["counts.json", "texts.parquet", "histories.parquet", "provenance.parquet"])
def test_a_damaged_file_is_named(name: str, copied: Path) -> None:
    (copied / name).write_bytes(b"not this")
    with pytest.raises(ArtifactError, match=name):
        gather(copied, 1)


def test_counts_that_contradict_the_rows_are_pointed_out(copied: Path) -> None:
    table = pq.read_table(copied / "provenance.parquet")
    pq.write_table(table.filter(pa.compute.equal(table["kind"], "text")), copied / "provenance.parquet")
    assert any("history: the counts say" in line for line in gather(copied, 1).warnings)


def test_the_command_writes_beside_the_files(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["augment", "report", "--from", str(copied), "--samples", "1"]) == 0
    assert "accepted" in capsys.readouterr().out
    assert (copied / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
