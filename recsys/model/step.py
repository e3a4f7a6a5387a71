"""The loss of some rows: from contexts through both towers to the maths."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.contexts import Contexts
from recsys.model.batching import Candidates, Pairs, pad_histories
from recsys.model.loss import multi_target_softmax
from recsys.model.towers import TwoTower


def batch_loss(
    model: TwoTower,
    text: Tensor,
    contexts: Contexts,
    positions: NDArray[np.int64],
    pairs: Pairs,
    candidates: Candidates,
    kept: Tensor | None,
    history_length: int,
) -> Tensor:
    """The weighted sum of losses of some rows against the given candidates: encode, then the maths."""
    device = text.device
    padded = pad_histories(contexts, positions, history_length)
    distinct, places = np.unique(padded.rows, return_inverse=True)
    distinct_rows = torch.from_numpy(distinct).to(device)
    history = model.items(text[distinct_rows], distinct_rows, "history", kept)
    history = torch.nn.functional.embedding(
        torch.from_numpy(places.reshape(padded.rows.shape)).to(device), history
    )
    users = model.user(
        history,
        torch.from_numpy(padded.events).to(device),
        torch.from_numpy(padded.gaps).to(device),
        torch.from_numpy(padded.mask).to(device),
    )
    rows = torch.from_numpy(candidates.rows).to(device)
    columns = np.searchsorted(candidates.rows[: candidates.num_targets], pairs.items)
    return multi_target_softmax(
        users,
        model.items(text[rows], rows, "target", kept),
        model.temperature,
        torch.from_numpy(candidates.log_corrections).to(device),
        torch.from_numpy(pairs.users).to(device),
        torch.from_numpy(columns).to(device),
        torch.from_numpy(pairs.weights).to(device),
    )
