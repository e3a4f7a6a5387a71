"""The ranker: a small listwise network over `rank_features`, one number per candidate.

Trained on candidates as retrieval really produced them, with labels from the time after everything the
features know. Standardisation and clipping to the range seen in training are part of the graph, so that
serving feeds raw features and a value never seen before cannot run away.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recsys.artifacts import replacing
from recsys.config import RankConfig
from recsys.progress import Progress
from recsys.randomness import derive, generator
from recsys.types import Floats, Rows

VALIDATION_SHARE = 0.2
MIN_USERS = 10
"""Users with a labelled list that a ranker needs: some of them judge the others' fit."""
LINE_PENALTY = 10.0
"""Weight of the line's squared coefficients beside the sum of the lists' losses: the fewer, the flatter."""
MIN_HELD_OUT = 10
"""Users that must be held out for a number of epochs to be read off them; with fewer the line is all."""
LINE_LISTS = 2000
"""Lists that the line is drawn through at most: forty-odd coefficients need no more."""
_LINE_STEPS = 100
Scores = Callable[[Floats], Floats]
"""From the features of some candidates, (n, num_features), to their scores, (n,)."""


@dataclass(frozen=True, slots=True)
class RankingLists:
    """Candidates of many users, grouped: list i has rows `offsets[i]:offsets[i + 1]`."""

    features: Floats
    """(c, num_features)"""
    labels: Floats
    """(c,) 1 where the user took the item after the cut."""
    novel: NDArray[np.bool_]
    """(c,) The user had not had the item before: the list is also learned without its repeats."""
    offsets: NDArray[np.int64]
    owners: NDArray[np.int64] | None = None
    """(lists,) A number per user: who has several lists is never on both sides of a split. None: one each."""
    parts: NDArray[np.int64] | None = None
    """(lists,) Which part of time each list is from, 0 the oldest. None: all from one."""
    items: Rows | None = None
    """(c,) The row of each candidate's item. None: not kept."""

    @property
    def users(self) -> NDArray[np.int64]:
        """(lists,) Whose each list is."""
        return np.arange(len(self)) if self.owners is None else self.owners

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, places: Rows) -> RankingLists:
        """Some of the lists, in the given order."""
        sizes = np.diff(self.offsets)[places]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][places] - offsets[:-1], sizes)
        return RankingLists(
            self.features[rows], self.labels[rows], self.novel[rows], offsets, self.users[places],
            None if self.parts is None else self.parts[places],
            None if self.items is None else self.items[rows],
        )  # fmt: skip

    def keep(self, wanted: NDArray[np.bool_]) -> RankingLists:
        """All the lists, with some of their candidates alone; `wanted` is (c,)."""
        of = np.repeat(np.arange(len(self)), np.diff(self.offsets))[wanted]
        offsets = np.concatenate([[0], np.cumsum(np.bincount(of, minlength=len(self)))])
        return RankingLists(
            self.features[wanted], self.labels[wanted], self.novel[wanted], offsets, self.owners, self.parts,
            None if self.items is None else self.items[wanted],
        )  # fmt: skip


def joined(some: Sequence[RankingLists]) -> RankingLists:
    """Lists one after the other, and their parts of time too; owners and items where all of them tell."""
    starts = np.cumsum([0, *(one.offsets[-1] for one in some)])
    owners = [one.owners for one in some if one.owners is not None]
    items = [one.items for one in some if one.items is not None]
    parts: list[NDArray[np.int64]] = []
    for one in some:
        own = np.zeros(len(one), np.int64) if one.parts is None else one.parts
        parts.append(own + (int(parts[-1].max()) + 1 if parts else 0))
    return RankingLists(
        np.concatenate([one.features for one in some]),
        np.concatenate([one.labels for one in some]),
        np.concatenate([one.novel for one in some]),
        np.concatenate([[0], *(one.offsets[1:] + at for one, at in zip(some, starts, strict=False))]),
        np.concatenate(owners) if len(owners) == len(some) else None,
        np.concatenate(parts),
        np.concatenate(items) if len(items) == len(some) else None,
    )


