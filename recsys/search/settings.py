"""An op's own settings as a search space: nothing is listed here by hand, bounds are those of the fields.

A number is searched on a logarithmic scale from a quarter of its default to four times it, as far as its
bounds let it: defaults are sensible, and strengths matter by ratio. What has a default of zero, or is a text,
stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pydantic import BaseModel

FACTOR = 4.0
Form = Literal["number", "whole", "choice", "range", "whole range"]


class Asker(Protocol):
    """What draws values: an Optuna trial."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number in [low, high]."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """A whole number in [low, high]."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One field that is searched."""

    name: str
    form: Form
    default: Any
    low: float = 0.0
    """Of a range: of its upper end."""
    high: float = 0.0
    least: float = 0.0
    """Of a range: the bound of its lower end."""
    choices: tuple[Any, ...] = ()

    def draw(self, asker: Asker, prefix: str) -> Any:
        """A value of the field, drawn under the name `<prefix>.<field>`."""
        name = f"{prefix}.{self.name}"
        match self.form:
            case "choice":
                return asker.suggest_categorical(name, self.choices)
            case "number":
                return asker.suggest_float(name, self.low, self.high, log=True)
            case "whole":
                return asker.suggest_int(name, round(self.low), round(self.high), log=True)
            case "range":
                top = asker.suggest_float(f"{name}.high", self.low, self.high, log=True)
                share = asker.suggest_float(f"{name}.low_share", 0.0, 1.0)
                return [min(max(self.least, share * top), top), top]
            case "whole range":
                most = asker.suggest_int(f"{name}.high", round(self.low), round(self.high), log=True)
                share = asker.suggest_float(f"{name}.low_share", 0.0, 1.0)
                return [min(max(round(self.least), round(share * most)), most), most]

    def at_default(self, prefix: str) -> dict[str, Any]:
        """The drawn names and values that give the field its default."""
        name = f"{prefix}.{self.name}"
        if self.form in ("choice", "number", "whole"):
            return {name: self.default}
        low, high = self.default
        return {f"{name}.high": high, f"{name}.low_share": low / high}


def settings_of(model: type[BaseModel], leave: Container[str] = ()) -> list[Setting]:
    """The fields of a model that can be searched, in order.

    Args:
        model: Settings with bounds.
        leave: Names of fields that stay at their defaults.
    """
    found = []
    for name, schema in model.model_json_schema()["properties"].items():
        setting = None if name in leave else _setting(name, schema)
        if setting is not None:
            found.append(setting)
    return found


def _setting(name: str, schema: dict[str, Any]) -> Setting | None:
    default = schema.get("default")
    if "enum" in schema:
        return Setting(name, "choice", default, choices=tuple(schema["enum"]))
    match schema.get("type"):
        case "boolean":
            return Setting(name, "choice", default, choices=(False, True))
        case "number" | "integer" as kind if isinstance(default, int | float) and default > 0:
            low, high = _bounds(schema, float(default), whole=kind == "integer")
            form: Form = "whole" if kind == "integer" else "number"
            return Setting(name, form, default, low, high) if low < high else None
        case "array" if default is not None and _is_range(schema, default):
            first, second = schema["prefixItems"]
            whole = second["type"] == "integer"
            low, high = _bounds(second, float(default[1]), whole=whole)
            least = float(first.get("minimum", 0))
            form = "whole range" if whole else "range"
            return Setting(name, form, default, low, high, least) if low < high else None
    return None


def _is_range(schema: dict[str, Any], default: Any) -> bool:
    parts = schema.get("prefixItems", ())
    return (
        len(parts) == 2
        and all(part.get("type") in ("number", "integer") for part in parts)
        and default[1] > 0
    )


def _bounds(schema: dict[str, Any], default: float, *, whole: bool) -> tuple[float, float]:
    """Around the default by `FACTOR`, inside what the field takes."""
    low, high = default / FACTOR, default * FACTOR
    low = max(low, schema.get("minimum", -math.inf))
    high = min(high, schema.get("maximum", math.inf))
    if (limit := schema.get("exclusiveMaximum")) is not None and high >= limit:
        high = limit - 1 if whole else default + 0.99 * (limit - default)
    if (limit := schema.get("exclusiveMinimum")) is not None and low <= limit:
        low = limit + 1 if whole else default - 0.99 * (default - limit)
    return (max(1.0, math.ceil(low)), math.floor(high)) if whole else (low, high)
