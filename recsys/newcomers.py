"""The order of items that nobody has had yet, learned from how earlier new items fared.

A conditional logit: at some past moments, the items without events then are the alternatives and what known
users took of them next is the choice. What it looks at is text, category, brand and price against the
user's history, and what sold items close by (in text, category, brand) say of an item's chances. Every
column of a past moment is computed from the events before it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from recsys.item_facts import ItemColumns, item_facts
from recsys.item_weights import DAY, Events
from recsys.retrieve import NEW_USER_COLUMNS, new_item_profile
from recsys.types import Floats, Rows

STATIC_COLUMNS = (
    "category_heat", "category_mean", "category_sold", "brand_heat", "brand_mean", "brand_sold",
    "near_heat", "near_text", "text_heat", "price", "price_unknown", "age", "age_unknown", "week_old",
    "month_old", "quarter_old", "ahead", "week_ahead", "month_ahead", "quarter_ahead",
)  # fmt: skip
"""What is known of a new item whoever asks: the events of its category and brand, in all and per sold item,
the share of their items that sold; events of the sold items nearest in text, how near the nearest is, what a
ridge regression on the text expects; price; how long ago it came out, or how long it is until then."""
QUANTILES = (0.6, 0.7, 0.8, 0.9)
"""Shares of the events at which past moments lie; each one's choices reach to the next."""
NEGATIVES = 100
"""New items drawn beside each choice."""
MIN_CHOICES = 50
"""Fewer choices than this teach nothing: text alone then orders new items."""
MAX_CHOICES = 1500
"""Choices per past moment at most, drawn at random where there are more."""
MAX_PER_ITEM = 20
"""Choices of one item per past moment at most: one hit is not what all new items are like."""
_NEIGHBOURS = 20
_RIDGE = 50.0
_PENALTY = 0.002
_BLOCK = 2048


@dataclass(frozen=True, slots=True)
class Newcomers:
    """What `retrieve.FreshSource` orders new items by."""

    weights: Floats
    """(len(NEW_USER_COLUMNS),) of the columns that depend on the user."""
    prior: Floats
    """(num_items,) what the other columns add up to; 0 for items that have sold."""
    report: dict[str, Any]


def fit_newcomers(
    events: Events, moment: int, items: ItemColumns, text: Floats, rng: np.random.Generator
) -> Newcomers:
    """Learn the order from past moments and apply it to the items without events before `moment`.

    Args:
        events: Positive events before `moment`, in time order.
        moment: Unix seconds.
        items: The catalogue's columns.
        text: (num_items, dim) unit text vectors.
        rng: Draws the alternatives.
    """
    num_items, width = len(text), len(NEW_USER_COLUMNS) + len(STATIC_COLUMNS)
    facts = item_facts(events, moment, items)
    fresh = np.flatnonzero(facts["count"] == 0)
    plain = np.zeros(len(NEW_USER_COLUMNS), np.float32)
    plain[NEW_USER_COLUMNS.index("text")] = 1.0
    prior = np.zeros(num_items, np.float32)
    if not len(fresh):
        return Newcomers(plain, prior, {"items": 0})
    blocks = [_choices(past, end, items, text, rng) for past, end in _past_moments(events) if len(past.rows)]
    choices = np.concatenate([np.zeros((0, NEGATIVES + 1, width), np.float32), *blocks])
    report: dict[str, Any] = {"items": len(fresh), "choices": len(choices)}
    if len(choices) < MIN_CHOICES:
        return Newcomers(plain, prior, {**report, "why": f"text alone: {MIN_CHOICES} choices are needed"})
    weights = _logit(choices)
    users, static = weights[: len(NEW_USER_COLUMNS)], weights[len(NEW_USER_COLUMNS) :]
    values = static_columns(facts, fresh, moment, text) @ static
    prior[fresh] = values - values.mean()
    names = (*NEW_USER_COLUMNS, *STATIC_COLUMNS)
    scales = choices.reshape(-1, width).std(0) * weights
    report["weights"] = {name: round(float(one), 3) for name, one in zip(names, scales, strict=True)}
    return Newcomers(users.astype(np.float32), prior, report)


