"""With and without friends: what the `relations` of a shop are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from recsys.artifacts import alone
from recsys.augment.expand import expand_contexts
from recsys.augment.fuse import Fusion
from recsys.augment.lending import UserEvents, friends_lender
from recsys.augment.policy import policy_from_plain
from recsys.augment.store import friends_of
from recsys.augmented import AugmentedRows
from recsys.config import AugmentConfig, Config
from recsys.errors import InputError
from recsys.evaluate.segments import Segment
from recsys.model.fitted import TowersFit
from recsys.randomness import generator
from recsys.transfer.order import USERS, Board, Done, Order, Question, answered
from recsys.transfer.side import Judged, Side, judge, prepare_side
from recsys.transfer.systems import Lent, merged, ranked

ALONE = "without relations"
ROWS, ROWS_PLACEBO = "rows of friends", "rows of strangers"
HISTORY, HISTORY_PLACEBO = "history of friends", "history of strangers"
SOCIAL = {"name": "social", "history": {"ops": [{"op": "social_borrow"}]}}
"""The policy behind borrowed rows."""
SHORT = 10
"""Longer histories borrow nothing at request, as the op leaves longer ones alone."""
Friends = Mapping[str, Sequence[str]]


def run_social(data: Path, out: Path, config: Config, order: Order) -> Done:
    """Towers with and without what friends did, on the newest slice.

    Friends' events come in twice: into training rows (`social_borrow`), and into short histories at request.
    Each has a placebo with strangers in the friends' place.

    Args:
        data: A dataset with `relations`.
        out: Folder of this comparison alone.
        config: Sections but `augment`, `online`, `rank` and `finetune` are read: towers alone are compared.
        order: Seeds and task.

    Raises:
        RecsysError: bad data or configuration, or no relations.
    """
    config = config.model_copy(update={"augment": AugmentConfig(enabled=False)})
    with alone(out):
        side = prepare_side(data, out / "work" / "shop", config)
        relations = side.shop.dataset.relations
        if relations is None or not len(relations):
            raise InputError(
                "there are no relations", file=str(data),
                hint="Add relations.parquet with user_id and friend_id",
            )  # fmt: skip
        return _Social(side, friends_of(relations), order).run(data.name)


class _Social:
    """The systems of one comparison."""

    def __init__(self, side: Side, friends: Friends, order: Order) -> None:
        self.side, self.friends, self.order = side, friends, order
        self.judged: Judged = judge(side, friends.keys())
        self.cut = side.prepared.cut_report
        users = np.isin(self.judged.sheet.users.to_numpy(str), sorted(friends))
        known = self.judged.sheet.history_counts > 0
        segments = [
            Segment(USERS, "with friends", users=users & known),
            Segment(USERS, "new, with friends", users=users & ~known),
        ]
        self.board = Board(self.judged, order, segments)
        self.num_related = int(users.sum())
        self.counts: dict[str, dict[str, int]] = {}

    def run(self, name: str) -> Done:
        """Fit, rank and compare."""
        fit = self.side.fit_rows(self.cut)
        known = UserEvents(fit)
        for seed in range(self.order.seeds):
            chosen = self.side.towers(seed, self.side.prepared.cut_validation)
            own = self.side.towers(seed, self.cut, like=chosen)
            self._add(ALONE, own)
            strangers = exchanged(self.friends, known.user_ids, seed)
            for system, friends in ((ROWS, self.friends), (ROWS_PLACEBO, strangers)):
                rows = self._borrowed(friends, seed)
                self.counts[system] = rows.counts
                label = system.replace(" ", "-")
                self._add(system, self.side.towers(seed, self.cut, like=own, rows=rows, name=label))
            for system, friends in ((HISTORY, self.friends), (HISTORY_PLACEBO, strangers)):
                self._add(system, own, self._lent(known, friends))
        systems = self.board.systems()
        questions = [Question(HISTORY, ALONE, (HISTORY_PLACEBO,)), Question(ROWS, ALONE, (ROWS_PLACEBO,))]
        facts = {
            "relations": f"{sum(map(len, self.friends.values())):,}, of {len(self.friends):,} users",
            "recommended to": f"{len(self.judged.sheet):,} users of the newest slice, task "
            f"{self.order.task}; {self.num_related:,} of them have friends",
            "seeds": f"{self.order.seeds}, averaged per user before anything else",
        }
        title = f"{name}, with and without relations"
        return Done(title, systems, answered(systems, questions), facts, (), self.counts)

    def _borrowed(self, friends: Friends, seed: int) -> AugmentedRows:
        fit = self.side.fit_rows(self.cut)
        grown = expand_contexts(
            fit, self.side.shop.vocabulary, policy_from_plain(SOCIAL), seed, created=self.cut, friends=friends
        )
        if len(grown.contexts) == len(fit):
            return AugmentedRows(fit, None, grown.counts)
        fusion = Fusion(grown.contexts.parents, AugmentConfig(), seed, grown.strengths, grown.confidences)
        return AugmentedRows(grown.contexts, fusion, grown.counts)

    def _lent(self, known: UserEvents, friends: Friends) -> dict[str, list[Lent]]:
        """What judged users with short histories get from friends: newest first of each, ten at most."""
        contexts = self.judged.contexts
        found = friends_lender(contexts, known, friends)(0, len(contexts))
        short = np.diff(contexts.history_offsets) <= SHORT
        return {
            str(contexts.user_ids[i]): [
                Lent(int(event.item), int(event.event_type), event.timestamp) for event in found.events_of(i)
            ]
            for i in np.flatnonzero(short).tolist()
        }

    def _add(self, name: str, towers: TowersFit, lent: Mapping[str, Sequence[Lent]] | None = None) -> None:
        contexts = self.judged.contexts
        if lent is not None:
            contexts = merged(contexts, lent, self.side.config.features.history_length)
        self.board.add(name, ranked(towers, contexts, len(self.side.vectors), self.board.seen))


def exchanged(friends: Friends, users: Sequence[str], seed: int) -> dict[str, list[str]]:
    """As many strangers for everybody as they have friends: drawn among all users, keyed by the user."""
    return {
        user: [
            users[int(place)]
            for place in generator(seed, "social", "strangers", user).integers(0, len(users), len(mine))
            if users[int(place)] != user
        ]
        for user, mine in friends.items()
    }
