"""Which ops there are, and how plain values become them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from recsys.augment.backfill import AttributeBackfill, TermExpansion
from recsys.augment.borrow import Borrow, CrossDomainBorrow, SocialBorrow
from recsys.augment.compose import Compose, Composite, OneOf, SomeOf
from recsys.augment.extend import BackwardExtension, Counterfactual, SubHistory
from recsys.augment.generative import MaskedLM, MaskedLMInsertion
from recsys.augment.history import Crop, Insert, ItemDropout, Reorder, Substitute
from recsys.augment.mask import Mask
from recsys.augment.noise import ChineseNoise, KeyboardNoise, Typo
from recsys.augment.op import Op
from recsys.augment.rewriting import BackTranslation, LLMRewrite
from recsys.augment.text import ClauseShuffle, WordDropout, WordSwap
from recsys.augment.words import MinedSynonym, Synonym, WordInsertion, WordnetSynonym
from recsys.errors import ConfigError

COMPOSITES: dict[str, type[Op[Any]]] = {op.name: op for op in (Compose, OneOf, SomeOf)}

OPS: dict[str, type[Op[Any]]] = {
    op.name: op
    for op in (
        AttributeBackfill,
        BackTranslation,
        BackwardExtension,
        Borrow,
        ChineseNoise,
        ClauseShuffle,
        Counterfactual,
        Crop,
        CrossDomainBorrow,
        Insert,
        ItemDropout,
        KeyboardNoise,
        LLMRewrite,
        Mask,
        MaskedLM,
        MaskedLMInsertion,
        MinedSynonym,
        Reorder,
        SocialBorrow,
        SubHistory,
        Substitute,
        Synonym,
        TermExpansion,
        Typo,
        WordDropout,
        WordInsertion,
        WordSwap,
        WordnetSynonym,
    )
}
"""Every op that edits, by name: a new op is one line here and one in the conformance table."""


def op_from_plain(tree: Any, where: str = "ops") -> Op[Any]:
    """An op (and its children) from plain values, as `Op.to_plain` gives them.

    Args:
        tree: A table with `op`, the op's settings and, for a composite, `ops`.
        where: The place in the policy, for messages.

    Raises:
        ConfigError: the op is unknown, or a setting is unknown or out of bounds; names the op and the field.
    """
    if not isinstance(tree, Mapping) or not isinstance(tree.get("op"), str):
        raise ConfigError(f"{where}: expected a table with an 'op', got {tree!r}")
    settings = dict(tree)
    name = settings.pop("op")
    known = {**OPS, **COMPOSITES}
    if name not in known:
        raise ConfigError(f"{where}: there is no op '{name}'. Known: {', '.join(sorted(known))}")
    if name in COMPOSITES and "ops" in settings:
        if not isinstance(settings["ops"], list | tuple):
            raise ConfigError(f"{where}: {name}.ops: expected a list of ops")
        settings["ops"] = tuple(
            op_from_plain(child, f"{where}.{name}.ops[{i}]") for i, child in enumerate(settings["ops"])
        )
    try:
        return known[name].model_validate(settings)
    except ValidationError as error:
        raise ConfigError(f"{where}: {setting_problem(name, known[name], error)}") from error


def setting_problem(name: str, model: type[Any], error: ValidationError) -> str:
    """The first problem of a validation, with the op and the field in front."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in (name, *first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"there is no setting '{field}'. Known here: {', '.join(sorted(model.model_fields))}"
    message = first["msg"].removeprefix("Value error, ")
    given = "" if issubclass(model, Composite) else f" (got {first['input']!r})"
    return f"{field}: {message}{given}"
