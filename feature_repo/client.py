"""Opens the store over a folder, with the stores that the folder's feature_store.yaml names."""

from __future__ import annotations

from pathlib import Path

from feast import FeatureStore

SETTINGS = "feature_store.yaml"
_DATA = "data/"


def settle(folder: Path) -> None:
    """Give a folder its feature_store.yaml, from the repository's, unless it has one already."""
    target = folder / SETTINGS
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        text = (Path(__file__).parent / SETTINGS).read_text(encoding="utf-8")
        target.write_text(text.replace(f": {_DATA}", ": "), encoding="utf-8")


def open_store(folder: Path) -> FeatureStore:
    """A Feast client over a settled folder; paths in its settings are relative to it."""
    if not (folder / SETTINGS).is_file():
        raise FileNotFoundError(f"{folder / SETTINGS} is missing")
    return FeatureStore(repo_path=str(folder.absolute()))
