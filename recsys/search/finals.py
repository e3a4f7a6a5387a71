"""The dear part: finalists over several seeds, and one paired test against off on the newest slice."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.arms import Arm, When
from recsys.artifacts import replacing, write_atomically
from recsys.errors import ArtifactError
from recsys.evaluate.paired import pair
from recsys.search.bench import Bench, Score, no_better_for
from recsys.search.explore import METRIC
from recsys.search.ledger import Ledger
from recsys.search.space import fingerprint

ALSO = ("recall@20",)
"""Metrics that are compared beside the one that decides, where they were measured."""
_EPOCHS = "epochs-"


@dataclass(frozen=True)
class Difference:
    """An arm minus off on one metric: users' differences averaged over seeds first."""

    metric: str
    arm: float
    """Mean of the arm."""
    off: float
    difference: float
    low: float
    high: float
    """95 % interval of the difference, by users (paired bootstrap)."""
    p: float
    """Sign-flip permutation, two-sided."""
    users: int
    seeds: tuple[int, ...]

    @property
    def relative(self) -> float:
        """The difference as a share of off's mean."""
        return self.difference / self.off if self.off else 0.0

    @property
    def gains(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.low > 0

    @property
    def interval(self) -> str:
        """For a sentence: the difference, its interval and p."""
        return f"{self.difference:+.5f} [{self.low:+.5f}, {self.high:+.5f}], p = {self.p:.4f}"

    def to_plain(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "relative": self.relative, "seeds": list(self.seeds)}


def shown(row: Mapping[str, Any]) -> str:
    """A difference, as `Difference.to_plain` gives it, in a line."""
    seeds = len(row["seeds"])
    return (
        f"{row['difference']:+.5f} ({row['relative']:+.1%}) [{row['low']:+.5f}, {row['high']:+.5f}]  "
        f"p = {row['p']:.4f}, {row['users']:,} users, {seeds} seed{'s' if seeds != 1 else ''}"
    )


class Finals:
    """Whole trainings, each kept in a file, so that a killed search does none of them twice.

    An arm, off among them, is trained for as many epochs as its own validation figures chose with the first
    seed: what a run would do. With one number for all, whoever overfits first would lose for that alone. On
    the newest slice off is trained for as many as the winner too, so that what more steps gain is not taken
    for what augmentation gains.

    Args:
        folder: Where figures are kept.
        bench: The dataset.
        ledger: What may be spent.
    """

    def __init__(self, folder: Path, bench: Bench, ledger: Ledger) -> None:
        self._folder, self._bench, self._ledger = folder, bench, ledger

    @property
    def usual(self) -> float | None:
        """Mean seconds of the whole trainings so far, None before the first."""
        known = self._seconds()
        return float(np.mean(known)) if known else None

    @property
    def longest(self) -> float:
        """Seconds of the longest whole training so far, 0 before the first."""
        return max(self._seconds(), default=0.0)

    @property
    def num_runs(self) -> int:
        """Whole trainings so far, those that chose a number of epochs among them."""
        return len(self._seconds())

    def epochs(self, arm: Arm, seed: int) -> int:
        """How many epochs an arm is given: the best on the validation slice, found once and kept."""
        path = self._chosen(arm)
        if not path.is_file():
            enough = no_better_for(self._bench.patience)
            done = self._bench.run(arm, seed, when="validation", on_epoch=enough)
            known = {"epochs": int(np.argmax(done.curve)) + 1, "curve": done.curve, "seconds": done.seconds}
            write_atomically(path, json.dumps(known))
            self._ledger.note(now=True)
        return int(_choice(path)["epochs"])

    def contest(
        self,
        arms: Sequence[Arm],
        seeds: Sequence[int],
        when: When,
        left: Callable[[int], float],
        also: Sequence[tuple[Arm, int]] = (),
    ) -> list[int]:
        """Train all arms seed by seed, as long as the budget allows a whole round; gives the finished seeds.

        Args:
            arms: Off among them.
            seeds: At most these.
            when: The slice that judges.
            left: Seconds to keep for later, by the number of seeds that would then be finished.
            also: Arms once more, for so many epochs.
        """
        wanted: list[tuple[Arm, int | None]] = [*((arm, None) for arm in arms), *also]
        finished: list[int] = []
        for seed in seeds:
            missing = sum(not self._is_kept(arm, seed, when, epochs) for arm, epochs in wanted)
            missing += sum(not self._chosen(arm).is_file() for arm in arms)
            price = missing * self.longest
            if missing and self._ledger.left < price + left(len(finished) + 1):
                break
            for arm, epochs in wanted:
                self.score(arm, seed, when, epochs or self.epochs(arm, seeds[0]))
            finished.append(seed)
        return finished

    def score(self, arm: Arm, seed: int, when: When, epochs: int | None = None) -> Score:
        """One whole training, for the arm's own number of epochs or another; from its file if it is there."""
        epochs = epochs or self.epochs(arm, seed)
        path = self._path(arm, seed, when, epochs)
        if not path.is_file():
            keep_score(path, self._bench.run(arm, seed, when=when, epochs=epochs))
            self._ledger.note(now=True)
        return kept_score(path)

    def compared(
        self, arm: Arm, off: Arm, seeds: Sequence[int], when: When, epochs: int | None = None
    ) -> list[Difference]:
        """An arm against off, for its own epochs or for as many as told, over finished seeds.

        The deciding metric, then the others that were measured.
        """
        pairs = [(self.score(arm, seed, when), self.score(off, seed, when, epochs)) for seed in seeds]
        measured = pairs[0][1].figures
        return [paired(metric, pairs, tuple(seeds)) for metric in (METRIC, *ALSO) if metric in measured]

    def _seconds(self) -> list[float]:
        scores = [float(_load(path)["seconds"]) for path in self._folder.glob("*.npz")]
        return scores + [float(_choice(path)["seconds"]) for path in self._folder.glob(f"{_EPOCHS}*.json")]

    def _is_kept(self, arm: Arm, seed: int, when: When, epochs: int | None) -> bool:
        if epochs is None and not self._chosen(arm).is_file():
            return False
        return self._path(arm, seed, when, epochs or self.epochs(arm, seed)).is_file()

    def _chosen(self, arm: Arm) -> Path:
        return self._folder / f"{_EPOCHS}{fingerprint(arm)}.json"

    def _path(self, arm: Arm, seed: int, when: When, epochs: int) -> Path:
        return self._folder / f"{when}-{fingerprint(arm)}-{seed}-{epochs}.npz"


def paired(metric: str, pairs: Sequence[tuple[Score, Score]], seeds: tuple[int, ...]) -> Difference:
    """Differences of the same users, averaged over seeds, with interval and p-value.

    Raises:
        ValueError: the two sides were not judged on the same users.
    """
    users = pairs[0][0].users
    if not all(np.array_equal(users, score.users) for pair in pairs for score in pair):
        raise ValueError("the arms were not judged on the same users")
    _, owners = np.unique(users, return_inverse=True)
    own, other = ([one[side].figures[metric] for one in pairs] for side in (0, 1))
    found = pair(own, other, owners)
    return Difference(
        metric, found.own, found.other, found.difference, found.low, found.high, found.p, found.users, seeds
    )


def keep_score(path: Path, score: Score) -> None:
    """Write what a training came to, user by user."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        arrays: dict[str, NDArray[Any]] = {f"figure:{name}": v for name, v in score.figures.items()}
        users = np.asarray(score.users, dtype=np.str_)
        np.savez(temporary, users=users, seconds=score.seconds, epochs=score.epochs, **arrays)  # type: ignore[arg-type]


def kept_score(path: Path) -> Score:
    """The inverse of `keep_score`.

    Raises:
        ArtifactError: the file is damaged.
    """
    kept = _load(path)
    figures = {name.removeprefix("figure:"): kept[name] for name in kept if name.startswith("figure:")}
    return Score(kept["users"], figures, float(kept["seconds"]), int(kept["epochs"]))


def _load(path: Path) -> Mapping[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, KeyError) as error:
        raise ArtifactError(
            f"{path}: cannot be read ({error}); delete it, and it is measured again"
        ) from error


def _choice(path: Path) -> dict[str, Any]:
    """`epochs`, the `curve` that chose them, and `seconds`."""
    try:
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); delete it, and it is chosen again") from error
    return known
