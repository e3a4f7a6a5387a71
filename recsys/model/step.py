"""The loss of some rows: from contexts through both towers to the maths."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.augment.representation import DropoutViews
from recsys.contexts import Contexts
from recsys.model.batching import Candidates, PaddedHistories, Pairs, pad_histories, target_pairs
from recsys.model.loss import multi_target_softmax
from recsys.model.negatives import Negatives, mask_of
from recsys.model.perturb import Changes, dropped, info_nce, keep_one, mixed_users, noisy
from recsys.model.towers import TwoTower
from recsys.types import Floats, Rows


def batch_loss(
    model: TwoTower,
    text: Tensor,
    contexts: Contexts,
    positions: NDArray[np.int64],
    pairs: Pairs,
    candidates: Candidates,
    kept: Tensor | None,
    history_length: int,
    negatives: Negatives | None = None,
) -> Tensor:
    """The weighted sum of losses of some rows against the given candidates: encode, then the maths."""
    none = contexts.weights[:0]
    batch = Batch(contexts, positions, none, candidates, text, kept, history_length, negatives)
    users = _users(model, batch, positions)
    return _softmax(model, batch, positions, users, _items(model, batch, Changes()), pairs)


def mixed_text(text: Tensor, variants: Tensor | None, chance: float, rng: np.random.Generator) -> Tensor:
    """The catalogue's text vectors with variants in their place by chance, where there is one: (n, dim)."""
    if variants is None:
        return text
    chosen = torch.from_numpy(rng.random(len(text), dtype=np.float32) < chance).to(text.device)
    return torch.where((chosen & variants.any(dim=1)).unsqueeze(1), variants, text)


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows of one optimiser step, those of all processes and micro-batches, and what they share."""

    contexts: Contexts
    positions: NDArray[np.int64]
    weights: Floats
    """(batch,) factors for the rows' own loss weights."""
    candidates: Candidates
    text: Tensor
    """(n, dim) text vectors of the catalogue in this step."""
    kept: Tensor | None
    """(n,) 0 where an item's residual is dropped in this step, 1 elsewhere."""
    history_length: int
    negatives: Negatives | None = None
    """Whom single rows leave out, and whom they add; None: nobody."""

    def history_items(self) -> Rows:
        """Distinct items of the batch's histories, ascending, as `Changes.history` has them."""
        return np.unique(pad_histories(self.contexts, self.positions, self.history_length).rows)


def part_loss(model: TwoTower, batch: Batch, places: NDArray[np.int64], changes: Changes) -> Tensor:
    """The weighted sum of losses of some places of a batch, with vectors changed.

    With partners it is mixup: the mixed user vector has the losses of both rows' targets, each softmax over
    the negatives of its own row, weighted by the shares of the mix.
    """
    own = target_pairs(batch.contexts, batch.positions[places], batch.weights[places])
    if changes.partners is None or changes.shares is None:
        users = _changed_users(model, batch, places, changes)
        return _softmax(model, batch, batch.positions[places], users, _items(model, batch, changes), own)
    partners, shares = changes.partners[places], changes.shares[places]
    # A partner may be another process's row, or another micro-batch's: its vector is made here once more.
    needed = np.unique(np.concatenate([places, partners]))
    vectors = _changed_users(model, batch, needed, changes)
    here, there = (
        vectors[torch.from_numpy(np.searchsorted(needed, some)).to(vectors.device)]
        for some in (places, partners)
    )
    users = mixed_users(here, there, torch.from_numpy(shares).to(vectors.device))
    other = target_pairs(batch.contexts, batch.positions[partners], batch.weights[partners])
    mine = replace(own, weights=own.weights * shares[own.users])
    theirs = replace(other, weights=other.weights * (1 - shares[other.users]))
    items = _items(model, batch, changes)
    losses = [
        _softmax(model, batch, batch.positions[rows], users, items, pairs)
        for rows, pairs in ((places, mine), (partners, theirs))
    ]
    return losses[0] + losses[1]


