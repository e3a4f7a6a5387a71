"""Every rule-based op on rows of real shops, and on the Chinese rows of the made-up one.

The public datasets lie in `../shared/data` where they have been fetched; without them their tests skip.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from recsys.augment.domains import translated
from recsys.augment.example import Event
from recsys.augment.examples import catalogue_protection
from recsys.augment.expand import expand_contexts, expand_texts
from recsys.augment.fields import item_fields
from recsys.augment.policy import Policy, policy_from_plain
from recsys.augment.registry import OPS
from recsys.augment.store import friends_of, user_contexts
from recsys.augment.tokens import flat, language_of
from recsys.config import DataConfig
from recsys.contexts import MASKED, Contexts, Vocabulary
from recsys.data.catalogue import item_texts
from recsys.data.interactions import Dataset, load_dataset
from recsys.data.sample import write_sample

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
REAL = ("steam_reviews_au", "online_retail")
USERS, MOST_EVENTS = 600, 40
WORDNET = str(Path(__file__).parent / "wordnet")

MODELS = {"back_translation", "llm_rewrite", "masked_lm", "masked_lm_insertion"}
"""Ops that ask a model: tested where the models are."""
TEXT = sorted(name for name, op in OPS.items() if op.kind == "text" and name not in MODELS)
HISTORY = sorted(name for name, op in OPS.items() if op.kind == "history")
SETTINGS: dict[str, dict[str, Any]] = {
    "attribute_backfill": {"max_words": 40},
    "backward_extension": {"max_length": 30, "min_confidence": 0.02},
    "clause_shuffle": {"unit": "clause"},
    "term_expansion": {"max_words": 60},
    "reorder": {"window_seconds": 10**7},
    "synonym": {"groups": [["red", "crimson"], ["bag", "pouch"], ["pack", "bundle"], ["action", "adventure"],
                           ["舒适", "舒服"], ["适合", "适用于"], ["新款", "新品"]]},
    "word_insertion": {"words": ["classic", "经典"]},
    "wordnet_synonym": {"folder": WORDNET},
}  # fmt: skip
"""What makes an op act on other people's rows, where the defaults wait for rarer ones."""
IDLE: dict[tuple[str, str], str] = {
    **{(shop, "chinese_noise"): "no text is Chinese" for shop in REAL},
    **{(shop, "social_borrow"): "the dataset has no relations" for shop in REAL},
    ("online_retail", "clause_shuffle"): "no title has three clauses in a sentence, and the first one stays",
    ("steam_reviews_au", "mined_synonym"): "among so few users no two words have the same buyers",
}
"""Ops that can do nothing on a dataset, and why."""
ENGLISH = {"keyboard_noise", "typo", "wordnet_synonym"}
"""Ops that know English alone."""


class Rows(NamedTuple):
    """Some hundred users of a dataset and the items that they met."""

    items: pd.DataFrame
    texts: list[str]
    contexts: Contexts
    vocabulary: Vocabulary
    relations: pd.DataFrame | None


def rows_of(dataset: Dataset) -> Rows:
    items = dataset.items
    vocabulary = Vocabulary(items["item_id"].tolist())
    contexts = user_contexts(dataset.interactions, vocabulary, 50)
    return Rows(items, item_texts(items), contexts, vocabulary, dataset.relations)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Rows]:
    """A sample of each public dataset, through the loader; those that are not there are left out."""
    found = {}
    for name in REAL:
        if not (SHARED / name / "items.parquet").is_file():
            continue
        events = pd.read_parquet(SHARED / name / "interactions.parquet")
        sizes = events["user_id"].value_counts()
        able = np.sort(sizes.index[sizes >= 3].to_numpy(dtype=str))
        chosen = np.random.default_rng(5).permutation(able)[:USERS]
        events = events[events["user_id"].isin(chosen)].groupby("user_id").tail(MOST_EVENTS)
        items = pd.read_parquet(SHARED / name / "items.parquet")
        folder = tmp_path_factory.mktemp(name)
        events.to_parquet(folder / "interactions.parquet")
        items[items["item_id"].isin(events["item_id"])].to_parquet(folder / "items.parquet")
        found[name] = rows_of(load_dataset(folder, DataConfig()))
    return found


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    folder = tmp_path_factory.mktemp("shop")
    write_sample(folder, "small", 3)
    return rows_of(load_dataset(folder, DataConfig()))


