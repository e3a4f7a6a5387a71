"""A finished run against events that came after it: what it would have recommended, and what people did."""

from __future__ import annotations

import numpy as np

from recsys.batch import as_served
from recsys.data.as_known import features_as_known
from recsys.data.split import held_out_targets
from recsys.errors import InputError
from recsys.evaluate.answers import AnswerSheet, Protocol, answer_sheet, training_histories
from recsys.evaluate.evaluate import Task
from recsys.evaluate.standard import standard_baselines
from recsys.evaluate.text_baselines import whiten
from recsys.fit import Shop
from recsys.loading import LoadedRun
from recsys.measure import K, Lists, Measured, Table, case_queries, later_cases, shop_segments, systems
from recsys.types import Floats, Query, Rows


def measure_run(
    loaded: LoadedRun,
    shop: Shop,
    protocol: Protocol,
    task: Task,
    raw: Floats | None = None,
    *,
    baselines: bool = True,
) -> Measured:
    """Measure a run on what came after the newest event that it knows, beside the baselines.

    The catalogue is that of the data: an item that came after the run is a miss wherever it was the answer.
    Users have the features of the data just before each list; the run's parts stay as they are.

    Args:
        loaded: The run.
        shop: Newer data of the same shop, under the run's configuration.
        protocol: One list per user, or one per later moment.
        task: Whether what a user had counts.
        raw: (num_items, hidden) of the un-tuned encoder in the data's order, for the text baselines.
        baselines: Measure them too.

    Raises:
        InputError: the run knows all of the data, nobody it knows came back, or it recommends items that the
            data lacks.
    """
    cut = loaded.moment
    if shop.end <= cut:
        raise InputError(
            f"no event is newer than what the run {loaded.run_id} knows",
            hint="Give data with later events, or a run made with --set run.refit=false",
        )
    train = training_histories(shop.events(cut), shop.vocabulary.item_ids)
    chosen = standard_baselines(train, raw)
    beside = chosen.baselines if baselines else ()
    table = Table(train, beside, None if raw is None else whiten(raw), shop.config.run.seed)
    cases = later_cases(shop, cut) if protocol == "successive" else None
    sheet = _sheet(shop, cut) if cases is None else cases.sheet
    if not len(sheet):
        raise InputError("no user with earlier events came back after what the run knows")

    def queries(task: Task) -> list[Query]:
        novel = task == "novel"
        if cases is None:
            asked = _queries(shop, sheet, cut, exclude_seen=novel)
        else:
            asked = case_queries(shop, cases, exclude_seen=novel)
        return as_served(asked, loaded.augmenter)

    def in_data(lists: Lists) -> Lists:
        return lambda task: _rows_of_data(lists(task), loaded, shop)

    ours = {name: in_data(lists) for name, lists in systems(loaded.recommender, queries).items()}
    evaluations, comparisons = table.measure(sheet, shop_segments(shop, sheet), ours, (task,))
    counts = {} if cases is None else cases.counts
    left_out = chosen.left_out if baselines else {}
    users = sheet.users.nunique()
    return Measured(users, users, cut, evaluations, comparisons, left_out, counts)


def _sheet(shop: Shop, cut: int) -> AnswerSheet:
    truth = held_out_targets(shop.dataset.interactions, cut, shop.end)
    return answer_sheet(shop.events(cut), truth, shop.vocabulary.item_ids)


def _queries(shop: Shop, sheet: AnswerSheet, cut: int, *, exclude_seen: bool) -> list[Query]:
    users, moments = sheet.users.tolist(), np.full(len(sheet), cut, np.int64)
    data = shop.dataset
    known = features_as_known(data.interactions, data.items, users, moments, shop.config.features)
    return [
        Query(K, cut, user, features, exclude_seen=exclude_seen, available_at=shop.end)
        for user, features in zip(users, known, strict=True)
    ]


def _rows_of_data(lists: Rows, loaded: LoadedRun, shop: Shop) -> Rows:
    """Rows of the run's catalogue as rows of the data's."""
    ids = loaded.recommender.vocabulary.item_ids
    rows = np.append(shop.vocabulary.rows(ids), -1)
    unknown = np.unique(lists[(lists >= 0) & (rows[lists] < 0)])
    if len(unknown):
        raise InputError(
            "the run recommends items that the data lacks", file="items", column="item_id",
            count=len(unknown), example=ids[unknown[0]], hint="Give data of the shop that the run is of",
        )  # fmt: skip
    return rows[lists]
