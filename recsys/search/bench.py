"""What the search asks of a dataset: which ops apply, what a policy would make, how an arm scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recsys.arms import Arm, Trials, When
from recsys.augment.expand import expand_contexts, expand_texts
from recsys.augment.generative import AskingOp
from recsys.augment.policy import Policy, policy_from_plain
from recsys.augment.registry import OPS
from recsys.augment.store import friends_of
from recsys.augment.tokens import cut, language_of
from recsys.contexts import Contexts
from recsys.data.contexts_from import contexts_before
from recsys.errors import RecsysError
from recsys.randomness import generator
from recsys.search.settings import settings_of
from recsys.search.space import KINDS, Facts

SAMPLE = 4000
"""Training rows on which ops and policies are tried before anything is trained."""
MIN_SHARE = 0.005
"""An op that changes a smaller share of the sample does not apply to the data."""
_ATTEMPTS = 4
"""Settings with which an op is tried before that is said of it: its own, then some drawn."""


@dataclass(frozen=True)
class Score:
    """What one training came to, user by user."""

    users: NDArray[np.str_]
    """(n,) who was judged and has an answer."""
    figures: Mapping[str, NDArray[np.float64]]
    """(n,) per metric."""
    seconds: float
    epochs: int
    stopped: bool = False
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    curve: tuple[float, ...] = ()
    """ndcg@10 after each epoch, where `on_epoch` was told."""

    def mean(self, metric: str) -> float:
        """Mean over the users."""
        values = self.figures[metric]
        return float(values.mean()) if len(values) else 0.0


class Bench(Protocol):
    """A dataset on which arms can be tried."""

    @property
    def num_rows(self) -> int:
        """Training rows before the first cut."""

    @property
    def max_epochs(self) -> int:
        """Epochs of a whole training, at most."""

    @property
    def patience(self) -> int:
        """Epochs without a better validation figure after which a whole training ends."""

    def facts(self) -> Facts:
        """Which ops apply to the data, and how large its rows are."""

    def counts(self, arm: Arm) -> dict[str, dict[str, int]]:
        """What the policy makes of a sample, by kind: `rows`, `accepted`, and the reasons of refusals."""

    def run(
        self,
        arm: Arm,
        seed: int,
        *,
        when: When,
        epochs: int | None = None,
        share: float = 1.0,
        on_epoch: Callable[[int, float], bool] | None = None,
    ) -> Score:
        """Train and judge an arm; see `recsys.arms.Trials.run`."""


class TrialsBench:
    """The bench over a prepared dataset."""

    def __init__(self, trials: Trials) -> None:
        self._trials = trials

    @property
    def num_rows(self) -> int:
        """Training rows before the first cut."""
        return len(self._fit)

    @property
    def max_epochs(self) -> int:
        """Epochs of a whole training, at most."""
        return self._trials.config.train.max_epochs

    @property
    def patience(self) -> int:
        """Epochs without a better validation figure after which a whole training ends."""
        return self._trials.config.train.patience

    def facts(self) -> Facts:
        """Each op is tried on a sample: what changes next to nothing, however set, does not apply."""
        ops: dict[str, tuple[str, ...]] = {}
        left_out: dict[str, str] = {}
        for kind in KINDS:
            names = []
            for name in sorted(name for name, op in OPS.items() if op.kind == kind):
                reason = self._obstacle(kind, name)
                if reason is None:
                    names.append(name)
                else:
                    left_out[name] = reason
            ops[kind] = tuple(names)
        lengths = np.diff(self._sample.history_offsets)
        texts = self._trials.prepared.texts
        drawn = generator(0, "search", "texts").permutation(len(texts))[:SAMPLE].tolist()
        words = np.array([len(cut(texts[i], language_of(texts[i]))[0]) for i in drawn], np.int64)
        return Facts(ops, left_out, {"history": _quantiles(lengths), "text": _quantiles(words)})

    def counts(self, arm: Arm) -> dict[str, dict[str, int]]:
        """What the policy makes of a sample of histories and of the catalogue's texts."""
        return self._expanded(arm.policy, arm.fusion.max_expansion)

    def run(
        self,
        arm: Arm,
        seed: int,
        *,
        when: When,
        epochs: int | None = None,
        share: float = 1.0,
        on_epoch: Callable[[int, float], bool] | None = None,
    ) -> Score:
        """Train and judge an arm."""
        done = self._trials.run(arm, seed, when=when, epochs=epochs, share=share, on_epoch=on_epoch)
        return Score(
            np.asarray(done.evaluation.users, dtype=str),
            done.figures,
            sum(done.seconds.values()),
            done.epochs,
            done.stopped,
            done.counts,
            done.curve,
        )

    @cached_property
    def _fit(self) -> Contexts:
        prepared = self._trials.prepared
        return contexts_before(prepared.contexts, prepared.cut_validation, prepared.grain)

    @cached_property
    def _sample(self) -> Contexts:
        """Whole users, so that those who lend events to one another are there together."""
        users, sizes = np.unique(self._fit.user_ids, return_counts=True)
        order = generator(0, "search", "sample").permutation(len(users))
        count = int(np.searchsorted(np.cumsum(sizes[order]), SAMPLE)) + 1
        return self._fit.take(np.isin(self._fit.user_ids, users[order[:count]]))

    def _obstacle(self, kind: str, name: str) -> str | None:
        """Why an op is not tried, None where it is."""
        if issubclass(OPS[name], AskingOp):
            return "asks a model: give a policy that names it"
        settings = settings_of(OPS[name], leave=("taper",))
        best, rows = 0, 1
        for attempt in range(_ATTEMPTS):
            asker = _Dice(generator(0, "search", "probe", name, attempt))
            op = {"op": name, **({s.name: s.draw(asker, name) for s in settings} if attempt else {})}
            try:
                policy = policy_from_plain({"name": "probe", kind: {"ops": [{**op, "p": 1.0}]}}, source=name)
                counts = self._expanded(policy, 1.0)[kind]
            except RecsysError as error:
                return str(error)
            refused = sum(n for key, n in counts.items() if key.startswith("rejected:"))
            best, rows = max(best, counts.get("accepted", 0) + refused), max(counts.get("rows", 0), 1)
            if best >= max(MIN_SHARE * rows, 1):
                return None
        return f"changes {best:,} of {rows:,} rows"

    def _expanded(self, policy: Policy, max_expansion: float) -> dict[str, dict[str, int]]:
        shop, prepared, seed = self._trials.shop, self._trials.prepared, self._trials.config.run.seed
        found: dict[str, dict[str, int]] = {}
        if policy.history.ops.ops:
            vectors = self._trials.texts.vectors if "text_neighbours" in policy.history.needs else None
            found["history"] = expand_contexts(
                self._sample,
                shop.vocabulary,
                policy,
                seed,
                max_expansion=max_expansion,
                created=0,
                friends=friends_of(shop.dataset.relations),
                text_vectors=vectors,
            ).counts
        if policy.text.ops.ops:
            found["text"] = expand_texts(
                shop.dataset.items,
                prepared.texts,
                policy,
                seed,
                max_expansion=max_expansion,
                created=0,
                contexts=self._sample,
            ).counts
        return found


def no_better_for(patience: int) -> Callable[[int, float], bool]:
    """Stops a training once so many epochs went by without a better figure."""
    seen: list[float] = []

    def stop(epoch: int, figure: float) -> bool:
        seen.append(figure)
        return len(seen) - 1 - int(np.argmax(seen)) >= patience

    return stop


class _Dice:
    """Draws settings at random, for a first look at what an op can do."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number in [low, high]."""
        return float(
            np.exp(self._random.uniform(*np.log([low, high]))) if log else self._random.uniform(low, high)
        )

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """A whole number in [low, high]."""
        return min(max(round(self.suggest_float(name, low, high, log=log)), low), high)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices."""
        return choices[int(self._random.integers(len(choices)))]


def _quantiles(sizes: NDArray[np.int64]) -> tuple[int, int]:
    some = sizes[sizes > 0]
    return (int(np.median(some)), int(np.quantile(some, 0.9))) if len(some) else (1, 2)