def static_columns(facts: NDArray[np.void], fresh: Rows, moment: int, text: Floats) -> NDArray[np.float64]:
    """(len(fresh), len(STATIC_COLUMNS)) as of the facts' moment."""
    sold = np.flatnonzero(facts["count"] > 0)
    heat = facts["count_90d"] + 0.2 * facts["count"]
    columns: dict[str, NDArray[np.floating]] = {}
    for name in ("category", "brand"):
        codes = facts[name]
        size = int(codes.max(initial=-1)) + 2
        totals, sales, all_of = (
            np.bincount(codes + 1, one, size) for one in (facts["count_90d"], facts["count"] > 0, None)
        )
        at, known = codes[fresh] + 1, codes[fresh] >= 0
        columns[f"{name}_heat"] = np.where(known, np.log1p(totals[at]), 0)
        columns[f"{name}_mean"] = np.where(known, np.log1p(totals[at] / np.maximum(sales[at], 1)), 0)
        columns[f"{name}_sold"] = np.where(known, sales[at] / np.maximum(all_of[at], 1), 0)
    near, nearest = _near_heat(text, fresh, sold, np.log1p(heat[sold]))
    columns["near_heat"], columns["near_text"] = near, nearest
    columns["text_heat"] = _expected_heat(text, np.log1p(heat), fresh)
    price = facts["log_price"][fresh]
    known = ~np.isnan(price)
    columns["price"] = np.where(known, price - (price[known].mean() if known.any() else 0), 0)
    columns["price_unknown"] = (~known).astype(float)
    columns.update(_age_columns((moment - facts["came_out"][fresh]) / DAY))
    return np.stack([np.nan_to_num(columns[name]) for name in STATIC_COLUMNS], axis=1).astype(np.float64)


def _age_columns(days: NDArray[np.float64]) -> dict[str, NDArray[np.floating]]:
    """From the days since each item came out: negative where that lies ahead, NaN where it is unknown."""
    dated, out = ~np.isnan(days), days >= 0
    far = np.abs(np.nan_to_num(days))
    columns: dict[str, NDArray[np.floating]] = {"age_unknown": (~dated).astype(float)}
    for name, near, here in (("age", "old", dated & out), ("ahead", "ahead", dated & ~out)):
        columns[name] = np.where(here, np.log1p(far), 0)
        for word, half in (("week", 7.0), ("month", 30.0), ("quarter", 90.0)):
            columns[f"{word}_{near}"] = np.where(here, 0.5 ** (far / half), 0)
    return columns


def _past_moments(events: Events) -> Iterator[tuple[Events, Events]]:
    """The events before each past moment, and those from it to the next one."""
    times = events.timestamps
    if not len(times):
        return
    edges = [*(int(np.quantile(times, share)) for share in QUANTILES), int(times[-1]) + 1]
    for start, end in itertools.pairwise(edges):
        first, last = np.searchsorted(times, (start, end))
        yield tuple(  # type: ignore[misc]
            Events(events.users[span], events.rows[span], times[span], events.weights[span])
            for span in (slice(0, first), slice(first, last))
        )


