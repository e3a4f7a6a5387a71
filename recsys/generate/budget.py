"""What calls may cost: reserved before a call at the most it can cost, settled after it at what it did."""

from __future__ import annotations

import threading
from typing import NamedTuple


class Cost(NamedTuple):
    """Tokens sent and received."""

    prompt: int
    output: int


class Budget:
    """Tokens and money, safe for threads; a reservation that would exceed either is refused.

    Args:
        prompt_price: Money per million tokens sent.
        output_price: Money per million tokens received.
        max_tokens: Sent and received; None is no bound.
        max_cost: None is no bound.
    """

    def __init__(
        self, prompt_price: float, output_price: float, max_tokens: int | None, max_cost: float | None
    ) -> None:
        self._prices = prompt_price, output_price
        self._max_tokens, self._max_cost = max_tokens, max_cost
        self._lock = threading.Lock()
        self._held: list[Cost] = []
        self.prompt_tokens = 0
        self.output_tokens = 0

    @property
    def cost(self) -> float:
        """Money spent."""
        return self._money(self.prompt_tokens, self.output_tokens)

    def reserve(self, most: Cost) -> bool:
        """Hold what a call may cost at most; False where what is left does not cover it."""
        with self._lock:
            prompt = self.prompt_tokens + most.prompt + sum(held.prompt for held in self._held)
            output = self.output_tokens + most.output + sum(held.output for held in self._held)
            if self._max_tokens is not None and prompt + output > self._max_tokens:
                return False
            if self._max_cost is not None and self._money(prompt, output) > self._max_cost:
                return False
            self._held.append(most)
            return True

    def charge(self, cost: Cost) -> bool:
        """Count a cost beside the reservations; False where what is left does not cover it."""
        if not self.reserve(cost):
            return False
        self.settle(cost, cost)
        return True

    def settle(self, most: Cost, actual: Cost) -> None:
        """Put what a call did cost in the place of its reservation."""
        with self._lock:
            self._held.remove(most)
            self.prompt_tokens += actual.prompt
            self.output_tokens += actual.output

    def _money(self, prompt: int, output: int) -> float:
        return (prompt * self._prices[0] + output * self._prices[1]) / 1e6
