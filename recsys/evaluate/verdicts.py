"""What a paired difference means for a shop: helps, hurts, or cannot tell, by a rule written down before."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from recsys.evaluate.paired import Paired
from recsys.evaluate.power import LEVEL, POWER, detectable, users_needed

MIN_DIFFERING = 10
"""With fewer users whose figures differ nothing is tested, nor does their spread say how many would do."""
WORTH = 0.02
"""A relative difference below this is of no interest to a shop: what the power computation asks for."""
Outcome = Literal["helps", "hurts", "cannot tell"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome for one segment, with its reason."""

    outcome: Outcome
    why: str
    p_adjusted: float
    """After Holm, over all verdicts of the comparison."""
    users_needed: int | None
    """To tell a relative difference of `WORTH` with a power of 80 %; None where that cannot be said."""
    detectable: float | None
    """The smallest relative difference that the users at hand tell with that power."""

    def to_plain(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def judge(
    found: Paired,
    p_adjusted: float,
    family: int,
    placebo: tuple[str, Paired] | None = None,
    worth: float = WORTH,
) -> Verdict:
    """The verdict on one segment.

    `helps`: the whole interval above zero, the corrected p-value below 5 %, and the interval of the
    difference to the best placebo above zero too. `hurts`: the interval below zero and the corrected p-value
    below 5 %. Everything else is `cannot tell`.

    Args:
        found: The arm minus the reference in the metric that decides.
        p_adjusted: Its p-value after the correction.
        family: How many verdicts the comparison gives; the power computation tests at 5 % over this.
        placebo: Name of the placebo that did best in this segment, and the arm minus it.
        worth: The relative difference that is not to be missed.
    """
    needed, smallest = _power(found, family, worth)

    def verdict(outcome: Outcome, why: str) -> Verdict:
        return Verdict(outcome, why, p_adjusted, needed, smallest)

    if not found.users:
        return verdict("cannot tell", "no user of the slice belongs to this segment")
    if found.differing < MIN_DIFFERING:
        return verdict("cannot tell", _too_alike(found))
    if found.high < 0 and p_adjusted < LEVEL:
        return verdict("hurts", "the interval lies below zero")
    if found.low > 0 and p_adjusted < LEVEL:
        if placebo is None or placebo[1].low > 0:
            beaten = "" if placebo is None else f" and above the best placebo, {placebo[0]}"
            return verdict("helps", f"the interval lies above zero{beaten}")
        return verdict("cannot tell", f"it gains, but not beyond the placebo {placebo[0]}")
    if found.low > 0 or found.high < 0:
        return verdict("cannot tell", f"p is {p_adjusted:.2f} once corrected for {family} verdicts")
    return verdict("cannot tell", _why_not(found, needed, worth))


def _why_not(found: Paired, needed: int | None, worth: float) -> str:
    if needed is None:
        return "the reference finds nothing here"
    if needed <= found.users:
        return f"a difference of {worth:.0%} would most likely have been seen with {found.users:,} users"
    return f"{found.users:,} users are too few: a difference of {worth:.0%} needs about {needed:,}"


def _too_alike(found: Paired) -> str:
    if not found.differing:
        return "no figure differs between the two"
    return f"the figures of only {found.differing} of {found.users:,} users differ"


def _power(found: Paired, family: int, worth: float) -> tuple[int | None, float | None]:
    if found.differing < MIN_DIFFERING or not found.other:
        return None, None
    level = LEVEL / max(family, 1)
    smallest = detectable(found.deviation, found.users, level=level, power=POWER) / found.other
    return users_needed(found.deviation, worth * found.other, level=level, power=POWER), smallest