def rows_or_skip(real: Mapping[str, Rows], shop: str) -> Rows:
    if shop not in real:
        pytest.skip(f"the public dataset {shop} is not in ../shared/data")
    return real[shop]


def policy_of(op: str) -> Policy:
    branch = {"ops": [{"op": op, **SETTINGS.get(op, {})}], "acceptance": {"max_modification": 0.9}}
    return policy_from_plain({"name": "one", str(OPS[op].kind): branch})


def changed_texts(rows: Rows, op: str) -> list[tuple[int, str]]:
    """(item row, its variant); every variant keeps what its original protects."""
    policy = policy_of(op)
    grown = expand_texts(rows.items, rows.texts, policy, 1, created=0, contexts=rows.contexts)
    assert "rejected:protected_span_lost" not in grown.counts, "ops keep protected spans by themselves"
    fields = item_fields(rows.items)
    protection = catalogue_protection(fields, policy)
    found = []
    for child in range(len(rows.texts), len(grown.texts)):
        parent, text = int(grown.parents[child]), grown.texts[child]
        assert text != rows.texts[parent]
        said = flat(text)
        for span, count in Counter(protection.spans(rows.texts[parent], fields[parent])).items():
            assert said.count(flat(span).strip()) >= count, (op, span, rows.texts[parent], text)
        found.append((parent, text))
    return found


def changed_histories(rows: Rows, op: str, **side: Any) -> int:
    """How many children there are; every one is sound."""
    grown = expand_contexts(rows.contexts, rows.vocabulary, policy_of(op), 1, created=0, **side).contexts
    for child in range(len(rows.contexts), len(grown)):
        parent = int(grown.parents[child])
        before, after = rows.contexts.history(parent), grown.history(child)
        assert len(after.rows) > 0
        assert (np.diff(after.timestamps) >= 0).all()
        assert (after.timestamps < grown.moments[child]).all()
        assert ((after.rows == MASKED) | ((after.rows >= 0) & (after.rows < len(rows.vocabulary)))).all()
        assert (grown.targets(child) == rows.contexts.targets(parent)).all()
        new = set(after.rows.tolist()) - set(before.rows.tolist())
        assert new.isdisjoint(grown.targets(child).tolist())
    return len(grown) - len(rows.contexts)


def halves(rows: Rows) -> dict[str, list[Event]]:
    """What users did in a second shop, which sells the same under fewer names."""
    foreign = {}
    for user, own in zip(rows.contexts.user_ids.tolist(), rows.contexts.histories(), strict=True):
        there = [f"there:{row // 2}" for row in own.rows]
        foreign[user] = list(zip(there, own.timestamps.tolist(), strict=True))
    return translated(rows.contexts, foreign)


@pytest.mark.parametrize("op", TEXT)
@pytest.mark.parametrize("shop", REAL)
def test_text_ops_change_real_texts(shop: str, op: str, real: Mapping[str, Rows]) -> None:
    changed = changed_texts(rows_or_skip(real, shop), op)
    assert bool(changed) == ((shop, op) not in IDLE), f"{len(changed)} changed; {IDLE.get((shop, op))}"


@pytest.mark.parametrize("op", TEXT)
def test_text_ops_change_chinese_texts(op: str, made_up: Rows) -> None:
    changed = changed_texts(made_up, op)
    chinese = [row for row, _ in changed if language_of(made_up.texts[row]) == "zh"]
    assert bool(chinese) == (op not in ENGLISH), f"{len(chinese)} of {len(changed)} are Chinese"


@pytest.mark.parametrize("op", HISTORY)
@pytest.mark.parametrize("shop", REAL)
def test_history_ops_change_real_histories(shop: str, op: str, real: Mapping[str, Rows]) -> None:
    rows = rows_or_skip(real, shop)
    count = changed_histories(rows, op, friends=friends_of(rows.relations), elsewhere=halves(rows))
    assert (count > 0) == ((shop, op) not in IDLE), f"{count} changed; {IDLE.get((shop, op))}"


@pytest.mark.parametrize("op", HISTORY)
def test_history_ops_change_the_made_up_histories(op: str, made_up: Rows) -> None:
    side = {"friends": friends_of(made_up.relations), "elsewhere": halves(made_up)}
    assert changed_histories(made_up, op, **side) > 0
