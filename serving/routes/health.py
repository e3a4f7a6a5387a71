"""`GET /livez` and `GET /readyz`: answered on the event loop, so that they answer under load, too."""

from __future__ import annotations

from fastapi import APIRouter, Response

from serving.deps import ServiceDep
from serving.schemas import Readiness

router = APIRouter(tags=["health"])


@router.get("/livez", summary="Is the process alive")
async def livez() -> dict[str, str]:
    """Always `ok` while the process answers."""
    return {"status": "ok"}


@router.get("/readyz", summary="Can requests be answered", responses={503: {"model": Readiness}})
async def readyz(service: ServiceDep, response: Response) -> Readiness:
    """200 once a run is loaded and warm, 503 before.

    `problem` also says why a newer run was not taken; the run before it then goes on answering.
    """
    release, problem = service.releases.current, service.releases.problem
    if release is None:
        response.status_code = 503
        return Readiness(ready=False, problem=problem or "the run is being loaded")
    return Readiness(
        ready=True, run_id=release.run_id, num_items=len(release.backend.vocabulary), problem=problem
    )
