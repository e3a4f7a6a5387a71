"""A shop that is expanded in shards, in this process or, as a script, in one that can be killed."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recsys.augment.bulk import Encoder, Settings, Source, expand_dataset
from recsys.augment.policy import Policy, policy_from_plain
from recsys.augment.shards import HistoryShards, TextShards
from recsys.contexts import Contexts
from recsys.types import Floats

NUM_ITEMS, NUM_USERS = 150, 120
NOUNS = ("mug", "lamp", "coat", "chair", "kettle", "towel", "shelf")
KINDS = ("soft", "heavy", "small", "bright", "simple", "round", "quiet", "warm", "plain", "light")


def items(count: int = NUM_ITEMS) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    titles = [
        f"{' '.join(rng.choice(KINDS, 7))} {rng.choice(NOUNS)}. Made for home {i}. Easy to use"
        if i % 3
        else "Mug"
        for i in range(count)
    ]
    titles[1] = "红色纯棉短袖上衣适合运动休闲"
    return pd.DataFrame(
        {
            "item_id": [f"i{i}" for i in range(count)],
            "title": titles,
            "brand": ["Acme" if i % 2 else "" for i in range(count)],
            "category": ["Home" if i % 5 else "Garden|Tools" for i in range(count)],
            "price": rng.uniform(1, 50, count).round(2),
        }
    )


def contexts(users: int = NUM_USERS, num_items: int = NUM_ITEMS) -> Contexts:
    rng = np.random.default_rng(6)
    lengths = rng.integers(0, 12, users)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Contexts(
        user_ids=np.array([f"u{i}" for i in range(users)]),
        moments=np.full(users, 10_000, np.int64),
        history_offsets=offsets,
        history_rows=rng.integers(0, num_items // 3, offsets[-1]),
        history_events=rng.integers(0, 4, offsets[-1]),
        history_timestamps=np.concatenate([np.sort(rng.integers(0, 9000, n)) for n in lengths]).astype(
            np.int64
        ),
        target_offsets=np.arange(users + 1, dtype=np.int64),
        target_rows=rng.integers(0, num_items // 3, users),
        target_weights=np.ones(users, np.float32),
        weights=np.ones(users, np.float32),
        parents=np.full(users, -1, np.int64),
    )


def source(**changes: Any) -> Source:
    catalogue = items()
    return Source(
        **{
            "items": catalogue,
            "texts": catalogue["title"].tolist(),
            "contexts": contexts(),
            "friends": {"u1": ["u2", "u3"]},
            "digests": {"items.parquet": "1"},
            **changes,
        }
    )


def policy(**text: Any) -> Policy:
    """Ops with all kinds of side data, gates before and after the one on meaning, drift on both sides."""
    return policy_from_plain(
        {
            "name": "bulk",
            "history": {
                "copies": 2,
                "ops": [
                    {"op": "item_dropout", "p": 0.5, "rate_range": [0.2, 0.6]},
                    {"op": "one_of", "ops": [{"op": "substitute"}, {"op": "borrow"}, {"op": "crop"}]},
                ],
                "gates": [{"gate": "label_consistency"}, {"gate": "related"}],
                "drift": {"max_psi": 0.02},
            },
            "text": {
                "copies": 3,
                "acceptance": {"max_modification": 0.4},
                "ops": [
                    {"op": "attribute_backfill", "p": 0.5},
                    {"op": "word_dropout", "rate_range": [0.1, 0.5]},
                    {"op": "clause_shuffle", "p": 0.5},
                ],
                "gates": [
                    {"gate": "fluency"},
                    {"gate": "meaning", "min_cosine": 0.6},
                    {"gate": "near_duplicate", "max_jaccard": 0.9},
                ],
                "drift": {"max_psi": 0.6, "min_p": 0.001},
                **text,
            },
        }
    )


def encode(texts: Sequence[str]) -> Floats:
    """Bags of words in 32 buckets: more common words, nearer vectors."""
    vectors = np.zeros((len(texts), 32), np.float32)
    for row, text in enumerate(texts):
        for word in text.lower().split():
            vectors[row, hashlib.sha256(word.encode()).digest()[0] % 32] += 1
    return vectors


def unit(texts: Sequence[str]) -> Floats:
    vectors = encode(texts)
    scaled: Floats = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
    return scaled


class Counting:
    """An encoder that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.loads = 0

    def encoder(self) -> Encoder:
        def load() -> Any:
            self.loads += 1
            return self._encode

        return Encoder("bags", load, lambda raw: raw)

    def _encode(self, texts: Sequence[str]) -> Floats:
        self.asked.extend(texts)
        return encode(texts)


def expand(out: Path, **settings: Any) -> dict[str, Any]:
    """One run of the world; `max_expansion` under 1 so that the cap has work."""
    chosen = settings.pop("policy", None) or policy()
    encoder = settings.pop("encoder", None) or Counting().encoder()
    what = settings.pop("source", None) or source()
    defaults = {"max_expansion": 0.8, "shard_rows": 16, "created": 1_700_000_000, "progress": False}
    return expand_dataset(what, chosen, out, Settings(**{**defaults, **settings}), encoder)


def _slowly(kind: Any, seconds: float) -> None:
    grown = kind.grown

    def slow(self: Any, *args: Any, **options: Any) -> Any:
        time.sleep(seconds)
        return grown(self, *args, **options)

    kind.grown = slow


if __name__ == "__main__":
    _slowly(TextShards, 0.1)
    _slowly(HistoryShards, 0.1)
    expand(Path(sys.argv[1]), workers=int(sys.argv[2]))
