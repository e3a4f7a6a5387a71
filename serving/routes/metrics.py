"""`GET /metrics`."""

from __future__ import annotations

from fastapi import APIRouter, Response

from serving.deps import ServiceDep
from serving.telemetry import CONTENT_TYPE

router = APIRouter(tags=["health"])


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
async def metrics(service: ServiceDep) -> Response:
    """Prometheus' text format."""
    return Response(service.telemetry.expose(), media_type=CONTENT_TYPE)
