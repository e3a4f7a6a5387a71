"""Opens the store over a folder, with the stores that the folder's feature_store.yaml names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from feast import FeatureStore
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

SETTINGS = "feature_store.yaml"
_DATA = "data/"
_ROWS_PER_WRITE = 5_000  # without a bound Feast holds all rows as messages, several kilobytes each


def settle(folder: Path) -> None:
    """Give a folder its feature_store.yaml, from the repository's, unless it has one already."""
    target = folder / SETTINGS
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        text = (Path(__file__).parent / SETTINGS).read_text(encoding="utf-8")
        target.write_text(text.replace(f": {_DATA}", ": "), encoding="utf-8")


def open_store(folder: Path, online: Path | None = None) -> FeatureStore:
    """A Feast client over a settled folder; paths in its settings are relative to it.

    Args:
        folder: With a feature_store.yaml.
        online: Another SQLite file to write to in place of the one in the settings.
    """
    if not (folder / SETTINGS).is_file():
        raise FileNotFoundError(f"{folder / SETTINGS} is missing")
    store = FeatureStore(repo_path=str(folder.absolute()))
    if online is not None:
        store.config.online_store.path = str(online.absolute())
    if store.config.materialization_config.online_write_batch_size is None:
        store.config.materialization_config.online_write_batch_size = _ROWS_PER_WRITE
    return store


def online_file(store: FeatureStore) -> Path | None:
    """The SQLite file of a store, None if its online store is another."""
    settings = store.config.online_store
    return Path(store.repo_path) / settings.path if settings.type == "sqlite" else None


def empty_tables(store: FeatureStore) -> None:
    """Remove every row of every view from an online store, by Feast's own means; readers may see a gap."""
    views = store.list_feature_views()
    provider = store._get_provider()
    for gone, kept in ((views, []), ([], views)):
        provider.update_infra(store.project, gone, kept, [], [], partial=True)


def user_keys(store: FeatureStore, users: Iterable[str]) -> list[bytes]:
    """How Feast writes users' ids in the keys of an online store."""
    version = store.config.entity_key_serialization_version
    keys = [EntityKey(join_keys=["user_id"], entity_values=[Value(string_val=user)]) for user in users]
    return [serialize_entity_key(key, entity_key_serialization_version=version) for key in keys]
