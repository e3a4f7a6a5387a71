"""The op: two steps, `plan` that samples and `apply` that does not, so that every row can be replayed.

An op's settings are a frozen pydantic model: bounded, closed, and the same in Python and in a policy file.
Randomness arrives as a `Stream` keyed by (seed, stage, row, path of ops): adding or removing an op changes no
other op's draws.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from recsys.augment.example import HistoryExample, TextExample
from recsys.randomness import Stream

Kind = Literal["history", "text"]
E = TypeVar("E", HistoryExample, TextExample)


class Plan(NamedTuple):
    """What was sampled: plain values (numbers, texts, tuples of them) that `apply` needs and nothing else.

    It turns into JSON as it is: `[op, [values…]]`.
    """

    op: str
    values: tuple[Any, ...]
    """By position, named by the op's `parameters`; a composite's are (child's number, its plan) pairs."""


class Step(NamedTuple):
    """One edit of a row, for people."""

    op: str
    parameters: dict[str, Any]


def _ascending(bounds: tuple[Any, Any]) -> tuple[Any, Any]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"the range must be (low, high), got {bounds}")
    return bounds


Rates = Annotated[
    tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]],
    AfterValidator(_ascending),
]
"""(low, high) of a share, both in [0, 1]."""
Counts = Annotated[
    tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]], AfterValidator(_ascending)
]
"""(low, high) of a count."""


class Op(BaseModel, Generic[E]):
    """One edit with static settings; see `sample` and `edit` for what a new op writes."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: ClassVar[str]
    kind: ClassVar[Kind | None]
    """None for a composite, which takes the kind of its children."""
    parameters: ClassVar[tuple[str, ...]] = ()
    """Names of a plan's values."""
    needs: ClassVar[frozenset[str]] = frozenset()
    """Side data that the examples must carry: `neighbours`."""

    p: float = Field(1.0, ge=0, le=1)
    """Chance that the op is tried on a row."""

    @abstractmethod
    def plan(self, example: E, rng: Stream) -> Plan | None:
        """Sample an edit; None where the op leaves this row alone."""

    @abstractmethod
    def apply(self, example: E, plan: Plan) -> E:
        """Carry out a plan: deterministic, a new example, the given one untouched."""

    def run(self, example: E, rng: Stream) -> tuple[E, Plan] | None:
        """`plan` and `apply` in one go; None where the op leaves this row alone."""
        plan = self.plan(example, rng)
        return None if plan is None else (self.apply(example, plan), plan)

    def steps(self, plan: Plan) -> Iterator[Step]:
        """The edits of a plan in order, with named parameters."""
        yield Step(self.name, dict(zip(self.parameters, plan.values, strict=True)))

    def parse(self, values: Any) -> Plan:
        """A plan from the plain values that JSON gives back."""
        name, rest = values
        if name != self.name:
            raise ValueError(f"a plan of {name!r} cannot be applied by {self.name!r}")
        return Plan(name, _frozen(rest))

    def settings(self) -> dict[str, Any]:
        """Settings that differ from their defaults, as plain values."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def to_plain(self) -> dict[str, Any]:
        """Plain values for TOML or JSON; `recsys.augment.compose.op_from_plain` reads them."""
        return {"op": self.name, **self.settings()}

    def tree(self, indent: str = "") -> Iterator[str]:
        """The lines of `repr`."""
        shown = ", ".join(f"{name}={value}" for name, value in self.settings().items())
        yield f"{indent}{self.name}({shown})"

    def __repr__(self) -> str:
        return "\n".join(self.tree())

    __str__ = __repr__


class LeafOp(Op[E], Generic[E]):
    """An op that edits: a gate on the row's size, a strength that fades with it, then `sample` and `edit`."""

    taper: Counts | None = None
    """Full strength up to the first size (events or words), none from the second: rich rows stay."""

    @abstractmethod
    def sample(self, example: E, rng: Stream, strength: float) -> tuple[Any, ...] | None:
        """The plan's values; `strength` in (0, 1] scales whatever the op calls strength."""

    @abstractmethod
    def edit(self, example: E, values: tuple[Any, ...]) -> E:
        """The edited example."""

    def strength(self, size: int) -> float:
        """Share of the full strength for a row of this size."""
        if self.taper is None or size <= self.taper[0]:
            return 1.0
        low, high = self.taper
        return 0.0 if size >= high else (high - size) / (high - low)

    def run(self, example: E, rng: Stream) -> tuple[E, Plan] | None:
        """`plan` and `edit` in one go: the plan is the op's own."""
        plan = self.plan(example, rng)
        return None if plan is None else (self.edit(example, plan.values), plan)

    def apply(self, example: E, plan: Plan) -> E:
        """Carry out a plan of this op."""
        if plan.op != self.name:
            raise ValueError(f"a plan of {plan.op!r} cannot be applied by {self.name!r}")
        return self.edit(example, plan.values)


def summary(op: type[BaseModel]) -> str:
    """The first line of an op's docstring: what it does."""
    return (op.__doc__ or "").strip().splitlines()[0]


def setting_table(op: type[BaseModel]) -> list[dict[str, Any]]:
    """Name, default and sentence of every setting of an op."""
    rows = []
    for name, field in op.model_fields.items():
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        rows.append({"name": name, "default": default, "meaning": field.description or ""})
    return rows


def _frozen(value: Any) -> Any:
    return tuple(_frozen(part) for part in value) if isinstance(value, list | tuple) else value