def save_lists(lists: RankingLists, path: Path) -> None:
    """Write lists to one file."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        given = {one.name: getattr(lists, one.name) for one in fields(lists)}
        np.savez(
            file, allow_pickle=False, **{name: array for name, array in given.items() if array is not None}
        )


def load_lists(path: Path) -> RankingLists:
    """Read what `save_lists` wrote."""
    with np.load(path, allow_pickle=False) as found:
        return RankingLists(**found)


class Ranker(nn.Module):
    """Linear part plus a small network on clipped, standardised features."""

    low: Tensor
    high: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, num_features: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        for name in ("low", "high", "mean", "scale"):
            self.register_buffer(name, torch.zeros(num_features))
        widths = [num_features, *hidden]
        layers: list[nn.Module] = []
        for wide, narrow in itertools.pairwise(widths):
            layers += [nn.Linear(wide, narrow), nn.ReLU(), nn.Dropout(0.1)]
        self.network = nn.Sequential(*layers, nn.Linear(widths[-1], 1))
        self.linear = nn.Linear(num_features, 1, bias=False)

    def standardised(self, features: Tensor) -> Tensor:
        """Clipped to the range seen in training, with mean 0 and deviation 1 there."""
        clipped = torch.minimum(torch.maximum(features, self.low), self.high)
        standard: Tensor = (clipped - self.mean) / self.scale
        return standard

    def forward(self, features: Tensor) -> Tensor:
        """(n, num_features) to (n,)."""
        x = self.standardised(features)
        total: Tensor = self.linear(x) + self.network(x)
        return total.squeeze(-1)


def labelled_lists(lists: RankingLists) -> Rows:
    """Places of the lists that hold a label, ascending."""
    return np.flatnonzero([lists.labels[a:b].any() for a, b in _spans(lists)])


def split_lists(lists: RankingLists, seed: int) -> tuple[Rows, Rows]:
    """Lists with a label, as those to fit on and those to judge by, each user's on one side.

    Raises:
        ValueError: fewer than `MIN_USERS` users have one.
    """
    useful = labelled_lists(lists)
    owners = lists.users[useful]
    users = generator(seed, "ranker", "split").permutation(np.unique(owners))
    if len(users) < MIN_USERS:
        raise ValueError(f"{len(users)} users have a list with a label; a ranker needs at least {MIN_USERS}")
    cut = max(1, int(len(users) * VALIDATION_SHARE))
    return useful[np.isin(owners, users[cut:])], useful[np.isin(owners, users[:cut])]


def fit_ranker(
    lists: RankingLists, config: RankConfig, seed: int, epochs: int | None = None
) -> tuple[Ranker, dict[str, Any]]:
    """Fit on most users, stop early on the rest, keep the best epoch; or on all for a number of epochs.

    Listwise softmax cross-entropy (Cao et al., ICML 2007), once over the whole list and once over its
    novel part, since a shop asks for both. Training starts from the best line, which is convex to find, and
    the network learns what a line cannot say: with few lists no epoch may be better than the start.
    """
    fit, held_out = split_lists(lists, seed)
    if epochs is not None:
        fit = np.concatenate([fit, held_out])
    torch.manual_seed(derive(seed, "ranker", "weights") % 2**63)
    model = Ranker(lists.features.shape[1], config.hidden)
    _standardise(model, lists.take(fit))
    drawn = generator(seed, "ranker", "line").permutation(fit)[:LINE_LISTS]
    _begin_with_a_line(model, lists.take(np.sort(drawn)))
    optimiser = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=1e-3)
    best, best_epoch, state = -np.inf, 0, {k: v.clone() for k, v in model.state_dict().items()}
    history: list[dict[str, float]] = []
    passes = config.epochs if epochs is None else epochs
    if epochs is None:
        model.eval()
        figures = ranking_figures(neural_scores(model), lists, held_out)
        history.append({"epoch": 0, **figures})
        best = sum(figures.values())
        if len(np.unique(lists.users[held_out])) < MIN_HELD_OUT:
            passes = 0
    with Progress(passes * len(fit), "ranker: the network learns", "lists") as bar:
        for epoch in range(passes):
            model.train()
            order = generator(seed, "ranker", "order", epoch).permutation(fit)
            losses = []
            for start in range(0, len(order), 32):
                batch = lists.take(order[start : start + 32])
                loss = _loss_of(batch)(model(torch.from_numpy(batch.features)))
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                losses.append(float(loss.detach()))
                bar.advance(len(batch))
            model.eval()
            if epochs is not None:
                continue
            figures = ranking_figures(neural_scores(model), lists, held_out)
            history.append({"epoch": epoch + 1, "loss": float(np.mean(losses)), **figures})
            if sum(figures.values()) > best:
                best, best_epoch = sum(figures.values()), epoch + 1
                state = {k: v.clone() for k, v in model.state_dict().items()}
    if epochs is None:
        model.load_state_dict(state)
    model.eval()
    return model, {
        "lists": len(fit),
        "held_out_lists": len(held_out) if epochs is None else 0,
        "best_epoch": best_epoch if epochs is None else epochs,
        "epochs": history,
    }


def neural_scores(model: Ranker) -> Scores:
    """The model as a function of features."""

    def score(features: Floats) -> Floats:
        with torch.inference_mode():
            found: Floats = model(torch.from_numpy(np.ascontiguousarray(features))).numpy()
        return found

    return score


def ranking_figures(score: Scores, lists: RankingLists, some: Rows) -> dict[str, float]:
    """Mean ndcg@10 over some of the lists, of all and of novel items; the ideal knows candidates alone."""
    return {
        "all": _ndcg(score, lists, some, novel=False),
        "novel": _ndcg(score, lists, some, novel=True),
    }


def _standardise(model: Ranker, lists: RankingLists) -> None:
    seen = torch.from_numpy(np.ascontiguousarray(lists.features))
    model.low.copy_(seen.amin(0))
    model.high.copy_(seen.amax(0))
    model.mean.copy_(seen.mean(0))
    model.scale.copy_(seen.std(0).clamp_min(1e-3))


def _begin_with_a_line(model: Ranker, lists: RankingLists) -> None:
    """Give the linear part the coefficients of the penalised best line, and let the network say nothing yet.

    The loss is convex in them: L-BFGS (Liu and Nocedal, Mathematical Programming 1989) ends at the same place
    whatever the seed.
    """
    inputs = model.standardised(torch.from_numpy(np.ascontiguousarray(lists.features)))
    line = torch.zeros(inputs.shape[1], requires_grad=True)
    loss_of_scores = _loss_of(lists)
    optimiser = torch.optim.LBFGS([line], max_iter=_LINE_STEPS, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimiser.zero_grad()
        loss = loss_of_scores(inputs @ line) + LINE_PENALTY / len(lists) * line.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        model.linear.weight.copy_(line[None])
        for parameter in model.network[-1].parameters():
            parameter.zero_()


def _loss_of(lists: RankingLists) -> Callable[[Tensor], Tensor]:
    """The loss of scores, (c,): over whole lists plus over their novel parts, each the mean of the lists."""
    num = len(lists)
    groups = torch.from_numpy(np.repeat(np.arange(num), np.diff(lists.offsets)))
    labels, novel = torch.from_numpy(lists.labels), torch.from_numpy(lists.novel)
    everything = torch.ones_like(novel)

    def loss(scores: Tensor) -> Tensor:
        whole = _listwise(scores, labels, groups, everything, num)
        return whole + _listwise(scores, labels, groups, novel, num)

    return loss


def _listwise(scores: Tensor, labels: Tensor, groups: Tensor, mask: Tensor, num: int) -> Tensor:
    """Mean over lists of the cross-entropy between labels (spread evenly) and the list's softmax."""
    masked = torch.where(mask, scores, torch.full_like(scores, -1e9))
    peak = torch.full((num,), -1e9).scatter_reduce(0, groups, masked, "amax")
    total = torch.zeros(num).scatter_add(0, groups, torch.exp(masked - peak[groups]) * mask)
    log_share = masked - peak[groups] - torch.log(total[groups] + 1e-12)
    positive = labels * mask
    counts = torch.zeros(num).scatter_add(0, groups, positive)
    per_list = torch.zeros(num).scatter_add(0, groups, -positive * log_share) / counts.clamp_min(1)
    return per_list.sum() / (counts > 0).sum().clamp_min(1)


def _ndcg(score: Scores, lists: RankingLists, some: Rows, *, novel: bool, k: int = 10) -> float:
    spans, values = _spans(lists), []
    discount = 1 / np.log2(np.arange(2, k + 2))
    for place in some:
        rows = np.arange(*spans[place])
        if novel:
            rows = rows[lists.novel[rows]]
        labels = lists.labels[rows]
        if not labels.any():
            continue
        order = np.argsort(-score(lists.features[rows]), kind="stable")[:k]
        hits = labels[order]
        values.append((hits * discount[: len(hits)]).sum() / discount[: min(k, int(labels.sum()))].sum())
    return float(np.mean(values)) if values else 0.0


def _spans(lists: RankingLists) -> list[tuple[int, int]]:
    return list(zip(lists.offsets[:-1].tolist(), lists.offsets[1:].tolist(), strict=True))
