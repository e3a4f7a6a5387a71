"""The two towers over fixed text vectors: an item is its text plus what its events have earned it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recsys.config import ModelConfig
from recsys.contexts import EVENT_TYPES
from recsys.model.popularity import HALF_LIVES, Popularity
from recsys.types import Floats

Side = Literal["target", "history"]

GAP_KNOTS = 17
"""Knots of the time-gap bias, one per doubling of the gap in hours: the last is at seven years."""
FIRST_GAP = 3600.0
"""Seconds of the gap at the second knot; the first is at none."""
LAST_KNOT = GAP_KNOTS - 1.001
"""Longer gaps count as this: just before the last knot, so that there is one above."""
SHORTEST_ITEM = 1e-2
"""Below this length an item vector is not stretched to one: without text and without evidence an item
stays near zero instead of pointing anywhere, and its gradient stays finite."""
SHORTEST_USER = 1e-6
TABLES = frozenset({"target_residual", "history_residual", "bias"})
"""Parameters with a row per item."""
TEMPERATURES = (0.01, 1.0)
BIAS_SHARE = 0.5
"""What the last coordinate has of a user's squared length where items have a bias in theirs."""


class UserTower(nn.Module):
    """A learned recency pool: `norm(sum_j a_j h_j)` over the newest events, position 0 the newest.

    `log a_j` is a bias for the place in the history (starting at `j log decay`), one for the event type
    and one for the time gap (piecewise linear in the logarithm; both start at zero).
    """

    def __init__(self, history_length: int, decay: float, item_bias: bool = False) -> None:
        super().__init__()
        self.item_bias = item_bias
        # At least two places: an axis of one could not be exported as one that varies.
        lags = torch.arange(max(history_length, 2), dtype=torch.float32)
        self.lag_bias = nn.Parameter(lags * float(np.log(decay)))
        self.event_bias = nn.Parameter(torch.zeros(len(EVENT_TYPES)))
        self.gap_bias = nn.Parameter(torch.zeros(GAP_KNOTS))

    def forward(self, history: Tensor, events: Tensor, gaps: Tensor, mask: Tensor) -> Tensor:
        """User vectors.

        Args:
            history: (batch, length, dim) history-side item vectors; length at most `history_length`.
            events: (batch, length) int64 event codes.
            gaps: (batch, length) seconds from the event to the moment; below zero counts as zero.
            mask: (batch, length) bool, False for padding.

        Returns:
            (batch, dim) of unit norm; zero where the mask is empty.
        """
        weights = self.event_weights(history.shape[1], events, gaps, mask)
        return self.finish(torch.bmm(weights.unsqueeze(1), history).squeeze(1), mask)

    def event_weights(self, length: int, events: Tensor, gaps: Tensor, mask: Tensor) -> Tensor:
        """What each event counts in the pool, (batch, length); zero for padding."""
        knot = torch.log2(1 + gaps.clamp(min=0) / FIRST_GAP).clamp(max=LAST_KNOT)
        below = knot.floor()
        share = knot - below
        place = below.long()
        gap_bias = self.gap_bias[place] * (1 - share) + self.gap_bias[place + 1] * share
        return torch.exp(self.lag_bias[:length] + self.event_bias[events] + gap_bias) * mask

    def finish(self, pooled: Tensor, mask: Tensor) -> Tensor:
        """User vectors from the weighted sums of their histories, (batch, dim)."""
        users = nn.functional.normalize(pooled, dim=-1, eps=SHORTEST_USER)
        if not self.item_bias:
            return users
        # History vectors are zero there, so this is a unit vector again; nobody's stays zero.
        known = mask.any(dim=1, keepdim=True).to(users.dtype)
        constant = (BIAS_SHARE**0.5 * known).expand(-1, 1)
        return torch.cat([(1 - BIAS_SHARE) ** 0.5 * users[:, :-1], constant], dim=1)


