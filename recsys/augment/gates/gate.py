"""The gate: originals against candidates, a score and perhaps a reason for each, judged a batch at a time.

A gate trusts nothing that an op says of itself: texts are cut again from scratch, histories are compared as
they stand. Its settings are a frozen pydantic model, as an op's are.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple

from pydantic import BaseModel, ConfigDict

from recsys.augment.constraints import Protection
from recsys.augment.op import E, Kind
from recsys.types import Floats

if TYPE_CHECKING:
    from recsys.augment.gates.shingles import CatalogueIndex
    from recsys.augment.neighbours import Covisitation

Encode = Callable[[Sequence[str]], Floats]
"""Texts to vectors of unit norm, (len(texts), dim): the encoder stays outside of this room."""


class Verdicts(NamedTuple):
    """What a gate says of a batch, in its order."""

    scores: list[float]
    """Higher is better; 1 where the gate has nothing to say."""
    reasons: list[str | None]
    """Why a candidate is refused; None lets it pass."""


@dataclass(slots=True)
class Evidence:
    """What gates may consult besides the rows."""

    protection: Protection = field(default_factory=Protection)
    """Finds the protected spans of this catalogue."""
    covisitation: Covisitation | None = None
    """Which items go together, fitted on the same training rows."""
    encode: Encode | None = None
    """The text encoder, for meaning."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """The catalogue's texts by row id: what a candidate must not turn into."""
    owners: Mapping[bytes, str] | None = None
    """Row ids by the normal form of the catalogue's texts; see `NearDuplicate.prepare`."""
    indices: dict[tuple[object, ...], CatalogueIndex] = field(default_factory=dict)
    """The catalogue's texts by what is close to them, by the settings of the gate that asks."""
    vectors: dict[str, Floats] = field(default_factory=dict)
    """Vectors by text: each text is encoded once."""

    def encoded(self, texts: Sequence[str]) -> list[Floats] | None:
        """A vector per text, encoding only what was not encoded before; None without an encoder."""
        if self.encode is None:
            return None
        new = sorted(set(texts) - self.vectors.keys())
        if new:
            self.vectors.update(zip(new, self.encode(new), strict=True))
        return [self.vectors[text] for text in texts]


class Gate(BaseModel, Generic[E]):
    """One judge of candidates, row by row."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: ClassVar[str]
    kind: ClassVar[Kind]
    needs: ClassVar[frozenset[str]] = frozenset()
    """Evidence without which it cannot judge: `covisitation`, `encode`."""

    @abstractmethod
    def judge(self, originals: Sequence[E], candidates: Sequence[E], evidence: Evidence) -> Verdicts:
        """A score and perhaps a reason per candidate; `originals[i]` is the parent of `candidates[i]`."""

    def prepare(self, evidence: Evidence) -> None:
        """Put into the evidence what is worth computing once for many batches; nothing by default."""

    def ready(self, evidence: Evidence) -> bool:
        """Whether the evidence that the gate needs is there."""
        return all(getattr(evidence, name) is not None for name in self.needs)

    def to_plain(self) -> dict[str, Any]:
        """Plain values for TOML or JSON."""
        return {"gate": self.name, **self.model_dump(mode="json", exclude_defaults=True)}

    def __repr__(self) -> str:
        settings = self.model_dump(mode="json", exclude_defaults=True)
        return f"{self.name}({', '.join(f'{name}={value}' for name, value in settings.items())})"

    __str__ = __repr__
