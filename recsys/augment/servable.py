"""What of a policy a request can run: without ops that ask a model, or read what a run does not store."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from recsys.augment.compose import Compose, Composite, OneOf
from recsys.augment.op import Op
from recsys.augment.policy import Branch, Policy

_WHY = {
    "oracle": "it asks a model, which a request does not wait for",
    "similar": "it borrows from users alike, and a run stores nobody's events for others",
    "friends": "it borrows from friends, and a run stores nobody's events for others",
    "elsewhere": "it borrows from another domain, which a run does not store",
    "synonyms": "it reads mined synonyms, which a run does not store",
    "covisitation": "it weighs pairs of items by co-visitation, which a run does not store that way",
    "encode": "it asks the text encoder, which a request does not wait for",
}
_TEXT = frozenset({"behaviour"})
"""What a text brings along by itself: its own attributes, and what the caller knows of its neighbours."""


def servable(policy: Policy, stored: frozenset[str]) -> tuple[Policy, dict[str, str]]:
    """The part of a policy that a request can run, and by name of op or gate why the rest is left out.

    What is left out changes what the policy does, and so its id.

    Args:
        policy: As configured.
        stored: Side data of histories that the run stores: `neighbours`, `earlier`.
    """
    skipped: dict[str, str] = {}
    history = _branch(policy.history, stored, skipped)
    text = _branch(policy.text, _TEXT, skipped)
    if not skipped:
        return policy, skipped
    return Policy.model_validate({**_settings(policy), "history": history, "text": text}), skipped


def _branch(branch: Branch, available: frozenset[str], skipped: dict[str, str]) -> Branch:
    ops = [_kept(op, available, skipped) for op in branch.ops.ops]
    gates = []
    for gate in branch.gates:
        if missing := sorted(gate.needs):
            skipped[gate.name] = _why(missing[0])
        else:
            gates.append(gate)
    kept = Compose(ops=tuple(op for op in ops if op is not None))
    return Branch.model_validate({**_settings(branch), "ops": kept, "gates": tuple(gates)})


def _kept(op: Op[Any], available: frozenset[str], skipped: dict[str, str]) -> Op[Any] | None:
    if not isinstance(op, Composite):
        missing = sorted(op.needs - available)
        if missing:
            skipped[op.name] = _why(missing[0])
        return None if missing else op
    children = [_kept(child, available, skipped) for child in op.ops]
    settings = _settings(op)
    settings["ops"] = tuple(child for child in children if child is not None)
    if isinstance(op, OneOf) and op.weights:
        pairs = zip(op.weights, children, strict=True)
        settings["weights"] = tuple(weight for weight, child in pairs if child is not None)
        if sum(settings["weights"]) <= 0:
            return None
    # Built anew: a copy would keep what the original has worked out about its children.
    return type(op).model_validate(settings) if settings["ops"] else None


def _settings(model: BaseModel) -> dict[str, Any]:
    return {name: getattr(model, name) for name in type(model).model_fields}


def _why(need: str) -> str:
    return _WHY.get(need, f"it reads '{need}', which this run does not store")
