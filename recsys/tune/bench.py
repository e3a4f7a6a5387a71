"""What the search asks of a dataset: towers for some settings, lists over them, users' figures of both."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from recsys.arms import Arm, Trials, When
from recsys.artifacts import write_atomically
from recsys.config import Config, with_settings
from recsys.data.contexts_from import contexts_before
from recsys.data.split import held_out_targets
from recsys.evaluate.answers import answer_sheet
from recsys.evaluate.evaluate import Task, evaluate_lists
from recsys.export import export_towers
from recsys.fit import Shop, held_out_queries, load_fit, write_fit
from recsys.measure import K, ranked_rows
from recsys.model.fitted import TowersFit
from recsys.randomness import generator
from recsys.ranking import train_ranker
from recsys.ranking_slices import ranking_slices
from recsys.recommend import Recommender
from recsys.search.bench import Score
from recsys.search.explore import METRIC, PROXY_ROWS
from recsys.train import fit_towers
from recsys.tune.space import LISTS, Values
from recsys.tune.study import Judged, OnEpoch

_CHOSEN = "chosen.json"
"""In a fit's folder, written last: epochs and lift that validation chose."""


class Bench(Protocol):
    """A dataset on which settings can be tried."""

    @property
    def share(self) -> float:
        """Share of the users whose rows a cheap trial trains on."""

    def towers(self, values: Values, on_epoch: OnEpoch, *, share: float) -> Judged:
        """Fit the towers on what lies before the first cut; judged by their lists for the next slice."""

    def lists(self, values: Values) -> Judged:
        """A ranker over the towers of these settings, learned from half of the users, judged by the rest."""

    def confirm(self, values: Values, seed: int) -> Score:
        """The whole path as a run makes it, judged by the newest slice."""


@dataclass(frozen=True)
class _Select:
    """A fit on what lies before the first cut, and what validation chose with it."""

    folder: Path
    epochs: int
    lift: float


