"""The page of all ops: made from the ops themselves, with one real run of each, so that it cannot lag behind.

`recsys augment ops --markdown > docs/ops.md` writes it anew; a test compares.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from recsys.augment.compose import leaves
from recsys.augment.constraints import Acceptance
from recsys.augment.example import Example, HistoryExample
from recsys.augment.explain import item_name, word_diff
from recsys.augment.op import Op, summary
from recsys.augment.ops_examples import MODELS, NO_EXAMPLE, SETTINGS, WHEN, rows_for
from recsys.augment.registry import COMPOSITES, OPS, op_from_plain
from recsys.augment.representation import REPRESENTATION_OPS, RepresentationOp
from recsys.augment.tokens import cut, language_of
from recsys.randomness import stream

_TRIES = 200
"""Seeds that are tried until an op acts: `p` and the draw itself may leave a row alone."""
_HEAD = """# Ops

Every op, with its settings and what it did to a fixed row. Made by `make docs` from the ops themselves. How
ops are put together, gated and fused is in [augmentation.md](augmentation.md).

Two settings are common to all ops on rows: `p` (default 1.0), the chance that the op is tried on a row, and
`taper` (default none): full strength up to the first size, fading to none at the second, sizes being events
or words.

What an op costs is said in four classes:

* *cheap*: some microseconds per row, and nothing is computed beforehand;
* *side data*: as cheap per row, after what it reads was computed from the training rows, once per fit;
* *model*: a local model is asked, in batches, and its answers are cached: milliseconds per row;
* *paid*: a service is asked that counts tokens; a budget bounds it.

Ops on representations have no rows; their cost is in passes of the towers per optimiser step.

In the examples `[-gone-]` and `{+new+}` mark what changed. Each is a real run, with the seed that is given; a
model's answer, where one is asked, is made up.
"""
_TITLES = {
    "history": "On histories",
    "text": "On item texts",
    "composite": "Composites",
    "representation": "On representations",
}
_BOUNDS = ((Ge, "ge", "at least"), (Gt, "gt", "over"), (Le, "le", "at most"), (Lt, "lt", "under"))
_COMMON = ("p", "taper")


def ops_page() -> str:
    """All ops by kind, in the order of their names, as Markdown."""
    parts = [_HEAD]
    for kind, title in _TITLES.items():
        members = {name: op for name, op in sorted(_known().items()) if _kind(op) == kind}
        parts.append(f"\n## {title}\n\n")
        parts += [f"* [`{name}`](#{name}): {summary(op).rstrip('.')}\n" for name, op in members.items()]
        parts += [_section(name, op) for name, op in members.items()]
    return "".join(parts)


def cost_of(op: type[BaseModel]) -> str:
    """The class of an op's cost, with what it reads or passes."""
    if issubclass(op, RepresentationOp):
        extra = op().extra
        if not any(extra):
            return "no further passes"
        return f"{extra.forward:g} forward and {extra.backward:g} backward passes more per step"
    if issubclass(op, tuple(COMPOSITES.values())):
        return "that of its ops"
    needs = op(**_plain(op)).needs if issubclass(op, Op) else frozenset()
    if "oracle" in needs:
        return "paid" if "max_cost" in op.model_fields else "model"
    named = ", ".join(f"`{name}`" for name in sorted(needs))
    return f"side data ({named})" if needs else "cheap"


def _known() -> Mapping[str, type[BaseModel]]:
    return {**OPS, **COMPOSITES, **REPRESENTATION_OPS}


def _kind(op: type[BaseModel]) -> str:
    return str(getattr(op, "kind", None) or "composite")


def _plain(op: type[BaseModel]) -> dict[str, Any]:
    name = str(getattr(op, "name", ""))
    return {} if name in COMPOSITES else SETTINGS.get(name, {})


def _section(name: str, op: type[BaseModel]) -> str:
    when = WHEN[name]
    lines = [f"\n### {name}\n\n{_sentence(op.__doc__)}\n\n"]
    lines.append(f"* For: {when.use}\n* Not for: {when.leave}\n")
    lines.append(f"* Cost: {cost_of(op)}\n")
    if own := {key: info for key, info in op.model_fields.items() if key not in _COMMON}:
        lines.append("\n| setting | default | allowed | meaning |\n|---|---|---|---|\n")
        lines += [_row(key, info) for key, info in own.items()]
    if issubclass(op, Op):
        lines.append(f"\n{_shown(name)}\n")
    return "".join(lines)


def _shown(name: str) -> str:
    """The op's runs on its rows, as a block; or why there is none."""
    if name in NO_EXAMPLE:
        return f"No example: {NO_EXAMPLE[name]}"
    settings = SETTINGS.get(name, {})
    op = op_from_plain({"op": name, **settings})
    kind = next(iter(leaves(op))).kind or "text"
    blocks = [block for row in rows_for(name, kind) if (block := _run(op, row))]
    given = f" with `{json.dumps(settings, ensure_ascii=False)}`" if settings else ""
    told = ", the model's answer made up" if name in MODELS else ""
    return f"Run{given}{told}:\n\n```text\n" + "\n\n".join(blocks) + "\n```"


def _run(op: Op[Any], row: Example) -> str | None:
    """Before and after of the first seed with which the op acts and is accepted; None where none does."""
    for seed in range(_TRIES):
        done = op.run(row, stream(seed, "ops_page", op.name, row.row_id))
        if done is None or Acceptance(max_modification=0.8).judge(row, done[0])[0] is not None:
            continue
        before, after = _words(row), _words(done[0])
        joiner = "" if _chinese(row) else " "
        return f"seed {seed}\nbefore  {joiner.join(before)}\nafter   {word_diff(before, after, joiner)}"
    return None


def _chinese(row: Example) -> bool:
    return not isinstance(row, HistoryExample) and language_of(row.text) == "zh"


def _words(row: Example) -> list[str]:
    if isinstance(row, HistoryExample):
        return [item_name(item) for item in row.history]
    return list(cut(row.text, language_of(row.text))[0])


def _row(name: str, info: FieldInfo) -> str:
    cells = (f"`{name}`", _default(info), _allowed(info), _sentence(info.description))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "must be given"
    value = info.get_default(call_default_factory=True)
    return "none" if value is None else f"`{json.dumps(value, ensure_ascii=False)}`"


def _allowed(info: FieldInfo) -> str:
    kind, bounds = info.annotation, list(_bounds(info.metadata))
    choices = [f"`{choice}`" for choice in get_args(kind) if isinstance(choice, str)]
    if choices:
        return ", ".join(choices)
    if kind is bool:
        return "true, false"
    if get_origin(kind) is tuple:
        parts = get_args(kind)
        if len(parts) == 2 and parts[1] is not Ellipsis:
            inner = next((meta for meta in getattr(parts[0], "__metadata__", ())), None)
            each = ", ".join(_bounds(inner.metadata)) if isinstance(inner, FieldInfo) else ""
            return f"low and high, each {each}" if each else "low and high"
        return "a list"
    if type(None) in get_args(kind):
        bounds.append("or left out")
    return ", ".join(bounds) or ("text" if kind is str else "any")


def _bounds(metadata: list[Any]) -> Iterator[str]:
    for rule in metadata:
        for kind, attribute, words in _BOUNDS:
            if isinstance(rule, kind):
                yield f"{words} {getattr(rule, attribute):g}"
        if isinstance(rule, MinLen):
            yield "not empty"


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split())
