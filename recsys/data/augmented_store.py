"""The stored batches of augmented rows: written whole, kept by policy and seed, read as known at a moment."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_repo.services import AUGMENTED
from recsys.contexts import Contexts, Vocabulary
from recsys.data.augmented_reading import StoredHistories, StoredTexts, stored_histories, stored_texts
from recsys.data.augmented_rows import (
    HISTORIES,
    TEXTS,
    Batch,
    batch_name,
    batches_in,
    child_table,
    history_rows,
    text_rows,
)
from recsys.data.feast_calls import offline
from recsys.data.feature_arrow import SCHEMAS
from recsys.data.feature_files import BASE, FeatureFiles
from recsys.errors import DependencyError, InputError

VIEWS = (HISTORIES, TEXTS)
MOST_ASKED = 250_000
"""Rows of one join, which bounds its memory."""


class AugmentedViews(ABC):
    """What a feature store does with augmented rows."""

    files: FeatureFiles

    @property
    @abstractmethod
    def store(self) -> Any:
        """Feast's client of the feature folder."""

    def write_augmented_contexts(
        self, contexts: Contexts, vocabulary: Vocabulary, provenance: pa.Table, keep: int | None = None
    ) -> Batch | None:
        """Store the children of expanded contexts as a batch of `augmented_histories`.

        Args:
            contexts: Originals and their children.
            vocabulary: The catalogue of their rows.
            provenance: One row per child, in the children's order.
            keep: Newest batches of the policy and seed that stay; None keeps all.

        Returns:
            The batch, None where there are no children.
        """
        return self.write_histories(child_table(contexts, vocabulary, provenance["row_id"]), provenance, keep)

    def write_histories(
        self, children: pa.Table, provenance: pa.Table, keep: int | None = None
    ) -> Batch | None:
        """Store augmented histories as an expansion has them (see `history_rows`)."""
        self.files.about()
        return write_batch(self.files, HISTORIES, history_rows(children, provenance), keep)

    def write_texts(self, children: pa.Table, provenance: pa.Table, keep: int | None = None) -> Batch | None:
        """Store augmented texts (row_id, item_id, text) as a batch of `augmented_texts`; see `text_rows`."""
        self.files.about()
        base = self.files.view("item_text") / BASE
        known = pq.read_table(base, columns=["item_id", "event_timestamp"])
        return write_batch(self.files, TEXTS, text_rows(children, provenance, known), keep)

    def augmented_contexts(
        self,
        policy_id: str,
        as_of: int,
        vocabulary: Vocabulary,
        originals: Contexts,
        *,
        seed: int | None = None,
        honour_created: bool = True,
    ) -> StoredHistories:
        """Training contexts with the children that one policy made of them, as they were known at a moment.

        Args:
            policy_id: Whose rows.
            as_of: Unix seconds; of the rows made until then and of parents from until then, the newest batch.
            vocabulary: The catalogue of the originals' rows.
            originals: Fit rows; a child has its parent's targets and weight.
            seed: Of the policy's draws; may be left out where one is stored.
            honour_created: False would show rows that were made later: for tests that show it.

        Raises:
            InputError: nothing of that policy and seed is stored.
            LeakageError: the originals are held out or augmented themselves.
        """
        self.files.require_whole()
        batches = batches_of(self.files, HISTORIES, policy_id, seed)
        known, unseen = known_rows(self.store, batches, as_of, honour_created=honour_created)
        return stored_histories(known, unseen, originals, vocabulary)

    def augmented_texts(
        self,
        policy_id: str,
        as_of: int,
        vocabulary: Vocabulary,
        *,
        seed: int | None = None,
        honour_created: bool = True,
    ) -> StoredTexts:
        """Item texts that one policy made, as they were known at a moment; see `augmented_contexts`."""
        self.files.require_whole()
        batches = batches_of(self.files, TEXTS, policy_id, seed)
        known, unseen = known_rows(self.store, batches, as_of, honour_created=honour_created)
        return stored_texts(known, unseen, vocabulary)


def stored_batches(files: FeatureFiles) -> list[Batch]:
    """All batches of a feature folder, histories before texts, oldest first."""
    return [batch for view in VIEWS for batch in batches_in(files.view(view), view)]


def write_batch(files: FeatureFiles, view: str, rows: pa.Table, keep: int | None = None) -> Batch | None:
    """Write augmented rows of one policy and seed as a batch; None where there are none.

    Args:
        files: The feature folder's.
        view: `augmented_histories` or `augmented_texts`.
        rows: In the view's columns.
        keep: Newest batches of the policy and seed that stay; None keeps all.
    """
    if not len(rows):
        return None
    versions = rows.select(["policy_id", "seed"]).group_by(["policy_id", "seed"]).aggregate([]).to_pylist()
    if len(versions) != 1:
        raise InputError(
            f"augmented rows of {len(versions)} policies or seeds in one batch; write each alone"
        )
    policy_id, seed = versions[0]["policy_id"], versions[0]["seed"]
    created = pc.max(rows["batch"]).as_py()
    path = files.view(view) / batch_name(policy_id, seed, created)
    files.write_table(path, rows)
    if keep is not None:
        mine = [b for b in batches_in(path.parent, view) if (b.policy_id, b.seed) == (policy_id, seed)]
        for batch in mine[:-keep]:
            batch.path.unlink()
    return Batch(view, policy_id, seed, created, path)


