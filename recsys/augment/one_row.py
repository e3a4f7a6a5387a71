"""A branch of a policy for one row at a time, against a clock: what bulk expansion is for many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Generic

from recsys.augment.gates.gate import Evidence
from recsys.augment.op import E, Op
from recsys.augment.policy import Branch
from recsys.augment.provenance import op_chain
from recsys.randomness import Stream, derive


class BudgetSpent(Exception):
    """The time for one request is over."""


class OneRow(Generic[E]):
    """Runs a branch's ops on one row; looks at the clock before every op and gate.

    Args:
        branch: Its ops, acceptance rules and gates.
        evidence: What the gates may consult.
        clock: Monotonic seconds.
    """

    def __init__(self, branch: Branch, evidence: Evidence, clock: Callable[[], float]) -> None:
        seen: Counter[str] = Counter()
        self._steps: list[tuple[Op[E], int]] = []
        for op in branch.ops.ops:
            seen[op.name] += 1
            self._steps.append((op, derive(0, "online", op.name, seen[op.name])))
        self._judge, self._gates = branch.acceptance.judge, branch.gates
        self._evidence, self._clock = evidence, clock

    def grown(self, example: E, rng: Stream, deadline: float, used: dict[str, None]) -> E | None:
        """The edited example; None where the ops, the acceptance rules or a gate leave it as it was.

        Args:
            example: The original.
            rng: The row's own stream.
            deadline: By the clock.
            used: Takes the names of the ops that made it.

        Raises:
            BudgetSpent: the deadline has passed.
        """
        child, chain = example, []
        for op, key in self._steps:
            self._check(deadline)
            done = op.run(child, rng.fork(key))
            if done is not None:
                child, plan = done
                chain += op_chain(plan).split(">")
        self._check(deadline)
        if not chain or self._judge(example, child)[0] is not None:
            return None
        for gate in self._gates:
            self._check(deadline)
            if gate.judge([example], [child], self._evidence).reasons[0] is not None:
                return None
        used.update(dict.fromkeys(chain))
        return child

    def _check(self, deadline: float) -> None:
        if self._clock() >= deadline:
            raise BudgetSpent
