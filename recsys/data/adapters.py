"""Public sets, downloaded from their publishers and brought into the contract's form.

Nothing is redistributed here: the archive comes from the publisher's own address, or from a file that was
downloaded by hand. Only the members that are needed are read, straight from the archive; nothing is unpacked
to disk.
"""

from __future__ import annotations

import http.client
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pandas as pd

from recsys.artifacts import file_digest, replacing
from recsys.data.adapter_tables import Converted, movielens, movielens_1m, online_retail
from recsys.errors import DependencyError, InputError

TIMEOUT_SECONDS = 30.0
_MAX_MEMBER_BYTES = 4 << 30
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class PublicSet:
    """Where a set comes from and how it is read."""

    url: str
    members: tuple[str, ...]
    """File names inside the archive; `a|b` means either."""
    convert: Callable[[dict[str, IO[bytes]]], Converted]
    licence: str
    max_bytes: int
    sha256: str | None = None
    """Of the archive; None where the publisher packs it anew from time to time."""


_RATINGS = ("ratings.csv", "movies.csv")
_GROUPLENS = "https://files.grouplens.org/datasets/movielens/"
_GROUPLENS_TERMS = "research use with citation, no redistribution without permission (GroupLens README)"

PUBLIC_SETS: dict[str, PublicSet] = {
    "online-retail": PublicSet(
        url="https://archive.ics.uci.edu/static/public/352/online+retail.zip",
        members=("Online Retail.xlsx|Online Retail.csv",),
        convert=online_retail,
        licence="CC BY 4.0 (Chen, 2015, doi 10.24432/C5BW33)",
        max_bytes=200 << 20,
    ),
    "movielens-small": PublicSet(
        url=f"{_GROUPLENS}ml-latest-small.zip",
        members=_RATINGS,
        convert=movielens,
        licence=_GROUPLENS_TERMS,
        max_bytes=20 << 20,
        sha256="696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436",
    ),
    "movielens-1m": PublicSet(
        url=f"{_GROUPLENS}ml-1m.zip",
        members=("ratings.dat", "movies.dat"),
        convert=movielens_1m,
        licence=_GROUPLENS_TERMS,
        max_bytes=50 << 20,
        sha256="a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
    ),
    "movielens-32m": PublicSet(
        url=f"{_GROUPLENS}ml-32m.zip",
        members=_RATINGS,
        convert=movielens,
        licence=_GROUPLENS_TERMS,
        max_bytes=2 << 30,
        sha256="e4a68655d7386b8f95f2f2424b2ff975dfdd15ffd59e0d864a14dca43e99d6ee",
    ),
}


def fetch(name: str, folder: Path, archive: Path | None = None) -> Converted:
    """Write a public set as interactions.parquet and items.parquet.

    Args:
        name: A key of `PUBLIC_SETS`.
        folder: Where to write; made when absent.
        archive: A file downloaded by hand. Its checksum is not compared: other versions have the same form.

    Raises:
        DependencyError: the publisher cannot be reached, sent something else, or openpyxl is missing.
        InputError: the file given by hand is not such an archive.
    """
    public = PUBLIC_SETS[name]
    with tempfile.TemporaryDirectory(prefix="recsys-fetch-") as place:
        source = archive if archive is not None else _download(public, Path(place))
        with _members(source, public.members) as files:
            converted = public.convert(files)
    _write(folder / "items.parquet", converted.items)
    _write(folder / "interactions.parquet", converted.interactions)
    return converted


def _write(path: Path, table: pd.DataFrame) -> None:
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False)


def _download(public: PublicSet, place: Path) -> Path:
    target = place / "archive.zip"
    by_hand = f"Download {public.url} by other means and give it with --from FILE."
    try:
        with urllib.request.urlopen(public.url, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - fixed https address
            _copy(answer, target, public, by_hand)
    except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DependencyError(f"{public.url}: cannot be downloaded ({reason}). {by_hand}") from error
    if public.sha256 is not None and (digest := file_digest(target)) != public.sha256:
        raise DependencyError(
            f"{public.url}: SHA-256 is {digest}, expected {public.sha256}. "
            f"If the publisher has a new version, look at it first and give it with --from FILE."
        )
    return target


def _copy(answer: IO[bytes], target: Path, public: PublicSet, by_hand: str) -> None:
    size = 0
    with target.open("wb") as file:
        while block := answer.read(_BLOCK):
            size += len(block)
            if size > public.max_bytes:
                raise DependencyError(f"{public.url}: larger than {public.max_bytes:,} bytes. {by_hand}")
            file.write(block)


@contextmanager
def _members(archive: Path, wanted: tuple[str, ...]) -> Iterator[dict[str, IO[bytes]]]:
    """The wanted files of an archive by name, wherever in it they lie; a bare file serves as itself."""
    files: dict[str, IO[bytes]] = {}
    try:
        if any(archive.name in names.split("|") for names in wanted) and len(wanted) == 1:
            with archive.open("rb") as file:
                yield {archive.name: file}
            return
        with zipfile.ZipFile(archive) as opened:
            for names in wanted:
                info = _find(opened, names.split("|"), archive)
                files[Path(info.filename).name] = opened.open(info)
            yield files
    except zipfile.BadZipFile as error:
        raise InputError(f"not a readable zip archive ({error})", file=str(archive)) from error
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise InputError(f"cannot be read ({error.strerror})", file=str(archive)) from error
    finally:
        for opened_file in files.values():
            opened_file.close()


def _find(opened: zipfile.ZipFile, names: list[str], archive: Path) -> zipfile.ZipInfo:
    for info in opened.infolist():
        if Path(info.filename).name in names and not info.is_dir():
            if info.file_size > _MAX_MEMBER_BYTES:
                raise InputError(f"{info.filename} unpacks to {info.file_size:,} bytes", file=str(archive))
            return info
    raise InputError(
        f"the archive has no {' or '.join(names)}",
        file=str(archive),
        example=[info.filename for info in opened.infolist()][:5],
        hint="Is it the publisher's archive of this very set?",
    )