class TrialsBench:
    """The bench over a prepared dataset.

    Args:
        trials: The dataset.
        task: Under `novel` lists leave out what the user had.
        seed: Of what is fitted before the confirmation.
    """

    def __init__(self, trials: Trials, task: Task, seed: int) -> None:
        self._trials, self._task, self._seed = trials, task, seed
        self._work = trials.work / "tune"
        prepared = trials.prepared
        self._fit = contexts_before(prepared.contexts, prepared.cut_validation, prepared.grain)

    @property
    def share(self) -> float:
        """As many rows as a cheap trial of augmentation has."""
        return min(1.0, PROXY_ROWS / max(len(self._fit), 1))

    def towers(self, values: Values, on_epoch: OnEpoch, *, share: float) -> Judged:
        """The best epoch's ndcg@10."""
        config = self._config(values, self._seed)
        watch = _Patience(on_epoch, config.train.patience)
        fitted = self._trials.fit(
            Arm.of("off"), self._seed, "validation", share=share, on_epoch=watch, config=config
        )
        curve = fitted.towers.validation
        return Judged(max(curve), watch.stopped, {"epochs": int(np.argmax(curve)) + 1})

    def lists(self, values: Values) -> Judged:
        """The ranker's ndcg@10 for users whom it did not learn from."""
        config, start, end = self._config(values, self._seed), *self._between("validation")
        select = self._select(config, values, self._seed)
        users = sorted(self._shop(config).answers(start, end))
        learns = generator(self._seed, "tune", "halves").random(len(users)) < 0.5
        learn = {user for user, wanted in zip(users, learns.tolist(), strict=True) if wanted}
        path = self._work / "trial_ranker.onnx"
        path.unlink(missing_ok=True)
        told = self._rank(config, select.folder, path, learn, self._seed)
        recommender = load_fit(select.folder, config, path)
        score = self._score(recommender, select.folder, config, "validation", set(users) - learn)
        notes = {
            "epochs": select.epochs,
            "lift": select.lift,
            "candidate_recall": told.get("candidate_recall"),
        }
        return Judged(score.mean(METRIC), notes=notes)

    def confirm(self, values: Values, seed: int) -> Score:
        """Towers chosen on validation, fitted anew up to the newest slice; the ranker as in a run."""
        started = time.perf_counter()
        config = self._config(values, seed)
        select = self._select(config, values, seed)
        ranker = select.folder / "ranker.onnx"
        if not ranker.is_file():
            self._rank(config, select.folder, ranker, None, seed)
        folder = self._work / f"report-{select.folder.name}"
        towers = self._towers(config, "report", folder / "training", select)
        self._write(folder, config, "report", towers)
        score = self._score(load_fit(folder, config, ranker), folder, config, "report", None)
        shutil.rmtree(folder)
        return replace(score, seconds=time.perf_counter() - started, epochs=select.epochs)

    def _select(self, config: Config, values: Values, seed: int) -> _Select:
        """Found again where the same towers were fitted before."""
        lists = {knob.setting for knob in LISTS}
        mine = sorted((name, value) for name, value in values.items() if name not in lists)
        digest = hashlib.sha256(repr((mine, seed)).encode()).hexdigest()[:16]
        folder = self._work / digest
        if not (folder / _CHOSEN).is_file():
            towers = self._towers(config, "validation", folder / "training", None)
            self._write(folder, config, "validation", towers)
            shutil.rmtree(folder / "training")
            chosen = {"epochs": max(towers.epochs, 1), "lift": towers.lift}
            write_atomically(folder / _CHOSEN, json.dumps(chosen))
        known: Mapping[str, Any] = json.loads((folder / _CHOSEN).read_text(encoding="utf-8"))
        return _Select(folder, int(known["epochs"]), float(known["lift"]))

    def _towers(self, config: Config, when: When, folder: Path, chosen: _Select | None) -> TowersFit:
        prepared = self._trials.prepared
        cut = self._between(when)[0]
        return fit_towers(
            contexts_before(prepared.contexts, cut, prepared.grain),
            self._trials.texts.vectors,
            self._trials.shop.item_counts(cut),
            config,
            folder,
            validation=None if chosen else prepared.validation,
            epochs=chosen.epochs if chosen else None,
            lift=chosen.lift if chosen else None,
            stage="report" if chosen else "select",
        )

    def _write(self, folder: Path, config: Config, when: When, towers: TowersFit) -> None:
        export_towers(towers, folder, config)
        write_fit(folder, self._most(config), self._between(when)[0], towers)

    def _most(self, config: Config) -> Shop:
        """The shop, with the weights of every source that a trial may ask for."""
        most = {knob.setting: round(knob.high) for knob in LISTS if knob.setting.startswith("retrieve.")}
        return self._shop(with_settings(config, most))

    def _rank(
        self, config: Config, folder: Path, path: Path, users: set[str] | None, seed: int
    ) -> dict[str, Any]:
        start, end = self._between("validation")
        if not config.rank.enabled:
            return {}
        slices = ranking_slices(folder, self._most(config), config, start, end, users)
        return train_ranker(slices, config.rank, seed, path)

    def _score(
        self, recommender: Recommender, folder: Path, config: Config, when: When, users: set[str] | None
    ) -> Score:
        started, shop = time.perf_counter(), self._shop(config)
        start, end = self._between(when)
        answers = shop.answers(start, end)
        kept = {user: rows for user, rows in answers.items() if users is None or user in users}
        queries, _ = held_out_queries(folder, kept, start, end, K, exclude_seen=self._task == "novel")
        truth = held_out_targets(shop.dataset.interactions, start, end)
        sheet = answer_sheet(shop.events(start), truth, shop.vocabulary.item_ids, sorted(kept))
        lists = ranked_rows(recommender, queries, K)
        found = evaluate_lists(lists, sheet, self._task, name="tune", replicates=2)
        figures = {name: found.whole.by_case[:, i] for i, name in enumerate(found.whole.names)}
        seconds = time.perf_counter() - started
        return Score(np.asarray(found.users, dtype=str), figures, seconds, 0)

    def _between(self, when: When) -> tuple[int, int]:
        prepared = self._trials.prepared
        if when == "validation":
            return prepared.cut_validation, prepared.cut_report
        return prepared.cut_report, self._trials.shop.end

    def _shop(self, config: Config) -> Shop:
        return Shop(self._trials.shop.dataset, config)

    def _config(self, values: Values, seed: int) -> Config:
        config = with_settings(self._trials.config, values)
        return config.model_copy(update={"run": config.run.model_copy(update={"seed": seed})})


class _Patience:
    """Passes figures on; ends a training that has had its best, or whose trial is to be stopped."""

    def __init__(self, on_epoch: Callable[[int, float], bool], patience: int) -> None:
        self._on_epoch, self._patience = on_epoch, patience
        self._figures: list[float] = []
        self.stopped = False
        """Whether it was the trial that ended it."""

    def __call__(self, epoch: int, figure: float) -> bool:
        self._figures.append(figure)
        self.stopped = self._on_epoch(epoch, figure)
        return self.stopped or epoch - 1 - int(np.argmax(self._figures)) >= self._patience
