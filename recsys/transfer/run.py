"""Train on one shop, recommend in another: by text alone, and through the users that both have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from recsys.artifacts import alone
from recsys.augment.domains import translated
from recsys.augment.expand import expand_contexts
from recsys.augment.fuse import Fusion
from recsys.augment.policy import policy_from_plain
from recsys.augmented import AugmentedRows
from recsys.config import AugmentConfig, Config
from recsys.contexts import event_code
from recsys.data.interactions import load_dataset
from recsys.evaluate.baselines import Baseline, ItemKnn, Popular
from recsys.evaluate.segments import Segment
from recsys.evaluate.text_baselines import TextNearest
from recsys.model.fitted import TowersFit
from recsys.randomness import generator
from recsys.transfer.order import USERS, Board, Done, Order, Question, answered
from recsys.transfer.side import Judged, Side, judge, prepare_side
from recsys.transfer.systems import K, Lent, carried, merged, ranked, untrained, widened

CARRIED, UNTRAINED, OWN = "carried", "untrained", "own"
ROWS, ROWS_PLACEBO = "own, rows borrowed", "own, rows of others"
HISTORY, HISTORY_PLACEBO = "own, history there", "own, history of others"
CROSS_DOMAIN = {"name": "cross-domain", "history": {"ops": [{"op": "cross_domain_borrow"}]}}
"""The policy behind borrowed rows."""
Events = Mapping[str, Sequence[tuple[int, int, int]]]
"""By user id: item row, event code and Unix seconds, oldest first."""


def run_transfer(source: Path, target: Path, out: Path, config: Config, order: Order) -> Done:
    """What towers fitted on one dataset are worth in another.

    Args:
        source: Dataset that is trained on.
        target: Dataset that is recommended in; its newest slice judges, once.
        out: Folder of this transfer alone; prepared features and vectors go into `work` there.
        config: Sections but `augment`, `online`, `rank` and `finetune` are read: towers alone are compared.
        order: Seeds and task.

    Raises:
        RecsysError: bad data or configuration.
    """
    config = config.model_copy(update={"augment": AugmentConfig(enabled=False)})
    with alone(out):
        there = prepare_side(target, out / "work" / "to", config)
        everyone = set(there.shop.dataset.interactions["user_id"])
        coinciding = everyone & set(load_dataset(source, config.data).interactions["user_id"])
        shared = coinciding if order.same_users else set()
        # Shared users' later events over there would tell what they did here.
        before = there.prepared.cut_report if shared else None
        here = prepare_side(source, out / "work" / "from", config, before)
        return _Transfer(here, there, order, shared).run(f"{source.name} to {target.name}", len(coinciding))


class _Transfer:
    """The systems of one transfer."""

    def __init__(self, here: Side, there: Side, order: Order, shared: set[str]) -> None:
        self.here, self.there, self.order = here, there, order
        self.events = _events(here) if shared else {}
        self.judged: Judged = judge(there, self.events)
        users = self.judged.sheet.users.to_numpy(str)
        both, known = np.isin(users, sorted(self.events)), self.judged.sheet.history_counts > 0
        self.shared = sorted(self.events) if shared else []
        segments = [
            Segment(USERS, "shared", users=both & known),
            Segment(USERS, "new here", users=both & ~known),
        ]
        self.board = Board(self.judged, order, segments if self.shared else ())
        self.num_shared = len(set(there.shop.events(there.prepared.cut_report)["user_id"]) & set(self.events))
        self.counts: dict[str, dict[str, int]] = {}

    def run(self, title: str, coinciding: int) -> Done:
        """Fit, rank and compare; `coinciding` user ids are in both datasets."""
        for seed in range(self.order.seeds):
            self._by_text(seed)
        self._baselines()
        systems = self.board.systems()
        questions = [Question(CARRIED, other) for other in (UNTRAINED, OWN, "text_whitened", "popular_30d")]
        if self.shared:
            questions += [Question(HISTORY, OWN, (HISTORY_PLACEBO,)), Question(ROWS, OWN, (ROWS_PLACEBO,))]
        return Done(
            title, systems, answered(systems, questions), self._facts(), self._notes(coinciding), self.counts
        )

    def _by_text(self, seed: int) -> None:
        here, there = self.here, self.there
        chosen = here.towers(seed, here.prepared.cut_validation)
        final = here.towers(seed, here.shop.end, like=chosen)
        taken = carried(final, there.vectors)
        own = there.towers(
            seed, there.prepared.cut_report, like=there.towers(seed, there.prepared.cut_validation)
        )
        self._add(CARRIED, taken)
        if seed == 0:  # nothing in it is drawn
            self._add(UNTRAINED, untrained(taken))
        self._add(OWN, own)
        if self.shared:
            self._shared(seed, own)

    def _shared(self, seed: int, own: TowersFit) -> None:
        """The same users' events of the other shop: in training rows, and in the history at request."""
        others = _exchanged(self.shared, self.events, seed)
        mine = {user: self.events[user] for user in self.shared}
        wide = widened(own, self.there.whitening.apply(self.here.raw))
        offset, length = len(self.there.vectors), self.there.config.features.history_length
        for name, events in ((HISTORY, mine), (HISTORY_PLACEBO, others)):
            lent = {u: [Lent(offset + row, *rest) for row, *rest in e] for u, e in events.items()}
            lists = ranked(wide, merged(self.judged.contexts, lent, length), offset, self.board.seen)
            self.board.add(name, lists)
        for name, events in ((ROWS, mine), (ROWS_PLACEBO, others)):
            rows = self._borrowed(events, seed)
            self.counts[name] = rows.counts
            cut = self.there.prepared.cut_report
            self._add(
                name,
                self.there.towers(
                    seed, cut, like=own, rows=rows, name=name.replace(", ", "-").replace(" ", "-")
                ),
            )

    def _borrowed(self, events: Events, seed: int) -> AugmentedRows:
        there, cut = self.there, self.there.prepared.cut_report
        fit, ids = there.fit_rows(cut), self.here.shop.vocabulary.item_ids
        foreign = {u: [(ids[row], time) for row, _, time in every] for u, every in events.items()}
        grown = expand_contexts(
            fit, there.shop.vocabulary, policy_from_plain(CROSS_DOMAIN), seed, created=cut,
            elsewhere=translated(fit, foreign),
        )  # fmt: skip
        if len(grown.contexts) == len(fit):
            return AugmentedRows(fit, None, grown.counts)
        fusion = Fusion(grown.contexts.parents, AugmentConfig(), seed, grown.strengths, grown.confidences)
        return AugmentedRows(grown.contexts, fusion, grown.counts)

    def _add(self, name: str, towers: TowersFit) -> None:
        self.board.add(name, ranked(towers, self.judged.contexts, len(self.there.vectors), self.board.seen))

    def _baselines(self) -> None:
        sheet, num_items = self.judged.sheet, len(self.there.vectors)
        chosen: list[Baseline] = [
            Popular(), Popular(days=30), ItemKnn(), TextNearest(self.there.raw, whitened=True)
        ]  # fmt: skip
        for one in chosen:
            self.board.add(
                one.name, one.fit(self.judged.train, num_items).rank(sheet.histories, K, self.board.seen)
            )

    def _facts(self) -> dict[str, str]:
        here, there = self.here.prepared, self.there.prepared
        return {
            "carried over": "weights of places in the history, event types and time gaps of the user tower; "
            "items are their text, whitened over the catalogue they are recommended from",
            "trained on": f"{len(here.shop.dataset.interactions):,} events, {len(here.texts):,} items",
            "recommended in": f"{len(there.texts):,} items, to {len(self.judged.sheet):,} users "
            f"of the newest slice, task {self.order.task}",
            "shared users": f"{self.num_shared:,} of those known before the slice",
            "seeds": f"{self.order.seeds}, averaged per user before anything else",
        }

    def _notes(self, coinciding: int) -> list[str]:
        if self.shared:
            return []
        if coinciding and not self.order.same_users:
            return [
                f"{coinciding:,} user ids are in both datasets. Where that means the same people, "
                "--same-users measures what their events there are worth here."
            ]
        return ["No user is in both datasets, so nothing could be borrowed from one for the other."]


def _events(side: Side) -> dict[str, list[tuple[int, int, int]]]:
    """Every positive event of a shop by user, oldest first."""
    log = side.shop.events(side.shop.end)
    rows = side.shop.vocabulary.rows(log["item_id"].tolist())
    codes = [event_code(name) for name in log["event_type"].tolist()]
    found: dict[str, list[tuple[int, int, int]]] = {}
    for user, row, code, time in zip(
        log["user_id"].tolist(), rows.tolist(), codes, log["timestamp"].tolist(), strict=True
    ):
        found.setdefault(user, []).append((row, code, time))
    return found


def _exchanged(users: Sequence[str], events: Events, seed: int) -> dict[str, Sequence[tuple[int, int, int]]]:
    """Each user with the events of another user of that shop: a placebo that lacks only the person."""
    order = generator(seed, "transfer", "exchanged").permutation(len(users))
    return {
        users[a]: events[users[b]] for a, b in zip(order.tolist(), np.roll(order, 1).tolist(), strict=True)
    }
