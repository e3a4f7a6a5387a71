"""Erasing users: nothing of theirs stays, everybody else stays as he was, and a kill is noticed."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from features_shop import DAY, START, Shop, events_frame

from recsys.artifacts import Manifest, write_array, write_manifest
from recsys.augment.expand import expand_contexts
from recsys.augment.policy import policy_from_plain
from recsys.cli import main
from recsys.config import DataConfig, FeaturesConfig
from recsys.contexts import Contexts, Vocabulary
from recsys.data.behaviour import write_snapshot
from recsys.data.erasing import erase_from_expansion, holders
from recsys.data.features import FeatureStoreRoom
from recsys.data.same_shop import event_hashes
from recsys.errors import ArtifactError, InputError

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = DataConfig().event_weights
NOW = START + 70 * DAY
GONE = ["u1", "late"]
BORROWERS = policy_from_plain(
    {"name": "lent", "history": {"ops": [{"op": "borrow", "count_range": [1, 2], "max_length": 9}]}}
)


def grown_contexts(room: FeatureStoreRoom, shop: Shop, vocabulary: Vocabulary) -> tuple[Contexts, pa.Table]:
    contexts = room.training_contexts(
        shop.interactions, vocabulary, FeaturesConfig(history_length=6), WEIGHTS
    )
    grown = expand_contexts(contexts, vocabulary, BORROWERS, 0, created=NOW)
    return grown.contexts, grown.provenance


@pytest.fixture
def room(shop: Shop, config: FeaturesConfig, vocabulary: Vocabulary, tmp_path: Path) -> FeatureStoreRoom:
    """A store with a log, two policies' augmented rows, pushes of two users, and all of it online."""
    room = FeatureStoreRoom(tmp_path / "runs" / "features")
    room.write(shop, config)
    room.apply()
    contexts, provenance = grown_contexts(room, shop, vocabulary)
    room.write_augmented_contexts(contexts, vocabulary, provenance)
    other = provenance.set_column(3, "policy_id", pa.array(["other"] * len(provenance)))
    room.write_augmented_contexts(contexts, vocabulary, other)
    room.materialize()
    room.push_events(
        events_frame([("late", "i3", NOW, "view"), ("u1", "i4", NOW, "view"), ("u2", "i5", NOW, "view")]), NOW
    )
    return room


def everything(room: FeatureStoreRoom) -> dict[str, pd.DataFrame]:
    """All rows of all files, by view, in an order of their own; state rows lead to behaviour rows."""
    found = {}
    for folder in [*sorted((room.folder / "offline").iterdir()), room.folder / "events"]:
        tables = [pq.read_table(path) for path in sorted(folder.glob("*.parquet"))]
        frame = pa.concat_tables(tables).to_pandas()
        if folder.name != "user_state":
            key = [
                c
                for c in ("policy_id", "row_id", "user_id", "item_id", "event_timestamp", "timestamp")
                if c in frame
            ]
            found[folder.name] = frame.sort_values(key, kind="stable", ignore_index=True)
    return found


def raw_bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_nothing_of_them_stays_and_everybody_else_does(
    room: FeatureStoreRoom, shop: Shop, vocabulary: Vocabulary
) -> None:
    before, others = everything(room), [f"u{code}" for code in range(12) if code != 1]
    online = room.online(others)
    moments = np.full(len(others), NOW + DAY)
    joined = room.features_as_known(others, moments)
    histories = before["augmented_histories"]
    lent = histories["lenders"].map(lambda names: "u1" in names) & (histories["user_id"] != "u1")
    own = histories["user_id"] == "u1"
    assert lent.sum() > 4
    assert own.sum() > 4

    taken = room.erase(GONE)

    assert taken["augmented_histories"] == own.sum()
    assert taken["rows of others that borrowed from them"] == lent.sum()
    assert taken["user_behavior"] == before["user_behavior"]["user_id"].isin(GONE).sum()
    assert taken["events"] == 2
    assert taken["online"] == 4, "two users in two views"
    after = everything(room)
    pd.testing.assert_frame_equal(
        after["augmented_histories"], histories[~(own | lent)].reset_index(drop=True)
    )
    for view in ("user_behavior", "user_items", "events"):
        kept = before[view][~before[view]["user_id"].isin(GONE)].reset_index(drop=True)
        pd.testing.assert_frame_equal(after[view], kept)
    assert room.online(GONE) == [None, None]
    assert room.online(others) == online
    assert room.features_as_known(others, moments).equals(joined), "state rows lead where they did"
    known = room.features_as_known(["u1"], np.array([NOW + DAY]))
    assert known["item_ids"].to_pylist() == [None]
    contexts = room.training_contexts(
        shop.interactions[shop.interactions.user_id != "u1"],
        vocabulary,
        FeaturesConfig(history_length=6),
        WEIGHTS,
    )
    read = room.augmented_contexts("other", NOW, vocabulary, contexts)
    assert read.counts["no_parent"] == 0
    assert read.counts["read"] == (~(own | lent)).sum() / 2


