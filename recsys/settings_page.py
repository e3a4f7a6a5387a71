"""The page that lists every setting: made from `recsys.config`, so that it cannot say anything else."""

from __future__ import annotations

import tomllib
from typing import get_args

import tomli_w
from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from recsys.config import Config
from recsys.section import Section

_HEAD = """# Settings

Every setting of `recsys run`, with its default and its bounds. Made by `make docs` from `recsys/config.py`.

A TOML file given with `--config` states only what differs, table by table; `--set SECTION.KEY=VALUE` states
one more and wins. An unknown name, or a value out of its bounds, is refused before anything is read. The
effective settings and their digest are kept in each run (`config.toml`, `manifest.json`).

```toml
[train]
max_epochs = 6

[augment]
enabled = false
```
"""
_BOUNDS = {Ge: ("at least", "ge"), Gt: ("over", "gt"), Le: ("at most", "le"), Lt: ("under", "lt")}


def settings_page() -> str:
    """All tables and their settings, in the order of the code, as Markdown."""
    parts = [_HEAD]
    for table, field in Config.model_fields.items():
        section = field.annotation
        if not (isinstance(section, type) and issubclass(section, Section)):
            raise TypeError(f"Config.{table} is not a section")
        parts.append(f"\n## [{table}]\n\n{_sentence(section.__doc__)}\n")
        parts.append("\n| setting | default | allowed | meaning |\n|---|---|---|---|\n")
        parts += [_row(name, info) for name, info in section.model_fields.items()]
    return "".join(parts)


def _row(name: str, info: FieldInfo) -> str:
    cells = (f"`{name}`", f"`{_default(info)}`", _allowed(info), _sentence(info.description))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _default(info: FieldInfo) -> str:
    value = list(info.default) if isinstance(info.default, tuple) else info.default
    if value is None:
        return "none"
    written = tomli_w.dumps({"x": value}) if not isinstance(value, dict | list) else f"x = {_inline(value)}"
    assert tomllib.loads(written)["x"] == value, "the page must show what a file may hold"
    return written.removeprefix("x = ").strip()


def _inline(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_inline(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return tomli_w.dumps({"x": value}).removeprefix("x = ").strip()


def _allowed(info: FieldInfo) -> str:
    words = [
        f"{phrase} {getattr(rule, attribute):g}"
        for kind, (phrase, attribute) in _BOUNDS.items()
        for rule in info.metadata
        if isinstance(rule, kind)
    ]
    choices = [str(choice) for choice in get_args(info.annotation) if isinstance(choice, str)]
    if choices:
        words.append(", ".join(f"`{choice}`" for choice in choices))
    if type(None) in get_args(info.annotation):
        words.append("or left out")
    return ", ".join(words) or _kind(info)


def _kind(info: FieldInfo) -> str:
    kind = info.annotation
    if kind is bool:
        return "true, false"
    if kind is str:
        return "text"
    return (
        "a table"
        if str(kind).startswith("dict")
        else "a list"
        if str(kind).startswith("tuple")
        else "a number"
    )


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split())
