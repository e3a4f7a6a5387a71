"""A whole dataset expanded: in bounded memory, on all cores, resumable, the same bytes however it was split.

Rows are worked on in shards, each a file that is there whole or not at all. What the rows share is computed
once, in this process, before workers are forked from it. The cap and the drift of the batch are decided at
the end over light columns; then the files of `recsys.augment.store` are written from what stays.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.artifacts import write_atomically
from recsys.augment.asking import Oracle
from recsys.augment.assemble import Kept, write_histories, write_provenance, write_texts
from recsys.augment.bulk_state import Journal, open_journal
from recsys.augment.crew import run_all
from recsys.augment.decide import accepted_by_chain, by_chain, history_decision, text_decision
from recsys.augment.grow import Grown
from recsys.augment.policy import Policy
from recsys.augment.shard_files import (
    Origin,
    Shard,
    Tallies,
    read_columns,
    read_cut,
    read_early,
    read_tallies,
    spans,
    write_cut,
    write_grown,
)
from recsys.augment.shards import HistoryShards, TextShards
from recsys.augment.vectors import TextVectors
from recsys.contexts import Contexts, Vocabulary
from recsys.progress import Progress
from recsys.types import Floats

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """What is expanded."""

    items: pd.DataFrame
    """The catalogue: `item_id`, and whatever there is of brand, category, tags and price."""
    texts: Sequence[str]
    """One per item."""
    contexts: Contexts
    """Fit rows, none augmented."""
    friends: Mapping[str, Sequence[str]]
    """User ids by user id; empty where there are none."""
    digests: Mapping[str, str]
    """Of the files that all this was made from, by name: they decide whether a run goes on."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How it is expanded."""

    seed: int = 0
    max_expansion: float = 1.0
    """Augmented rows per original, of each kind."""
    workers: int = 1
    """Processes; the result does not depend on it."""
    shard_rows: int = 4096
    """Rows that are Python objects at one time, in each process."""
    created: int | None = None
    """Unix seconds to note as the time of making; when None the clock's, kept when a run goes on."""
    progress: bool = True


@dataclass(frozen=True, slots=True)
class Encoder:
    """A text encoder that is loaded only where the policy asks for vectors."""

    name: str
    """Of the model and of all that its vectors depend on."""
    load: Callable[[], Callable[[Sequence[str]], Floats]]
    """Gives what turns texts into raw vectors."""
    whiten: Callable[[Floats], Floats]
    """Raw vectors of the catalogue to the ones by which texts are compared."""


def expand_dataset(
    source: Source,
    policy: Policy,
    out: Path,
    settings: Settings,
    encoder: Encoder | None = None,
    oracle: Oracle | None = None,
) -> dict[str, Any]:
    """Expand a dataset into a folder, going on where an earlier run of the same was interrupted.

    Args:
        source: What is expanded.
        policy: By what.
        out: Folder of the expansion; `recsys.augment.store` says what is in it.
        settings: How.
        encoder: For gates and ops that need vectors; without it they are skipped, which is counted.
        oracle: For ops that ask a model; without it they leave every row alone, which is counted.

    Returns:
        The counts, as in `counts.json`.

    Raises:
        InputError: `out` is a file.
        RecsysError: another run writes there, or a worker died.
    """
    inputs = {
        "data": dict(source.digests),
        "rows": [len(source.texts), len(source.contexts), len(source.contexts.history_rows)],
        "policy": policy.policy_id,
        "seed": settings.seed,
        "max_expansion": settings.max_expansion,
        "shard_rows": settings.shard_rows,
        "encoder": encoder.name if encoder else None,
        "oracle": oracle is not None,
    }
    with open_journal(out, inputs, policy, settings.created) as journal:
        if journal.finished is None:
            _Run(source, policy, settings, encoder, oracle, journal).finish()
        counts: dict[str, Any] = json.loads((out / "counts.json").read_text(encoding="utf-8"))
        return counts


