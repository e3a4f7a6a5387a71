"""Settings of run tracking."""

from __future__ import annotations

from typing import Literal

from recsys.section import Section


class TrackConfig(Section):
    """Runs, parameters, metrics and files in MLflow: runs, comparisons and searches alike."""

    enabled: Literal["auto", "on", "off"] = "auto"
    """`auto`: where MLflow is installed (the extra `track`)."""
    uri: str = ""
    """A tracking server or database; empty is an SQLite file beside what is tracked."""