class TwoTower(nn.Module):
    """Item vectors `norm(text + g residual)` with `g = n / (n + kappa)`, and the user tower over them.

    Target side and history side have residual tables of their own, both starting at zero: the model
    starts at the zero-shot optimum and can add evidence only where counts support it. An item without
    training events has g = 0 and is its text alone, whatever the tables hold.

    With `model.item_bias` the last coordinate is no text's: there items hold the bias
    `g (slopes . popularity + b)`, users a constant, so that the inner product has both. Slopes and b start at
    zero too. The popularity is that of the end; `moved_bias` is what it was at a row's moment.

    The tables hold the items that have training events: the others would stay at zero, and cost an optimiser
    that walks the whole table most of its time where the catalogue is much larger than what is bought.
    """

    gates: Tensor
    popularity: Tensor
    """(n, scales)"""
    past: Tensor
    """(moments, size of the tables, scales)"""
    places: Tensor
    """(n,) an item's place in the tables; any place where it has none, since its gate is zero."""
    sparse: bool = False
    """Whether gradients of the residuals are the rows that were read."""

    def __init__(
        self,
        item_counts: NDArray[np.int64],
        dim: int,
        config: ModelConfig,
        popularity: Popularity | None = None,
    ) -> None:
        super().__init__()
        share = torch.from_numpy(gates(item_counts, config.shrinkage))
        self.register_buffer("gates", share, persistent=False)
        self._known = torch.from_numpy(np.flatnonzero(np.asarray(item_counts) > 0))
        places = torch.zeros(len(item_counts), dtype=torch.int64)
        places[self._known] = torch.arange(len(self._known))
        self.register_buffer("places", places, persistent=False)
        size = max(len(self._known), 1)
        self.target_residual = nn.Parameter(torch.zeros(size, dim))
        self.history_residual = nn.Parameter(torch.zeros(size, dim))
        self.user = UserTower(config.history_length, config.decay, config.item_bias)
        temperature = config.temperature
        self.bias: nn.Parameter | None = None
        self.bias_slopes: nn.Parameter | None = None
        if config.item_bias:
            self._known_at = popularity or Popularity.of_counts(item_counts)
            self.register_buffer("popularity", torch.from_numpy(self._known_at.now), persistent=False)
            self.register_buffer("past", torch.from_numpy(self._known_at.past), persistent=False)
            self.bias = nn.Parameter(torch.zeros(size))
            self.bias_slopes = nn.Parameter(torch.zeros(len(HALF_LIVES)))
            temperature *= (1 - BIAS_SHARE) ** 0.5  # similarities of text are so much smaller
        self.log_temperature = nn.Parameter(torch.tensor(float(np.log(temperature))))

    @property
    def temperature(self) -> Tensor:
        """The softmax's temperature, kept within bounds."""
        low, high = TEMPERATURES
        return self.log_temperature.exp().clamp(low, high)

    def items(self, text: Tensor, rows: Tensor, side: Side, kept: Tensor | None = None) -> Tensor:
        """Item vectors, (len(rows), dim).

        Args:
            text: (len(rows), dim) text vectors of these items.
            rows: Their item rows.
            side: Which residual table.
            kept: (n,) 0 where an item's residual is dropped for this step, 1 elsewhere.
        """
        table = self.target_residual if side == "target" else self.history_residual
        share = self.gates[rows] if kept is None else self.gates[rows] * kept[rows]
        places = self.places[rows]
        vectors = text + share.unsqueeze(-1) * nn.functional.embedding(places, table, sparse=self.sparse)
        if self.bias is None or self.bias_slopes is None:
            return nn.functional.normalize(vectors, dim=-1, eps=SHORTEST_ITEM)
        head = nn.functional.normalize(vectors[:, :-1], dim=-1, eps=SHORTEST_ITEM)
        if side == "history":
            return nn.functional.pad(head, (0, 1))
        bias = self.gates[rows] * (self.popularity[rows] @ self.bias_slopes + self.bias[places])
        return torch.cat([head, bias.unsqueeze(-1)], dim=1)

    def moved_bias(self, moments: NDArray[np.int64], rows: Tensor) -> Tensor | None:
        """What the bias of items was at some moments, less what it is now; None where items have no bias.

        Args:
            moments: (batch,) Unix seconds.
            rows: (items,) item rows that all moments are asked for, or (batch, items) some for each.

        Returns:
            (batch, items): to be added to the last coordinate of the item's vector.
        """
        if self.bias_slopes is None:
            return None
        at = torch.from_numpy(self._known_at.places(moments)).to(rows.device)
        if rows.dim() == 1:
            then = (self.past[:, self.places[rows]] @ self.bias_slopes)[at]
        else:
            then = self.past[at.unsqueeze(1), self.places[rows]] @ self.bias_slopes
        return self.gates[rows] * (then - self.popularity[rows] @ self.bias_slopes)

    def whole(self, tensors: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The parameters (its own by default) with tables over all n items, zero for those without events."""
        found = self.state_dict() if tensors is None else tensors
        whole = {name: value.detach() for name, value in found.items()}
        for name in TABLES & whole.keys():
            compact = whole[name]
            table = compact.new_zeros((len(self.places), *compact.shape[1:]))
            known = self._known.to(compact.device)
            whole[name] = table.index_copy(0, known, compact[: len(known)])
        return whole

    def load_whole(self, tensors: Mapping[str, Tensor]) -> None:
        """Take parameters with tables over all n items; what items without events have there is dropped."""
        size = len(self.target_residual)
        known = self._known if len(self._known) else torch.zeros(size, dtype=torch.int64)
        self.load_state_dict({k: v[known] if k in TABLES else v for k, v in tensors.items()})


def gates(item_counts: NDArray[np.int64], shrinkage: float) -> Floats:
    """The share of its residual that each item's n training events have earned, (n,) in [0, 1)."""
    counts = np.asarray(item_counts, np.float64)
    share = np.where(counts > 0, counts / np.maximum(counts + shrinkage, 1e-12), 0.0)
    return share.astype(np.float32)


def combined(text: Floats, residual: Floats, share: Floats, bias: Floats | None = None) -> Floats:
    """`TwoTower.items` for a whole catalogue, without torch: (n, dim).

    Args:
        text: (n, dim).
        residual: (n, dim).
        share: (n,) gates.
        bias: (n,) what the last coordinate is, shrunk already; None leaves it to text and residual.
    """
    vectors = text + share[:, None] * residual
    if bias is not None:
        vectors[:, -1] = 0
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    out: Floats = (vectors / np.maximum(lengths, SHORTEST_ITEM)).astype(np.float32)
    if bias is not None:
        out[:, -1] = bias
    return out
