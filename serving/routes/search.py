"""`POST /v1/search`."""

from __future__ import annotations

from fastapi import APIRouter

from serving import answer
from serving.deps import GUARDED, ReleaseDep, ServiceDep
from serving.schemas import Problem, SearchRequest, SearchResponse

router = APIRouter(tags=["search"], dependencies=GUARDED)


@router.post(
    "/v1/search",
    responses={status: {"model": Problem} for status in (401, 413, 422, 503)},
    summary="Find items by text",
)
def search(request: SearchRequest, release: ReleaseDep, service: ServiceDep) -> SearchResponse:
    """By the meaning of their texts and by the letters they share with the query, misspelled or not.

    Where the user is known, or a history is sent, items of like relevance stand in the user's own order.
    """
    return answer.search(request, release, service.telemetry, service.settings.max_run_age_days)
