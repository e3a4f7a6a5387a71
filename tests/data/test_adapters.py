"""Public sets from made-up archives of the publishers' layout; no network."""

from __future__ import annotations

import importlib.util
import io
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import pytest

from recsys.config import DataConfig
from recsys.data.adapters import PUBLIC_SETS, fetch
from recsys.data.interactions import load_dataset
from recsys.errors import DependencyError, InputError

RATINGS = "userId,movieId,rating,timestamp\n1,1,4.0,964982703\n1,3,4.5,964981247\n2,1,1.0,964982224\n"
MOVIES = (
    'movieId,title,genres\n1,Toy Story (1995),Adventure|Animation\n3,"Story, The (1996)",(no genres listed)\n'
)
RETAIL = (
    "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
    "536365,85123a,WHITE HANGING HEART,6,12/1/2010 8:26,2.55,17850.0,United Kingdom\n"
    "536366,85123A,WHITE HEART,2,12/2/2010 9:00,2.95,17850,United Kingdom\n"
    "536367,85123A,WHITE HEART,1,12/2/2010 9:30,0,13047,France\n"
    "C536379,85123A,WHITE HEART,-1,12/3/2010 10:00,2.75,17850,United Kingdom\n"
    "536370,POST,POSTAGE,1,12/1/2010 8:45,18,12583,France\n"
    "536371,22728,ALARM CLOCK,24,12/1/2010 8:45,3.75,,France\n"
)


def archive(path: Path, **members: str | bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name.replace("__", "/"), content)
    return path


def test_movielens_with_csv_files(tmp_path: Path) -> None:
    source = archive(
        tmp_path / "ml.zip", **{"ml/ratings.csv": RATINGS, "ml/movies.csv": MOVIES, "ml/README.txt": "x"}
    )
    fetch("movielens-small", tmp_path / "out", source)
    dataset = load_dataset(tmp_path / "out", DataConfig())
    assert [(one.code, one.column, one.count) for one in dataset.report.findings] == [
        ("item_date", "year", 2)
    ]
    assert dataset.interactions.item_id.tolist() == ["3", "1", "1"]
    assert dataset.interactions.value.tolist() == [4.5, 1.0, 4.0]
    assert set(dataset.interactions.event_type) == {"review"}
    assert dataset.items.title.tolist() == ["Toy Story (1995)", "Story, The (1996)"]
    assert dataset.items.tags.tolist() == ["Adventure, Animation", ""]
    assert dataset.items.year.tolist() == [1995, 1996]


def test_movielens_1m(tmp_path: Path) -> None:
    movies = "1::Misérables, Les (1995)::Drama|Musical\n".encode("latin-1")
    source = archive(
        tmp_path / "ml.zip", **{"ml-1m/ratings.dat": "1::1::5::978300760\n", "ml-1m/movies.dat": movies}
    )
    fetch("movielens-1m", tmp_path / "out", source)
    dataset = load_dataset(tmp_path / "out", DataConfig())
    assert dataset.items.title[0] == "Misérables, Les (1995)"
    assert dataset.interactions.timestamp[0] == 978300760


def check_retail(folder: Path, left_out: dict[str, int]) -> None:
    dataset = load_dataset(folder, DataConfig())
    events = dataset.interactions
    assert events.user_id.tolist() == ["17850", "17850", "13047", "17850"]
    assert set(events.item_id) == {"85123A"}
    assert events.event_type.tolist() == ["purchase", "purchase", "purchase", "return"]
    assert events.timestamp[0] == 1291191960
    assert dataset.items.title.tolist() == ["WHITE HEART"]
    assert dataset.items.price.tolist() == [2.75]
    assert left_out == {"lines without a customer": 1, "codes that are no product": 1}


def test_online_retail_from_csv(tmp_path: Path) -> None:
    source = archive(tmp_path / "retail.zip", **{"Online Retail.csv": RETAIL})
    check_retail(tmp_path / "out", fetch("online-retail", tmp_path / "out", source).left_out)
    bare = tmp_path / "Online Retail.csv"
    bare.write_text(RETAIL)
    check_retail(tmp_path / "bare", fetch("online-retail", tmp_path / "bare", bare).left_out)


def test_online_retail_from_the_sheet(tmp_path: Path) -> None:
    source = tmp_path / "retail.zip"
    if importlib.util.find_spec("openpyxl") is None:
        archive(source, **{"Online Retail.xlsx": b"x"})
        with pytest.raises(DependencyError, match="pip install openpyxl"):
            fetch("online-retail", tmp_path / "out", source)
        return
    import openpyxl
    import pandas as pd

    book = openpyxl.Workbook()
    table = pd.read_csv(io.StringIO(RETAIL), parse_dates=["InvoiceDate"]).astype(object)
    for row in [list(table.columns), *table.where(table.notna(), None).to_numpy().tolist()]:
        book.active.append(row)
    buffer = io.BytesIO()
    book.save(buffer)
    archive(source, **{"Online Retail.xlsx": buffer.getvalue()})
    check_retail(tmp_path / "out", fetch("online-retail", tmp_path / "out", source).left_out)


def test_what_is_no_archive_of_the_set(tmp_path: Path) -> None:
    (tmp_path / "page.zip").write_text("<html>not found</html>")
    with pytest.raises(InputError, match=r"page\.zip: not a readable zip archive"):
        fetch("movielens-small", tmp_path / "out", tmp_path / "page.zip")
    with pytest.raises(InputError, match=r"the archive has no ratings\.csv.*publisher"):
        fetch("movielens-small", tmp_path / "out", archive(tmp_path / "other.zip", **{"a.txt": "x"}))
    with pytest.raises(InputError, match="cannot be read"):
        fetch("movielens-small", tmp_path / "out", tmp_path / "absent.zip")
    source = archive(tmp_path / "odd.zip", **{"ratings.csv": "a,b\n1,2\n", "movies.csv": MOVIES})
    with pytest.raises(InputError, match=r"ratings\.csv, column 'userId'"):
        fetch("movielens-small", tmp_path / "out", source)
    assert not (tmp_path / "out").exists()


def test_members_outside_the_folder_are_never_written(tmp_path: Path) -> None:
    source = archive(tmp_path / "evil.zip", **{"../../ratings.csv": RATINGS, "/movies.csv": MOVIES})
    fetch("movielens-small", tmp_path / "deep" / "out", source)
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == [
        "evil.zip", "interactions.parquet", "items.parquet",
    ]  # fmt: skip


def test_no_network_is_said_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    with pytest.raises(
        DependencyError, match=r"ml-latest-small\.zip: cannot be downloaded \(Name or.*--from FILE"
    ):
        fetch("movielens-small", tmp_path / "out")


def test_a_download_must_match_its_checksum_and_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds: list[float] = []

    def wrong(url: str, timeout: float) -> io.BytesIO:
        seconds.append(timeout)
        return io.BytesIO(b"x" * (21 << 20) if "latest" in url else b"something else")

    monkeypatch.setattr(urllib.request, "urlopen", wrong)
    with pytest.raises(DependencyError, match=r"SHA-256 is .* expected a6898adb"):
        fetch("movielens-1m", tmp_path / "out")
    with pytest.raises(DependencyError, match="larger than 20,971,520 bytes"):
        fetch("movielens-small", tmp_path / "out")
    assert seconds == [30.0, 30.0]
    assert not (tmp_path / "out").exists()


def test_every_address_is_the_publishers_own() -> None:
    for public in PUBLIC_SETS.values():
        assert public.url.startswith(("https://archive.ics.uci.edu/", "https://files.grouplens.org/"))
