"""What a trial is: a policy and a fusion, out of the presets' branches and of the ops that the data allow."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from recsys.arms import Arm
from recsys.augment.constraints import Acceptance
from recsys.augment.gates.panel import GATES
from recsys.augment.policy import Policy, load_policy, policy_from_plain
from recsys.augment.registry import OPS
from recsys.augment.representation import REPRESENTATION_OPS
from recsys.config import WHICH_POLICY, AugmentConfig
from recsys.search.settings import Asker, Setting, settings_of

SLOTS = 2
"""Ops of a branch that is put together anew."""
KINDS = ("history", "text")
OFF, ANEW, NONE = "off", "ops drawn anew", "none"
_ONLY = {"weight": ("weight",), "mix_probability": ("mix", "curriculum")}
"""Fusion settings that only some ways of fusion read."""


@dataclass(frozen=True)
class Facts:
    """What the space has to know of a dataset."""

    ops: Mapping[str, tuple[str, ...]]
    """By kind: the ops that change rows of this dataset."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Why other ops are not tried."""
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """By kind: median and 90th percentile of events or words per row; where an op's strength may fade."""


class Space:
    """Names, bounds and meaning of a trial's parameters.

    Args:
        facts: Of the dataset.
        policies: Starting points by name: each of their branches can be part of a trial.
    """

    def __init__(self, facts: Facts, policies: Mapping[str, Policy]) -> None:
        self.facts = facts
        self._fusion = settings_of(AugmentConfig, leave=("enabled", "policy"))
        self._acceptance = settings_of(Acceptance, leave=("min_length",))
        self._representations: dict[str, dict[str, Any]] = {}
        self._protect: dict[str, tuple[str, ...]] = {}
        self._branches: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in KINDS}
        self.starts: dict[str, dict[str, Any]] = {}
        """Parameters of `off` and of every starting point, in that order."""
        self.starts[OFF] = self._start(OFF, {})
        for name, policy in policies.items():
            if (tree := policy.to_plain()).keys() & {*KINDS, "representation"}:
                self._protect[name] = policy.protect
                self.starts.setdefault(name, self._start(name, tree))

    def arm(self, asker: Asker, name: str) -> Arm:
        """Draw a trial.

        Args:
            asker: Draws values by name; which names are asked depends on what was drawn before.
            name: The arm's.
        """
        tree: dict[str, Any] = {"name": "found"}
        for kind in KINDS:
            source = asker.suggest_categorical(f"{kind}.from", [OFF, *self._branches[kind], ANEW])
            branch = self._anew(asker, kind) if source == ANEW else self._branches[kind].get(source)
            if branch:
                tree[kind] = branch
            if branch and (phrases := self._protect.get(source)):
                tree["protect"] = list(phrases)
        op = asker.suggest_categorical(
            "representation.op", [NONE, *self._representations, *REPRESENTATION_OPS]
        )
        if op in REPRESENTATION_OPS:
            drawn = _drawn(asker, settings_of(REPRESENTATION_OPS[op]), f"representation.{op}")
            tree["representation"] = {"ops": [{"op": op, **drawn}]}
        elif op != NONE:
            tree["representation"] = self._representations[op]
        return Arm(name, policy_from_plain(tree, source="search"), AugmentConfig(**self._fused(asker)))

    def _anew(self, asker: Asker, kind: str) -> dict[str, Any]:
        names = self.facts.ops.get(kind, ())
        ops = []
        for slot in range(1, SLOTS + 1):
            name = asker.suggest_categorical(f"{kind}.{slot}.op", [NONE, *names])
            if name != NONE:
                ops.append({"op": name, **self._op(asker, kind, name, f"{kind}.{slot}.{name}")})
        if not ops:
            return {}
        if len(ops) > 1 and asker.suggest_categorical(f"{kind}.join", ["in order", "one of"]) == "one of":
            ops = [{"op": "one_of", "ops": ops}]
        copies = asker.suggest_int(f"{kind}.copies", 1, 3)
        branch: dict[str, Any] = {"ops": ops, "drift": {}, "copies": copies}
        branch["acceptance"] = _drawn(asker, self._acceptance, f"{kind}.acceptance")
        if asker.suggest_categorical(f"{kind}.gates", [True, False]):
            branch["gates"] = [
                {"gate": name}
                for name, gate in GATES.items()
                if gate.kind == kind and "encode" not in gate.needs
            ]
        return branch

    def _op(self, asker: Asker, kind: str, name: str, prefix: str) -> dict[str, Any]:
        drawn = _drawn(asker, settings_of(OPS[name], leave=("taper",)), prefix)
        if (
            kind in self.facts.sizes
            and asker.suggest_categorical(f"{prefix}.taper", ["none", "rich rows"]) != "none"
        ):
            middle, rich = self.facts.sizes[kind]
            drawn["taper"] = [middle, max(rich, middle + 1)]
        return drawn

    def _fused(self, asker: Asker) -> dict[str, Any]:
        drawn: dict[str, Any] = {}
        for setting in sorted(self._fusion, key=lambda one: one.name in _ONLY):
            if drawn.get("fusion") in _ONLY.get(setting.name, (drawn.get("fusion"),)):
                drawn[setting.name] = setting.draw(asker, "fusion")
        return drawn

    def _start(self, name: str, tree: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters that give a policy, its branches added to those that can be chosen."""
        chosen: dict[str, Any] = {"representation.op": NONE}
        if "representation" in tree:
            self._representations[name] = tree["representation"]
            chosen["representation.op"] = name
        for kind in KINDS:
            branch, known = tree.get(kind), self._branches[kind]
            if branch:
                # Presets share branches: the first to have one lends it its name.
                same = next((other for other, what in known.items() if what == branch), name)
                known[same] = branch
                chosen[f"{kind}.from"] = same
            else:
                chosen[f"{kind}.from"] = OFF
        for setting in self._fusion:
            if setting.name not in _ONLY or AugmentConfig().fusion in _ONLY[setting.name]:
                chosen.update(setting.at_default("fusion"))
        return chosen


def starting_points(names: tuple[str, ...]) -> dict[str, Policy]:
    """Presets or policy files by the name that each gives itself."""
    policies: dict[str, Policy] = {}
    for name in names:
        policy = load_policy(name)
        policies.setdefault(policy.name, policy)
    return policies


def fingerprint(arm: Arm) -> str:
    """What an arm does, whatever it is called; `off` where it does nothing."""
    tree = {key: value for key, value in arm.policy.to_plain().items() if key not in ("name", "description")}
    if not tree.keys() & {*KINDS, "representation"}:
        return OFF
    fusion = arm.fusion.model_dump(mode="json", exclude=set(WHICH_POLICY))
    for name, ways in _ONLY.items():
        if fusion["fusion"] not in ways:
            fusion.pop(name)
    canonical = json.dumps([tree, fusion], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _drawn(asker: Asker, settings: list[Setting], prefix: str) -> dict[str, Any]:
    return {setting.name: setting.draw(asker, prefix) for setting in settings}
