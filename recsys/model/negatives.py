"""Whom a row's targets are held against: the columns of a step, whom a row leaves out, who is hard for it.

Set up once per fit and asked at each step. Nothing here is random but the columns, whose generator is passed
in, and the pool of hard negatives, which is keyed by the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.config import TrainConfig
from recsys.contexts import MASKED, Contexts
from recsys.model.batching import (
    Candidates,
    Pairs,
    in_batch_candidates,
    target_log_shares,
    uniform_candidates,
)
from recsys.model.towers import TwoTower
from recsys.randomness import generator
from recsys.types import Floats, Rows

_CELLS = 8_000_000


@dataclass(frozen=True, slots=True)
class Left:
    """Items that are no negatives of some rows, as pairs."""

    users: NDArray[np.int64]
    """Place of the row among those asked for."""
    items: Rows


@dataclass(frozen=True, slots=True)
class _Lists:
    """Lists of numbers by key, one behind the other."""

    offsets: NDArray[np.int64]
    values: NDArray[np.int64]

    @classmethod
    def of(cls, keys: NDArray[np.int64], values: NDArray[np.int64], num_keys: int, limit: int) -> _Lists:
        """The distinct values of each key; values lie below `limit`."""
        pairs = np.unique(keys * limit + values)
        offsets = np.concatenate([[0], np.cumsum(np.bincount(pairs // limit, minlength=num_keys))])
        return cls(offsets.astype(np.int64), pairs % limit)

    def of_keys(self, keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Place among the keys and value, for all values of the given keys."""
        starts, sizes = self.offsets[keys], self.offsets[keys + 1] - self.offsets[keys]
        places = np.repeat(np.arange(len(keys)), sizes)
        within = np.arange(len(places)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return places, self.values[np.repeat(starts, sizes) + within]


class Negatives:
    """The negatives of one fit.

    Args:
        contexts: The rows that are trained on.
        text_vectors: (n, dim) of unit norm.
        seen: Items seen in training: nobody else is ever a negative.
        train: How they are chosen.
        seed: Of the run.
        stage: Of the fit.
    """

    def __init__(
        self,
        contexts: Contexts,
        text_vectors: Floats,
        seen: Rows,
        train: TrainConfig,
        seed: int,
        stage: str,
    ) -> None:
        self._train, self._seen, self._seed, self._stage = train, seen, seed, stage
        self._size = len(text_vectors)
        self._log_shares = target_log_shares(contexts, self._size)
        self._own = _own_items(contexts, self._size) if train.mask_own else None
        self._near = near_texts(text_vectors, seen, train.mask_near) if train.mask_near else None
        self._cache: Tensor | None = None
        self._cached: Rows = seen[:0]

    def candidates(self, pairs: Pairs, rng: np.random.Generator) -> Candidates:
        """The columns of a step with these pairs."""
        train = self._train
        if train.negatives == "uniform":
            return uniform_candidates(self._seen, pairs.items, train.num_negatives, rng)
        return in_batch_candidates(pairs.items, self._log_shares, train.logq)

    def left_out(self, positions: NDArray[np.int64], pairs: Pairs) -> Left | None:
        """Whom the given rows must not be held against, beside their own targets; None: nobody.

        Args:
            positions: Rows of the table.
            pairs: Theirs: users are places among the positions.
        """
        users, items = [], []
        if self._own is not None:
            owners, lists = self._own
            places, own = lists.of_keys(owners[positions])
            users.append(places)
            items.append(own)
        if self._near is not None:
            places, near = self._near.of_keys(pairs.items)
            users.append(pairs.users[places])
            items.append(near)
        return Left(np.concatenate(users), np.concatenate(items)) if users else None

    def refresh(self, model: TwoTower, text: Tensor, epoch: int) -> None:
        """Seek this epoch's hard negatives in the items' vectors as they are now."""
        self._cache = None
        if self._train.hard_negatives and epoch >= self._train.hard_after:
            self._choose_pool(epoch)
            rows = torch.from_numpy(self._cached).to(text.device)
            with torch.no_grad():
                self._cache = model.items(text[rows], rows, "target")

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint in the middle of an epoch needs."""
        return {} if self._cache is None else {"hard.items": self._cache}

    def restore(self, tensors: dict[str, Tensor], epoch: int, device: torch.device) -> None:
        """The inverse of `tensors`."""
        if (found := tensors.get("hard.items")) is not None:
            self._choose_pool(epoch)
            self._cache = found.to(device)

    @property
    def mines(self) -> bool:
        """Whether this epoch has hard negatives."""
        return self._cache is not None

    @property
    def hard_weight(self) -> float:
        """How many times one counts."""
        return self._train.hard_weight

    def hard(self, users: Tensor, positives: Tensor, pairs: Pairs, left: Left | None) -> Rows:
        """The hardest negatives of some rows, (rows, hard_negatives) item rows, -1 where there are no more.

        Those nearest to the user in the vectors of the newest `refresh`, but none whose similarity exceeds
        `hard_margin` times that of the row's positives: so near, it is likely one that the user would take
        too (the positive-aware mining of NV-Retriever, arXiv:2407.15831).

        Args:
            users: (rows, dim).
            positives: (rows,) mean similarity of each row with its targets.
            pairs: Of these rows.
            left: Whom else to leave out.
        """
        assert self._cache is not None, "refresh() first"
        with torch.no_grad():
            scores = users.detach() @ self._cache.T  # (rows, pool)
            limits = torch.minimum(positives.detach(), self._train.hard_margin * positives.detach())
            scores = scores.masked_fill(scores > limits.unsqueeze(1), -torch.inf)
            out_users = [pairs.users] if left is None else [pairs.users, left.users]
            out_items = [pairs.items] if left is None else [pairs.items, left.items]
            columns = _columns(self._cached, np.concatenate(out_items), self._size)
            there = columns >= 0
            places = torch.from_numpy(np.concatenate(out_users)[there]).to(scores.device)
            scores[places, torch.from_numpy(columns[there]).to(scores.device)] = -torch.inf
            best = scores.topk(min(self._train.hard_negatives, scores.shape[1]), dim=1)
        rows = self._cached[best.indices.cpu().numpy()]
        return np.where(torch.isfinite(best.values).cpu().numpy(), rows, -1)

    def _choose_pool(self, epoch: int) -> None:
        self._cached = self._seen
        if len(self._seen) > self._train.hard_pool:
            rng = generator(self._seed, "towers", self._stage, "hard", epoch)
            self._cached = np.sort(rng.choice(self._seen, self._train.hard_pool, replace=False))


def mask_of(left: Left, rows: Rows, num_users: int, num_items: int) -> NDArray[np.bool_]:
    """(num_users, len(rows)) where an item of the columns is left out for a row."""
    columns = _columns(rows, left.items, num_items)
    there = columns >= 0
    mask = np.zeros((num_users, len(rows)), bool)
    mask[left.users[there], columns[there]] = True
    return mask


def near_texts(vectors: Floats, seen: Rows, cosine: float) -> _Lists:
    """For every item, the other seen items whose text is at least so near: duplicates and variants."""
    found: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    table = np.asarray(vectors[seen], np.float32)
    step = max(1, _CELLS // max(len(seen), 1))
    for start in range(0, len(seen), step):
        near = table[start : start + step] @ table.T >= cosine
        here, there = np.nonzero(near)
        other = here + start != there
        found.append((seen[here[other] + start], seen[there[other]]))
    keys = np.concatenate([part[0] for part in found]) if found else seen[:0]
    values = np.concatenate([part[1] for part in found]) if found else seen[:0]
    return _Lists.of(keys, values, len(vectors), max(len(vectors), 1))


def _own_items(contexts: Contexts, num_items: int) -> tuple[NDArray[np.int64], _Lists]:
    """Whose each row is, and all items that each user has in the original rows: had, or took later."""
    users, owners = np.unique(contexts.user_ids, return_inverse=True)
    original = contexts.parents < 0
    keys, values = [], []
    for offsets, rows in (
        (contexts.history_offsets, contexts.history_rows),
        (contexts.target_offsets, contexts.target_rows),
    ):
        row_of = np.repeat(np.arange(len(contexts)), np.diff(offsets))
        kept = original[row_of] & (rows != MASKED)
        keys.append(owners[row_of[kept]])
        values.append(rows[kept])
    own = _Lists.of(np.concatenate(keys), np.concatenate(values), len(users), max(num_items, 1))
    return owners.astype(np.int64), own


def _columns(rows: Rows, items: Rows, num_items: int) -> NDArray[np.int64]:
    """Where among some distinct rows each item stands, -1 where it does not."""
    places = np.full(num_items, -1, np.int64)
    places[rows] = np.arange(len(rows))
    return places[items]
