"""Who takes part: presets, policy files or settings files, and placebos; all else must be the same."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from recsys.arms import Arm
from recsys.augment.policy import load_policy
from recsys.config import AUTO, WHICH_POLICY, AugmentConfig, Config, load_config
from recsys.errors import ConfigError
from recsys.placebo import PLACEBOS
from recsys.search.space import OFF, fingerprint

PLACEBO = "placebo:"
_AUGMENT = "augment"


@dataclass(frozen=True)
class Contender:
    """An arm by the name that tables give it."""

    arm: Arm
    settings: tuple[str, ...] = ()
    """What `recsys run` has to be told to train as this arm does."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Settings outside `[augment]` that differ: never in a comparison, only in an ablation."""
    unseen: tuple[str, ...] = ()
    """Groups of features that the ranker does without: likewise."""

    @property
    def name(self) -> str:
        """As tables show it."""
        return self.arm.name

    @property
    def is_placebo(self) -> bool:
        """Whether it is there to be beaten."""
        return self.arm.placebo is not None

    @property
    def identity(self) -> str:
        """What the arm trains on, whatever it is called: equal for arms that are trained alike."""
        arm = self.arm
        if arm.placebo == "duplicate" and arm.fusion.fusion in ("mix", "curriculum"):
            return OFF  # a row that its copy takes the place of is the same row
        if arm.placebo is not None:
            fusion = arm.fusion.model_dump(mode="json", exclude=set(WHICH_POLICY))
            return f"{PLACEBO}{arm.placebo}:{sorted(fusion.items())}"
        return fingerprint(arm)


@dataclass(frozen=True)
class Entered:
    """The contenders of a comparison; the first is the one that the others are compared with."""

    config: Config
    """Everything that they share."""
    contenders: tuple[Contender, ...]

    @property
    def reference(self) -> Contender:
        """The arm that the others are compared with."""
        return self.contenders[0]

    @property
    def placebos(self) -> list[str]:
        """Names of the placebos."""
        return [one.name for one in self.contenders if one.is_placebo]


def enter(
    given: Sequence[str], config: Path | None, settings: Sequence[str], *, placebos: bool = True
) -> Entered:
    """The contenders that were asked for.

    `off` is the reference where it takes part, else the first. Without any, the configured `[augment]` is
    compared with `off`.

    Args:
        given: Presets, placebos, policy files, or settings files laid over the configuration.
        config: TOML file of settings that all arms share.
        settings: `section.key=value`, over all files.
        placebos: Let every placebo take part.

    Raises:
        ConfigError: an unknown name, arms that differ outside `[augment]`, or nothing to compare.
    """
    base = load_config(config, settings)
    configs: dict[str, Config] = {}
    found = [_contender(name, config, settings, base, configs) for name in given]
    if not given:
        found = [*_configured(base, config, settings), _off(base)]
    _refuse_differences(configs or {"the configuration": base}, base if len(configs) < len(found) else None)
    shared = next(iter(configs.values())) if configs and len(configs) == len(found) else base
    if not any(not one.is_placebo and one.identity != OFF for one in found):
        raise ConfigError("every arm is off: name a policy with --arms, for example --arms off standard")
    found.sort(key=lambda one: (one.is_placebo, one.identity != OFF))
    if placebos:
        fusion = next(one.arm.fusion for one in found if not one.is_placebo and one.identity != OFF)
        named = {one.name for one in found}
        found += [_placebo(name, fusion) for name in PLACEBOS if PLACEBO + name not in named]
    _refuse_twins(found)
    return Entered(shared, tuple(found))


def _contender(
    name: str, config: Path | None, settings: Sequence[str], base: Config, configs: dict[str, Config]
) -> Contender:
    if name.startswith(PLACEBO):
        return _placebo(name.removeprefix(PLACEBO), base.augment)
    path = Path(name)
    if path.suffix == ".toml" and (laid_over := _settings_in(path)):
        configs[name] = load_config(config, [*laid_over, *settings])
        return _of_settings(path.stem, configs[name].augment, f"--config {name}")
    policy = load_policy(name)
    fusion = base.augment.model_copy(update={"policy": name, "enabled": True})
    shown = policy.name if name == policy.name else path.stem
    how = ("augment.enabled=false",) if name == OFF else (f"augment.policy={name}", *_fusion(fusion))
    return Contender(Arm(shown, policy, fusion), how)


