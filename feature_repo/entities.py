"""Who features belong to."""

from __future__ import annotations

from feast import Entity, ValueType


def user_entity() -> Entity:
    """A shop's customer, by the shop's own id."""
    return Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)


def item_entity() -> Entity:
    """An item of the catalogue, by the shop's own id."""
    return Entity(name="item", join_keys=["item_id"], value_type=ValueType.STRING)
