"""Fixtures of the feature tests."""

from __future__ import annotations

import pytest
from features_shop import Shop, random_shop

from recsys.config import DataConfig, FeaturesConfig
from recsys.contexts import Vocabulary
from recsys.data.features import FeatureStoreRoom


@pytest.fixture
def config() -> FeaturesConfig:
    return FeaturesConfig(history_length=6)


@pytest.fixture
def weights() -> dict[str, float]:
    return DataConfig().event_weights


@pytest.fixture(scope="module")
def shop() -> Shop:
    return random_shop(1)


@pytest.fixture
def vocabulary(shop: Shop) -> Vocabulary:
    return Vocabulary(shop.items["item_id"].tolist())


@pytest.fixture(scope="module")
def filled(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> FeatureStoreRoom:
    """A store with the shop's rows, registered and materialised; tests must not write to it."""
    room = FeatureStoreRoom(tmp_path_factory.mktemp("features"))
    room.write(shop, FeaturesConfig(history_length=6))
    room.apply()
    room.materialize()
    return room