def views_loss(
    model: TwoTower, batch: Batch, op: DropoutViews, anchors: NDArray[np.int64], rng: np.random.Generator
) -> Tensor:
    """The contrastive loss of a batch's histories plus that of its target items, each a mean over the batch.

    Args:
        model: The towers.
        batch: All rows of the step: the other rows are the negatives.
        op: Its rates and temperature; its weight is the caller's.
        anchors: Places whose share of the loss is wanted, of the target items as well: each process gives
            its own rows, and all shares add up.
        rng: Draws both views.
    """
    device = batch.text.device
    _, owners = np.unique(batch.contexts.user_ids[batch.positions], return_inverse=True)
    targets = batch.candidates.rows[: batch.candidates.num_targets]
    views = [_view(model, batch, targets, op, rng) for _ in range(2)]
    users = info_nce(
        views[0][0], views[1][0], torch.from_numpy(owners).to(device), op.temperature,
        torch.from_numpy(anchors).to(device),
    )  # fmt: skip
    # A batch has as many items as it has, whoever holds its rows: they are dealt out like the anchors.
    dealt = np.flatnonzero(np.isin(np.arange(len(targets)) % len(batch.positions), anchors))
    items = info_nce(
        views[0][1], views[1][1], torch.arange(len(targets), device=device), op.temperature,
        torch.from_numpy(dealt).to(device),
    )  # fmt: skip
    return users / len(batch.positions) + items / len(targets)