def _choices(
    past: Events, after: Events, items: ItemColumns, text: Floats, rng: np.random.Generator
) -> Floats:
    """(choices, 1 + NEGATIVES, columns): the item taken first, then others that were new, too."""
    width = len(NEW_USER_COLUMNS) + len(STATIC_COLUMNS)
    nothing = np.zeros((0, NEGATIVES + 1, width), np.float32)
    if not len(after.rows):
        return nothing
    moment = int(after.timestamps[0])
    facts = item_facts(past, moment, items)
    fresh = np.flatnonzero((facts["count"] == 0) & ~(items.available_from > int(after.timestamps[-1])))
    keys = np.unique(after.users * len(text) + after.rows)
    users, taken = keys // len(text), keys % len(text)
    wanted = np.isin(taken, fresh) & np.isin(users, past.users)
    users, taken = users[wanted], taken[wanted]
    some = rng.permutation(len(users))
    some = np.sort(some[first_of_each(taken[some], MAX_PER_ITEM)][:MAX_CHOICES])
    users, taken = users[some], taken[some]
    if not len(users) or len(fresh) < 2:
        return nothing
    static = static_columns(facts, fresh, moment, text)
    order = np.argsort(past.users, kind="stable")
    bounds = np.searchsorted(past.users[order], np.stack([users, users + 1]))
    out = np.zeros((len(users), NEGATIVES + 1, width), np.float32)
    for i, (first, last) in enumerate(bounds.T):
        drawn = rng.integers(len(fresh), size=NEGATIVES)
        places = np.concatenate([[np.searchsorted(fresh, taken[i])], drawn])
        history = past.rows[order[first:last]]
        out[i, :, : len(NEW_USER_COLUMNS)] = new_item_profile(history, text, facts).columns(
            text[fresh[places]], facts[fresh[places]]
        )
        out[i, :, len(NEW_USER_COLUMNS) :] = static[places]
    return out


def first_of_each(keys: Rows, most: int) -> NDArray[np.bool_]:
    """(n,) Whether each key is among the first so many that equal it, in the order given."""
    order = np.argsort(keys, kind="stable")
    _, starts, sizes = np.unique(keys[order], return_index=True, return_counts=True)
    found = np.zeros(len(keys), np.bool_)
    found[order] = np.arange(len(keys)) - np.repeat(starts, sizes) < most
    return found


def _logit(choices: Floats) -> NDArray[np.float64]:
    """Weights of the columns as they are, by ridge-penalised maximum likelihood over standardised ones."""
    flat = choices.reshape(-1, choices.shape[2])
    scale = np.maximum(flat.std(0), 1e-3).astype(np.float64)
    x = ((choices - flat.mean(0)) / scale).astype(np.float32)

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scores = x @ weights.astype(np.float32)
        scores -= scores.max(axis=1, keepdims=True)
        share = np.exp(scores)
        share /= share.sum(axis=1, keepdims=True)
        value = -np.log(share[:, 0] + 1e-12).mean() + _PENALTY * (weights**2).sum()
        share[:, 0] -= 1
        slope = np.einsum("cn,cnd->d", share, x) / len(x) + 2 * _PENALTY * weights
        return float(value), slope.astype(np.float64)

    found = optimize.minimize(
        loss, np.zeros(x.shape[2]), jac=True, method="L-BFGS-B", options={"maxiter": 100}
    )
    weights: NDArray[np.float64] = found.x / scale
    return weights


def _near_heat(
    text: Floats, fresh: Rows, sold: Rows, heat: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean heat of the sold items nearest in text, by their nearness; and the largest cosine."""
    near, nearest = np.zeros(len(fresh)), np.zeros(len(fresh))
    if not len(sold):
        return near, nearest
    count, others = min(_NEIGHBOURS, len(sold)), np.asarray(text[sold])
    for start in range(0, len(fresh), _BLOCK):
        cosines = np.asarray(text[fresh[start : start + _BLOCK]]) @ others.T
        best = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        close = np.take_along_axis(cosines, best, 1).astype(np.float64)
        weight = np.exp(8 * close)
        near[start : start + _BLOCK] = (weight * heat[best]).sum(1) / weight.sum(1)
        nearest[start : start + _BLOCK] = close.max(1)
    return near, nearest


def _expected_heat(text: Floats, heat: NDArray[np.floating], fresh: Rows) -> NDArray[np.float64]:
    """What a ridge regression of all items' heat on their text expects of new ones."""
    x = np.asarray(text, np.float32)
    gram = (x.T @ x).astype(np.float64) + _RIDGE * np.eye(x.shape[1])
    slope = np.linalg.solve(gram, x.T @ (heat - heat.mean()))
    return np.asarray(x[fresh] @ slope, np.float64)