def test_no_byte_says_who_they_were(room: FeatureStoreRoom, shop: Shop) -> None:
    """`late` is in no other id, so his name can be looked for, in the database's free pages too."""
    assert b"late" in (room.folder / "online.db").read_bytes() + raw_bytes(room.folder / "events")
    room.erase(GONE)
    with sqlite3.connect(room.folder / "online.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert b"late" not in (room.folder / "online.db").read_bytes()
    for path in (room.folder / "offline" / "user_behavior").glob("*.parquet"):
        assert not {*GONE} & {*pq.read_table(path)["user_id"].to_pylist()}
    mine = shop.interactions[(shop.interactions.user_id == "u1") & (shop.interactions.event_type != "return")]
    assert not {*event_hashes(mine).tolist()} & {*room.files.about()["fingerprint"]}


def test_erasing_again_changes_nothing(room: FeatureStoreRoom) -> None:
    room.erase(GONE)
    once = everything(room)
    assert room.erase([*GONE, "nobody"]) == {}
    for view, frame in everything(room).items():
        pd.testing.assert_frame_equal(frame, once[view])


def test_stopped_at_any_file_it_is_refused_and_finished_by_the_next(
    room: FeatureStoreRoom, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [f"u{code}" for code in range(12) if code != 1]
    moments = np.full(len(others), NOW + DAY)
    joined, wanted = room.features_as_known(others, moments), everything(room)
    swap = Path.replace
    left = 0

    def failing(self: Path, target: Path) -> Path:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return swap(self, target)

    stops = 0
    for allowed in range(40):
        left = allowed
        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", failing)
            try:
                room.erase(GONE if allowed < 2 else [])
                break
            except KeyboardInterrupt:
                stops += 1
        if allowed:
            for refused in (
                lambda: room.features_as_known(["u2"], np.array([NOW])),
                lambda: room.write(shop, FeaturesConfig(history_length=6)),
                lambda: room.push_events(events_frame([("u2", "i5", NOW, "view")]), NOW),
                room.materialize,
            ):
                with pytest.raises(ArtifactError, match="erasing 2 users stopped half-way"):
                    refused()
    assert stops > 4
    assert room.features_as_known(others, moments).equals(joined)
    for view, frame in everything(room).items():
        if view in ("user_behavior", "user_items", "events"):
            kept = wanted[view][~wanted[view]["user_id"].isin(GONE)].reset_index(drop=True)
            pd.testing.assert_frame_equal(frame, kept)


def test_a_killed_erasure_is_finished_by_the_command(
    room: FeatureStoreRoom, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed while a file is being replaced: its half-written twin holds users too and goes as well."""
    program = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from recsys.data import erasing\nfrom recsys.data.features import FeatureStoreRoom\n"
        "erasing.FeatureFiles.write_states = lambda self: os.kill(os.getpid(), signal.SIGKILL)\n"
        "FeatureStoreRoom(Path(sys.argv[1])).erase(['u1', 'late'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(room.folder)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    half = room.folder / "offline" / "user_behavior" / ".base-abc123.parquet-new"
    half.write_bytes(b"u1")
    assert main(["features", "materialize", "--features", str(room.folder)]) == 1
    assert "stopped half-way" in capsys.readouterr().err
    assert main(["features", "erase", "--features", str(room.folder)]) == 0
    assert "online 4" in capsys.readouterr().out
    assert not half.exists()
    assert room.online(GONE) == [None, None]
    assert room.features_as_known(["u2"], np.array([NOW + DAY]))["user_id"].to_pylist() == ["u2"]
    assert main(["features", "materialize", "--features", str(room.folder)]) == 0


def write_expansion(folder: Path, contexts: Contexts, vocabulary: Vocabulary, provenance: pa.Table) -> None:
    """Histories and provenance as `recsys augment run` writes them."""
    names = [f"user:{u}@{m}" for u, m in zip(contexts.user_ids, contexts.moments, strict=True)]
    originals = int((contexts.parents < 0).sum())
    ids = [[vocabulary.item_ids[row] for row in contexts.history(i).rows] for i in range(len(contexts))]
    folder.mkdir()
    table = pa.table(
        {
            "row_id": names[:originals] + provenance["row_id"].to_pylist(),
            "parent_id": pa.array([None] * originals + names[originals:], pa.string()),
            "user_id": contexts.user_ids.tolist(),
            "moment": contexts.moments,
            "item_ids": ids,
        }
    )
    pq.write_table(table, folder / "histories.parquet", row_group_size=50)
    pq.write_table(provenance, folder / "provenance.parquet", row_group_size=50)
    (folder / "run.json").write_text("{}")


def test_an_expansion_forgets_them_and_what_they_lent(
    room: FeatureStoreRoom, shop: Shop, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    contexts, provenance = grown_contexts(room, shop, vocabulary)
    folder = tmp_path / "expansion"
    write_expansion(folder, contexts, vocabulary, provenance)
    before = pd.read_parquet(folder / "histories.parquet")
    borrowed = {
        row["row_id"] for row in provenance.to_pylist() if '"u1"' in row["plan"]
    }  # the only strings in these plans are names of ops and lenders
    wanted = before[(before.user_id != "u1") & ~before.row_id.isin(borrowed)].reset_index(drop=True)
    assert len(borrowed - set(before[before.user_id == "u1"].row_id)) > 4
    taken = erase_from_expansion(folder, GONE)
    after = pd.read_parquet(folder / "histories.parquet")
    pd.testing.assert_frame_equal(after, wanted)
    assert taken["histories.parquet"] == len(before) - len(wanted)
    left = pq.read_table(folder / "provenance.parquet")["row_id"].to_pylist()
    assert left == after[after.parent_id.notna()].row_id.tolist()
    assert not (folder / "run.json").exists(), "a run of the same inputs begins anew"
    assert erase_from_expansion(folder, GONE) == {}
    pq.write_table(provenance, folder / "provenance.parquet")  # as after a kill between the two files
    erase_from_expansion(folder, GONE)
    assert pq.read_table(folder / "provenance.parquet")["row_id"].to_pylist() == left
    (folder / ".work").mkdir()
    with pytest.raises(InputError, match="unfinished"):
        erase_from_expansion(folder, GONE)
    with pytest.raises(InputError, match="not an expansion"):
        erase_from_expansion(tmp_path, GONE)


def test_rows_that_do_not_name_their_lender_go_too(
    room: FeatureStoreRoom, shop: Shop, vocabulary: Vocabulary
) -> None:
    contexts, provenance = grown_contexts(room, shop, vocabulary)
    at = next(i for i, row in enumerate(provenance["row_id"].to_pylist()) if not row.startswith("user:u1@"))
    plans = provenance["plan"].to_pylist()
    plans[at] = '["compose",[[0,["borrow",[[1],[0],[7]]]]]]'
    old = provenance.set_column(5, "plan", pa.array(plans))
    room.write_augmented_contexts(contexts, vocabulary, old)
    assert room.erase(["nobody"]) == {"rows that do not say from whom they borrowed": 1}


def test_runs_that_hold_them_are_named(
    room: FeatureStoreRoom, shop: Shop, config: FeaturesConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = room.folder.parent
    for name in ("holds", "clean"):
        (runs / name).mkdir()
        write_manifest(runs / name, Manifest(run_id=name, created="now", config_digest="0"))
        log = shop.interactions if name == "holds" else shop.interactions[shop.interactions.user_id != "u1"]
        write_snapshot(runs / name / "users.parquet", log, shop.items, NOW, config)
    write_array(runs / "holds" / "work" / "contexts" / "user_ids.npy", np.array(["u1", "u2"]))
    (runs / "live").symlink_to("holds")
    found = holders(runs, GONE, besides=room.folder)
    assert found == {"holds": ["users.parquet", os.path.join("work", "contexts", "user_ids.npy")]}
    listed = runs / "ids.txt"
    listed.write_text("late\n\n")
    assert main(["features", "erase", "u1", "--users", str(listed), "--features", str(room.folder)]) == 0
    said = capsys.readouterr().out
    assert "run holds still holds them: users.parquet" in said
    assert "run clean" not in said
    assert "train a new run" in said
    assert main(["features", "erase", "--features", str(room.folder)]) == 2
    assert "nobody to erase" in capsys.readouterr().err
