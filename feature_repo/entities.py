"""Who features belong to."""

from __future__ import annotations

from feast import Entity, ValueType


def user_entity() -> Entity:
    """A shop's customer, by the shop's own id."""
    return Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)


def item_entity() -> Entity:
    """An item of the catalogue, by the shop's own id."""
    return Entity(name="item", join_keys=["item_id"], value_type=ValueType.STRING)


def augmentation_entities() -> list[Entity]:
    """An augmented row: the policy that made it, the seed of its draws, and its own id.

    The policy is a key and no view of its own: rows of many policies lie side by side under one definition,
    and no read can forget to name one.
    """
    return [
        Entity(name="policy", join_keys=["policy_id"], value_type=ValueType.STRING),
        Entity(name="draw", join_keys=["seed"], value_type=ValueType.INT64),
        Entity(name="augmented_row", join_keys=["row_id"], value_type=ValueType.STRING),
    ]
