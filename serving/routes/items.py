"""`GET /v1/items/{item_id}/similar`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from serving import answer
from serving.deps import GUARDED, ReleaseDep
from serving.schemas import MAX_ID, MAX_K, Problem, SimilarResponse

router = APIRouter(tags=["items"], dependencies=GUARDED)


@router.get(
    "/v1/items/{item_id:path}/similar",  # ids may hold slashes
    responses={status: {"model": Problem} for status in (401, 404, 422, 503)},
    summary="Items like an item",
)
def similar(
    item_id: Annotated[str, Path(min_length=1, max_length=MAX_ID, examples=["i7"])],
    release: ReleaseDep,
    k: Annotated[int, Query(ge=1, le=MAX_K)] = 20,
) -> SimilarResponse:
    """The nearest items by text and by use, the item itself left out."""
    return answer.similar(item_id, k, release)