def drop_policy(files: FeatureFiles, policy_id: str) -> int:
    """Remove every batch of a policy; how many there were.

    Raises:
        InputError: there was none.
    """
    mine = [batch for batch in stored_batches(files) if batch.policy_id == policy_id]
    if not mine:
        raise _unknown(files, "augmented rows", policy_id)
    for batch in mine:
        batch.path.unlink()
    return len(mine)


def batches_of(files: FeatureFiles, view: str, policy_id: str, seed: int | None) -> list[Batch]:
    """The batches of one policy and one seed, oldest first; the seed may be left out where there is one.

    Raises:
        InputError: none is stored, or several seeds are and none was named.
    """
    mine = [batch for batch in batches_in(files.view(view), view) if batch.policy_id == policy_id]
    seeds = sorted({batch.seed for batch in mine})
    if not mine or (seed is not None and seed not in seeds):
        raise _unknown(files, view, policy_id, seeds)
    if seed is None and len(seeds) > 1:
        raise InputError(
            f"policy {policy_id!r} has rows of {len(seeds)} seeds ({', '.join(map(str, seeds))}); name one"
        )
    return [batch for batch in mine if seed is None or batch.seed == seed]


def known_rows(
    store: Any, batches: Sequence[Batch], as_of: int, *, honour_created: bool = True
) -> tuple[pa.Table, int]:
    """The newest batch that was known at a moment, through the store's join, and how many rows it left out.

    Whether a row is seen is for the store to say: every row id of the batches is asked for, and what it
    knows nothing of at the moment is left out and counted.

    Args:
        store: Feast's client of the feature folder.
        batches: Of one view, policy and seed.
        as_of: Unix seconds; a row made at that second is seen.
        honour_created: False would show rows that were made later: for tests that show it.
    """
    view = batches[0].view
    parts = [_joined(store, view, asked, honour_created) for asked in _asked(batches, as_of)]
    joined = pa.concat_tables(parts)
    newest = pc.max(joined["batch"]).as_py()
    chosen = next((batch for batch in batches if batch.created == newest), None)
    if chosen is None:
        return joined.slice(0, 0), len(joined)
    known = joined.filter(pc.equal(joined["batch"], newest))
    order = pc.index_in(_row_ids(chosen), value_set=known["row_id"].combine_chunks())
    return known.take(pc.drop_null(order)), len(joined) - len(known)


def _asked(batches: Sequence[Batch], as_of: int) -> Iterator[pd.DataFrame]:
    """Each row id of the batches once, with the moment."""
    ids = pc.unique(pa.chunked_array([chunk for batch in batches for chunk in _row_ids(batch).chunks]))
    moment = datetime.fromtimestamp(as_of, UTC)
    for start in range(0, len(ids), MOST_ASKED):
        part = ids.slice(start, MOST_ASKED).to_pandas()
        yield pd.DataFrame(
            {
                "policy_id": batches[0].policy_id,
                "seed": np.int64(batches[0].seed),
                "row_id": part,
                "event_timestamp": pd.DatetimeIndex([moment] * len(part)),
                "place": np.arange(len(part)),
            }
        )


def _row_ids(batch: Batch) -> pa.ChunkedArray:
    return pq.read_table(batch.path, columns=["row_id"])["row_id"]


def _joined(store: Any, view: str, asked: pd.DataFrame, honour_created: bool) -> pa.Table:
    with offline("join augmented rows"):
        found = store.get_historical_features(
            entity_df=asked,
            features=store.get_feature_service(AUGMENTED[view], allow_cache=True),
            filter_by_created_timestamp=honour_created,
        ).to_arrow()
    places = found["place"].to_numpy()
    if not np.array_equal(np.sort(places), np.arange(len(asked))):
        raise DependencyError(
            f"the store's join lost or repeated rows: {len(found):,} out, {len(asked):,} in"
        )
    names = [name for name in SCHEMAS[view].names if name not in ("event_timestamp", "created")]
    schema = pa.schema([SCHEMAS[view].field(name) for name in names])
    return found.take(pa.array(np.argsort(places, kind="stable"))).select(names).cast(schema)


def _unknown(files: FeatureFiles, what: str, policy_id: str, seeds: Sequence[int] = ()) -> InputError:
    views = VIEWS if what not in VIEWS else (what,)
    known = sorted({batch.policy_id for batch in stored_batches(files) if batch.view in views})
    where = str(files.folder)
    if seeds:
        hint = f"It has rows of seed {', '.join(map(str, seeds))}"
        return InputError(f"no {what} of policy {policy_id!r} with that seed", file=where, hint=hint)
    hint = f"Stored: {', '.join(known) or 'none'}"
    return InputError(f"no {what} of policy {policy_id!r}", file=where, hint=hint)
