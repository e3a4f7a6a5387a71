"""The whole recommendation path per training: every source, a ranker of its own, lists as served."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from recsys.arms import K, When
from recsys.artifacts import write_atomically
from recsys.compare.contenders import Contender
from recsys.compare.outcomes import Kept
from recsys.compare.trainings import RANKS, Depth
from recsys.config import Config, with_settings
from recsys.export import export_towers
from recsys.fit import held_out_queries, load_fit, write_fit
from recsys.measure import ranked_rows
from recsys.new_places import size_new_places
from recsys.ranking import train_ranker
from recsys.ranking_slices import ranking_slices
from recsys.types import Rows

_MADE = "made.json"


class WholeLists(Depth):
    """Towers fitted twice, a ranker trained between the cuts, lists of the newest slice from every source.

    The text encoder stays as it was published: fine-tuning it would cost minutes for every training.
    """

    kind = "lists"
    price = 2.0
    on_top = ", and the sources, a ranker and the lists of every training on top of it"
    after_towers = ("retrieve", "rank", "rules")

    def outcome(self, contender: Contender, seed: int, epochs: int, share: float) -> Kept:
        """Train once and rank for the users of the newest slice."""
        if share < 1:
            raise ValueError("sources know all users: a part of the data is compared by the towers alone")
        trials, started = self.trials, time.perf_counter()
        config = with_settings(trials.config, contender.changes)
        config = config.model_copy(update={"run": config.run.model_copy(update={"seed": seed})})
        folder, about = self._fits(contender, seed, epochs, config)
        fitted = time.perf_counter()
        ranker = folder / "ranker.onnx"
        ranker.unlink(missing_ok=True)
        about["ranker"] = self._rank(folder / "validation", config, ranker, contender.unseen)
        places = about["new_places"] = self._places(folder / "validation", config, ranker)
        lists = self._lists(folder / "report", config, ranker, places)
        about["seconds"] = {
            "fits": round(fitted - started, 2),
            "ranker and lists": round(time.perf_counter() - fitted, 2),
        }
        return Kept(lists, about)

    def _fits(
        self, contender: Contender, seed: int, epochs: int, config: Config
    ) -> tuple[Path, dict[str, Any]]:
        """The fits before both cuts, on disk while the same ones are asked for."""
        root = self.trials.scratch / "lists"
        folder = root / self.towers_of(contender, seed, epochs, 1.0)
        if (folder / _MADE).is_file():
            return folder, json.loads((folder / _MADE).read_text(encoding="utf-8"))
        shutil.rmtree(root, ignore_errors=True)
        about: dict[str, Any] = {}
        sides: tuple[When, ...] = ("validation", "report")
        for when in sides:
            done = self.trials.fit(contender.arm, seed, when, epochs=epochs, config=config)
            export_towers(done.towers, folder / when, config)
            write_fit(folder / when, self.trials.shop, self.trials.cut(when), done.towers)
            about = {
                "losses": list(done.towers.losses), "steps": done.steps, "epochs": epochs,
                "counts": done.counts, RANKS: self.misspelled.ranks(done.towers.item_vectors()),
            }  # fmt: skip
        write_atomically(folder / _MADE, json.dumps(about))
        return folder, about

    def _rank(self, folder: Path, config: Config, ranker: Path, unseen: tuple[str, ...]) -> dict[str, Any]:
        if not config.rank.enabled:
            return {"kept": False, "why": "rank.enabled is false"}
        shop, start, end = self.trials.shop, self.trials.cut("validation"), self.trials.cut("report")
        slices = ranking_slices(folder, shop, config, start, end)
        return train_ranker(slices, config.rank, config.run.seed, ranker, left_out=unseen)

    def _places(self, folder: Path, config: Config, ranker: Path) -> int:
        """How many places are kept for new items, sized on validation as a run does it."""
        shop, start, end = self.trials.shop, self.trials.cut("validation"), self.trials.cut("report")
        answers = shop.answers(start, end)
        queries, targets = held_out_queries(folder, answers, start, end, k=20, exclude_seen=True)
        recommender = load_fit(folder, config, ranker)
        untuned, seed = self.trials.texts.vectors, config.run.seed
        return int(size_new_places(recommender, queries, targets, untuned, config.rank, seed)["places"])

    def _lists(self, folder: Path, config: Config, ranker: Path, places: int) -> Rows:
        shop, cut = self.trials.shop, self.trials.cut("report")
        answers, judged = shop.answers(cut, shop.end), self.trials.sheet("report").users.tolist()
        queries, _ = held_out_queries(
            folder, {user: answers[user] for user in judged if user in answers}, cut, shop.end, K,
            exclude_seen=self.task == "novel",
        )  # fmt: skip
        found = ranked_rows(load_fit(folder, config, ranker, places), queries, K)
        place = {str(query.user_id): i for i, query in enumerate(queries)}
        lists: Rows = np.full((len(judged), K), -1, np.int64)
        for i, user in enumerate(judged):
            if user in place:
                lists[i] = found[place[user]]
        return lists
