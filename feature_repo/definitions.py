"""The repository put together, once for a given folder, and once for the `feast` command.

The parts are functions and only this module holds objects: `feast apply` imports every file here by its
bare name, so an object that two files share would be defined twice.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from feature_repo import entities, on_demand, services, views

FOLDER_VARIABLE = "RECSYS_FEATURES"


def define(folder: Path) -> dict[str, Any]:
    """Every Feast object over the data in `folder`, by name."""
    user, item = entities.user_entity(), entities.item_entity()
    behavior, owned = views.user_behavior(folder, user), views.user_items(folder, user)
    state = views.user_state(folder, user)
    text, stats = views.item_text(folder, item), views.item_stats(folder, item)
    request = on_demand.request_time(behavior)
    augmentation = entities.augmentation_entities()
    changed = views.augmented_histories(folder, augmentation), views.augmented_texts(folder, augmentation)
    parts: list[Any] = [
        user,
        item,
        *augmentation,
        behavior,
        state,
        owned,
        text,
        stats,
        request,
        *changed,
        services.training(state),
        services.retrieval(behavior, owned),
        services.ranking(behavior, text, stats, request),
        *(services.augmented(view) for view in changed),
    ]
    return {part.name: part for part in parts}


def default_folder() -> Path:
    """The data's folder for the bare `feast` command: RECSYS_FEATURES, or data/ beside these files."""
    return Path(os.environ.get(FOLDER_VARIABLE) or Path(__file__).parent / "data").absolute()


globals().update(define(default_folder()))
