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
from recsys.compare.trainings import RANKS, TowersAlone
from recsys.config import Config, with_settings
from recsys.model.encoder import TextEncoder
from recsys.model.whitening import Whitening
from recsys.placebo import placebo_texts
from recsys.query_tuning import QueryTuning, titles_read
from recsys.types import Floats


@dataclass(frozen=True)
class TowersAndReader(TowersAlone):
    """The towers alone, and a reader of queries, which is kept whatever it is worth.

    Every arm takes the same steps over the same titles: one without wordings reads titles as they are, and
    where `queries.enabled` is false the published encoder reads them. Items' vectors stay, so lists differ as
    they would without it. A reader knows titles and no users: parts of the data have none.
    """

    kind = "search"
    on_top = ", and the teaching of queries in every training on top of it"
    after_towers = ("queries",)

    _last: dict[str, Kept] = field(default_factory=dict, init=False)
    """What the newest towers left, by `towers_of`."""

    def outcome(self, contender: Contender, seed: int, epochs: int, share: float) -> Kept:
        """Train once and rank for the users of the newest slice."""
        name = self.towers_of(contender, seed, epochs, share)
        if name not in self._last:
            self._last.clear()
            self._last[name] = super().outcome(contender, seed, epochs, share)
        kept = self._last[name]
        if share < 1:
            return kept
        started = time.perf_counter()
        config = with_settings(self.trials.config, contender.changes)
        taught = taught_reader(self.trials, contender.arm, seed, config) if config.queries.enabled else None
        ranks = self.misspelled.ranks(self.trials.texts.vectors, taught)
        steps = kept.about["steps"] + (len(taught.losses) if taught else 0)
        seconds = {**kept.about["seconds"], "queries": round(time.perf_counter() - started, 2)}
        return replace(kept, about={**kept.about, RANKS: ranks, "steps": steps, "seconds": seconds})


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
