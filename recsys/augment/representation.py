"""Ops on representations: settings of what training does to vectors instead of to rows and texts.

Histories and texts are edited before training; these ops act inside it, on the vectors of one optimiser
step, and leave no rows behind. This room holds what a policy says of them; the maths is in
`recsys.model.perturb`. All are off unless a policy names them under `[[representation.ops]]`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from recsys.augment.registry import setting_problem
from recsys.errors import ConfigError


class Passes(NamedTuple):
    """How often the towers are run for one optimiser step."""

    forward: float
    backward: float


def _ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"the range must be (low, high), got {bounds}")
    return bounds


_Share = Annotated[float, Field(ge=0, le=0.9)]
_Length = Annotated[float, Field(ge=0, le=1)]
Shares = Annotated[tuple[_Share, _Share], AfterValidator(_ascending)]
"""(low, high) of a share that is dropped, at most nine tenths."""
Lengths = Annotated[tuple[_Length, _Length], AfterValidator(_ascending)]
"""(low, high) of a length, where item and user vectors have length one."""


class RepresentationOp(BaseModel):
    """One perturbation of vectors inside training; a strength given as a range is drawn anew at each step."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: ClassVar[str]
    kind: ClassVar[Literal["representation"]] = "representation"

    p: float = Field(1.0, ge=0, le=1)
    """Chance that the op is applied to an optimiser step."""

    @property
    @abstractmethod
    def extra(self) -> Passes:
        """What a step to which the op is applied costs beyond one pass forward and one back."""

    def to_plain(self) -> dict[str, Any]:
        """Plain values for TOML or JSON; `representation_from_plain` reads them."""
        return {"op": self.name, **self.model_dump(mode="json", exclude_defaults=True)}

    def tree(self, indent: str = "") -> Iterator[str]:
        """The op's line, for people."""
        shown = ", ".join(f"{name}={value}" for name, value in self.to_plain().items() if name != "op")
        yield f"{indent}{self.name}({shown})"

    def __repr__(self) -> str:
        return "\n".join(self.tree())

    __str__ = __repr__


class DropoutViews(RepresentationOp):
    """Adds a contrastive loss: two views of a history, and of an item, must find each other in the batch.

    A view of a history hides events and coordinates (Xie et al., CL4SRec, arXiv:2010.14395; Gao et al.,
    SimCSE, arXiv:2104.08821), a view of an item drops its residual and coordinates of its text.
    """

    name = "dropout_views"

    weight: float = Field(0.1, gt=0, le=1)
    """Weight of the contrastive loss beside the loss of the targets."""
    temperature: float = Field(0.1, ge=0.01, le=1)
    """Similarities of views are divided by it."""
    event_rate_range: Shares = (0.1, 0.5)
    """(low, high) of the share of a history's events that a view hides; one always stays."""
    feature_rate_range: Shares = (0.1, 0.1)
    """(low, high) of the share of coordinates of history vectors that a view sets to zero."""
    residual_rate_range: Shares = (0.3, 0.3)
    """(low, high) of the chance that a view drops an item's residual."""
    text_rate_range: Shares = (0.1, 0.1)
    """(low, high) of the share of coordinates of an item's text vector that a view sets to zero."""

    @property
    def extra(self) -> Passes:
        """Two views forward, one way back."""
        return Passes(2, 1)


class GaussianNoise(RepresentationOp):
    """Adds normal noise to item vectors and user vectors, one draw per vector and step."""

    name = "gaussian_noise"

    item_range: Lengths = (0.05, 0.05)
    """(low, high) of the noise's root mean square length, as a share of the item vector's own."""
    user_range: Lengths = (0.05, 0.05)
    """(low, high) of the same for user vectors."""

    @property
    def extra(self) -> Passes:
        """Nothing."""
        return Passes(0, 0)


class Mixup(RepresentationOp):
    """Mixes each user vector with that of another row, and the losses of both rows' targets alike.

    Manifold mixup (Verma et al., arXiv:1806.05236) on the sphere: the mixed vector is scaled to length one.
    """

    name = "mixup"

    alpha: float = Field(0.2, ge=0.01, le=4)
    """Shares are drawn per row from Beta(alpha, alpha): small keeps most rows nearly pure."""

    @property
    def extra(self) -> Passes:
        """Nothing: the other row is of the same batch."""
        return Passes(0, 0)


