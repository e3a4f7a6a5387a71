"""A policy: which ops on histories and on texts, what they must keep, from TOML and back."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, SkipValidation, ValidationError

from recsys.augment.compose import Compose, leaves
from recsys.augment.constraints import Acceptance
from recsys.augment.gates.drift import Drift
from recsys.augment.gates.gate import Gate
from recsys.augment.gates.panel import gate_from_plain
from recsys.augment.generative import AskingOp
from recsys.augment.op import Kind, Op
from recsys.augment.registry import OPS, op_from_plain, setting_problem
from recsys.augment.representation import Representation, representation_from_plain
from recsys.config import AUTO
from recsys.errors import ConfigError

PRESETS = ("off", "light", "standard", "strong", "cold-start", "zh", "online", "adversarial", "spelling")


class Branch(BaseModel):
    """What a policy does with one kind of example."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    copies: int = Field(1, ge=1, le=20)
    """Augmented rows tried per original row."""
    acceptance: Acceptance = Acceptance()
    """What a candidate must keep of its original."""
    ops: SkipValidation[Compose[Any]] = Compose()
    """The ops, in order; none changes nothing."""
    gates: SkipValidation[tuple[Gate[Any], ...]] = ()
    """What each augmented row must pass, in order."""
    drift: Drift | None = None
    """What the whole batch must pass; None lets it be."""

    @property
    def needs(self) -> frozenset[str]:
        """Side data that the ops read from their examples."""
        return frozenset().union(*(op.needs for op in leaves(self.ops)))

    @property
    def evidence(self) -> frozenset[str]:
        """What the gates consult besides the rows."""
        return frozenset().union(*(gate.needs for gate in self.gates))

    def to_plain(self) -> dict[str, Any]:
        """Plain values of what differs from the defaults."""
        tree = self.model_dump(mode="json", exclude_defaults=True, exclude={"ops", "gates", "drift"})
        if self.ops.ops:
            tree["ops"] = [op.to_plain() for op in self.ops.ops]
        if self.gates:
            tree["gates"] = [gate.to_plain() for gate in self.gates]
        if self.drift is not None:
            tree["drift"] = self.drift.to_plain()
        return tree

    def tree(self, kind: str) -> Iterator[str]:
        """The branch's lines, for people."""
        yield f"  {kind} (copies={self.copies})"
        for op in self.ops.ops:
            yield from op.tree("    ")
        for gate in self.gates:
            yield f"    gate {gate}"
        if self.drift is not None:
            settings = ", ".join(f"{name}={value}" for name, value in self.drift.to_plain().items())
            yield f"    drift({settings})"


class Policy(BaseModel):
    """A named pipeline for histories, one for texts, and ops on representations inside training."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str = Field(min_length=1)
    """For people; the policy's id depends on what it does as well."""
    description: str = ""
    """One sentence."""
    protect: tuple[str, ...] = ()
    """Phrases that no text op may touch, besides the built-in protected spans."""
    history: Branch = Branch()
    """Ops on histories."""
    text: Branch = Branch()
    """Ops on item texts."""
    representation: SkipValidation[Representation] = Representation()
    """Ops on vectors inside training."""

    @cached_property
    def policy_id(self) -> str:
        """The name and a hash of everything that decides what the policy does."""
        tree = {key: value for key, value in self.to_plain().items() if key != "description"}
        canonical = json.dumps(tree, sort_keys=True, separators=(",", ":"))
        return f"{self.name}-{hashlib.sha256(canonical.encode()).hexdigest()[:12]}"

    def to_plain(self) -> dict[str, Any]:
        """Plain values of what differs from the defaults; `policy_from_plain` reads them."""
        tree: dict[str, Any] = {"name": self.name}
        if self.description:
            tree["description"] = self.description
        if self.protect:
            tree["protect"] = list(self.protect)
        for kind, branch in (("history", self.history), ("text", self.text)):
            if plain := branch.to_plain():
                tree[kind] = plain
        if plain := self.representation.to_plain():
            tree["representation"] = plain
        return tree

    def to_toml(self) -> str:
        """The policy as a file that `load_policy` reads back to an equal policy."""
        return tomli_w.dumps(self.to_plain())

    def __repr__(self) -> str:
        lines = [f"policy {self.policy_id}"]
        for kind, branch in (("history", self.history), ("text", self.text)):
            lines.extend(branch.tree(kind))
        lines.extend(self.representation.tree())
        return "\n".join(lines)

    __str__ = __repr__


