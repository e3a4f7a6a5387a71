"""What `recsys augment run` expands, read in bounded memory where the log is large."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from recsys.artifacts import alone

if TYPE_CHECKING:
    import pandas as pd

    from recsys.augment.bulk import Source
    from recsys.contexts import Contexts, Vocabulary
    from recsys.data.streaming import StreamedDataset

logger = logging.getLogger(__name__)

INPUT = ".input"
"""Folder of an expansion in which the contexts of a large log lie while the run is unfinished."""


def open_source(data: Path, history_length: int, out: Path, part_rows: int) -> Source:
    """The dataset as an expansion takes it.

    A log of at most `part_rows` rows, or one that is no Parquet file, is read at once. Of a larger one a part
    of that size is in memory at a time, and the contexts, one per user, are memory-mapped from `out`.

    Args:
        data: Folder of the dataset.
        history_length: Newest events kept of each user.
        out: Folder of the expansion.
        part_rows: Events that are in memory at one time.

    Raises:
        InputError: the data cannot be used.
    """
    from recsys.config import DataConfig
    from recsys.data.event_parts import ReadWhole
    from recsys.data.streaming import stream_dataset

    streamed = stream_dataset(data, DataConfig())
    if streamed is None or streamed.events <= part_rows:
        return _whole(data, history_length)
    try:
        with alone(out / INPUT):
            return _streamed(streamed, history_length, out / INPUT, part_rows)
    except ReadWhole as reason:
        logger.warning("%s; it is read at once", reason)
        return _whole(data, history_length)


def drop_source(out: Path) -> None:
    """Remove what `open_source` left for a run that might be killed."""
    shutil.rmtree(out / INPUT, ignore_errors=True)


def _whole(data: Path, history_length: int) -> Source:
    from recsys.augment.store import user_contexts
    from recsys.config import DataConfig
    from recsys.contexts import Vocabulary
    from recsys.data.interactions import load_dataset

    dataset = load_dataset(data, DataConfig())
    vocabulary = Vocabulary(dataset.items["item_id"].tolist())
    contexts = user_contexts(dataset.interactions, vocabulary, history_length)
    return _source(dataset.items, contexts, dataset.relations, dataset.digests, history_length)


def _streamed(streamed: StreamedDataset, history_length: int, work: Path, part_rows: int) -> Source:
    from recsys.contexts import Contexts, Vocabulary, stacked_on_disk

    said = json.dumps([streamed.digests, history_length], sort_keys=True)
    folder = work / hashlib.sha256(said.encode()).hexdigest()[:16]
    if folder.is_dir():
        contexts = Contexts.load(folder)
        logger.info("going on with the contexts of %d users that are there", len(contexts))
    else:
        for old in work.iterdir():
            if old.is_dir():
                shutil.rmtree(old)
        vocabulary = Vocabulary(streamed.items["item_id"].tolist())
        parts = streamed.parts(work / "events", part_rows)
        contexts = stacked_on_disk(_contexts(parts, vocabulary, history_length), folder)
        shutil.rmtree(work / "events")
        logger.info("%d events became the contexts of %d users", streamed.events, len(contexts))
    relations = streamed.relations(contexts.user_ids.astype(object))
    return _source(streamed.items, contexts, relations, streamed.digests, history_length)


def _contexts(
    parts: Iterator[pd.DataFrame], vocabulary: Vocabulary, history_length: int
) -> Iterator[Contexts]:
    from recsys.augment.store import user_contexts

    return (user_contexts(part, vocabulary, history_length) for part in parts)


def _source(
    items: pd.DataFrame,
    contexts: Contexts,
    relations: pd.DataFrame | None,
    digests: dict[str, str],
    history_length: int,
) -> Source:
    from recsys.augment.bulk import Source
    from recsys.augment.store import friends_of
    from recsys.data.catalogue import item_texts

    found = {**digests, "history_length": str(history_length)}
    return Source(items, item_texts(items), contexts, friends_of(relations), found)