def _view(
    model: TwoTower, batch: Batch, targets: Rows, op: DropoutViews, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """One view of the users, (batch, dim), and one of the target items, (num_targets, dim)."""
    device, dim = batch.text.device, batch.text.shape[1]
    padded = pad_histories(batch.contexts, batch.positions, batch.history_length)
    distinct, places = np.unique(padded.rows, return_inverse=True)
    kept = _tensor(dropped((len(batch.text),), op.residual_rate_range, rng), device)
    mask = keep_one(dropped(padded.mask.shape, op.event_rate_range, rng), padded.mask)
    features = _tensor(dropped((len(distinct), dim), op.feature_rate_range, rng), device)
    words = _tensor(dropped((len(targets), dim), op.text_rate_range, rng), device)
    rows = torch.from_numpy(distinct).to(device)
    history = model.items(batch.text[rows], rows, "history", kept) * features
    users = pooled(model, padded, mask, places, history)
    rows = torch.from_numpy(targets).to(device)
    return users, model.items(batch.text[rows] * words, rows, "target", kept)


def _changed_users(model: TwoTower, batch: Batch, places: NDArray[np.int64], changes: Changes) -> Tensor:
    users = _users(model, batch, batch.positions[places], changes)
    if changes.users is None:
        return users
    return users + changes.users[torch.from_numpy(places)].to(users.device)


def _users(
    model: TwoTower, batch: Batch, positions: NDArray[np.int64], changes: Changes | None = None
) -> Tensor:
    device = batch.text.device
    padded = pad_histories(batch.contexts, positions, batch.history_length)
    distinct, places = np.unique(padded.rows, return_inverse=True)
    distinct_rows = torch.from_numpy(distinct).to(device)
    history = model.items(batch.text[distinct_rows], distinct_rows, "history", batch.kept)
    if changes is not None and changes.history_items is not None:
        rows = torch.from_numpy(np.searchsorted(changes.history_items, distinct))
        history = noisy(history, _rows_of(changes.history_noise, rows, device))
        if changes.history is not None:
            history = history + torch.nn.functional.embedding(rows.to(device), changes.history)
    return pooled(model, padded, padded.mask, places, history)


def pooled(
    model: TwoTower,
    padded: PaddedHistories,
    mask: NDArray[np.bool_],
    places: NDArray[np.int64],
    table: Tensor,
) -> Tensor:
    """`model.user` over histories as places in a table of item vectors, without a copy of them per event."""
    device = table.device
    told = torch.from_numpy(mask).to(device)
    events, gaps = torch.from_numpy(padded.events).to(device), torch.from_numpy(padded.gaps).to(device)
    weights = model.user.event_weights(mask.shape[1], events, gaps, told)
    starts = np.concatenate([[0], np.cumsum(mask.sum(axis=1))[:-1]])
    pooled = torch.nn.functional.embedding_bag(
        torch.from_numpy(places.reshape(mask.shape)[mask]).to(device),
        table,
        torch.from_numpy(starts).to(device),
        mode="sum",
        per_sample_weights=weights[told],
    )
    return model.user.finish(pooled, told)


def _items(model: TwoTower, batch: Batch, changes: Changes) -> Tensor:
    device = batch.text.device
    rows = torch.from_numpy(batch.candidates.rows).to(device)
    items = model.items(batch.text[rows], rows, "target", batch.kept)
    items = noisy(items, None if changes.items_noise is None else changes.items_noise.to(device))
    return items if changes.items is None else items + changes.items


def _softmax(
    model: TwoTower,
    batch: Batch,
    positions: NDArray[np.int64],
    users: Tensor,
    items: Tensor,
    pairs: Pairs,
) -> Tensor:
    device, candidates, negatives = batch.text.device, batch.candidates, batch.negatives
    columns = np.searchsorted(candidates.rows[: candidates.num_targets], pairs.items)
    pair_users, pair_columns = (torch.from_numpy(part).to(device) for part in (pairs.users, columns))
    corrections = candidates.target_corrections
    left = None if negatives is None else negatives.left_out(positions, pairs)
    mask = None if left is None else mask_of(left, candidates.rows, len(users), len(batch.text))
    moments = batch.contexts.moments[positions]
    moved = model.moved_bias(moments, torch.from_numpy(candidates.rows).to(device))
    harder = None
    if negatives is not None and negatives.mines:
        owned = (users[pair_users] * items[pair_columns]).sum(dim=1).detach()
        sums, sizes = (
            users.new_zeros(len(users)).index_add(0, pair_users, v) for v in (owned, owned * 0 + 1)
        )
        found = negatives.hard(users, sums / sizes.clamp(min=1), pairs, left)
        harder = _harder(model, batch, users, moments, found, negatives.hard_weight)
    return multi_target_softmax(
        users,
        items,
        model.temperature,
        torch.from_numpy(candidates.log_corrections).to(device),
        pair_users,
        pair_columns,
        torch.from_numpy(pairs.weights).to(device),
        row_scores=None if moved is None else users[:, -1:] * moved,
        left_out=None if mask is None else torch.from_numpy(mask).to(device),
        harder=harder,
        pair_corrections=None if corrections is None else torch.from_numpy(corrections[columns]).to(device),
    )


def _harder(
    model: TwoTower,
    batch: Batch,
    users: Tensor,
    moments: NDArray[np.int64],
    found: Rows,
    weight: float,
) -> Tensor:
    """Logits of each row's hard negatives, (rows, any); -inf where it has no more."""
    device = batch.text.device
    distinct, places = np.unique(np.maximum(found, 0), return_inverse=True)
    rows = torch.from_numpy(distinct).to(device)
    vectors = model.items(batch.text[rows], rows, "target", batch.kept)
    chosen = torch.nn.functional.embedding(torch.from_numpy(places.reshape(found.shape)).to(device), vectors)
    scores = (chosen @ users.unsqueeze(-1)).squeeze(-1)
    moved = model.moved_bias(moments, torch.from_numpy(np.maximum(found, 0)).to(device))
    if moved is not None:
        scores = scores + users[:, -1:] * moved
    logits = scores / model.temperature + float(np.log(weight))
    none: Tensor = torch.from_numpy(found < 0).to(device)
    return logits.masked_fill(none, -torch.inf)


def _rows_of(values: Tensor | None, rows: Tensor, device: torch.device) -> Tensor | None:
    return None if values is None else values[rows].to(device)


def _tensor(stays: NDArray[np.bool_], device: torch.device) -> Tensor:
    return torch.from_numpy(stays.astype(np.float32)).to(device)
