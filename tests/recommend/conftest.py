from __future__ import annotations

import pytest
from shop_world import World, build_world


@pytest.fixture(scope="session")
def world() -> World:
    return build_world()
