from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys.cli import main


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main(["evaluate", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out, err


def test_tables_with_baselines(
    capsys: pytest.CaptureFixture[str], split_folder: Path, lists_file: Path, tmp_path: Path,
    vectors: np.ndarray,
) -> None:  # fmt: skip
    np.save(tmp_path / "text.npy", vectors)
    status, out, _ = run(
        capsys, "--split", split_folder, "--recs", lists_file, "--task", "novel",
        "--vectors", tmp_path / "text.npy", "--html", tmp_path / "r.html",
        "--markdown", tmp_path / "r.md",
    )  # fmt: skip
    assert status == 0
    for expected in (
        "lists",
        "popular_30d",
        "item_knn",
        "text_whitened",
        "fusion",
        "hindsight",
        "1-3 (n=26)",
        "0.07939",
    ):
        assert expected in out, expected
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
    assert "| item_knn |" in (tmp_path / "r.md").read_text()


def test_json_and_vs(
    capsys: pytest.CaptureFixture[str], split_folder: Path, lists_file: Path, tmp_path: Path
) -> None:
    other = tmp_path / "lists.parquet"
    frame = pd.read_parquet(lists_file)
    frame[frame["rank"] > 3].to_parquet(other, index=False)
    status, out, _ = run(
        capsys, "--split", split_folder, "--recs", lists_file, "--vs", other, "--json", "--no-baselines"
    )
    read = json.loads(out)
    assert status == 0
    assert [one["name"] for one in read["evaluations"]] == ["lists", "lists (other)"]
    assert read["evaluations"][0]["metrics"]["ndcg@10"]["mean"] == pytest.approx(0.09325, abs=5e-6)
    assert set(read["comparisons"][0]["metrics"]["ndcg@10"]) == {"mean", "low", "high"}


def test_a_catalogue_may_say_missing_as_tables_of_strings_do(
    capsys: pytest.CaptureFixture[str], split_folder: Path, lists_file: Path, tmp_path: Path
) -> None:
    shutil.copytree(split_folder, tmp_path / "split")
    catalogue = tmp_path / "split" / "train" / "items.parquet"
    items = pd.read_parquet(catalogue)
    brands = ["maker"] * (len(items) - 1)
    items.assign(brand=pd.array([None, *brands], dtype="string")).to_parquet(catalogue)
    status, out, err = run(capsys, "--split", tmp_path / "split", "--recs", lists_file, "--no-baselines")
    assert status == 0, err
    assert "thin" in out


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f.drop(columns="rank"), "column 'rank': the column is missing"),
        (lambda f: f.assign(item_id="nothing"), "items outside the catalogue"),
        (lambda f: f.assign(user_id="nobody"), "no list is for a user of the answer sheet"),
    ],
)
def test_bad_lists_end_with_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], split_folder: Path, lists_file: Path, tmp_path: Path,
    spoil: object, message: str,
) -> None:  # fmt: skip
    bad = tmp_path / "bad.parquet"
    spoil(pd.read_parquet(lists_file)).to_parquet(bad, index=False)  # type: ignore[operator]
    status, out, err = run(capsys, "--split", split_folder, "--recs", bad)
    assert status == 2
    assert out == ""
    assert err.count("\n") == 1
    assert message in err
    assert str(bad) in err


def test_files_that_are_not_there_or_not_parquet(
    capsys: pytest.CaptureFixture[str], split_folder: Path, lists_file: Path, tmp_path: Path
) -> None:
    status, _, err = run(capsys, "--split", tmp_path, "--recs", lists_file)
    assert (status, "there is no such file" in err) == (2, True)
    (tmp_path / "page.parquet").write_text("<html>")
    status, _, err = run(capsys, "--split", split_folder, "--recs", tmp_path / "page.parquet")
    assert (status, "not a readable Parquet file" in err) == (2, True)
    status, _, err = run(capsys, "--split", split_folder, "--recs", tmp_path)
    assert status == 2
    np.save(tmp_path / "v.npy", np.zeros((3, 4)))
    vectors = ("--vectors", tmp_path / "v.npy")
    status, _, err = run(capsys, "--split", split_folder, "--recs", lists_file, *vectors)
    assert (status, "one row per item of the catalogue (60)" in err) == (2, True)


def test_augmented_lists_fail(
    capsys: pytest.CaptureFixture[str], split_folder: Path, lists_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "augmented.parquet"
    pd.read_parquet(lists_file).assign(parent_id="r1").to_parquet(path, index=False)
    status, _, err = run(capsys, "--split", split_folder, "--recs", path)
    assert status == 1
    assert "augmented rows reached evaluation" in err


def test_evaluation_imports_no_other_room() -> None:
    program = (
        "import sys, recsys.cli.evaluate, recsys.evaluate.report\n"
        "bad = [m for m in sys.modules if m.split('.')[0] in ('torch', 'transformers', 'faiss', 'feast')"
        " or m.startswith(tuple('recsys.' + n for n in ('data', 'model', 'train', 'augment', 'index')))]\n"
        "sys.exit(', '.join(bad) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
