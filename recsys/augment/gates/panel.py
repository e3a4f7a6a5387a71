"""Which gates there are, how plain values become them, and how a batch passes them one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from recsys.augment.gates.duplicates import NearDuplicate
from recsys.augment.gates.gate import Evidence, Gate
from recsys.augment.gates.history import LabelConsistency, Related
from recsys.augment.gates.safety import Safety
from recsys.augment.gates.text import Attributes, Fluency, Meaning
from recsys.augment.grow import Grown
from recsys.augment.op import E
from recsys.augment.registry import setting_problem
from recsys.errors import ConfigError

GATES: dict[str, type[Gate[Any]]] = {
    gate.name: gate
    for gate in (Attributes, Fluency, LabelConsistency, Meaning, NearDuplicate, Related, Safety)
}
"""Every gate on rows, by name."""


def gate_from_plain(tree: Any, where: str = "gates") -> Gate[Any]:
    """A gate from plain values, as `Gate.to_plain` gives them.

    Raises:
        ConfigError: names the gate and the field: either is unknown, or a value is out of bounds.
    """
    if not isinstance(tree, Mapping) or not isinstance(tree.get("gate"), str):
        raise ConfigError(f"{where}: expected a table with a 'gate', got {tree!r}")
    settings = dict(tree)
    name = settings.pop("gate")
    if name not in GATES:
        raise ConfigError(f"{where}: there is no gate '{name}'. Known: {', '.join(sorted(GATES))}")
    try:
        return GATES[name].model_validate(settings)
    except ValidationError as error:
        raise ConfigError(f"{where}: {setting_problem(name, GATES[name], error)}") from error


def sift(grown: Grown[E], gates: Sequence[Gate[E]], evidence: Evidence) -> None:
    """Take out what a gate refuses, in place; note each gate's score of what stays, and count the reasons.

    A gate whose evidence is not there (meaning, without an encoder) is skipped, and that is counted too.

    Args:
        grown: Candidates with their originals.
        gates: In the order in which they judge: a refused row is not judged again.
        evidence: What they may consult.
    """
    for gate in gates:
        if not gate.ready(evidence):
            grown.counts[f"skipped:{gate.name}"] += len(grown.children)
            continue
        verdicts = gate.judge(grown.originals, grown.children, evidence)
        kept = [i for i, reason in enumerate(verdicts.reasons) if reason is None]
        for chain, reason in zip(grown.chains, verdicts.reasons, strict=True):
            if reason is not None:
                grown.refuse([chain], reason)
        grown.scores[gate.name] = list(verdicts.scores)
        if len(kept) < len(verdicts.reasons):
            grown.keep(kept)
