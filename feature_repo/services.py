"""Which features each use reads. A change of fields is a new version with a new name."""

from __future__ import annotations

from feast import FeatureService, FeatureView, OnDemandFeatureView

TRAINING = "training_v2"
RETRIEVAL = "retrieval_v1"
RANKING = "ranking_v1"
AUGMENTED = {"augmented_histories": "augmented_histories_v1", "augmented_texts": "augmented_texts_v1"}
"""By view."""

_HISTORY = ["item_ids", "event_types", "timestamps"]


def training(state: FeatureView) -> FeatureService:
    """What a training row joins: where the state of `user_behavior` lies that was known before its moment."""
    return FeatureService(name=TRAINING, features=[state])


def retrieval(behavior: FeatureView, owned: FeatureView) -> FeatureService:
    """What one recommendation request reads of its user, in one call."""
    fields = [*_HISTORY, "num_events", "count_1d", "count_7d", "count_30d", "mean_price", "last_timestamp"]
    return FeatureService(name=RETRIEVAL, features=[behavior[fields], owned])


def ranking(
    behavior: FeatureView, text: FeatureView, stats: FeatureView, request: OnDemandFeatureView
) -> FeatureService:
    """Everything known of a (user, item) pair at request time.

    For analysis and for other rankers: serving reads item features from the run's own matrix, because a
    lookup per candidate is what makes recommenders over a feature store slow.
    """
    return FeatureService(
        name=RANKING,
        features=[behavior, text[["brand", "category", "price"]], stats, request],
    )


def augmented(view: FeatureView) -> FeatureService:
    """What a training reads of augmented rows of one policy: all of them, whole."""
    return FeatureService(name=AUGMENTED[view.name], features=[view])
