"""What a fit of the towers leaves behind: plain arrays, and the vectors that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.augment.representation import Passes
from recsys.config import ModelConfig
from recsys.contexts import Contexts
from recsys.model.batching import pad_histories
from recsys.model.popularity import Popularity
from recsys.model.towers import UserTower, combined, gates
from recsys.types import Floats

CHUNK = 1024
NO_EXTRA = Passes(1, 1)


@dataclass(frozen=True)
class TowersFit:
    """Fitted towers over a catalogue of n items."""

    state: dict[str, NDArray[np.float32]]
    """Parameters of `TwoTower` by name."""
    text_vectors: Floats
    """(n, dim)"""
    item_counts: NDArray[np.int64]
    """(n,) training events per item."""
    config: ModelConfig
    epochs: int
    """Epochs behind these parameters: fit the final model for as many."""
    validation: tuple[float, ...]
    """Validation ndcg@10 after each epoch that was run."""
    losses: tuple[float, ...]
    """Mean training loss of each epoch that was run."""
    examples_per_second: float
    """Training rows per second in the newest epoch, with whatever was done to representations."""
    lift: float = 0.0
    """How far an item that stands on its text alone is raised: see `lifted`."""
    popularity: Floats | None = None
    """(n, scales) how much each item sold lately (`Popularity.now`); None: what its count alone says."""
    passes_per_step: Passes = NO_EXTRA
    """Mean passes of the towers per optimiser step."""

    def item_vectors(self) -> Floats:
        """(n, dim) what the index holds: lengths from 1 (well known) to 1 + lift (cold)."""
        return lifted(self.unit_item_vectors(), self.item_counts, self.lift, self.config)

    def unit_item_vectors(self) -> Floats:
        """(n, dim) item vectors before the lift."""
        return self._combined("target_residual")

    def history_vectors(self) -> Floats:
        """(n, dim) what the user tower reads."""
        return self._combined("history_residual")

    def user_tower(self) -> UserTower:
        """The user tower as a torch module, on the CPU."""
        tower = UserTower(self.config.history_length, self.config.decay, self.config.item_bias)
        prefix = "user."
        own = {k.removeprefix(prefix): v for k, v in self.state.items() if k.startswith(prefix)}
        tower.load_state_dict({name: torch.from_numpy(value) for name, value in own.items()})
        return tower.eval()

    def user_vectors(self, contexts: Contexts, positions: NDArray[np.int64] | None = None) -> Floats:
        """User vectors of the given rows (all by default), (rows, dim); zero for an empty history."""
        positions = np.arange(len(contexts)) if positions is None else positions
        tower, table = self.user_tower(), torch.from_numpy(self.history_vectors())
        out = np.zeros((len(positions), table.shape[1]), np.float32)
        with torch.inference_mode():
            for start in range(0, len(positions), CHUNK):
                span = slice(start, start + CHUNK)
                padded = pad_histories(contexts, positions[span], self.config.history_length)
                out[span] = tower(
                    torch.nn.functional.embedding(torch.from_numpy(padded.rows), table),
                    torch.from_numpy(padded.events),
                    torch.from_numpy(padded.gaps),
                    torch.from_numpy(padded.mask),
                ).numpy()
        return out

    def report(self) -> dict[str, Any]:
        """The figures for the manifest."""
        return {
            "epochs": self.epochs,
            "losses": [round(value, 5) for value in self.losses],
            "validation_ndcg@10": [round(value, 6) for value in self.validation],
            "temperature": round(float(np.exp(self.state["log_temperature"])), 5),
            "lift": self.lift,
            **self._bias(),
            "lag_weights": [round(float(v), 4) for v in np.exp(self.state["user.lag_bias"])],
            "examples_per_second": round(self.examples_per_second, 1),
            "passes_per_step": self.passes_per_step._asdict(),
        }

    def _bias(self) -> dict[str, list[float]]:
        if not self.config.item_bias:
            return {}
        return {"bias_slopes": [round(float(v), 4) for v in self.state["bias_slopes"]]}

    def _combined(self, table: str) -> Floats:
        share = gates(self.item_counts, self.config.shrinkage)
        bias = None
        if self.config.item_bias:
            bias = np.zeros_like(share)
            if table == "target_residual":
                sold = self.popularity
                if sold is None:
                    sold = Popularity.of_counts(self.item_counts).now
                bias = share * (sold @ self.state["bias_slopes"] + self.state["bias"])
        return combined(np.asarray(self.text_vectors), self.state[table], share, bias)


def lifted(items: Floats, item_counts: NDArray[np.int64], lift: float, config: ModelConfig) -> Floats:
    """Item vectors scaled by `1 + lift (1 - g)`, (n, dim).

    The history's residuals carry user vectors out of the space of pure text, which lowers the similarity of
    items that have no residual to answer with. The lift gives that back, most of it to cold items.
    """
    share = gates(item_counts, config.shrinkage)
    scaled: Floats = (items * (1 + lift * (1 - share))[:, None]).astype(np.float32)
    return scaled
