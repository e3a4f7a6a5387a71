"""A bulk run: the same files however it is split, killed or resumed, and the same rows as in memory."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import bulk_world as world
import pandas as pd
import pyarrow.parquet as pq
import pytest

from recsys.augment import bulk
from recsys.augment.crew import run_all
from recsys.augment.expand import expand_contexts, expand_texts
from recsys.augment.policy import policy_from_plain
from recsys.augment.shard_files import write_grown
from recsys.augment.shards import TextShards
from recsys.augment.store import load_row
from recsys.augment.vectors import TextVectors
from recsys.contexts import Vocabulary
from recsys.errors import InputError, RecsysError

FILES = ("texts.parquet", "histories.parquet", "provenance.parquet", "counts.json", "policy.toml", "run.json")


def contents(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in FILES}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "out"
    world.expand(out, workers=1)
    return out


def test_many_workers_write_the_same_bytes(alone: Path, tmp_path: Path) -> None:
    world.expand(tmp_path, workers=3)
    assert contents(tmp_path) == contents(alone)
    assert json.loads((tmp_path / "timing.json").read_text())["workers"] == 3
    assert not (tmp_path / ".work").exists()


def test_shards_give_what_one_piece_gives(alone: Path) -> None:
    what, policy = world.source(), world.policy()
    texts = expand_texts(
        what.items, list(what.texts), policy, 0,
        max_expansion=0.8, created=1_700_000_000, contexts=what.contexts, encode=world.unit,
    )  # fmt: skip
    vocabulary = Vocabulary(what.items["item_id"].tolist())
    rows = expand_contexts(
        what.contexts, vocabulary, policy, 0,
        max_expansion=0.8, created=1_700_000_000, friends=what.friends,
    )  # fmt: skip
    stored = pd.read_parquet(alone / "texts.parquet")
    assert stored["text"].tolist() == texts.texts
    assert (stored["parent_id"].isna() == (texts.parents < 0)).all()
    provenance = pq.read_table(alone / "provenance.parquet")
    expected = [*texts.provenance.to_pylist(), *rows.provenance.to_pylist()]
    assert provenance.to_pylist() == expected
    histories = pd.read_parquet(alone / "histories.parquet")
    shown = [[f"i{row}" for row in history.rows.tolist()] for history in rows.contexts.histories()]
    assert [list(ids) for ids in histories["item_ids"]] == shown
    assert histories["user_id"].tolist() == rows.contexts.user_ids.tolist()
    counts = json.loads((alone / "counts.json").read_text())
    assert counts["text"] == texts.counts
    assert counts["history"] == rows.counts


def test_every_rejection_is_counted_by_its_chain_of_ops(alone: Path) -> None:
    counts = json.loads((alone / "counts.json").read_text())
    stored = Counter(
        (row["kind"], row["op"]) for row in pq.read_table(alone / "provenance.parquet").to_pylist()
    )
    for kind in ("history", "text"):
        by_reason: Counter[str] = Counter()
        for chain, reasons in counts["ops"][kind].items():
            by_reason.update(reasons)
            assert reasons["accepted"] == stored[kind, chain]
        accepted = by_reason.pop("accepted")
        assert accepted == counts[kind]["accepted"]
        assert {f"rejected:{reason}": n for reason, n in by_reason.items()} == {
            name: n for name, n in counts[kind].items() if name.startswith("rejected:")
        }
    assert counts["text"]["rejected:over_max_expansion"] > 0
    assert counts["text"]["rejected:meaning_changed"] > 0
    assert counts["text"]["rejected:duplicate_sibling"] > 0, "gates behind the one on meaning judge too"
    assert any(name.startswith("rejected:drift:") for name in counts["history"])


def killed(out: Path, workers: int, shards: int) -> None:
    """Run the world in a process of its own and kill that when so many shards are there."""
    script = [sys.executable, str(Path(world.__file__)), str(out), str(workers)]
    process = subprocess.Popen(script, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while len(finished(out)) < shards:
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def finished(out: Path) -> dict[str, int]:
    """Finished shards of ops and when they were written."""
    return {
        path.name: path.stat().st_mtime_ns
        for step in ("history", "early")
        for path in (out / ".work").glob(f"{step}-*.parquet")
    }


@pytest.mark.parametrize("workers", [1, 3])
def test_a_killed_run_goes_on_and_ends_the_same(
    workers: int, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(tmp_path, workers, shards=4)
    time.sleep(1.0)  # orphans notice, and end
    before = finished(tmp_path)
    written: list[str] = []

    def noted(path: Path, *rest: Any) -> None:
        written.append(path.name)
        write_grown(path, *rest)

    monkeypatch.setattr("recsys.augment.bulk.write_grown", noted)
    world.expand(tmp_path, workers=1)
    assert contents(tmp_path) == contents(alone)
    assert len(before) >= 4
    assert not before.keys() & set(written), "finished shards are not done again"
    assert len(set(written)) == len(written)


def test_a_worker_that_dies_is_an_error_and_a_rerun_goes_on(
    alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown, parent = TextShards.grown, os.getpid()

    def dies(self: TextShards, start: int, stop: int, **options: Any) -> Any:
        if start == 64 and os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return grown(self, start, stop, **options)

    with monkeypatch.context() as broken:
        broken.setattr(TextShards, "grown", dies)
        with pytest.raises(RecsysError, match=r"SIGKILL.*same command again") as caught:
            world.expand(tmp_path, workers=2)
    assert caught.value.exit_code == 1
    assert finished(tmp_path), "what was done is kept"
    world.expand(tmp_path, workers=2)
    assert contents(tmp_path) == contents(alone)


def test_a_failing_worker_tells_what_it_was() -> None:
    def fails(task: int) -> int:
        if task == 3:
            raise InputError("is wrong", column="x")
        if task == 40:
            raise ValueError("a bug")
        return task

    with pytest.raises(RecsysError, match="column 'x': is wrong") as caught:
        list(run_all(range(6), fails, 2))
    assert caught.value.exit_code == 2
    with pytest.raises(RuntimeError, match="ValueError: a bug"):
        list(run_all([40, 41], fails, 2))
    assert sorted(run_all(range(10, 20), fails, 3)) == [(task, task) for task in range(10, 20)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 1}, "seed"),
        ({"max_expansion": 0.5}, "max_expansion"),
        ({"policy": world.policy(copies=2)}, "policy"),
        ({"source": world.source(digests={"items.parquet": "2"})}, "data"),
    ],
)
def test_other_inputs_start_over_and_say_so(
    change: dict[str, Any], said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with monkeypatch.context() as broken:
        broken.setattr(bulk, "write_texts", stop)
        with pytest.raises(KeyboardInterrupt):
            world.expand(tmp_path)
    assert finished(tmp_path)
    with caplog.at_level(logging.INFO):
        world.expand(tmp_path, **change)
    assert f"(changed: {said})" in caplog.text
    clean = tmp_path / "clean"
    world.expand(clean, **change)
    assert contents(tmp_path) == contents(clean)


def stop(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_finished_run_is_left_alone_until_it_was_edited(
    tmp_path: Path, alone: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world.expand(tmp_path)
    before = (tmp_path / "texts.parquet").stat().st_mtime_ns
    with caplog.at_level(logging.INFO):
        counts = world.expand(tmp_path, created=1_700_000_000)
    assert "nothing to do" in caplog.text
    assert counts == json.loads((tmp_path / "counts.json").read_text())
    assert (tmp_path / "texts.parquet").stat().st_mtime_ns == before
    (tmp_path / "histories.parquet").write_bytes(b"edited")
    world.expand(tmp_path)
    assert contents(tmp_path) == contents(alone)


def test_the_time_of_making_outlives_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr("recsys.augment.bulk_state.time.time", lambda: 1_600_000_000)
        broken.setattr(bulk, "write_texts", stop)
        with pytest.raises(KeyboardInterrupt):
            world.expand(tmp_path, created=None)
    next((tmp_path / ".work").glob("text-*.parquet")).unlink()
    world.expand(tmp_path, created=None)
    created = pq.read_table(tmp_path / "provenance.parquet")["created"].to_pylist()
    assert {moment.timestamp() for moment in created} == {1_600_000_000}
    assert json.loads((tmp_path / "run.json").read_text())["created"] == 1_600_000_000


def test_each_text_is_encoded_once_whatever_happens(
    tmp_path: Path, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recsys.augment.vectors._PART", 40)
    first, second, third = world.Counting(), world.Counting(), world.Counting()
    writes: list[str] = []
    write = TextVectors._write

    def breaks(self: TextVectors, name: str, *rest: Any) -> None:
        if len(writes) == 2:
            raise KeyboardInterrupt
        writes.append(name)
        write(self, name, *rest)

    with monkeypatch.context() as broken:
        broken.setattr(TextVectors, "_write", breaks)
        with pytest.raises(KeyboardInterrupt):
            world.expand(tmp_path, encoder=first.encoder())
    world.expand(tmp_path, encoder=second.encoder())
    assert len(first.asked) == 80
    assert not set(first.asked) & set(second.asked)
    assert len(set(second.asked)) == len(second.asked) > 0
    assert contents(tmp_path) == contents(alone)
    world.expand(tmp_path, encoder=third.encoder(), max_expansion=0.5)
    assert third.loads == 0, "another run over the same texts finds their vectors"


def test_without_an_encoder_meaning_is_skipped_and_counted(alone: Path, tmp_path: Path) -> None:
    what, settings = world.source(), bulk.Settings(shard_rows=16, progress=False)
    counts = bulk.expand_dataset(what, world.policy(), tmp_path, settings)
    assert counts["text"]["skipped:meaning"] > 0
    assert "skipped:meaning" not in json.loads((alone / "counts.json").read_text())["text"]


def test_two_runs_do_not_write_into_one_folder(tmp_path: Path, held_by_another: Any) -> None:
    with held_by_another(tmp_path), pytest.raises(RecsysError, match="another process writes there"):
        world.expand(tmp_path)
    world.expand(tmp_path)


def test_rows_that_are_objects_at_one_time_are_bounded(tmp_path: Path) -> None:
    ops = [{"op": "item_dropout", "p": 0.8}]
    policy = policy_from_plain({"name": "thin", "history": {"copies": 16, "ops": ops}})

    def peak(users: int, rows: int) -> int:
        what = world.source(contexts=world.contexts(users))
        tracemalloc.start()
        try:
            out = tmp_path / f"{users}-{rows}"
            world.expand(out, source=what, policy=policy, shard_rows=rows, max_expansion=16.0)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(2_000, 32) < peak(2_000, 2_000) / 2, "all in one shard takes three times as much"


def test_stored_rows_can_be_loaded(alone: Path) -> None:
    for row in pq.read_table(alone / "provenance.parquet").to_pylist()[::25]:
        stored, _ = load_row(alone, row["row_id"])
        assert stored.original.row_id == row["parent_id"]
