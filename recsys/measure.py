"""The report of a run: its lists against the newest slice and against the baselines, measured once."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recsys.artifacts import Manifest, write_atomically
from recsys.batch import as_served
from recsys.config import Config
from recsys.data.as_known import features_as_known
from recsys.data.catalogue import item_texts
from recsys.data.log import grain_seconds
from recsys.data.split import held_out_targets
from recsys.evaluate.answers import AnswerSheet, Histories, answer_sheet, training_histories
from recsys.evaluate.baselines import Baseline
from recsys.evaluate.evaluate import TASKS, Comparison, Evaluation, Task, compare
from recsys.evaluate.hindsight import HINDSIGHT, HINDSIGHT_NOTE, hindsight
from recsys.evaluate.measure import Measure, measure_baselines, say_left_out
from recsys.evaluate.report import ReportContent, write_report
from recsys.evaluate.segments import ItemFields, Segment, standard_segments
from recsys.evaluate.standard import standard_baselines
from recsys.evaluate.successive import Caps, Cases, successive_cases
from recsys.evaluate.text_baselines import whiten
from recsys.fit import Shop, held_out_queries
from recsys.randomness import generator
from recsys.recommend import Recommender
from recsys.thin import ATTRIBUTES
from recsys.types import Augmenter, Floats, Query, Rows

logger = logging.getLogger(__name__)

K = 50
"""Length of the lists that are measured."""
SYSTEM = "recsys"
TOWERS = "towers"
"""The run's two towers alone: what the other sources, the ranker and the kept places add."""
HEADLINE = "ndcg@10"


Lists = Callable[[Task], Rows]
"""Ranks the catalogue for everybody who is measured, (queries, K), under a task."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run is worth on the newest slice of its data."""

    num_users: int
    came_back: int
    """Known users with an event after the cut: those measured, or those of whom they were drawn."""
    cut: int
    """Unix seconds: everything that was measured knew only what came before."""
    evaluations: list[Evaluation]
    """By protocol and task, the run first, then the baselines."""
    comparisons: list[Comparison]
    """By protocol and task, the run against the best baseline."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Baselines that are missing, and why."""
    cases: Mapping[str, int] = field(default_factory=dict)
    """Successive cases that were measured, and those that were not, by reason."""

    def headline(self) -> dict[str, float]:
        """The run's main figure by task, one list per user."""
        ours = [one for one in self.evaluations if (one.name, one.protocol) == (SYSTEM, "sheet")]
        return {f"{one.task} {HEADLINE}": round(one[HEADLINE].mean, 5) for one in ours}

    def notes(self) -> list[str]:
        """What is missing, and what a row stands for, in sentences."""
        names = {one.name for one in self.evaluations}
        notes = [*say_left_out(self.left_out), *say_cases(self.cases)]
        if self.came_back > self.num_users:
            notes.insert(0, f"{self.num_users:,} of {self.came_back:,} users are measured, drawn at random.")
        if TOWERS in names:
            notes.append(f"{TOWERS}: the run's two towers alone, a part of it and no baseline.")
        if HINDSIGHT in names:
            notes.append(HINDSIGHT_NOTE)
        return notes

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for metrics.json and the manifest."""
        return {
            "users": self.num_users,
            "users_came_back": self.came_back,
            "cut": self.cut,
            "headline": self.headline(),
            "evaluations": [one.to_dict() for one in self.evaluations],
            "comparisons": [one.to_dict() for one in self.comparisons],
            "left_out": dict(self.left_out),
            "successive_cases": dict(self.cases),
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
    seed = shop.config.run.seed
    known = shop.answers(cut, shop.end)
    answers = drawn_answers(known, shop.config.evaluate.users, seed)
    history = shop.events(cut)
    truth = held_out_targets(shop.dataset.interactions, cut, shop.end)
    sheet = answer_sheet(history, truth, shop.vocabulary.item_ids, sorted(answers))
    train = training_histories(history, shop.vocabulary.item_ids)
    chosen = standard_baselines(train, raw)
    table = Table(train, chosen.baselines, whiten(raw), seed)

    def whole(task: Task) -> list[Query]:
        queries, _ = held_out_queries(folder, answers, cut, shop.end, K, exclude_seen=task == "novel")
        return as_served(queries, augmenter)

    evaluations, comparisons = table.measure(sheet, shop_segments(shop, sheet), systems(recommender, whole))
    cases = dict[str, int]()
    if shop.config.evaluate.successive:
        later = later_cases(shop, cut)
        cases = later.counts

        def step_by_step(task: Task) -> list[Query]:
            return as_served(case_queries(shop, later, exclude_seen=task == "novel"), augmenter)

        segments = shop_segments(shop, later.sheet)
        more = table.measure(later.sheet, segments, systems(recommender, step_by_step))
        evaluations, comparisons = evaluations + more[0], comparisons + more[1]
    return Measured(len(sheet), len(known), cut, evaluations, comparisons, chosen.left_out, cases)


def drawn_answers(answers: Mapping[str, Rows], most: int, seed: int) -> Mapping[str, Rows]:
    """The answers of everybody, or of so many users drawn at random."""
    if len(answers) <= most:
        return answers
    users = sorted(answers)
    drawn = np.sort(generator(seed, "measured", "users").permutation(len(users))[:most])
    return {users[i]: answers[users[i]] for i in drawn}


@dataclass(frozen=True, slots=True)
class Table:
    """What stands beside a run, under every protocol."""

    train: Histories
    """Everybody's positive events before the cut."""
    baselines: Sequence[Baseline]
    space: Floats | None
    """(num_items, dim) of unit norm, in which diversity is measured."""
    seed: int

    def measure(
        self,
        sheet: AnswerSheet,
        segments: Sequence[Segment],
        ours: Mapping[str, Lists],
        tasks: Sequence[Task] = TASKS,
    ) -> tuple[list[Evaluation], list[Comparison]]:
        """The run's lists beside the baselines', by task, and its difference to the best of them.

        The first of `ours` is the run; others are parts of it, shown and not compared. Beside baselines
        stands what hindsight would have shown.
        """
        measure = Measure(segments, self.space, seed=self.seed)
        others = measure_baselines(sheet, self.train, self.baselines, measure, tasks=tasks, k=K)
        evaluations: list[Evaluation] = []
        comparisons: list[Comparison] = []
        for task in tasks:
            mine = [measure(lists(task), sheet, task, name) for name, lists in ours.items()]
            evaluations += [*mine, *others[task]]
            if others[task]:
                evaluations.append(measure(hindsight(sheet, task, K), sheet, task, HINDSIGHT))
            if others[task] and len(mine[0].users):
                best = max(others[task], key=lambda one: one[HEADLINE].mean)
                comparisons.append(compare(mine[0], best, seed=self.seed))
        return evaluations, comparisons