def _configured(base: Config, config: Path | None, settings: Sequence[str]) -> list[Contender]:
    """The configured policy; where that is still to be chosen, all that it may be chosen from."""
    if not base.augment.enabled:
        raise ConfigError(
            "augmentation is off in the configuration: name a policy, for example --arms off standard"
        )
    if base.augment.policy == AUTO:
        return [
            _contender(name, config, settings, base, {}) for name in base.augment.candidates if name != OFF
        ]
    return [_of_settings("", base.augment, "")]


def _of_settings(name: str, augment: AugmentConfig, how: str) -> Contender:
    if augment.enabled and augment.policy == AUTO:
        raise ConfigError(f"the arm {name}: augment.policy is {AUTO}; say which policy is this arm's")
    policy = load_policy(augment.policy if augment.enabled else OFF)
    if how:
        told: tuple[str, ...] = (how,)
    else:
        told = (f"augment.policy={augment.policy}", *_fusion(augment)) if augment.enabled else ()
    return Contender(Arm(name or policy.name, policy, augment), told)


def _off(base: Config) -> Contender:
    return Contender(Arm(OFF, load_policy(OFF), base.augment), ("augment.enabled=false",))


def _placebo(name: str, fusion: AugmentConfig) -> Contender:
    kind = next((one for one in PLACEBOS if one == name), None)
    if kind is None:
        known = ", ".join(PLACEBO + one for one in PLACEBOS)
        raise ConfigError(f"there is no placebo '{name}'. There are {known}")
    return Contender(Arm(PLACEBO + kind, load_policy(OFF), fusion, kind))


def _fusion(augment: AugmentConfig) -> list[str]:
    """Settings of the fusion that differ from the defaults."""
    tree = augment.model_dump(mode="json", exclude=set(WHICH_POLICY), exclude_defaults=True)
    return [f"augment.{name}={value}" for name, value in tree.items()]


def _settings_in(path: Path) -> list[str]:
    """The settings of a file, as --set takes them; none where the file is a policy."""
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    is_policy = "name" in tree or not tree.keys() & Config.model_fields.keys()
    return [] if is_policy else list(_flat(tree))


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            text = tomli_w.dumps({"value": value}).partition("=")[2].strip()
            yield f"{prefix}{name}={text}"


def _refuse_differences(configs: Mapping[str, Config], base: Config | None) -> None:
    every = dict(configs)
    if base is not None:
        every = {"the configuration": base, **every}
    (first, one), *others = every.items()
    for name, other in others:
        differing = differences(one, other)
        if differing:
            setting, (mine, theirs) = next(iter(differing.items()))
            more = f", and {len(differing) - 1} more" if len(differing) > 1 else ""
            raise ConfigError(
                f"arms may differ in [augment] alone: {setting} is {mine!r} in {first} and {theirs!r} in "
                f"{name}{more}. Give what all arms share with --config or --set"
            )


def differences(one: Config, other: Config) -> dict[str, tuple[Any, Any]]:
    """Settings outside `[augment]` in which two configurations differ, by dotted name."""
    mine, theirs = (config.model_dump(mode="json", exclude={_AUGMENT}) for config in (one, other))
    return {
        f"{section}.{name}": (value, theirs[section][name])
        for section, table in mine.items()
        for name, value in table.items()
        if value != theirs[section][name]
    }


def _refuse_twins(found: Sequence[Contender]) -> None:
    names: dict[str, Contender] = {}
    trained: dict[str, str] = {}
    for one in found:
        if one.name in names:
            raise ConfigError(f"two arms are called '{one.name}': give each a file name of its own")
        names[one.name] = one
        if one.is_placebo:
            continue
        if one.identity in trained:
            raise ConfigError(f"the arms '{trained[one.identity]}' and '{one.name}' do the same")
        trained[one.identity] = one.name
