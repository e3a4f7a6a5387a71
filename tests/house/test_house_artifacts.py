"""A run's files: whole or not at all, verified, promoted by one pointer, and never a pickle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recsys.artifacts import (
    LIVE,
    MANIFEST,
    Manifest,
    file_digest,
    load_array,
    load_manifest,
    promote,
    record_files,
    replacing,
    resolve_run,
    verify_files,
    write_array,
    write_atomically,
    write_manifest,
)
from recsys.errors import ArtifactError


def make_run(folder: Path, *, finished: bool = True, content: str = "vectors") -> Path:
    folder.mkdir(parents=True)
    (folder / "vectors.bin").write_text(content)
    manifest = Manifest(run_id=folder.name, created="2026-01-01T00:00:00Z", config_digest="0")
    record_files(folder, manifest, ["vectors.bin"])
    manifest.finished = "2026-01-01T00:01:00Z" if finished else None
    write_manifest(folder, manifest)
    return folder


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_a_failing_writer_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomically(path, "old")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert path.read_text() == "old"
    assert leftovers(tmp_path) == []


def test_a_killed_writer_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomically(path, "old")
    program = (
        "import os, signal, sys; from pathlib import Path; from recsys.artifacts import replacing\n"
        "with replacing(Path(sys.argv[1])) as t:\n"
        "    t.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


def test_a_written_file_can_be_read_by_others(tmp_path: Path) -> None:
    write_atomically(tmp_path / "deep" / "a.json", "{}")
    assert (tmp_path / "deep" / "a.json").stat().st_mode & 0o777 == 0o644


def test_arrays_come_back_read_only_and_equal(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    write_array(tmp_path / "x.npy", values)
    loaded = load_array(tmp_path / "x.npy")
    np.testing.assert_array_equal(loaded, values)
    with pytest.raises(ValueError, match="read-only"):
        loaded[0, 0] = 1


def test_nothing_is_pickled_on_the_way_out_or_in(tmp_path: Path) -> None:
    objects = np.array([{"a": 1}], dtype=object)
    with pytest.raises(ValueError, match="pickle"):
        write_array(tmp_path / "x.npy", objects)
    np.save(tmp_path / "evil.npy", objects, allow_pickle=True)
    with pytest.raises(ArtifactError, match="not a readable array"):
        load_array(tmp_path / "evil.npy")


def test_a_damaged_array_is_an_artifact_error(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\x01")
    with pytest.raises(ArtifactError, match=r"x\.npy"):
        load_array(tmp_path / "x.npy")


def test_a_manifest_round_trips(tmp_path: Path) -> None:
    manifest = Manifest(
        run_id="a", created="now", config_digest="d", stages={"data": {"seconds": 1.5, "events": 3}}
    )
    write_manifest(tmp_path, manifest)
    assert load_manifest(tmp_path) == manifest


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "not a run directory"),
        ("{", "cannot be read"),
        ("[]", "schema version None"),
        ('{"schema_version": 99}', "schema version 99"),
        ('{"schema_version": 1}', "Field required"),
        (
            '{"schema_version": 1, "run_id": "a", "created": "b", "config_digest": "c", "x": 1}',
            "Extra inputs",
        ),
    ],
)
def test_a_manifest_that_is_not_ours_is_refused(tmp_path: Path, content: str | None, words: str) -> None:
    if content is not None:
        (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(ArtifactError, match=words):
        load_manifest(tmp_path)


def test_promotion_moves_the_pointer_from_one_whole_run_to_the_next(tmp_path: Path) -> None:
    first, second = make_run(tmp_path / "one"), make_run(tmp_path / "two")
    promote(first)
    assert resolve_run(tmp_path) == first.resolve()
    promote(second)
    assert resolve_run(tmp_path / LIVE) == second.resolve()
    assert os.readlink(tmp_path / LIVE) == "two", "relative, so that the folder can be moved"
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("damage", ["unfinished", "changed", "missing"])
def test_what_is_not_whole_is_not_promoted_and_the_live_run_stays(tmp_path: Path, damage: str) -> None:
    promote(make_run(tmp_path / "good"))
    bad = make_run(tmp_path / "bad", finished=damage != "unfinished")
    if damage == "changed":
        (bad / "vectors.bin").write_text("Vectors")
    if damage == "missing":
        (bad / "vectors.bin").unlink()
    with pytest.raises(ArtifactError):
        promote(bad)
    assert resolve_run(tmp_path).name == "good"


def test_a_folder_in_the_pointers_place_is_not_overwritten(tmp_path: Path) -> None:
    run = make_run(tmp_path / "one")
    (tmp_path / LIVE).mkdir()
    with pytest.raises(ArtifactError, match="not a link"):
        promote(run)


def test_a_pointer_left_dangling_is_replaced(tmp_path: Path) -> None:
    run = make_run(tmp_path / "one")
    (tmp_path / LIVE).symlink_to("gone")
    promote(run)
    assert resolve_run(tmp_path) == run.resolve()


def test_verification_names_the_file(tmp_path: Path) -> None:
    run = make_run(tmp_path / "one")
    verify_files(run, load_manifest(run))
    (run / "vectors.bin").write_text("other")
    with pytest.raises(ArtifactError, match=r"vectors\.bin.*differs"):
        verify_files(run, load_manifest(run))


def test_a_path_that_holds_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="neither a run directory"):
        resolve_run(tmp_path / "nowhere")


def test_the_digest_is_the_known_one(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert file_digest(tmp_path / "abc").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_nothing_in_the_code_pickles() -> None:
    root = Path(__file__).resolve().parents[2]
    words = (
        "import pickle",
        "import joblib",
        "import dill",
        "import cloudpickle",
        "allow_pickle=True",
        "to_pickle",
    )
    found = [
        f"{file.relative_to(root)}: {word}"
        for package in ("recsys", "serving", "feature_repo")
        for file in (root / package).rglob("*.py")
        for word in words
        if word in file.read_text(encoding="utf-8")
    ]
    assert found == []
