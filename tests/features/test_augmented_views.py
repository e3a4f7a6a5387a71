"""Augmented rows in the feature store: by policy, as known at a moment, never among the originals."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from features_shop import DAY, START, Shop

from recsys.augment.expand import ExpandedContexts, expand_contexts, expand_texts
from recsys.augment.policy import Policy, policy_from_plain
from recsys.config import DataConfig, FeaturesConfig
from recsys.contexts import MASKED, Contexts, Vocabulary
from recsys.data.augmented_rows import child_table, history_rows, lenders_in
from recsys.data.augmented_store import drop_policy, stored_batches
from recsys.data.catalogue import item_texts
from recsys.data.contexts_from import contexts_before
from recsys.data.features import FeatureStoreRoom
from recsys.errors import InputError, LeakageError

WEIGHTS = DataConfig().event_weights
CUT = START + 40 * DAY
HISTORY_OPS = [{"op": "item_dropout", "rate_range": [0.3, 0.6]}, {"op": "borrow", "count_range": [1, 2]}]


def policy(name: str = "kept") -> Policy:
    return policy_from_plain(
        {
            "name": name,
            "history": {"ops": HISTORY_OPS, "copies": 2, "gates": [{"gate": "related", "min_share": 0.0}]},
            "text": {"ops": [{"op": "word_swap"}]},
        }
    )


@pytest.fixture
def room(shop: Shop, config: FeaturesConfig, tmp_path: Path) -> FeatureStoreRoom:
    """A store of the whole shop, for tests that write augmented rows."""
    room = FeatureStoreRoom(tmp_path)
    room.write(shop, config)
    room.apply()
    return room


@pytest.fixture
def originals(room: FeatureStoreRoom, shop: Shop, vocabulary: Vocabulary, config: FeaturesConfig) -> Contexts:
    return contexts_before(room.training_contexts(shop.interactions, vocabulary, config, WEIGHTS), CUT)


Grow = Callable[..., ExpandedContexts]


@pytest.fixture
def store(room: FeatureStoreRoom, originals: Contexts, vocabulary: Vocabulary) -> Grow:
    """Expands the originals before a cut and stores the children."""

    def grow(name: str = "kept", seed: int = 0, cut: int = CUT, keep: int | None = None) -> ExpandedContexts:
        contexts = contexts_before(originals, cut)
        grown = expand_contexts(contexts, vocabulary, policy(name), seed, max_expansion=3, created=cut)
        room.write_augmented_contexts(grown.contexts, vocabulary, grown.provenance, keep)
        return grown

    return grow


def assert_same(one: Contexts, other: Contexts) -> None:
    for name in Contexts.__slots__:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def test_rows_out_equal_rows_in(
    room: FeatureStoreRoom, originals: Contexts, vocabulary: Vocabulary, store: Grow
) -> None:
    grown = store()
    assert len(grown.contexts) > 1.5 * len(originals)
    found = room.augmented_contexts(grown.policy_id, CUT, vocabulary, originals)
    assert_same(found.contexts, grown.contexts)
    np.testing.assert_array_equal(found.strengths, grown.strengths)
    np.testing.assert_array_equal(found.confidences, grown.confidences)
    assert found.counts == {"read": len(grown.provenance), "unseen": 0, "no_parent": 0, "gone_items": 0}
    for name in ("row_id", "parent_id", "policy_id", "seed", "op", "plan"):
        assert found.provenance[name].to_pylist() == grown.provenance[name].to_pylist(), name
    assert set(found.provenance["created_at"].to_pylist()) == {CUT}
    scores = [dict(row) for row in grown.provenance["scores"].to_pylist()]
    names, values = (found.provenance[name].to_pylist() for name in ("score_names", "score_values"))
    assert [dict(zip(*row, strict=True)) for row in zip(names, values, strict=True)] == scores


def test_a_hidden_item_stays_hidden_and_a_gone_one_takes_its_row_along(
    room: FeatureStoreRoom, originals: Contexts, vocabulary: Vocabulary, store: Grow
) -> None:
    grown = store()
    rows = grown.contexts.history_rows.copy()
    first = grown.contexts.history_offsets[len(originals)]
    rows[first] = MASKED
    hidden = replace(grown.contexts, history_rows=rows)
    room.write_augmented_contexts(hidden, vocabulary, grown.provenance)
    found = room.augmented_contexts(grown.policy_id, CUT, vocabulary, originals)
    assert_same(found.contexts, hidden)
    gone = int(rows[first + 1])
    shrunk = Vocabulary([f"other {row}" if row == gone else i for row, i in enumerate(vocabulary.item_ids)])
    fewer = room.augmented_contexts(grown.policy_id, CUT, shrunk, originals)
    having = sum(gone in grown.contexts.history(i).rows for i in range(len(originals), len(grown.contexts)))
    assert 0 < having == fewer.counts["gone_items"]
    assert fewer.counts["read"] == len(grown.provenance) - having


def test_policies_and_seeds_lie_side_by_side(
    room: FeatureStoreRoom, originals: Contexts, vocabulary: Vocabulary, store: Grow
) -> None:
    kept, other, again = store("kept"), store("odd / [name]*"), store("kept", seed=1)
    for grown, seed in ((kept, 0), (other, 0), (again, 1)):
        found = room.augmented_contexts(grown.policy_id, CUT, vocabulary, originals, seed=seed)
        assert_same(found.contexts, grown.contexts)
    with pytest.raises(InputError, match=r"2 seeds \(0, 1\)"):
        room.augmented_contexts(kept.policy_id, CUT, vocabulary, originals)
    with pytest.raises(InputError, match=r"with that seed.*seed 0, 1"):
        room.augmented_contexts(kept.policy_id, CUT, vocabulary, originals, seed=7)
    with pytest.raises(InputError, match=r"'nothing'.*Stored: kept-"):
        room.augmented_contexts("nothing", CUT, vocabulary, originals)
    assert drop_policy(room.files, kept.policy_id) == 2
    assert {batch.policy_id for batch in stored_batches(room.files)} == {other.policy_id}
    with pytest.raises(InputError, match="no augmented rows"):
        drop_policy(room.files, kept.policy_id)


def test_a_row_made_later_is_unseen_before(
    room: FeatureStoreRoom, originals: Contexts, vocabulary: Vocabulary, store: Grow
) -> None:
    """Each of the store's two times hides rows; without the created one, the newest would be seen at once."""
    early, late = store(cut=START + 20 * DAY), store(cut=CUT)

    def read(moment: int, *, honour_created: bool = True) -> pa.Table:
        found = room.augmented_contexts(
            early.policy_id, moment, vocabulary, originals, honour_created=honour_created
        )
        return found.provenance

    assert read(CUT)["created_at"].unique().to_pylist() == [CUT]
    assert len(read(CUT)) == len(late.provenance)
    for moment in (CUT - 1, START + 20 * DAY):
        assert read(moment)["created_at"].unique().to_pylist() == [START + 20 * DAY]
        assert read(moment)["row_id"].to_pylist() == early.provenance["row_id"].to_pylist()
    assert len(read(START + 20 * DAY - 1)) == 0
    leaked = read(CUT - 1, honour_created=False)
    assert leaked["created_at"].unique().to_pylist() == [CUT], "without the guard it would leak"


