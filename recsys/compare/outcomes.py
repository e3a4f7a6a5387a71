"""Finished trainings on disk: found again by what they were, so that a kill costs one training at most."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recsys.artifacts import replacing
from recsys.errors import ArtifactError
from recsys.types import Rows

FORMAT = 4
"""Goes up when an older outcome would no longer be the outcome of the same training."""
_OTHER = "lists of "


@dataclass(frozen=True)
class Kept:
    """What one training left."""

    lists: Rows
    """(users, K) item rows of the users of the answer sheet, best first, -1 where a list ends early."""
    about: dict[str, Any]
    """`losses`, `steps`, `epochs`, `counts`, `seconds`, and who and what it was."""
    others: dict[str, Rows] = field(default_factory=dict)
    """Lists of the same users, made in another way."""


class Outcomes:
    """A folder of outcomes.

    Args:
        folder: Where they lie.
        shared: What every training here has in common: data, settings, how lists are made.
    """

    def __init__(self, folder: Path, shared: dict[str, str]) -> None:
        self._folder, self._shared = folder, {"format": str(FORMAT), **shared}

    def key(self, **what: object) -> str:
        """The digest of one training, from all that decides what comes out of it."""
        canonical = json.dumps([self._shared, what], sort_keys=True, default=str)
        return hashlib.sha256(canonical.encode()).hexdigest()[:24]

    def has(self, key: str) -> bool:
        """Whether this training is finished."""
        return self._path(key).is_file()

    def keep(self, key: str, kept: Kept) -> None:
        """Write an outcome, whole or not at all."""
        about = json.dumps(kept.about, sort_keys=True)
        with replacing(self._path(key)) as temporary:
            others: dict[str, Any] = {
                f"{_OTHER}{name}": rows.astype(np.int32) for name, rows in kept.others.items()
            }
            lists = kept.lists.astype(np.int32)
            np.savez_compressed(temporary, lists=lists, about=np.str_(about), **others)

    def load(self, key: str) -> Kept:
        """An outcome.

        Raises:
            ArtifactError: it cannot be read.
        """
        path = self._path(key)
        try:
            with np.load(path, allow_pickle=False) as file:
                others = {
                    name.removeprefix(_OTHER): file[name].astype(np.int64)
                    for name in file.files
                    if name.startswith(_OTHER)
                }
                return Kept(file["lists"].astype(np.int64), json.loads(str(file["about"])), others)
        except (OSError, ValueError, KeyError) as error:
            raise ArtifactError(
                f"{path}: cannot be read ({error}); delete it, and it is trained again"
            ) from error

    def note(self, name: str, facts: dict[str, Any]) -> None:
        """Write something small beside the outcomes."""
        with replacing(self._folder / f"{name}.json") as temporary:
            temporary.write_text(json.dumps(facts), encoding="utf-8")

    def noted(self, name: str) -> dict[str, Any] | None:
        """What `note` wrote; None before."""
        path = self._folder / f"{name}.json"
        if not path.is_file():
            return None
        try:
            facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ArtifactError(
                f"{path}: cannot be read ({error}); delete it, and it is made again"
            ) from error
        return facts

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.npz"
