"""What happened to a row and why it may be trusted: parent, steps, scores, a diff, and a replay."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recsys.augment.constraints import Protection
from recsys.augment.example import Example, HistoryExample, Item, TextExample
from recsys.augment.op import Step
from recsys.augment.policy import Branch, Policy
from recsys.augment.provenance import parse_plan
from recsys.augment.tokens import cut, language_of
from recsys.contexts import MASKED
from recsys.errors import InputError


@dataclass(frozen=True, slots=True)
class Explanation:
    """One augmented row, for people."""

    row_id: str
    parent_id: str
    policy_id: str
    seed: int
    created: str
    steps: tuple[Step, ...]
    scores: dict[str, float]
    before: str
    after: str
    diff: str
    """Words or items: `[-gone-]`, `{+new+}`, others as they are."""

    def __str__(self) -> str:
        lines = [f"row      {self.row_id}", f"parent   {self.parent_id}"]
        lines.append(f"policy   {self.policy_id}, seed {self.seed}, made {self.created}")
        for number, step in enumerate(self.steps, 1):
            shown = ", ".join(f"{name}={value}" for name, value in step.parameters.items())
            lines.append(f"step {number}   {step.op}({shown})")
        lines += [f"score    {name} = {value:.3f}" for name, value in sorted(self.scores.items())]
        lines += [f"before   {self.before}", f"after    {self.after}", f"diff     {self.diff}"]
        return "\n".join(lines)


def replay(row: Mapping[str, Any], original: Example, policy: Policy) -> Example:
    """Make an augmented row again from its provenance and its original.

    Args:
        row: One row of the provenance table, as a mapping.
        original: The parent as it was.
        policy: The policy that made the row.

    Raises:
        InputError: the row is of another policy or another parent.
    """
    if row["policy_id"] != policy.policy_id:
        raise InputError(
            f"row {row['row_id']} was made by policy {row['policy_id']}, this is {policy.policy_id}",
            hint="Give the policy that the row was made with",
        )
    if row["parent_id"] != original.row_id:
        raise InputError(f"row {row['row_id']} has the parent {row['parent_id']}, not {original.row_id}")
    ops = _branch(row, policy).ops
    plan = parse_plan(ops, row["plan"])
    if isinstance(original, TextExample):
        original = Protection(policy.protect).prepare(original)
    result: Example = ops.apply(original, plan)
    return result


def explain(
    row: Mapping[str, Any], original: Example, policy: Policy, item_ids: Sequence[str] = ()
) -> Explanation:
    """Parent, steps with their parameters, scores, and a word-level diff; see `replay` for the arguments.

    With `item_ids`, the catalogue's, a history's items are shown by id instead of by row.
    """
    result = replay(row, original, policy)
    ops = _branch(row, policy).ops
    before, after = list(_words(original, item_ids)), list(_words(result, item_ids))
    joiner = "" if isinstance(original, TextExample) and language_of(original.text) == "zh" else " "
    scores = row["scores"]
    return Explanation(
        row_id=row["row_id"],
        parent_id=row["parent_id"],
        policy_id=row["policy_id"],
        seed=int(row["seed"]),
        created=str(row["created"]),
        steps=tuple(ops.steps(parse_plan(ops, row["plan"]))),
        scores={
            name: float(value) for name, value in (scores.items() if hasattr(scores, "items") else scores)
        },
        before=joiner.join(before),
        after=joiner.join(after),
        diff=word_diff(before, after, joiner),
    )


def item_name(item: Item, item_ids: Sequence[str] = ()) -> str:
    """An item of a history for people: its id where the catalogue is given, `[mask]` where it is not told."""
    if item == MASKED:
        return "[mask]"
    return item_ids[item] if item_ids and isinstance(item, int) else str(item)


def word_diff(before: Sequence[str], after: Sequence[str], joiner: str = " ") -> str:
    """Two word lists as one text: `[-gone-]`, `{+new+}`, others as they are."""
    parts: list[str] = []
    for tag, low, high, start, stop in difflib.SequenceMatcher(None, before, after, False).get_opcodes():
        if tag == "equal":
            parts.extend(before[low:high])
            continue
        if high > low:
            parts.append(f"[-{joiner.join(before[low:high])}-]")
        if stop > start:
            parts.append(f"{{+{joiner.join(after[start:stop])}+}}")
    return joiner.join(parts)


def _branch(row: Mapping[str, Any], policy: Policy) -> Branch:
    return policy.history if row["kind"] == "history" else policy.text


def _words(example: Example, item_ids: Sequence[str]) -> Iterator[str]:
    if isinstance(example, HistoryExample):
        return (item_name(item, item_ids) for item in example.history)
    if example.tokens is not None:
        return iter(example.tokens.words)
    return iter(cut(example.text, language_of(example.text))[0])
