"""Gathering answers: the rows are planned again and again until no op of theirs asks anything new.

Draws are keyed by row, so each round draws what the last one drew, and a row whose turn ended at a question
goes on where it stopped. Of a chain of asking ops, each needs one round; one more sees that nothing is open.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from recsys.augment.asking import Answers, Gathering, Oracle, Waiting
from recsys.augment.compose import leaves
from recsys.augment.example import TextExample
from recsys.augment.grow import copy_streams

if TYPE_CHECKING:
    from recsys.augment.policy import Branch

logger = logging.getLogger(__name__)


def asks(branch: Branch) -> bool:
    """Whether an op of the branch asks a model."""
    return "oracle" in branch.needs


def gathered(
    examples: Iterable[TextExample], branch: Branch, seed: int, stage: str, oracle: Oracle | None
) -> Answers:
    """The answers that the branch's ops will want on these rows.

    Args:
        examples: The originals, with all other side data; held in memory while rows are open.
        branch: Its ops are planned, never gated.
        seed: The run's seed.
        stage: As for `grow`.
        oracle: Who answers; None gives an empty table, with which every asking op leaves its rows alone.
    """
    if oracle is None or not asks(branch):
        return Answers()
    table = Gathering()
    streams = copy_streams(branch, seed, stage)
    open_rows = [
        (example._replace(answers=table), copy) for example in examples for copy in range(len(streams))
    ]
    rounds = sum("oracle" in leaf.needs for leaf in leaves(branch.ops)) + 1
    for number in range(1, rounds + 1):
        table.wanted.clear()
        waiting = []
        for example, copy in open_rows:
            try:
                branch.ops.run(example, streams[copy](example.row_id))
            except Waiting:
                waiting.append((example, copy))
        open_rows = waiting
        if not table.wanted:
            break
        logger.info("round %d of questions: %d rows, %d requests", number, len(waiting), len(table.wanted))
        table.table.update(oracle.answer(list(table.wanted)))
    return Answers(table.table)


def with_answers(examples: Iterable[TextExample], answers: Answers) -> Iterator[TextExample]:
    """The same examples, carrying the table; what their ops note is counted in it."""
    return (example._replace(answers=answers) for example in examples)