class _Run:
    """One expansion, from its inputs to its files."""

    def __init__(
        self,
        source: Source,
        policy: Policy,
        settings: Settings,
        encoder: Encoder | None,
        oracle: Oracle | None,
        journal: Journal,
    ) -> None:
        self._source, self._policy, self._settings = source, policy, settings
        self._encoder, self._oracle, self._journal = encoder, oracle, journal
        self._work = journal.work
        self._origin = Origin(policy.policy_id, settings.seed, journal.created)
        self._seconds: dict[str, float] = {}
        branch = policy.text
        self._meant = encoder is not None and "encode" in branch.evidence
        drifts = branch.drift is not None and branch.drift.min_p > 0
        self._vectors: TextVectors | None = None
        self._encodes = bool(branch.ops.ops) and encoder is not None and (self._meant or drifts)
        self._texts: TextShards | None = None
        self._histories: HistoryShards | None = None

    def finish(self) -> None:
        """Do what is left to do."""
        started = time.monotonic()
        rows = self._settings.shard_rows
        texts = spans("text", len(self._source.texts), rows) if self._policy.text.ops.ops else []
        histories = spans("history", len(self._source.contexts), rows) if self._policy.history.ops.ops else []
        early = [shard._replace(step="early") for shard in texts] if self._encodes else []
        self._grow([*histories, *(early or texts)])
        if early:
            self._encode(early)
            with self._clock("gates"):
                self._judge(texts)
        with self._clock("choose"):
            tallies, kept = self._decide(texts, histories)
        with self._clock("write"):
            self._write(tallies, *kept)
        self._seconds |= {"text": tallies[0].seconds, "history": tallies[1].seconds}
        self._journal.finish({**self._seconds, "total": time.monotonic() - started}, self._settings.workers)

    def _grow(self, shards: list[Shard]) -> None:
        pending = self._pending(shards)
        if not pending:
            return
        with self._clock("side"):
            self._prepare(pending)
        asking = [shard for shard in pending if self._asks(shard)]
        self._all("augment", [shard for shard in pending if shard not in asking], shards, self._grow_one)
        if asking:  # the model's connections and budget are this process's
            self._all("ask and augment", asking, shards, self._grow_one, workers=1)

    def _prepare(self, pending: list[Shard]) -> None:
        """Compute what the shards share; only for the kinds that have work left."""
        source, policy, seed = self._source, self._policy, self._settings.seed
        if any(shard.step == "history" for shard in pending):
            vectors = None
            if self._encoder is not None and "text_neighbours" in policy.history.needs:
                vectors = self._encoder.whiten(self._encoded("catalogue", source.texts).raw(source.texts))
            self._histories = HistoryShards(
                source.contexts, len(source.items), policy, seed, friends=source.friends, text_vectors=vectors
            )
        if any(shard.step != "history" for shard in pending):
            self._texts = TextShards(source.items, source.texts, policy, seed, oracle=self._oracle)
            if self._texts.learns:
                cuts = spans("cut", len(source.texts), self._settings.shard_rows)
                self._all("cut texts", self._pending(cuts), cuts, self._cut_one)
                self._texts.learn(source.contexts, self._read_cut, self._settings.shard_rows)

    def _asks(self, shard: Shard) -> bool:
        return shard.step != "history" and self._texts is not None and self._texts.asks

    def _cut_one(self, shard: Shard) -> None:
        assert self._texts is not None
        write_cut(shard.path(self._work), self._texts.cut(shard.start, shard.stop))

    def _read_cut(self, start: int, stop: int) -> list[Any]:
        number = start // self._settings.shard_rows
        first = number * self._settings.shard_rows
        tokens = read_cut(Shard("cut", number, start, stop).path(self._work))
        return tokens[start - first : stop - first]

    def _grow_one(self, shard: Shard) -> None:
        started = time.monotonic()
        grown: Grown[Any]
        if shard.step == "history":
            assert self._histories is not None
            grown = self._histories.grown(shard.start, shard.stop)
        else:
            assert self._texts is not None
            grown = self._texts.grown(shard.start, shard.stop, early=shard.step == "early")
        kind = "history" if shard.step == "history" else "text"
        write_grown(shard.path(self._work), grown, kind, self._origin, time.monotonic() - started)

    def _encode(self, early: list[Shard]) -> None:
        """Encode candidates and their originals, where that was not done."""

        def wanted() -> Iterator[str]:
            for shard in early:
                table = read_columns(shard.path(self._work), ["parent", "text"])
                pairs = zip(table["parent"].to_pylist(), table["text"].to_pylist(), strict=True)
                for parent, text in pairs:
                    yield self._source.texts[parent]
                    yield text

        with self._clock("encode"):
            self._vectors = self._encoded("texts", wanted())

    def _encoded(self, name: str, texts: Sequence[str] | Iterator[str]) -> TextVectors:
        """The vectors of the encoder, these texts' among them."""
        assert self._encoder is not None
        vectors = TextVectors(self._journal.vectors(self._encoder.name))
        loaded: list[Callable[[Sequence[str]], Floats]] = []

        def encode(batch: Sequence[str]) -> Floats:
            assert self._encoder is not None
            if not loaded:
                loaded.append(self._encoder.load())
            return loaded[0](batch)

        plan, prefix = self._work / f"encode-{name}.json", f"{self._journal.key[:12]}-{name}"
        with Progress(0, "encode texts", "texts", enabled=self._settings.progress) as bar:
            for count in vectors.fill(texts, encode, plan, prefix):
                bar.advance(count)
        vectors.load()
        return vectors

    def _judge(self, texts: list[Shard]) -> None:
        pending = self._pending(texts)
        if pending and self._texts is None:
            self._prepare(pending)
        self._all("judge", pending, texts, self._judge_one)

    def _judge_one(self, shard: Shard) -> None:
        started = time.monotonic()
        assert self._texts is not None
        assert self._vectors is not None
        early = shard._replace(step="early").path(self._work)
        grown, seconds = read_early(early, self._texts, self._policy.text)
        self._texts.judged(grown, self._vectors)
        path = shard.path(self._work)
        write_grown(path, grown, "text", self._origin, seconds + time.monotonic() - started)

    def _decide(
        self, texts: list[Shard], histories: list[Shard]
    ) -> tuple[tuple[Tallies, Tallies], tuple[Kept, Kept]]:
        tallies = (Tallies(), Tallies())
        for into, shards in zip(tallies, (texts, histories), strict=True):
            for shard in shards:
                read_tallies(shard.path(self._work), into)
        most, seed, source = self._settings.max_expansion, self._settings.seed, self._source
        kept = (
            text_decision(
                texts, self._work, source.items, source.texts, self._policy.text.drift,
                most, seed, tallies[0], self._vectors,
            ),
            history_decision(
                histories, self._work, source.contexts, len(source.items), self._policy.history.drift,
                most, seed, tallies[1],
            ),
        )  # fmt: skip
        return tallies, kept

    def _write(self, tallies: tuple[Tallies, Tallies], texts: Kept, histories: Kept) -> None:
        source, folder = self._source, self._journal.ready
        vocabulary = Vocabulary(source.items["item_id"].tolist())
        write_texts(folder / "texts.parquet", source.items, source.texts, texts, self._work)
        write_histories(folder / "histories.parquet", source.contexts, vocabulary, histories, self._work)
        write_provenance(folder / "provenance.parquet", (texts, histories), self._work)
        parts = {"history": (tallies[1], histories), "text": (tallies[0], texts)}
        counts: dict[str, Any] = {kind: dict(sorted(one.counts.items())) for kind, (one, _) in parts.items()}
        counts["ops"] = {
            kind: by_chain(accepted_by_chain(kept, self._work), one.refusals)
            for kind, (one, kept) in parts.items()
        }
        write_atomically(folder / "counts.json", json.dumps(counts, indent=1, ensure_ascii=False))
        write_atomically(folder / "policy.toml", self._policy.to_toml())

    def _pending(self, shards: Sequence[Shard]) -> list[Shard]:
        return [shard for shard in shards if not shard.path(self._work).is_file()]

    def _all(
        self,
        label: str,
        pending: list[Shard],
        shards: Sequence[Shard],
        work: Callable[[Shard], None],
        workers: int | None = None,
    ) -> None:
        if not pending:
            return
        total, left = (sum(shard.stop - shard.start for shard in part) for part in (shards, pending))
        number = self._settings.workers if workers is None else workers
        with Progress(total, label, "rows", total - left, self._settings.progress) as bar:
            for shard, _ in run_all(pending, work, number):
                bar.advance(shard.stop - shard.start)

    @contextlib.contextmanager
    def _clock(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self._seconds[name] = self._seconds.get(name, 0.0) + time.monotonic() - started
