"""What is only known when a request arrives."""

from __future__ import annotations

from types import FunctionType
from typing import Any, cast

from feast import FeatureView, Field, OnDemandFeatureView, RequestSource
from feast.transformation.python_transformation import PythonTransformation
from feast.types import Int64

DAY_SECONDS = 86_400


def request_facts(inputs: dict[str, Any]) -> dict[str, Any]:
    """Seconds since the user's newest event (None without one), hour of the day and day of the week, UTC."""
    asked, newest = inputs["moment"], inputs["last_timestamp"]
    return {
        "seconds_since_last": [
            None if last is None else max(int(moment) - int(last), 0)
            for moment, last in zip(asked, newest, strict=True)
        ],
        "hour_of_day": [int(moment) % DAY_SECONDS // 3_600 for moment in asked],
        "day_of_week": [(int(moment) // DAY_SECONDS + 3) % 7 for moment in asked],  # 1970-01-01: Thursday
    }


def request_time(behavior: FeatureView) -> OnDemandFeatureView:
    """The view over `request_facts`; the request brings its `moment` in Unix seconds."""
    return OnDemandFeatureView(
        name="request_time",
        sources=[
            RequestSource(name="request", schema=[Field(name="moment", dtype=Int64)]),
            behavior[["last_timestamp"]],
        ],
        schema=[
            Field(name="seconds_since_last", dtype=Int64),
            Field(name="hour_of_day", dtype=Int64),
            Field(name="day_of_week", dtype=Int64),
        ],
        feature_transformation=PythonTransformation(
            udf=cast(FunctionType, request_facts), udf_string="request_facts"
        ),
        mode="python",
    )
