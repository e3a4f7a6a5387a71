"""Several tests at once: Holm's correction (Holm, Scandinavian Journal of Statistics 1979)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the given order.

    Rejecting where the adjusted value is below a level keeps the chance of even one false rejection below
    that level, however the tests depend on one another. The i-th smallest of m is multiplied by m - i + 1,
    and no value may fall below that of a smaller p.
    """
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values, kind="stable")
    steps = np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * steps), 1.0)
    return [float(value) for value in adjusted]