def test_a_row_whose_parent_is_later_is_unseen(
    room: FeatureStoreRoom, originals: Contexts, vocabulary: Vocabulary, store: Grow
) -> None:
    grown = store()
    backdated = grown.provenance.set_column(
        grown.provenance.schema.get_field_index("created"),
        grown.provenance.schema.field("created"),
        pa.array([START] * len(grown.provenance)).cast(pa.timestamp("s", tz="UTC")),
    )
    room.write_augmented_contexts(grown.contexts, vocabulary, backdated)
    drop = [batch for batch in stored_batches(room.files) if batch.created == CUT]
    for batch in drop:
        batch.path.unlink()
    moment = START + 25 * DAY
    found = room.augmented_contexts(grown.policy_id, moment, vocabulary, originals)
    children = found.contexts.take(found.contexts.parents >= 0)
    assert 0 < len(children) < len(grown.provenance)
    assert (children.moments <= moment).all()
    assert found.counts["unseen"] == len(grown.provenance) - len(children)


def test_originals_never_come_with_children(
    room: FeatureStoreRoom,
    shop: Shop,
    vocabulary: Vocabulary,
    config: FeaturesConfig,
    originals: Contexts,
    store: Grow,
) -> None:
    store()
    again = contexts_before(room.training_contexts(shop.interactions, vocabulary, config, WEIGHTS), CUT)
    assert_same(again, originals)
    held_out = room.held_out_contexts(shop.interactions, CUT, vocabulary, config, WEIGHTS)
    held_out.require_original()
    room.materialize()
    with sqlite3.connect(room.folder / "online.db") as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    assert names
    assert not [name for name in names if "augmented" in name], "augmented rows are never served"


def test_evaluation_and_held_out_rows_refuse_what_is_stored(
    room: FeatureStoreRoom,
    shop: Shop,
    vocabulary: Vocabulary,
    config: FeaturesConfig,
    originals: Contexts,
    store: Grow,
) -> None:
    grown = store()
    found = room.augmented_contexts(grown.policy_id, CUT, vocabulary, originals)
    with pytest.raises(LeakageError, match="reached evaluation"):
        found.contexts.require_original()
    with pytest.raises(LeakageError, match="reached evaluation"):
        room.augmented_contexts(grown.policy_id, CUT, vocabulary, found.contexts)
    held_out = room.held_out_contexts(shop.interactions, CUT, vocabulary, config, WEIGHTS)
    with pytest.raises(LeakageError, match="neither augmented nor trained"):
        room.augmented_contexts(grown.policy_id, CUT, vocabulary, held_out)


