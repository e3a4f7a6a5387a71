"""The set of baselines that stands in every table, and why a member of it is missing where it is."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from recsys.evaluate.answers import Histories
from recsys.evaluate.baselines import Baseline, ItemKnn, OwnRepeats, Popular
from recsys.evaluate.linear import EASE_ITEMS, Als, Ease
from recsys.evaluate.text_baselines import TextNearest
from recsys.types import Floats

FUSED = ("popular_30d", "item_knn", "als", "ease", "ease_decay", "text_whitened")
"""What `fusion` is made of, as far as it is there."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Baselines to measure, and those left out."""

    baselines: tuple[Baseline, ...]
    left_out: Mapping[str, str]
    """Why, by name."""


def standard_baselines(
    train: Histories, vectors: Floats | None = None, ease_items: int = EASE_ITEMS
) -> Chosen:
    """Everything that the data and the machine allow.

    Fusion is left to `measure_baselines`, which has the others' lists at hand.

    Args:
        train: Every user's positive events before the cut.
        vectors: (num_items, dim) of the un-tuned encoder, in catalogue order.
        ease_items: Most sold items that EASE takes.
    """
    left_out: dict[str, str] = {}
    neighbours = ItemKnn()
    chosen: list[Baseline] = [Popular(), Popular(days=30), neighbours, OwnRepeats(neighbours)]
    sold = len(np.unique(train.rows))
    if sold <= ease_items:
        ease = Ease(limit=ease_items)
        chosen += [ease, Ease(decay=0.7, like=ease)]
    else:
        left_out["ease"] = left_out["ease_decay"] = (
            f"{sold:,} sold items need {4 * sold**2 / 1e9:.1f} GB and time with their cube; "
            f"up to {ease_items:,} are taken"
        )
    if importlib.util.find_spec("implicit") is not None:
        chosen.append(Als())
    else:
        left_out["als"] = "the package implicit is not installed (extra 'baselines')"
    if vectors is not None:
        chosen += [TextNearest(vectors, whitened=False), TextNearest(vectors, whitened=True)]
    else:
        left_out["text_untuned"] = left_out["text_whitened"] = "no vectors of the un-tuned encoder were given"
    return Chosen(tuple(chosen), left_out)