def load_policy(name_or_path: str | Path) -> Policy:
    """A preset by name, or a policy file by path.

    Raises:
        ConfigError: no such preset or file, not TOML, or an op or a field that is wrong (both are named).
    """
    if isinstance(name_or_path, str) and name_or_path in PRESETS:
        text = (resources.files("recsys.augment") / "policies" / f"{name_or_path}.toml").read_text("utf-8")
        return policy_from_plain(tomllib.loads(text), source=f"policy '{name_or_path}'")
    path = Path(name_or_path)
    if name_or_path == AUTO:
        raise ConfigError(
            f"the policy '{AUTO}' is chosen inside `recsys run`, on validation; here name one of "
            f"{', '.join(PRESETS)}, or give a .toml file"
        )
    if path.suffix != ".toml":
        raise ConfigError(
            f"there is no policy '{name_or_path}'. Presets: {', '.join(PRESETS)}; or give a .toml file"
        )
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    return policy_from_plain(_beside(tree, path.parent), source=str(path))


def _beside(tree: Any, folder: Path) -> Any:
    """The same tree with the files and folders that are named relative to the policy's own folder."""
    if isinstance(tree, list):
        return [_beside(part, folder) for part in tree]
    if not isinstance(tree, dict):
        return tree
    op = OPS.get(str(tree.get("op")))
    models = op.model_settings if op is not None and issubclass(op, AskingOp) else ()
    found = {key: _beside(value, folder) for key, value in tree.items()}
    if isinstance(found.get("lexicon"), str):
        found["lexicon"] = str(folder / found["lexicon"])
    for key in models:
        # A hub name stays one. A stored policy must find the same folder, so the path is a full one.
        if isinstance(found.get(key), str) and (folder / found[key]).is_dir():
            found[key] = str((folder / found[key]).resolve())
    return found


def policy_from_plain(tree: Mapping[str, Any], source: str = "policy") -> Policy:
    """A policy from plain values, as `Policy.to_plain` gives them.

    Raises:
        ConfigError: names the source, the op and the field.
    """
    settings: dict[str, Any] = dict(tree)
    kinds: tuple[Kind, ...] = ("history", "text")
    for kind in kinds:
        if kind in settings:
            settings[kind] = _branch(settings[kind], kind, f"{source}: {kind}")
    if "representation" in settings:
        settings["representation"] = representation_from_plain(
            settings["representation"], f"{source}: representation"
        )
    try:
        return Policy.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(f"{source}: {setting_problem('policy', Policy, error)}") from error


def _branch(tree: Any, kind: Kind, where: str) -> Branch:
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{where}: expected a table, got {tree!r}")
    settings = dict(tree)
    plain = settings.pop("ops", [])
    if not isinstance(plain, list | tuple):
        raise ConfigError(f"{where}.ops: expected a list of ops")
    ops: list[Op[Any]] = []
    for i, child in enumerate(plain):
        op = op_from_plain(child, f"{where}.ops[{i}]")
        for leaf in leaves(op):
            if leaf.kind != kind:
                raise ConfigError(f"{where}.ops[{i}]: '{leaf.name}' is a {leaf.kind} op, not a {kind} op")
        ops.append(op)
    settings["gates"] = _gates(settings.get("gates", ()), kind, f"{where}.gates")
    try:
        return Branch.model_validate({**settings, "ops": Compose(ops=tuple(ops))})
    except ValidationError as error:
        raise ConfigError(f"{where}: {setting_problem(kind, Branch, error)}") from error


def _gates(plain: Any, kind: Kind, where: str) -> tuple[Gate[Any], ...]:
    if not isinstance(plain, list | tuple):
        raise ConfigError(f"{where}: expected a list of gates")
    gates = tuple(gate_from_plain(tree, f"{where}[{i}]") for i, tree in enumerate(plain))
    for i, gate in enumerate(gates):
        if gate.kind != kind:
            raise ConfigError(f"{where}[{i}]: '{gate.name}' is a {gate.kind} gate, not a {kind} gate")
    return gates
