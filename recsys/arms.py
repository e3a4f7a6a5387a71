"""Arms: trainings that differ in augmentation alone, on one dataset that is prepared once, scored per user.

An arm is the two towers fitted for a fixed number of epochs, each with as many rows as there are originals,
so that every arm takes the same optimiser steps; it is judged by its ranked lists over the whole catalogue
for the users of a later slice of time. Rankers and other sources are left out on purpose: they would hide
what the arm changed.
"""

from __future__ import annotations

import logging
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.arm_texts import ArmTexts
from recsys.artifacts import load_array, write_atomically
from recsys.augment.fuse import EvenSteps
from recsys.augment.policy import Policy, load_policy
from recsys.augmented import AugmentedRows, TextVariants, augment_rows, augment_texts
from recsys.config import AugmentConfig, Config
from recsys.contexts import Contexts
from recsys.data.contexts_from import contexts_before
from recsys.data.interactions import load_dataset
from recsys.data.split import held_out_targets
from recsys.distributed import limit_threads, training_device
from recsys.evaluate.answers import AnswerSheet, answer_sheet
from recsys.evaluate.evaluate import Evaluation, Task, evaluate_lists
from recsys.evaluate.segments import Segment
from recsys.evaluate.topk import top_dense
from recsys.fit import Shop
from recsys.model.batching import seen_items, trainable
from recsys.model.encoder import TextEncoder
from recsys.model.fitted import TowersFit
from recsys.placebo import Placebo, placebo_rows
from recsys.prepared import RAW, Prepared, encode_texts, load_prepared, prepare_shop, write_report_contexts
from recsys.randomness import generator
from recsys.runs import open_run
from recsys.thin import ATTRIBUTES, thin_items
from recsys.train import fit_towers
from recsys.types import Floats, Rows

logger = logging.getLogger(__name__)

K = 50
"""Length of the lists."""
_CELLS = 20_000_000

When = Literal["validation", "report"]
"""The slice that judges: what came between the two cuts, or what came after the second."""
_SLICES: dict[When, str] = {"validation": "validation", "report": "newest"}


class Arm(NamedTuple):
    """What differs between two trainings: a policy and how its rows meet the originals."""

    name: str
    policy: Policy
    fusion: AugmentConfig = AugmentConfig()
    placebo: Placebo | None = None
    """Training rows of a placebo instead of the policy's."""

    @classmethod
    def of(cls, policy: str) -> Arm:
        """The arm of a preset or a policy file, with the default fusion."""
        chosen = load_policy(policy)
        return cls(chosen.name, chosen)


@dataclass(frozen=True)
class Outcome:
    """What one training of an arm came to."""

    arm: str
    seed: int
    when: When
    epochs: int
    users: NDArray[np.object_]
    """(n,) who was judged."""
    lists: Rows
    """(n, K) item rows, best first, what the user had left out; -1 where a list ends early."""
    evaluation: Evaluation
    """Under the task asked for; segments and intervals are left to comparisons."""
    curve: tuple[float, ...]
    """ndcg@10 on the judged users after each epoch, where it was asked for."""
    losses: tuple[float, ...] = ()
    """Mean training loss of each epoch."""
    steps: int = 0
    """Optimiser steps."""
    stopped: bool = False
    """Ended before its last epoch because `on_epoch` said so."""
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """What augmentation did: `history` and `text`."""
    seconds: dict[str, float] = field(default_factory=dict)
    towers: TowersFit | None = None
    """What was trained."""

    @property
    def figures(self) -> dict[str, NDArray[np.float64]]:
        """(n',) per metric, for the users with an answer (`evaluation.users`)."""
        whole = self.evaluation.whole
        return {name: whole.by_case[:, i] for i, name in enumerate(whole.names)}


class Fitted(NamedTuple):
    """The towers of an arm."""

    towers: TowersFit
    steps: int
    stopped: bool
    counts: dict[str, dict[str, int]]
    """What augmentation did: `history` and `text`."""
    seconds: dict[str, float]


