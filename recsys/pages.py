"""HTML pages from templates: all text is escaped, and a name that a template lacks is an error.

`pages.html` is what all pages stand on: one head, one style, nothing loaded from anywhere. `pages_parts.html`
has the macros that several of them draw with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def render(
    template: Path, content: Mapping[str, Any], filters: Mapping[str, Callable[..., Any]] | None = None
) -> str:
    """The page of a template file.

    Args:
        template: A jinja2 template, which extends `pages.html`.
        content: What it names.
        filters: Filters of its own, by name.
    """
    environment = Environment(
        loader=FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters or {})
    return environment.get_template(template.name).render(content)
