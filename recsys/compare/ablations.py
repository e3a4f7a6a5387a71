"""What can be taken away, added or flipped, out of the code's own registries; nothing is listed by hand."""

from __future__ import annotations

import types
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge
from pydantic.fields import FieldInfo

from recsys.arms import Arm
from recsys.augment.compose import Compose
from recsys.augment.op import Op
from recsys.augment.policy import Branch, Policy, load_policy
from recsys.augment.registry import OPS
from recsys.augment.representation import REPRESENTATION_OPS, Representation
from recsys.compare.contenders import Contender, Entered
from recsys.compare.lists import WholeLists
from recsys.compare.taught import TowersAndReader
from recsys.compare.trainings import Depth, TowersAlone
from recsys.compare.tuned import TunedTowers
from recsys.config import AUTO, Config, RetrieveConfig, with_settings
from recsys.errors import ConfigError
from recsys.placebo import PLACEBOS
from recsys.policy_choice import with_policy
from recsys.rank_features import FEATURE_GROUPS, SOURCES
from recsys.retrieve import WEIGHED

What = Literal["ops", "sources", "features", "training", "encoder", "queries"]
WHAT: tuple[What, ...] = get_args(What)
DEPTHS: Mapping[What, type[Depth]] = {
    "ops": TowersAlone,
    "sources": WholeLists,
    "features": WholeLists,
    "training": TowersAlone,
    "encoder": TunedTowers,
    "queries": TowersAndReader,
}
"""How far the trainings of each go: no further than what it changes shows."""
DEFAULT = "default"
TOWER_SECTIONS = ("model", "train")
"""Settings that fitting the towers reads."""
ENCODER_SECTIONS = ("pretrain", "finetune")
"""Settings that training the text encoder reads."""
QUERY_SECTIONS = ("queries",)
"""Settings that teaching the reader of queries reads."""


def ablation(what: What, config: Config) -> Entered:
    """The arms of one ablation, the default first; of ops, `off` first and placebos last.

    Args:
        what: See `WHAT`.
        config: The default that everything is held against.
    """
    match what:
        case "ops":
            off = Contender(Arm("off", load_policy("off"), config.augment), ("augment.enabled=false",))
            placebos = [
                Contender(Arm(f"placebo:{name}", load_policy("off"), config.augment, name))
                for name in PLACEBOS
            ]
            return Entered(config, (off, *single_ops(config), *placebos))
        case "sources":
            return _against_default(config, without_sources(config))
        case "features":
            return Entered(config, (_default(config, DEFAULT), *without_features(config)))
        case "training":
            return _against_default(config, flipped(config, TOWER_SECTIONS))
        case "encoder":
            return _against_default(config, flipped(config, ENCODER_SECTIONS))
        case "queries":
            # Every arm words titles as a run's reader of queries is told to, and its towers' texts likewise.
            worded = with_policy(config, config.queries.policy)
            return _against_default(worded, flipped(worded, QUERY_SECTIONS))


def single_ops(config: Config) -> Iterator[Contender]:
    """Every op alone with its default settings, but those that must be told more or ask a model."""
    for name, op in OPS.items():
        if (policy := _alone(name, op)) is not None:
            yield Contender(Arm(name, policy, config.augment))
    for name, change in REPRESENTATION_OPS.items():
        policy = Policy(name=name, representation=Representation(ops=(change(),)))
        yield Contender(Arm(name, policy, config.augment))


def without_sources(config: Config) -> dict[str, dict[str, Any]]:
    """Every quota of a source that is switched on, at zero."""
    return {f"without {name}": {f"retrieve.{name}": 0} for name in quotas() if getattr(config.retrieve, name)}


def quotas() -> list[str]:
    """The settings that switch sources: those with a source's name, or with that of the weights it reads."""
    switches = {*SOURCES, *(kind for kind, _ in WEIGHED.values())}
    return [name for name in RetrieveConfig.model_fields if name in switches]


def without_features(config: Config) -> Iterator[Contender]:
    """Every group of the ranker's features, hidden from it."""
    for name in FEATURE_GROUPS:
        yield replace(_default(config, f"without {name}"), unseen=(name,))


def flipped(config: Config, sections: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Every option of some sections the other way.

    Switches are turned over, choices go to each other choice, strengths to zero, and a strength that is zero
    and a size that cannot be take the values their fields give as examples. Settings that the machine decides
    (`auto`), and sizes without examples, are no options. A name that two of the sections have is shown with
    its section.
    """
    found: dict[str, dict[str, Any]] = {}
    tables = {section: getattr(config, section) for section in sections}
    names = Counter(name for table in tables.values() for name in type(table).model_fields)
    for section, table in tables.items():
        for name, field in type(table).model_fields.items():
            now = getattr(table, name)
            shown = name if names[name] == 1 else f"{section}.{name}"
            for value in _others(field, now):
                changes = {f"{section}.{name}": value}
                try:
                    with_settings(config, changes)
                except ConfigError:  # two settings that exclude each other: not an option here
                    continue
                found[f"{shown}={_short(value)}"] = changes
    return found


def _others(field: FieldInfo, now: Any) -> list[Any]:
    if isinstance(now, bool):
        return [not now]
    if get_origin(field.annotation) is Literal:
        choices = get_args(field.annotation)
        return [] if "auto" in choices else [choice for choice in choices if choice != now]
    if isinstance(now, int | float) and not isinstance(field.annotation, types.UnionType):
        zero = any(isinstance(bound, Ge) and bound.ge == 0 for bound in field.metadata)
        tried = [example for example in field.examples or () if example != now]
        return [type(now)(0)] if zero and now else tried
    return []


def _against_default(config: Config, arms: Mapping[str, Mapping[str, Any]]) -> Entered:
    others = [
        replace(
            _default(config, name),
            settings=tuple(f"{setting}={_short(value)}" for setting, value in changes.items()),
            changes=changes,
        )
        for name, changes in arms.items()
    ]
    return Entered(config, (_default(config, DEFAULT), *others))


def _default(config: Config, name: str) -> Contender:
    """Trained with the configured policy; with none where a run would choose it on validation."""
    augment = config.augment
    settled = augment.enabled and augment.policy != AUTO
    return Contender(Arm(name, load_policy(augment.policy if settled else "off"), augment))


def _alone(name: str, op: type[Op[Any]]) -> Policy | None:
    try:
        branch = Branch(ops=Compose(ops=(op(),)))
    except ValueError:
        return None
    kind: dict[str, Any] = {"history": {"history": branch}, "text": {"text": branch}}.get(op.kind or "", {})
    return Policy(name=name, **kind) if kind else None


def _short(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value}"
