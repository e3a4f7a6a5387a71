"""What every table of the configuration is: closed, frozen, each setting with a sentence of its own."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One table of the configuration: closed, frozen, every field with a sentence of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
