"""Settings of a run's report."""

from __future__ import annotations

from pydantic import Field

from recsys.section import Section


class EvaluateConfig(Section):
    """Who is measured by the report of a run, and what beside one list per user."""

    users: int = Field(10_000, ge=1)
    """Users that are measured at most, drawn at random when more came back."""
    successive: bool = True
    """Every later moment of a user is a case too, with what was known before it."""
    cases_per_user: int = Field(5, ge=1)
    """Successive cases of one user at most, drawn at random."""
    cases: int = Field(3000, ge=1)
    """Successive cases in all at most: users are drawn until they have so many."""
