"""`POST /v1/recommendations`."""

from __future__ import annotations

from fastapi import APIRouter

from serving import answer
from serving.deps import GUARDED, ReleaseDep, ServiceDep
from serving.schemas import Problem, RecommendationRequest, RecommendationResponse

router = APIRouter(tags=["recommendations"], dependencies=GUARDED)


@router.post(
    "/v1/recommendations",
    responses={status: {"model": Problem} for status in (401, 413, 422, 503)},
    summary="Rank the catalogue for a user",
)
def recommend(
    request: RecommendationRequest, release: ReleaseDep, service: ServiceDep
) -> RecommendationResponse:
    """For a known user, for a history in the request, or for nobody.

    The list is never empty: a user nobody knows gets the popular items, and `fallback` says so.
    """
    return answer.recommend(request, release, service.telemetry, service.settings.max_run_age_days)