def systems(recommender: Recommender, queries: Callable[[Task], Sequence[Query]]) -> dict[str, Lists]:
    """The run and its towers alone, as what ranks the catalogue for a task's queries."""
    found = {SYSTEM: recommender, TOWERS: recommender.by_towers_alone()}
    once = functools.cache(queries)  # both are asked the same

    def lists(name: str, asked: Recommender) -> Lists:
        def ranked(task: Task) -> Rows:
            logger.info("lists of %s, task %s: %d to rank", name, task, len(once(task)))
            return ranked_rows(asked, once(task), K)

        return ranked

    return {name: lists(name, asked) for name, asked in found.items() if asked is not None}


def later_cases(shop: Shop, cut: int) -> Cases:
    """The successive cases of a shop after a cut, at the grain of its features, within `[evaluate]`."""
    log, config = shop.dataset.interactions, shop.config
    caps = Caps(config.evaluate.cases_per_user, config.evaluate.cases, config.run.seed)
    grain = grain_seconds(log, config.features.grain)
    return successive_cases(log, shop.vocabulary.item_ids, cut, shop.end, grain, caps)


def case_queries(shop: Shop, cases: Cases, *, exclude_seen: bool = False) -> list[Query]:
    """A query per case, with the user's features as known just before its moment."""
    users = cases.sheet.users.tolist()
    data = shop.dataset
    known = features_as_known(data.interactions, data.items, users, cases.moments, shop.config.features)
    asked = zip(users, known, cases.moments.tolist(), strict=True)
    return [
        Query(K, moment, user, features, exclude_seen=exclude_seen, available_at=shop.end)
        for user, features, moment in asked
    ]


def shop_segments(shop: Shop, sheet: AnswerSheet) -> list[Segment]:
    """The standard segments of a sheet, those by category and text among them."""
    items = shop.dataset.items
    attributes = {name: items[name].tolist() for name in ATTRIBUTES}
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
        notes=measured.notes(),
    )
    write_report(folder / "report.html", content)


def say_cases(counts: Mapping[str, int]) -> list[str]:
    """How many successive cases there are, and how many were left out."""
    if not counts:
        return []
    return [
        f"Successive targets: {counts['measured']:,} cases measured; left out are "
        f"{counts['beyond_per_user']:,} beyond the most of one user and {counts['beyond_in_all']:,} beyond "
        f"the most in all, by a draw, and {counts['without_history']:,} without an earlier event."
    ]


def ranked_rows(recommender: Recommender, queries: Sequence[Query], k: int) -> Rows:
    """Lists as item rows, (queries, k), padded with -1: what evaluation takes."""
    lists = np.full((len(queries), k), -1, np.int64)
    for i, answer in enumerate(recommender.recommend(queries)):
        rows = recommender.vocabulary.rows([place.item_id for place in answer.items])
        lists[i, : len(rows)] = rows[:k]
    return lists
