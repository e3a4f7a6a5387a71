"""Towers as ever, and beside them an encoder that every training teaches queries, as its arm words titles."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from recsys.arms import Arm, Trials
from recsys.augmented import word_titles
from recsys.compare.contenders import Contender
from recsys.compare.outcomes import Kept
from recsys.compare.trainings import RANKS, TowersAlone, Turn, digest_of
from recsys.config import Config, with_settings
from recsys.model.encoder import TextEncoder
from recsys.model.whitening import Whitening
from recsys.placebo import placebo_texts
from recsys.query_tuning import QueryTuning, titles_read
from recsys.types import Floats

_AFTER_TOWERS = ("queries",)
"""Sections that the towers do not depend on: arms that differ in them alone share a fit."""


@dataclass(frozen=True)
class TowersAndReader(TowersAlone):
    """The towers alone, and a reader of queries, which is kept whatever it is worth.

    Every arm takes the same steps over the same titles: one without wordings reads titles as they are, and
    where `queries.enabled` is false the published encoder reads them. Items' vectors stay, so lists differ as
    they would without it. A reader knows titles and no users: parts of the data have none.
    """

    kind = "search"
    on_top = ", and the teaching of queries in every training on top of it"

    _last: dict[str, Kept] = field(default_factory=dict, init=False)
    """What the newest towers left, by their digest."""

    def outcome(self, contender: Contender, seed: int, epochs: int, share: float) -> Kept:
        """Train once and rank for the users of the newest slice."""
        if share < 1:
            return super().outcome(contender, seed, epochs, share)
        config = with_settings(self.trials.config, contender.changes)
        name = digest_of(contender, seed, epochs, config, without=_AFTER_TOWERS)
        if name not in self._last:
            self._last.clear()
            self._last[name] = super().outcome(contender, seed, epochs, share)
        kept = self._last[name]
        kept = replace(kept, about={**kept.about, "seconds": {**kept.about["seconds"]}})
        started = time.perf_counter()
        taught = taught_reader(self.trials, contender.arm, seed, config) if config.queries.enabled else None
        kept.about[RANKS] = self.misspelled.ranks(self.trials.texts.vectors, taught)
        kept.about["steps"] += len(taught.losses) if taught else 0
        kept.about["seconds"]["queries"] = round(time.perf_counter() - started, 2)
        return kept

    def shared_by(self, turn: Turn) -> str:
        """The towers, of all the data."""
        if turn.share < 1:
            return ""
        config = with_settings(self.trials.config, turn.contender.changes)
        return digest_of(turn.contender, turn.seed, turn.epochs, config, without=_AFTER_TOWERS)


@dataclass(frozen=True)
class Reader:
    """An encoder that was taught queries, in the space of the items' texts."""

    encoder: TextEncoder
    whitening: Whitening
    losses: Sequence[float]
    """Of each step."""

    def encode(self, texts: Sequence[str]) -> Floats:
        """(len(texts), dim) of unit norm."""
        return self.whitening.apply(self.encoder.encode(texts))


def taught_reader(trials: Trials, arm: Arm, seed: int, config: Config) -> Reader:
    """Teach the published encoder the titles as an arm words them.

    Args:
        trials: The dataset.
        arm: Whose policy words titles; a placebo's wordings are `placebo_texts`.
        seed: Of augmentation and teaching.
        config: What all arms share.
    """
    config = trials.configured(arm, seed, config)
    folder = trials.folder(arm, seed, "queries")
    items, published = trials.shop.dataset.items, trials.texts
    titles = items["title"].fillna("").tolist()
    rows = titles_read(titles, config)
    wordings: Mapping[int, Sequence[str]]
    if arm.placebo is not None:
        wordings = placebo_texts(arm.placebo, titles, rows, seed)
    else:
        cut = trials.cut("report")
        wordings = word_titles(items, titles, rows, cut, config, folder / "titles.parquet").wordings
    tuning = QueryTuning(
        published.encoder, titles, published.vectors, published.whitening, config, folder, wordings
    )
    tuning.run()
    shutil.rmtree(folder, ignore_errors=True)
    return Reader(tuning.encoder, published.whitening, tuning.losses)