def test_a_child_with_an_event_at_its_moment_is_refused(
    room: FeatureStoreRoom, originals: Contexts, vocabulary: Vocabulary, store: Grow
) -> None:
    grown = store()
    stamps = grown.contexts.history_timestamps.copy()
    stamps[-1] = grown.contexts.moments[-1]
    broken = replace(grown.contexts, history_timestamps=stamps)
    room.write_augmented_contexts(broken, vocabulary, grown.provenance)
    with pytest.raises(LeakageError, match="1 events of stored augmented rows"):
        room.augmented_contexts(grown.policy_id, CUT, vocabulary, originals)


def test_children_without_their_parent_are_left_out_and_counted(
    room: FeatureStoreRoom, originals: Contexts, vocabulary: Vocabulary, store: Grow
) -> None:
    grown = store()
    without = originals.take(originals.user_ids != "u1")
    found = room.augmented_contexts(grown.policy_id, CUT, vocabulary, without)
    assert "u1" not in found.contexts.user_ids
    orphans = sum(parent.startswith("user:u1@") for parent in grown.provenance["parent_id"].to_pylist())
    assert found.counts["no_parent"] == orphans > 0


def test_texts_come_back_by_item(room: FeatureStoreRoom, shop: Shop, vocabulary: Vocabulary) -> None:
    items = shop.items.assign(title="soft cotton summer shirt with short sleeves")
    texts = item_texts(items)
    grown = expand_texts(items, texts, policy(), 0, created=CUT)
    count = len(texts)
    assert len(grown.texts) > count
    children = pa.table(
        {
            "row_id": grown.provenance["row_id"],
            "item_id": [vocabulary.item_ids[i] for i in grown.parents[count:]],
            "text": grown.texts[count:],
        }
    )
    room.write_texts(children, grown.provenance)
    found = room.augmented_texts(grown.policy_id, CUT, vocabulary)
    assert found.texts == grown.texts[count:]
    np.testing.assert_array_equal(found.parents, grown.parents[count:])
    assert found.counts == {"read": len(found.texts), "unseen": 0, "no_parent": 0}
    assert len(room.augmented_texts(grown.policy_id, CUT - 1, vocabulary).texts) == 0
    fewer = Vocabulary(vocabulary.item_ids[: count // 2])
    assert room.augmented_texts(grown.policy_id, CUT, fewer).counts["no_parent"] > 0
    foreign = children.set_column(1, "item_id", pa.array(["x"] * len(children)))
    with pytest.raises(InputError, match=r"does not have.*'x'"):
        room.write_texts(foreign, grown.provenance)


def test_a_batch_is_replaced_by_the_same_and_old_ones_go_where_asked(
    room: FeatureStoreRoom, store: Grow
) -> None:
    for cut in (START + 20 * DAY, START + 30 * DAY, CUT, CUT):
        store(cut=cut)
    assert [batch.created for batch in stored_batches(room.files)] == [
        START + 20 * DAY,
        START + 30 * DAY,
        CUT,
    ]
    store("another")
    store(cut=CUT, keep=2)
    assert [batch.created for batch in stored_batches(room.files)] == [START + 30 * DAY, CUT, CUT]


def test_who_lent_is_in_the_row(store: Grow, vocabulary: Vocabulary) -> None:
    grown = store()
    rows = history_rows(child_table(grown.contexts, vocabulary, grown.provenance["row_id"]), grown.provenance)
    borrowed = rows.filter(pc.match_substring(rows["op"], "borrow"))
    assert len(borrowed) > 5
    assert all(lenders and "" not in lenders for lenders in borrowed["lenders"].to_pylist())
    plain = rows.filter(pc.invert(pc.match_substring(rows["op"], "borrow")))
    assert not any(plain["lenders"].to_pylist())


@pytest.mark.parametrize(
    ("plan", "lenders"),
    [
        ('["crop",[0,5]]', []),
        ('["borrow",[[1,2],[0,0],[7,8],["b","a"]]]', ["a", "b"]),
        (
            '["compose",[[0,["crop",[0,5]]],[1,["one_of",[[2,["social_borrow",[[1],[0],[7],["c"]]]]]]]]]',
            ["c"],
        ),
        ('["borrow",[[1],[0],[7]]]', [None]),
    ],
)
def test_lenders_are_found_in_nested_plans(plan: str, lenders: list[str]) -> None:
    assert lenders_in(plan) == lenders


def test_rows_without_provenance_are_refused(
    room: FeatureStoreRoom, store: Grow, vocabulary: Vocabulary
) -> None:
    grown = store()
    children = child_table(grown.contexts, vocabulary, grown.provenance["row_id"])
    with pytest.raises(InputError, match=r"without provenance.*1 row"):
        room.write_histories(children, grown.provenance.slice(1))
