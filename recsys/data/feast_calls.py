"""Around every call of Feast: one kind of error, no talk on standard output, a bounded DuckDB."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import ibis

from recsys.errors import DependencyError

_log = logging.getLogger(__name__)
_DUCKDB = {"memory_limit": "3GB"}


@contextlib.contextmanager
def feast(doing: str) -> Iterator[None]:
    """Feast raises its backends' errors unwrapped; ours is one kind."""
    try:
        yield
    except DependencyError:
        raise
    except Exception as error:  # whatever the backend raises: Feast wraps nothing
        raise DependencyError(f"the feature store could not {doing}: {error}") from error


@contextlib.contextmanager
def offline(doing: str) -> Iterator[None]:
    """Feast's offline side at work: its talk goes to the log, its DuckDB is bounded and closed afterwards.

    An ibis backend left open complains on standard error when the interpreter ends, and Feast warns of
    every source whose path is a pattern that it could not look at it.
    """
    talk = io.StringIO()
    sources = logging.getLogger("feast.infra.offline_stores.file_source")
    level = sources.level
    sources.setLevel(logging.ERROR)
    backend = ibis.duckdb.connect(**_DUCKDB)
    ibis.set_backend(backend)
    try:
        with feast(doing), warnings.catch_warnings(), contextlib.redirect_stdout(talk):
            warnings.simplefilter("ignore")  # deprecations between Feast, ibis and DuckDB: not the user's
            yield
    finally:
        ibis.options.default_backend = None
        backend.disconnect()
        sources.setLevel(level)
        for line in filter(None, map(str.strip, talk.getvalue().splitlines())):
            _log.debug(line)
