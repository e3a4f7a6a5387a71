"""The one error family. Everything a user can cause or must act on is a `RecsysError`.

The command line turns these into one line on standard error and an exit status, the service turns them
into an HTTP status: `recsys.cli` and `serving.errors` are the two seams, and nobody else translates.
Programmer errors (a wrong shape, a broken invariant) are plain `AssertionError` or `ValueError` and are
not wrapped.
"""

from __future__ import annotations


class RecsysError(Exception):
    """Base of the family: a message that says what is wrong and what to do about it."""

    exit_code = 1


class InputError(RecsysError):
    """A user's data or arguments cannot be used as they are.

    Args:
        problem: What is wrong, in one sentence without the location.
        file: The file (or folder) it was found in.
        column: The column it was found in.
        count: How many rows have it.
        example: One offending value, as it stands in the file.
        hint: What to do.
    """

    exit_code = 2

    def __init__(
        self,
        problem: str,
        *,
        file: str | None = None,
        column: str | None = None,
        count: int | None = None,
        example: object = None,
        hint: str | None = None,
    ) -> None:
        self.problem, self.file, self.column = problem, file, column
        self.count, self.example, self.hint = count, example, hint
        where = ", ".join(
            part for part in (file, f"column '{column}'" if column else None) if part is not None
        )
        message = f"{where}: {problem}" if where else problem
        if count is not None:
            message += f" ({count:,} row{'' if count == 1 else 's'})"
        if example is not None:
            message += f", for example {_short(example)}"
        if hint:
            message += f". {hint}"
        super().__init__(message)


class UnknownItemError(InputError):
    """An item id that the catalogue does not have."""


class ConfigError(RecsysError):
    """A setting is unknown, out of range, or contradicts another."""

    exit_code = 2


class ArtifactError(RecsysError):
    """A run directory is missing, damaged, or of another schema version."""


class DependencyError(RecsysError):
    """Something outside the process is missing or failed: a package, a store, a device."""


class LeakageError(RecsysError):
    """The future, or an augmented row, reached a place where it must never be."""


def _short(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
