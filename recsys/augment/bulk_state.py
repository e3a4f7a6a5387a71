"""What a bulk run knows of itself across kills: its key, when it began, and whether it is finished.

OUT/
  run.json     written last: the key, what it was made of, the time of making, a digest of each file
  timing.json  seconds, which differ between equal runs
  .work/       while the run is unfinished: run.json, shards, and the files that are being put together
  .vectors/    texts' vectors by encoder, for runs to come
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys import __version__
from recsys.artifacts import alone, file_digest, write_atomically
from recsys.augment.policy import Policy
from recsys.errors import InputError

logger = logging.getLogger(__name__)

RUN = "run.json"
FILES = ("texts.parquet", "histories.parquet", "provenance.parquet", "counts.json", "policy.toml")
_FORMAT = 1
"""Raised when shards of an older program are of no use to this one."""


@dataclass(frozen=True, slots=True)
class Journal:
    """An expansion's folder, seen by the one run that may write there."""

    out: Path
    key: str
    inputs: Mapping[str, Any]
    created: int
    """Unix seconds: when the run first began."""
    finished: Mapping[str, Any] | None
    """What the finished run of the same key noted; None where there is work left."""

    @property
    def work(self) -> Path:
        """Where shards lie."""
        return self.out / ".work"

    @property
    def ready(self) -> Path:
        """Where files wait until all of them are there."""
        return self.work / "ready"

    def vectors(self, encoder: str) -> Path:
        """Where an encoder's vectors lie."""
        return self.out / ".vectors" / hashlib.sha256(encoder.encode()).hexdigest()[:16]

    def finish(self, seconds: Mapping[str, float], workers: int) -> None:
        """Move the files into their places and note that they belong together."""
        digests = {name: file_digest(self.ready / name) for name in FILES}
        (self.out / RUN).unlink(missing_ok=True)  # from here on the folder is neither the old run nor the new
        for name in FILES:
            (self.ready / name).replace(self.out / name)
        timing = {"workers": workers, "seconds": {name: round(value, 3) for name, value in seconds.items()}}
        write_atomically(self.out / "timing.json", json.dumps(timing, indent=1))
        noted = {"key": self.key, "inputs": self.inputs, "created": self.created, "files": digests}
        write_atomically(self.out / RUN, json.dumps(noted, indent=1, ensure_ascii=False))
        shutil.rmtree(self.work)


@contextlib.contextmanager
def open_journal(
    out: Path, inputs: Mapping[str, Any], policy: Policy, created: int | None
) -> Iterator[Journal]:
    """Find an unfinished or a finished run of the same inputs in a folder, or begin one; others are kept out.

    Args:
        out: Folder of the expansion.
        inputs: Plain values of all that the result depends on.
        policy: Whose files (lexicons) count among the inputs.
        created: Unix seconds to note as the time of making; the clock's, of the first beginning, when None.

    Raises:
        InputError: `out` is a file.
        RecsysError: another run writes there.
    """
    if out.exists() and not out.is_dir():
        raise InputError("is a file, not a folder to write into", file=str(out))
    whole = {"format": _FORMAT, "version": __version__, **inputs, "files": _named_files(policy.to_plain())}
    if created is not None:
        whole["created"] = created
    canonical = json.dumps(whole, sort_keys=True, ensure_ascii=False)
    key = hashlib.sha256(canonical.encode()).hexdigest()
    with alone(out):
        done = _noted(out / RUN)
        if done.get("key") == key and _unchanged(out, done.get("files", {})):
            logger.info("%s: finished before, nothing to do", out)
            yield Journal(out, key, whole, done["created"], done)
            return
        began = _begun(out / ".work", key, whole, int(time.time()) if created is None else created)
        yield Journal(out, key, whole, began, None)


def _begun(work: Path, key: str, inputs: Mapping[str, Any], now: int) -> int:
    noted = _noted(work / RUN)
    if noted.get("key") == key:
        logger.info("%s: going on with the run that was interrupted", work.parent)
        return int(noted["created"])
    if noted or work.exists():
        before = noted.get("inputs", {})
        changed = sorted(name for name in {*before, *inputs} if before.get(name) != inputs.get(name))
        logger.warning(
            "%s: the interrupted run there is another one (changed: %s); starting over",
            work.parent, ", ".join(changed) or "unknown",
        )  # fmt: skip
        shutil.rmtree(work)
    write_atomically(
        work / RUN, json.dumps({"key": key, "inputs": inputs, "created": now}, ensure_ascii=False)
    )
    return now


def _noted(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return tree if isinstance(tree, dict) else {}


def _unchanged(out: Path, digests: Mapping[str, str]) -> bool:
    return set(digests) == set(FILES) and all(
        (out / name).is_file() and file_digest(out / name) == digest for name, digest in digests.items()
    )


def _named_files(tree: Any) -> dict[str, str]:
    """Digests of the files that a policy names."""
    if isinstance(tree, list):
        return {name: digest for part in tree for name, digest in _named_files(part).items()}
    if not isinstance(tree, dict):
        return {}
    found = {name: digest for part in tree.values() for name, digest in _named_files(part).items()}
    lexicon = tree.get("lexicon")
    if isinstance(lexicon, str) and Path(lexicon).is_file():
        found[lexicon] = file_digest(Path(lexicon))
    return found
