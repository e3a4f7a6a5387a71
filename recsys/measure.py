"""The report of a run: its lists against the newest slice and against the baselines, measured once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recsys.artifacts import Manifest, write_atomically
from recsys.batch import as_served
from recsys.config import Config
from recsys.data.catalogue import item_texts
from recsys.data.split import held_out_targets
from recsys.evaluate.answers import AnswerSheet, answer_sheet, training_histories
from recsys.evaluate.evaluate import TASKS, Comparison, Evaluation, compare
from recsys.evaluate.measure import Measure, measure_baselines, say_left_out
from recsys.evaluate.report import ReportContent, write_report
from recsys.evaluate.segments import ItemFields, Segment, standard_segments
from recsys.evaluate.standard import standard_baselines
from recsys.evaluate.text_baselines import whiten
from recsys.fit import Shop, held_out_queries
from recsys.recommend import Recommender
from recsys.types import Augmenter, Floats, Query, Rows

K = 50
"""Length of the lists that are measured."""
SYSTEM = "recsys"
HEADLINE = "ndcg@10"


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run is worth on the newest slice of its data."""

    num_users: int
    cut: int
    """Unix seconds: everything that was measured knew only what came before."""
    evaluations: list[Evaluation]
    """By task, the run first, then the baselines."""
    comparisons: list[Comparison]
    """By task, the run against the best baseline."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Baselines that are missing, and why."""

    def headline(self) -> dict[str, float]:
        """The run's main figure by task."""
        ours = [one for one in self.evaluations if one.name == SYSTEM]
        return {f"{one.task} {HEADLINE}": round(one[HEADLINE].mean, 5) for one in ours}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for metrics.json and the manifest."""
        return {
            "users": self.num_users,
            "cut": self.cut,
            "headline": self.headline(),
            "evaluations": [one.to_dict() for one in self.evaluations],
            "comparisons": [one.to_dict() for one in self.comparisons],
            "left_out": dict(self.left_out),
        }


def measure_report(
    recommender: Recommender, folder: Path, shop: Shop, cut: int, raw: Floats, augmenter: Augmenter
) -> Measured:
    """Measure a fit, made from the events before `cut`, on what came after.

    Args:
        recommender: Loaded from the folder.
        folder: The fit.
        shop: The data.
        cut: Unix seconds.
        raw: (n, hidden) vectors of the un-tuned encoder, for the text baselines.
        augmenter: What augments requests, if anything does: what is measured is what is served.
    """
    answers, seed = shop.answers(cut, shop.end), shop.config.run.seed
    history = shop.events(cut)
    truth = held_out_targets(shop.dataset.interactions, cut, shop.end)
    sheet = answer_sheet(history, truth, shop.vocabulary.item_ids, sorted(answers))
    train = training_histories(history, shop.vocabulary.item_ids)
    measure = Measure(shop_segments(shop, sheet), whiten(raw), seed=seed)
    chosen = standard_baselines(train, raw)
    baselines = measure_baselines(sheet, train, chosen.baselines, measure, k=K)
    evaluations: list[Evaluation] = []
    comparisons: list[Comparison] = []
    for task in TASKS:
        queries, _ = held_out_queries(folder, answers, cut, shop.end, K, exclude_seen=task == "novel")
        lists = ranked_rows(recommender, as_served(queries, augmenter), K)
        ours = measure(lists, sheet, task, SYSTEM)
        best = max(baselines[task], key=lambda one: one[HEADLINE].mean)
        evaluations += [ours, *baselines[task]]
        comparisons.append(compare(ours, best, seed=seed))
    return Measured(len(sheet), cut, evaluations, comparisons, chosen.left_out)


def shop_segments(shop: Shop, sheet: AnswerSheet) -> list[Segment]:
    """The standard segments of a sheet, those by category and text among them."""
    items = shop.dataset.items
    attributes = {name: items[name].tolist() for name in ("category", "brand")}
    fields = ItemFields(item_texts(items), attributes["category"], attributes)
    return standard_segments(sheet, fields)


def write_measured(folder: Path, measured: Measured, manifest: Manifest, config: Config) -> None:
    """Write metrics.json and report.html into the run."""
    write_atomically(folder / "metrics.json", json.dumps(measured.to_dict(), indent=1))
    stages = {name: facts for name, facts in manifest.stages.items() if name != "data"}
    content = ReportContent(
        f"Run {manifest.run_id}",
        measured.evaluations,
        measured.comparisons,
        settings=config.model_dump(mode="json"),
        stages=stages,
        data_report=manifest.stages.get("data", {}),
        notes=say_left_out(measured.left_out),
    )
    write_report(folder / "report.html", content)


def ranked_rows(recommender: Recommender, queries: Sequence[Query], k: int) -> Rows:
    """Lists as item rows, (queries, k), padded with -1: what evaluation takes."""
    lists = np.full((len(queries), k), -1, np.int64)
    for i, answer in enumerate(recommender.recommend(queries)):
        rows = recommender.vocabulary.rows([place.item_id for place in answer.items])
        lists[i, : len(rows)] = rows[:k]
    return lists