class Trials:
    """One dataset, ready for any number of arms."""

    def __init__(
        self, prepared: Prepared, config: Config, work: Path, report: Contexts, worker: int = 0
    ) -> None:
        """Args: what `prepare` made; `report` are the held-out contexts of the newest slice."""
        self.prepared, self.config, self.work, self._report = prepared, config, work, report
        self.scratch = work / f"worker-{worker}" if worker else work
        self.shop: Shop = prepared.shop
        self._vectors: dict[str, Floats] = {}
        self._sheets: dict[When, AnswerSheet] = {}

    @classmethod
    def prepare(cls, data: Path, work: Path, config: Config, *, worker: int = 0) -> Trials:
        """Check the data, join features and encode texts, or find all that under `work` again.

        Args:
            data: As for `recsys run`.
            work: Where it is prepared.
            config: What all trainings share.
            worker: From 1, of processes that train side by side on what was prepared before; each has a
                folder of its own for what a training leaves on the way.

        Raises:
            RecsysError: bad data or configuration.
        """
        limit_threads(config.run.threads)
        dataset = load_dataset(data, config.data)
        shop = Shop(dataset, config)
        run = open_run(work, config, dataset.digests)
        report = run.work / "report_contexts"
        if "features" not in run.manifest.stages:
            prepare_shop(run, shop, work / "features")
        prepared = load_prepared(run, shop)
        if not report.is_dir():
            write_report_contexts(report, shop, prepared, work / "features")
        if "encode" not in run.manifest.stages:
            encode_texts(run, prepared, config)
        return cls(prepared, config, run.folder, Contexts.load(report), worker)

    def run(
        self,
        arm: Arm,
        seed: int,
        *,
        when: When = "validation",
        epochs: int | None = None,
        share: float = 1.0,
        on_epoch: Callable[[int, float], bool] | None = None,
        config: Config | None = None,
        task: Task = "novel",
        texts: ArmTexts | None = None,
    ) -> Outcome:
        """Train an arm and rank the catalogue for the users of a slice.

        Args:
            arm: What to train.
            seed: Of the augmentation and of the training; arms of one seed share all other draws.
            when: `validation` fits on what lies before the first cut, `report` before the second.
            epochs: Epochs; `train.max_epochs` when None.
            share: Share of the users whose rows are trained on; everybody is judged.
            on_epoch: Told the epoch (from 1) and ndcg@10 on the judged users; True stops.
            config: Other settings than those prepared with, for what training itself reads of them.
            task: Under `novel` lists leave out what the user had.
            texts: Through another encoder than the published one.
        """
        fitted = self.fit(
            arm, seed, when, epochs=epochs, share=share, on_epoch=on_epoch, config=config, texts=texts
        )
        started = time.perf_counter()
        lists = self.lists(fitted.towers, when, task)
        outcome = Outcome(
            arm=arm.name, seed=seed, when=when, epochs=len(fitted.towers.losses),
            users=np.asarray(self.sheet(when).users, object), lists=lists,
            evaluation=self.evaluate(lists, when, arm.name, task),
            curve=fitted.towers.validation, losses=fitted.towers.losses,
            steps=fitted.steps, stopped=fitted.stopped, counts=fitted.counts,
            seconds={**fitted.seconds, "rank": round(time.perf_counter() - started, 2)}, towers=fitted.towers,
        )  # fmt: skip
        logger.info(
            "%s, seed %d, trained for %d epochs: ndcg@10 %.4f on the %s slice",
            arm.name, seed, outcome.epochs, outcome.evaluation["ndcg@10"].mean, _SLICES[when],
        )  # fmt: skip
        return outcome

    def fit(
        self,
        arm: Arm,
        seed: int,
        when: When,
        *,
        epochs: int | None = None,
        share: float = 1.0,
        on_epoch: Callable[[int, float], bool] | None = None,
        config: Config | None = None,
        texts: ArmTexts | None = None,
    ) -> Fitted:
        """Train an arm's towers; arguments as for `run`."""
        started = time.perf_counter()
        cut = self.cut(when)
        config = self.configured(arm, seed, config)
        folder = self.folder(arm, seed, when)
        fit, counts = self.rows_before(cut, share)
        texts = texts or self.texts
        rows = self._rows(arm, fit, cut, config, folder, texts)
        grown = self.wordings(arm, fit, cut, config, folder)
        read = np.zeros(len(counts), np.bool_)
        read[seen_items(fit, counts)] = True
        fusion = None
        if rows.fusion is not None:
            fusion = EvenSteps(rows.fusion, trainable(rows.contexts), len(trainable(fit)), seed)
        augmented = time.perf_counter()
        watch = _Watch(on_epoch)
        towers = fit_towers(
            rows.contexts,
            texts.vectors,
            counts,
            config,
            folder,
            validation=self.judged(when) if on_epoch else None,
            epochs=epochs or config.train.max_epochs,
            lift=config.model.lift,
            fusion=fusion,
            representation=rows.representation,
            text_variants=texts.variants(grown, read),
            stage="arm",
            on_step=watch.step,
            on_epoch=watch if on_epoch else None,
        )
        shutil.rmtree(folder, ignore_errors=True)
        return Fitted(
            towers, watch.steps, watch.stopped, {"history": rows.counts, "text": grown.counts},
            {"augment": round(augmented - started, 2), "train": round(time.perf_counter() - augmented, 2)},
        )  # fmt: skip

    def cut(self, when: When) -> int:
        """Unix seconds: what an arm that is judged on a slice may know came before."""
        return self.prepared.cut_validation if when == "validation" else self.prepared.cut_report

    def evaluate(
        self,
        lists: Rows,
        when: When,
        name: str,
        task: Task = "novel",
        segments: Sequence[Segment] = (),
    ) -> Evaluation:
        """Ranked lists of a slice's users, scored without intervals."""
        return evaluate_lists(lists, self.sheet(when), task, name=name, segments=segments, replicates=2)

    def sheet(self, when: When) -> AnswerSheet:
        """Who is judged on a slice, and what they took."""
        if when not in self._sheets:
            self._sheets[when] = self._made_sheet(when)
        return self._sheets[when]

    def lists(
        self, towers: TowersFit, when: When, task: Task, among: NDArray[np.bool_] | None = None
    ) -> Rows:
        """(n, K) rows by match for the users of a slice; with `among`, (num_items,), of those items alone."""
        judged, sheet = self.judged(when), self.sheet(when)
        users, items = towers.user_vectors(judged), towers.item_vectors()
        seen = sheet.histories.distinct(len(items)) if task == "novel" else None
        step = max(1, _CELLS // max(len(items), 1))
        outside = None if among is None else ~among
        parts = []
        for start in range(0, len(users), step):
            chunk = np.arange(start, min(start + step, len(users)))
            scores = users[chunk] @ items.T
            if outside is not None:
                scores[:, outside] = -np.inf
            parts.append(top_dense(scores, K, None if seen is None else seen.take(chunk)))
        return np.concatenate(parts)

    def configured(self, arm: Arm, seed: int, config: Config | None = None) -> Config:
        """Settings with the arm's augmentation and a seed laid over them; the shared ones when None."""
        config = config or self.config
        path = self.work / "policies" / f"{arm.policy.policy_id}.toml"
        if not path.is_file():
            write_atomically(path, arm.policy.to_toml())
        # The empty pipeline runs through the same code, so `off` is a policy here, not a switch.
        augment = arm.fusion.model_copy(update={"policy": str(path), "enabled": True})
        run = config.run.model_copy(update={"seed": seed})
        return config.model_copy(update={"augment": augment, "run": run})

    def rows_before(self, cut: int, share: float = 1.0) -> tuple[Contexts, NDArray[np.int64]]:
        """Rows that may be trained on before a cut, of a share of the users, and events per item."""
        fit = contexts_before(self.prepared.contexts, cut, self.prepared.grain)
        if share >= 1.0:
            return fit, self.shop.item_counts(cut)
        users = np.unique(fit.user_ids)
        drawn = generator(0, "arms", "share").random(len(users)) < share
        chosen = users[drawn]
        events = self.shop.events(cut)
        kept = events.loc[events["user_id"].isin(chosen.tolist()), "item_id"].tolist()
        size = len(self.shop.vocabulary)
        counts = np.bincount(self.shop.vocabulary.rows(kept), minlength=size).astype(np.int64)
        return fit.take(np.isin(fit.user_ids, chosen)), counts

    def wordings(self, arm: Arm, fit: Contexts, cut: int, config: Config, folder: Path) -> TextVariants:
        """The texts that an arm's policy makes of the catalogue's; arguments as `fit` has them."""
        if arm.placebo is not None or not arm.policy.text.ops.ops:
            return TextVariants({})
        items, provenance = self.shop.dataset.items, folder / "texts.parquet"
        return augment_texts(items, self.prepared.texts, cut, config, provenance, fit, self.texts.unit)

    def folder(self, arm: Arm, seed: int, what: str) -> Path:
        """Where a training leaves what it needs on the way."""
        return self.scratch / "arms" / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', arm.name)}-{seed}-{what}"

    @cached_property
    def thin(self) -> NDArray[np.bool_]:
        """(num_items,) which items say little of themselves."""
        items = self.shop.dataset.items
        return thin_items(self.prepared.texts, {name: items[name].tolist() for name in ATTRIBUTES})

    @cached_property
    def texts(self) -> ArmTexts:
        """Every arm's texts through the encoder as it was published."""
        raw = np.array(load_array(self.work / "work" / RAW))
        config = self.config

        def load() -> TextEncoder:
            device = training_device(config.run.device)
            return TextEncoder.load(config.encoder, device, config.train.precision)

        return ArmTexts.published(self.prepared.texts, raw, load, config.model)

    def _made_sheet(self, when: When) -> AnswerSheet:
        early, late = self.prepared.cut_validation, self.prepared.cut_report
        start, end = (early, late) if when == "validation" else (late, self.shop.end)
        truth = held_out_targets(self.shop.dataset.interactions, start, end)
        users = self.judged(when).user_ids.tolist()
        return answer_sheet(self.shop.events(start), truth, self.shop.vocabulary.item_ids, users)

    def judged(self, when: When) -> Contexts:
        """The held-out rows of a slice that have a history."""
        contexts = self.prepared.validation if when == "validation" else self._report
        contexts.require_original()
        return contexts.take(np.diff(contexts.history_offsets) > 0)

    def _rows(
        self, arm: Arm, fit: Contexts, cut: int, config: Config, folder: Path, texts: ArmTexts
    ) -> AugmentedRows:
        if arm.placebo is not None:
            return placebo_rows(arm.placebo, fit, config.augment, config.run.seed)
        relations = self.shop.dataset.relations
        provenance = folder / "histories.parquet"
        return augment_rows(fit, self.shop.vocabulary, cut, config, provenance, relations, texts.vectors)


class _Watch:
    """Passes each epoch's figure on and remembers whether it was told to stop."""

    def __init__(self, on_epoch: Callable[[int, float], bool] | None) -> None:
        self._on_epoch, self.stopped, self.steps = on_epoch, False, 0

    def step(self, done: int) -> None:
        self.steps = done

    def __call__(self, epoch: int, figure: float) -> bool:
        self.stopped = self._on_epoch is not None and self._on_epoch(epoch, figure)
        return self.stopped
