"""How many users a comparison needs: power of the two-sided z-test of a mean of paired differences.

With n users whose differences have the standard deviation s, a true difference d is told from zero at the
level alpha with probability `power` where n = ((z_(1 - alpha/2) + z_power) * s / d)^2 (Chow, Shao and Wang,
Sample Size Calculations in Clinical Research, 2008, section 3.1; the far tail is left out, as usual). With
the hundreds of users that a shop has, the z-test and the permutation test have the same power.
"""

from __future__ import annotations

import math
from statistics import NormalDist

LEVEL = 0.05
POWER = 0.8


def users_needed(deviation: float, difference: float, *, level: float = LEVEL, power: float = POWER) -> int:
    """Users that tell a difference from zero.

    Args:
        deviation: Standard deviation of the users' differences, at least 0.
        difference: The true difference that is not to be missed, not zero.
        level: Chance of seeing a difference where there is none.
        power: Chance of seeing it where it is.
    """
    if not difference:
        raise ValueError("no number of users tells a difference of zero")
    return max(math.ceil((_reach(level, power) * deviation / difference) ** 2), 2)


def detectable(deviation: float, users: int, *, level: float = LEVEL, power: float = POWER) -> float:
    """The smallest difference that so many users tell from zero; arguments as for `users_needed`."""
    return _reach(level, power) * deviation / math.sqrt(users)


def _reach(level: float, power: float) -> float:
    normal = NormalDist()
    return normal.inv_cdf(1 - level / 2) + normal.inv_cdf(power)
