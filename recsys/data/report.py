"""What was found in a dataset: every repair is counted here, every refusal is worded here.

The two tables are the whole vocabulary of "Data in": `docs/data.md` lists them, and a test holds the page to
them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from recsys.errors import InputError

REPAIRS: dict[str, str] = {
    "file_encoding": "Decoded by its byte-order mark.",
    "file_delimiter": "Columns were split at this character instead of a comma.",
    "mixed_types": "Values of several types in one column, all read as text.",
    "nested_column": "Nested values were written out as JSON text.",
    "binary_column": "A column of raw bytes was left out.",
    "column_near_miss": "Looks like a column of the contract under another name; kept as an attribute.",
    "column_ignored": "Holds nothing but empty values; left out.",
    "id_missing": "Rows without an id were set aside.",
    "id_from_number": "Whole numbers stored with a fraction were read as whole (123.0 as 123).",
    "id_padded": "Ids with blanks around them, kept exactly as they are.",
    "id_like_missing": "Ids that read like a missing value, kept exactly as they are.",
    "id_rounded": "Ids in scientific notation, probably rounded by a spreadsheet; kept as they are.",
    "id_reconciled": "Written differently in two files (123, 123.0, blanks around); brought to one form.",
    "time_unit": "Times in milli-, micro- or nanoseconds were converted to seconds.",
    "time_fraction": "Fractions of a second were cut off.",
    "time_calendar": "Calendar numbers (YYYYMMDD) were read as days, UTC.",
    "time_unreadable": "Rows without a readable time were set aside.",
    "time_before_1970": "Rows at or before 1970-01-01 00:00 UTC were set aside: an unset clock.",
    "time_future": "Rows in the future were set aside: a wrong clock.",
    "event_type_case": "Event types were lower-cased and trimmed.",
    "event_type_alias": "Event types were renamed to the contract's word.",
    "event_type_missing": "Rows without an event type became `interaction`.",
    "event_type_unknown": "Event types outside the contract were kept as positive ones.",
    "value_unreadable": "Values that are no finite numbers became missing.",
    "value_negative": "Negative values on positive events, kept as they are.",
    "event_duplicate": "Rows identical in every column were dropped, the first of each was kept.",
    "event_duplicate_kept": "Rows identical in every column were kept, as the configuration asks.",
    "item_unknown": "Events on items outside the catalogue were set aside.",
    "item_duplicate": "Identical item rows were merged.",
    "item_conflict": "Item rows that disagree were merged: the first non-empty value of each column stands.",
    "item_without_text": "Items without title and description were kept; text says nothing about them.",
    "text_html": "HTML tags and entities were resolved.",
    "text_control": "Control and zero-width characters were removed.",
    "text_unicode": "Text was brought to Unicode normal form C.",
    "text_whitespace": "Runs of white space became one blank.",
    "text_too_long": "Text beyond `data.max_text_chars` was cut.",
    "text_placeholder": "Words for nothing (nan, None, NULL, N/A) became empty.",
    "text_from_number": "Numbers in a text column were written out.",
    "text_from_list": "Lists in a text column were joined by commas.",
    "price_text": "Prices written as text were read as numbers.",
    "price_unreadable": "Prices that are no finite numbers became missing.",
    "price_negative": "Negative prices became missing.",
    "stock_unreadable": "Stock flags that could not be read became in stock.",
    "item_date": "Tells when items came out: helps to order new ones; those of a day ahead wait for it.",
    "item_date_unreadable": "Dates of that column that could not be read, or whose day and month look alike.",
    "available_from_unreadable": "Dates of availability that could not be read became missing.",
    "relation_self": "Links of a user to themselves were dropped.",
    "relation_duplicate": "Repeated links were dropped.",
    "relation_unknown_user": "Links that name a user without events were kept.",
}
"""What was done, by code. Every row of a report has one of these codes."""

REFUSALS: dict[str, tuple[str, str]] = {
    "folder_missing": ("no such folder", "Give the folder that holds the two files."),
    "folder_is_file": ("is a file, not a folder", "Give the folder that holds the two files."),
    "file_missing": (
        "no {stem}.parquet, {stem}.csv or {stem}.jsonl here",
        "The folder must hold interactions and items; it holds {there}.",
    ),
    "file_ambiguous": ("several files hold the same table: {names}", "Keep one of them."),
    "file_is_folder": ("is a folder, not a file", "Merge its parts into one file."),
    "file_empty": ("the file is empty", "Export it again."),
    "file_unreadable": ("cannot be read ({reason})", "Check the file and its permissions."),
    "file_broken": ("not a readable {kind} file ({reason})", "Export it again."),
    "file_not_utf8": ("line {line} is not UTF-8 text", "Save the file as UTF-8."),
    "line_broken": ("line {line}: {reason}", "Correct this line or export the file again."),
    "header_only": ("has a header and no rows", "Export it again."),
    "column_missing": ("the required column is missing", "{suggestion}"),
    "column_duplicate": ("two columns have this name", "Rename one of them."),
    "text_columns_missing": ("neither 'title' nor 'description' is there", "{suggestion}"),
    "column_type": ("holds {kind} values, which cannot be used here", "Export it as {wanted}."),
    "id_imprecise": (
        "ids stored as floating-point numbers above 2^53 have lost digits",
        "Export the column as text.",
    ),
    "id_mostly_missing": ("most rows have no id", "Is this the right column?"),
    "id_missing_here": ("an id is missing", "Give every row an id."),
    "time_mostly_unreadable": (
        "most times cannot be read",
        "Use Unix seconds or ISO 8601 (2024-05-31T12:00:00Z); day/month order is never guessed.",
    ),
    "time_mostly_before_1970": ("most times lie at or before 1970", "Use Unix seconds, or any datetime."),
    "time_future": (
        "times in the future",
        "Correct them, or raise data.future_tolerance_days (now {days:g}) if the clock here is behind.",
    ),
    "item_mostly_unknown": (
        "most events are on items that the catalogue does not have",
        "{suggestion}",
    ),
    "nothing_left": ("no usable row is left", "See the other findings with `recsys data check`."),
    "too_few_moments": (
        "the events have too few distinct moments to be split into fit, validation and report",
        "At least three moments are needed; give finer timestamps or a longer log.",
    ),
}
"""What is refused, by code: the problem and what to do about it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found in one column of one file, and how many rows it concerned."""

    code: str
    file: str
    column: str | None
    count: int
    example: str | None

    @property
    def sentence(self) -> str:
        """What was done."""
        return REPAIRS[self.code]


@dataclass(frozen=True, slots=True)
class DataReport:
    """Everything that loading a dataset found, in the order it was found."""

    findings: tuple[Finding, ...] = ()
    summary: dict[str, Any] = field(default_factory=dict)
    """Counts of what came out: events, users, items, time span, event types, sparsity."""

    def count(self, code: str, column: str | None = None) -> int:
        """Rows concerned by a code, over all files, in one column or in all of them."""
        if code not in REPAIRS:
            raise ValueError(f"no such finding: {code}")
        return sum(f.count for f in self.findings if f.code == code and column in (None, f.column))

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "summary": self.summary,
            "findings": [{**asdict(f), "sentence": f.sentence} for f in self.findings],
        }

    def render(self) -> Group:
        """Two tables for a terminal: what came out, and what was found on the way."""
        facts = Table(title="Dataset", show_header=False, title_justify="left")
        for name, value in self.summary.items():
            facts.add_row(name.replace("_", " "), _readable(value))
        found = Table(title="Findings", title_justify="left")
        found.add_column("rows", justify="right")
        found.add_column("where")
        found.add_column("what was done", overflow="fold")
        for f in self.findings:
            example = f"; for example {f.example}" if f.example else ""
            where = f"{f.file}\n{f.column}" if f.column else f.file
            found.add_row(f"{f.count:,}", escape(where), escape(f"{f.code}: {f.sentence[:-1]}{example}"))
        return Group(facts, found if self.findings else "Nothing to repair.")


class Notes:
    """Collects the findings of one file while it is read."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.findings: list[Finding] = []

    def add(self, code: str, column: str | None, count: int, example: object = None) -> None:
        """Count a repair; nothing is noted for zero rows."""
        if code not in REPAIRS:
            raise ValueError(f"no such finding: {code}")
        if count:
            shown = None if example is None else _example(example)
            self.findings.append(Finding(code, self.file, column, int(count), shown))

    def refuse(
        self,
        code: str,
        column: str | None = None,
        count: int | None = None,
        example: object = None,
        **details: object,
    ) -> InputError:
        """The error for a refusal of this file, to be raised by the caller."""
        return refusal(code, self.file, column, count, example, **details)


def refusal(
    code: str,
    file: str,
    column: str | None = None,
    count: int | None = None,
    example: object = None,
    **details: object,
) -> InputError:
    """An `InputError` worded by `REFUSALS`; `details` fill the placeholders of its sentences."""
    problem, hint = REFUSALS[code]
    return InputError(
        problem.format(**details),
        file=file,
        column=column,
        count=count,
        example=example,
        hint=hint.format(**details) or None,
    )


def _example(value: object, limit: int = 60) -> str:
    text = value if isinstance(value, str) else str(value)
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _readable(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_readable(count)}" for key, count in value.items())
    return str(value)