class Fgm(RepresentationOp):
    """Adds the loss at item vectors moved one step up its gradient, by a fixed length each.

    The fast gradient method (Miyato et al., arXiv:1605.07725) on the embeddings of histories and candidates.
    """

    name = "fgm"

    epsilon_range: Lengths = (0.05, 0.05)
    """(low, high) of the length by which each vector is moved."""
    weight: float = Field(0.5, gt=0, le=1)
    """Share of the moved loss; the clean one weighs the rest."""

    @property
    def extra(self) -> Passes:
        """The moved pass."""
        return Passes(1, 1)


class Pgd(RepresentationOp):
    """Adds the loss at item vectors moved several steps up its gradient, inside a ball around each.

    `gradients = "last"` trains on the last step alone (projected gradient descent), `"average"` on all
    (FreeLB, Zhu et al., arXiv:1909.11764; here the first step leaves from the vector itself).
    """

    name = "pgd"

    epsilon_range: Lengths = (0.1, 0.1)
    """(low, high) of the ball's radius."""
    steps: int = Field(3, ge=1, le=8)
    """Steps up the gradient."""
    step_size: float = Field(0.04, gt=0, le=1)
    """Length of each step."""
    gradients: Literal["last", "average"] = "average"
    """Which steps' gradients the weights follow."""
    weight: float = Field(0.5, gt=0, le=1)
    """Share of the moved loss; the clean one weighs the rest."""

    @property
    def extra(self) -> Passes:
        """A pass per step."""
        return Passes(self.steps, self.steps)


REPRESENTATION_OPS: dict[str, type[RepresentationOp]] = {
    op.name: op for op in (DropoutViews, Fgm, GaussianNoise, Mixup, Pgd)
}
"""Every op on representations, by name."""


class Representation(BaseModel):
    """What a policy does to vectors inside training."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    ops: tuple[RepresentationOp, ...] = ()
    """The ops, each at most once, and one adversary at most; their order does not matter."""

    @model_validator(mode="after")
    def _each_once(self) -> Representation:
        names = [op.name for op in self.ops]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"'{name}' stands here {names.count(name)} times; once is the most")
        if {"fgm", "pgd"} <= set(names):
            raise ValueError("'fgm' and 'pgd' exclude each other: fgm is the first step of pgd")
        return self

    def find(self, name: str) -> RepresentationOp | None:
        """The op of that name, None where the policy lacks it."""
        return next((op for op in self.ops if op.name == name), None)

    def expected_passes(self) -> Passes:
        """Mean passes of the towers per optimiser step while the ops are on; (1, 1) without any."""
        return Passes(
            1 + sum(op.p * op.extra.forward for op in self.ops),
            1 + sum(op.p * op.extra.backward for op in self.ops),
        )

    def to_plain(self) -> dict[str, Any]:
        """Plain values, empty where there is no op; `representation_from_plain` reads them."""
        return {"ops": [op.to_plain() for op in self.ops]} if self.ops else {}

    def tree(self) -> Iterator[str]:
        """Lines for people; none where there is no op."""
        if self.ops:
            forward, backward = self.expected_passes()
            yield f"  representation ({forward:g} passes forward and {backward:g} back per step)"
            for op in self.ops:
                yield from op.tree("    ")


def representation_from_plain(tree: Any, where: str = "representation") -> Representation:
    """The inverse of `Representation.to_plain`.

    Raises:
        ConfigError: names the place, the op and the field.
    """
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{where}: expected a table, got {tree!r}")
    settings = dict(tree)
    plain = settings.pop("ops", [])
    if not isinstance(plain, list | tuple):
        raise ConfigError(f"{where}.ops: expected a list of ops")
    ops = tuple(_op_from_plain(child, f"{where}.ops[{i}]") for i, child in enumerate(plain))
    try:
        return Representation.model_validate({**settings, "ops": ops})
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"{where}: {setting_problem(where, Representation, error)}") from error
        raise ConfigError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from error


def _op_from_plain(tree: Any, where: str) -> RepresentationOp:
    if not isinstance(tree, Mapping) or not isinstance(tree.get("op"), str):
        raise ConfigError(f"{where}: expected a table with an 'op', got {tree!r}")
    settings = dict(tree)
    name = settings.pop("op")
    if name not in REPRESENTATION_OPS:
        raise ConfigError(
            f"{where}: there is no op '{name}' on representations. "
            f"Known: {', '.join(sorted(REPRESENTATION_OPS))}"
        )
    try:
        return REPRESENTATION_OPS[name].model_validate(settings)
    except ValidationError as error:
        raise ConfigError(f"{where}: {setting_problem(name, REPRESENTATION_OPS[name], error)}") from error
