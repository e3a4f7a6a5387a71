"""The report of a run: its lists against the newest slice and against the baselines, measured once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recsys.artifacts import write_atomically
from recsys.data.split import held_out_targets
from recsys.evaluate.answers import answer_sheet, training_histories
from recsys.evaluate.evaluate import TASKS, Evaluation, compare, evaluate_lists
from recsys.evaluate.measure import measure_baselines
from recsys.fit import Shop, held_out_queries
from recsys.recommend import Recommender
from recsys.runs import OpenRun
from recsys.types import Floats, Query, Rows

K = 50
"""Length of the lists that are measured."""
SYSTEM = "recsys"
HEADLINE = "ndcg@10"


def measure_report(
    run: OpenRun, recommender: Recommender, folder: Path, shop: Shop, cut: int, raw: Floats
) -> dict[str, Any]:
    """Measure the fit in `folder`, made from the events before `cut`, on what came after.

    Writes `metrics.json` into the run.

    Args:
        run: Whose report it is.
        recommender: Loaded from the folder.
        folder: The fit.
        shop: The data.
        cut: Unix seconds.
        raw: (n, hidden) vectors of the un-tuned encoder, for the text baselines.
    """
    answers = shop.answers(cut, shop.end)
    history = shop.events(cut)
    truth = held_out_targets(shop.dataset.interactions, cut, shop.end)
    sheet = answer_sheet(history, truth, shop.vocabulary.item_ids, sorted(answers))
    train = training_histories(history, shop.vocabulary.item_ids)
    baselines = measure_baselines(sheet, train, vectors=raw, seed=shop.config.run.seed)
    tasks: dict[str, Any] = {}
    evaluations: list[Evaluation] = []
    for task in TASKS:
        queries, _ = held_out_queries(folder, answers, cut, shop.end, K, exclude_seen=task == "novel")
        lists = ranked_rows(recommender, queries, K)
        ours = evaluate_lists(
            lists, sheet, task, name=SYSTEM, vectors=recommender.shelf.item_vectors, seed=shop.config.run.seed
        )
        best = max(baselines[task], key=lambda e: e[HEADLINE].mean)
        tasks[task] = {
            "system": ours.to_dict(),
            "baselines": [evaluation.to_dict() for evaluation in baselines[task]],
            "versus_best": compare(ours, best).to_dict(),
        }
        evaluations += [ours, *baselines[task]]
    headline = {f"{task} {HEADLINE}": tasks[task]["system"]["metrics"][HEADLINE]["mean"] for task in TASKS}
    metrics = {"users": len(sheet), "cut": cut, "headline": headline, "tasks": tasks}
    write_atomically(run.folder / "metrics.json", json.dumps(metrics, indent=1))
    return metrics


def ranked_rows(recommender: Recommender, queries: Sequence[Query], k: int) -> Rows:
    """Lists as item rows, (queries, k), padded with -1: what evaluation takes."""
    lists = np.full((len(queries), k), -1, np.int64)
    for i, answer in enumerate(recommender.recommend(queries)):
        rows = recommender.vocabulary.rows([place.item_id for place in answer.items])
        lists[i, : len(rows)] = rows[:k]
    return lists
