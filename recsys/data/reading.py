"""From a file to an Arrow table: Parquet, CSV and JSON Lines, with errors that name the file and the line.

CSV columns come out as text, whatever they look like: an id such as `00123` must survive. Types are read
later, column by column, where it is known what a column means.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from recsys.data.report import Notes, refusal

SUFFIXES = (".parquet", ".csv", ".jsonl", ".ndjson")
_DELIMITERS = ",;\t|"
_BOMS = ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_CHUNK_ROWS = 200_000
_INT64 = 1 << 63


def find_file(folder: Path, stem: str) -> Path | None:
    """The one file of a table, or None where there is none.

    Raises:
        InputError: several files hold the table, or it is a folder.
    """
    found = [folder / f"{stem}{suffix}" for suffix in SUFFIXES if (folder / f"{stem}{suffix}").exists()]
    if len(found) > 1:
        raise refusal("file_ambiguous", str(folder), names=", ".join(path.name for path in found))
    if found and found[0].is_dir():
        raise refusal("file_is_folder", str(found[0]))
    return found[0] if found else None


def require_folder(folder: Path) -> None:
    """Raise `InputError` unless the path is a folder."""
    if folder.is_dir():
        return
    raise refusal("folder_is_file" if folder.exists() else "folder_missing", str(folder))


def read_table(path: Path, notes: Notes) -> pa.Table:
    """All rows and columns of a file.

    Raises:
        InputError: unreadable, empty, broken, or with two columns of one name.
    """
    try:
        if path.stat().st_size == 0:
            raise notes.refuse("file_empty")
        if path.suffix == ".parquet":
            table = _read_parquet(path, notes)
        elif path.suffix == ".csv":
            table = _read_csv(path, notes)
        else:
            table = _read_json_lines(path, notes)
    except OSError as error:
        raise notes.refuse("file_unreadable", reason=error.strerror or str(error)) from error
    names = column_names(table.column_names, notes)
    if table.num_rows == 0:
        raise notes.refuse("header_only")
    return table.rename_columns(names)


def column_names(names: Sequence[str], notes: Notes) -> list[str]:
    """A file's columns without blanks around them.

    Raises:
        InputError: two of them have one name.
    """
    trimmed = [name.strip() for name in names]
    for name in trimmed:
        if trimmed.count(name) > 1:
            raise notes.refuse("column_duplicate", name)
    return trimmed


@contextlib.contextmanager
def parquet_errors(notes: Notes) -> Iterator[None]:
    """What Arrow says of a damaged file, as an `InputError`."""
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise notes.refuse("file_broken", kind="Parquet", reason=_first_line(error)) from error
    except OSError as error:  # Arrow reports damaged pages as an OSError without an errno
        if error.errno is not None:
            raise
        raise notes.refuse("file_broken", kind="Parquet", reason=_first_line(error)) from error


def _read_parquet(path: Path, notes: Notes) -> pa.Table:
    with parquet_errors(notes):
        # One file, no hive partitioning: a folder named "a=b" must not become a column.
        return pq.ParquetFile(path).read()


def _read_csv(path: Path, notes: Notes) -> pa.Table:
    source, header = _csv_source(path, notes)
    if "\0" in header:
        raise notes.refuse("file_broken", kind="CSV", reason="it holds NUL bytes")
    delimiter = max(_DELIMITERS, key=header.count) if "," not in header else ","
    if delimiter != "," and delimiter in header:
        notes.add("file_delimiter", None, 1, delimiter)
    names = next(csv.reader(io.StringIO(header), delimiter=delimiter), [])
    if not any(name.strip() for name in names):
        raise notes.refuse("file_empty")
    bad: list[Any] = []

    def broken(row: Any) -> str:
        bad.append(row)
        return "error"

    try:
        return pa_csv.read_csv(
            source,
            read_options=pa_csv.ReadOptions(block_size=16 << 20),
            parse_options=pa_csv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=broken
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types={name: pa.string() for name in names}, strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        raise _csv_refusal(path, notes, bad, error) from error


def _csv_refusal(path: Path, notes: Notes, bad: list[Any], error: Exception) -> Exception:
    if bad:
        reason = f"{bad[0].actual_columns} values where the header has {bad[0].expected_columns}"
        where = _csv_line(path, bad[0].text)
        return notes.refuse("line_broken", None, None, bad[0].text, line=where, reason=reason)
    if "UTF" in str(error) and (line := _line_not_utf8(path)):
        return notes.refuse("file_not_utf8", line=line)
    return notes.refuse("file_broken", kind="CSV", reason=_first_line(error))


def _csv_source(path: Path, notes: Notes) -> tuple[Any, str]:
    """Something Arrow can read as UTF-8, and the header line."""
    with path.open("rb") as file:
        start = file.read(4)
    for bom, encoding in _BOMS:
        if start.startswith(bom):
            notes.add("file_encoding", None, 1, encoding)
            try:
                text = path.read_text(encoding=encoding)
            except UnicodeDecodeError as error:
                raise notes.refuse("file_broken", kind="UTF-16", reason=error.reason) from error
            return io.BytesIO(text.encode()), text.splitlines()[0] if text else ""
    if start.startswith(codecs.BOM_UTF8):
        notes.add("file_encoding", None, 1, "utf-8-sig")
    with path.open("rb") as file:
        line = file.readline(1 << 20)
    try:
        return path, line.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise notes.refuse("file_not_utf8", line=1) from error


def _read_json_lines(path: Path, notes: Notes) -> pa.Table:
    mixed: dict[str, object] = {}
    tables = [_columns(rows, mixed) for rows in _json_chunks(path, notes)]
    if not tables:
        raise notes.refuse("file_empty")
    for name, example in mixed.items():
        notes.add("mixed_types", name, sum(map(len, tables)), example)
    return _stack(tables)


def _json_chunks(path: Path, notes: Notes) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if number == 1 and raw.startswith(codecs.BOM_UTF8):
                notes.add("file_encoding", None, 1, "utf-8-sig")
                raw = raw[len(codecs.BOM_UTF8) :]
            if not raw.strip():
                continue
            rows.append(_json_row(raw, number, notes))
            if len(rows) == _CHUNK_ROWS:
                yield rows
                rows = []
    if rows:
        yield rows


def _json_row(raw: bytes, number: int, notes: Notes) -> dict[str, Any]:
    try:
        row = json.loads(raw)
    except UnicodeDecodeError as error:
        raise notes.refuse("file_not_utf8", line=number) from error
    except (ValueError, RecursionError) as error:
        reason = f"not valid JSON ({_first_line(error)})"
        shown = raw[:60].decode("utf-8", "replace")
        raise notes.refuse("line_broken", example=shown, line=number, reason=reason) from error
    if not isinstance(row, dict):
        reason = "not a JSON object; one object per line is needed"
        raise notes.refuse("line_broken", example=row, line=number, reason=reason)
    return row


def _columns(rows: list[dict[str, Any]], mixed: dict[str, object]) -> pa.Table:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pa.table({name: _column([row.get(name) for row in rows], name, mixed) for name in names})


def _column(values: list[Any], name: str, mixed: dict[str, object]) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    plain = len(kinds) <= 1 or kinds == {int, float}
    small = int not in kinds or all(-_INT64 <= value < _INT64 for value in values if isinstance(value, int))
    if plain and small:
        try:
            return pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError):  # a list or an object whose own values are mixed
            return pa.array([_as_text(value) for value in values], pa.string())
    if not plain:
        first = type(next(value for value in values if value is not None))
        mixed.setdefault(name, next(v for v in values if v is not None and type(v) is not first))
    return pa.array([_as_text(value) for value in values], pa.string())


def _stack(tables: list[pa.Table]) -> pa.Table:
    try:
        return pa.concat_tables(tables, promote_options="default")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.concat_tables([_all_text(table) for table in tables], promote_options="default")


def _all_text(table: pa.Table) -> pa.Table:
    return pa.table(
        {
            name: pa.array([_as_text(value) for value in table.column(name).to_pylist()], pa.string())
            for name in table.column_names
        }
    )


def _as_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _line_not_utf8(path: Path) -> int | None:
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                raw.decode()
            except UnicodeDecodeError:
                return number
    return None


def _csv_line(path: Path, text: str) -> int | str:
    wanted = text.strip()
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if line.strip() == wanted:
                return number
    return "?"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0].rstrip(".")[:160]
