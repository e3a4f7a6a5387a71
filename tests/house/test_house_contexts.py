"""Training rows: slicing, joining and storing lose nothing; held-out and augmented rows are told apart."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.contexts import EVENT_TYPES, Contexts, Vocabulary, concatenate, event_code
from recsys.errors import ArtifactError, LeakageError
from recsys.types import History

Row = tuple[str, int, list[tuple[int, int, int]], list[tuple[int, float]], float, int]
"""user, moment, history of (row, event, time), targets of (row, weight), weight, parent"""

EVENTS = st.tuples(st.integers(0, 50), st.integers(0, len(EVENT_TYPES) - 1), st.integers(0, 99))
TARGETS = st.tuples(st.integers(0, 50), st.sampled_from([0.25, 0.5, 1.0]))
ROWS = st.tuples(
    st.text(min_size=1, max_size=5).filter(lambda text: not text.endswith("\0")),  # NumPy strips these
    st.integers(100, 2**40),
    st.lists(EVENTS, max_size=4),
    st.lists(TARGETS, min_size=1, max_size=3),
    st.sampled_from([0.5, 1.0]),
    st.integers(-1, 3),
)
TABLES = st.lists(ROWS, max_size=6)


def table(rows: list[Row]) -> Contexts:
    def offsets(position: int) -> np.ndarray:
        return np.cumsum([0, *(len(row[position]) for row in rows)]).astype(np.int64)  # type: ignore[arg-type]

    history = [event for row in rows for event in row[2]]
    targets = [target for row in rows for target in row[3]]
    return Contexts(
        user_ids=np.array([row[0] for row in rows], dtype=np.str_),
        moments=np.array([row[1] for row in rows], np.int64),
        history_offsets=offsets(2),
        history_rows=np.array([event[0] for event in history], np.int64),
        history_events=np.array([event[1] for event in history], np.int64),
        history_timestamps=np.array([event[2] for event in history], np.int64),
        target_offsets=offsets(3),
        target_rows=np.array([target[0] for target in targets], np.int64),
        target_weights=np.array([target[1] for target in targets], np.float32),
        weights=np.array([row[4] for row in rows], np.float32),
        parents=np.array([row[5] for row in rows], np.int64),
    )


def rows_of(contexts: Contexts) -> list[Row]:
    out: list[Row] = []
    for i in range(len(contexts)):
        history, span = contexts.history(i), slice(*contexts.target_offsets[i : i + 2])
        events = zip(history.rows, history.event_codes, history.timestamps, strict=True)
        targets = zip(contexts.targets(i), contexts.target_weights[span], strict=True)
        out.append(
            (
                str(contexts.user_ids[i]),
                int(contexts.moments[i]),
                [(int(a), int(b), int(c)) for a, b, c in events],
                [(int(a), float(b)) for a, b in targets],
                float(contexts.weights[i]),
                int(contexts.parents[i]),
            )
        )
    return out


def assert_same_arrays(one: Contexts, other: Contexts) -> None:
    for field in fields(Contexts):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if field.name == "role":
            assert a == b
            continue
        assert a.dtype.kind == b.dtype.kind
        np.testing.assert_array_equal(a, b, err_msg=field.name)


@given(TABLES)
def test_rows_go_in_and_come_out(rows: list[Row]) -> None:
    assert rows_of(table(rows)) == rows


@given(TABLES, st.data())
def test_take_is_list_indexing(rows: list[Row], data: st.DataObject) -> None:
    picked = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8)) if rows else []
    assert rows_of(table(rows).take(np.array(picked, np.int64))) == [rows[i] for i in picked]


@given(TABLES, st.data())
def test_take_by_mask_is_filtering(rows: list[Row], data: st.DataObject) -> None:
    mask = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    kept = [row for row, keep in zip(rows, mask, strict=True) if keep]
    assert rows_of(table(rows).take(np.array(mask, np.bool_))) == kept


@given(st.lists(TABLES, min_size=1, max_size=3))
def test_concatenate_is_list_addition(tables: list[list[Row]]) -> None:
    assert rows_of(concatenate([table(rows) for rows in tables])) == [row for rows in tables for row in rows]


@settings(max_examples=25, deadline=None)
@given(TABLES)
def test_a_written_table_loads_as_it_was(rows: list[Row]) -> None:
    with TemporaryDirectory() as folder:
        written = replace(table(rows), role="held_out")
        written.write(Path(folder))
        loaded = Contexts.load(Path(folder))
        assert_same_arrays(written, loaded)
        assert rows_of(loaded) == rows


def test_a_folder_without_a_table_is_an_artifact_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no prepared contexts"):
        Contexts.load(tmp_path)
    (tmp_path / "role").write_text("test")
    with pytest.raises(ArtifactError, match="unknown role 'test'"):
        Contexts.load(tmp_path)


ORIGINAL: Row = ("u", 100, [(1, 0, 50)], [(2, 1.0)], 1.0, -1)
CHILD: Row = ("u", 100, [(3, 0, 50)], [(2, 1.0)], 1.0, 0)


def test_an_augmented_row_is_stopped_where_something_is_evaluated() -> None:
    table([ORIGINAL]).require_original()
    with pytest.raises(LeakageError, match="1 augmented row"):
        table([ORIGINAL, CHILD]).require_original()
    with pytest.raises(LeakageError):
        concatenate([table([ORIGINAL]), table([CHILD])]).require_original()
    table([ORIGINAL, CHILD]).take(np.array([0])).require_original()


def test_held_out_rows_are_not_trained_on_also_after_slicing() -> None:
    table([ORIGINAL]).require_fit()
    held_out = replace(table([ORIGINAL]), role="held_out")
    for rows in (held_out, held_out.take(np.array([0])), concatenate([held_out, held_out])):
        with pytest.raises(LeakageError):
            rows.require_fit()


def test_tables_of_two_roles_do_not_mix() -> None:
    with pytest.raises(ValueError, match="one role"):
        concatenate([table([ORIGINAL]), replace(table([ORIGINAL]), role="held_out")])
    with pytest.raises(ValueError, match="at least one"):
        concatenate([])


def test_a_vocabulary_maps_both_ways_and_knows_what_it_lacks() -> None:
    vocabulary = Vocabulary(["b", "a", "07"])
    assert [vocabulary.row(item_id) for item_id in ("b", "a", "07", "7", "c")] == [0, 1, 2, -1, -1]
    assert vocabulary.rows(["c", "a"]).tolist() == [-1, 1]
    assert ("a" in vocabulary, "7" in vocabulary, len(vocabulary)) == (True, False, 3)
    with pytest.raises(ValueError, match="distinct"):
        Vocabulary(["a", "a"])


def test_encoding_leaves_out_unknown_items_and_keeps_the_order() -> None:
    history = History(("a", "gone", "b", "a"), ("view", "view", "purchase", "wishlist"), (1, 2, 3, 4))
    encoded = Vocabulary(["a", "b"]).encode(history)
    assert encoded.rows.tolist() == [0, 1, 0]
    assert encoded.timestamps.tolist() == [1, 3, 4]
    assert [EVENT_TYPES[code] for code in encoded.event_codes] == ["view", "purchase", "other"]


def test_event_codes_are_their_positions() -> None:
    assert [event_code(name) for name in EVENT_TYPES] == list(range(len(EVENT_TYPES)))
