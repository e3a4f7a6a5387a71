"""The application: `uvicorn serving.app:app`, or `create_app(settings)` for tests and for more than one.

Importing this module loads neither FAISS nor ONNX Runtime nor Feast; a run is loaded when the server starts.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator
from typing import Any

import anyio.to_thread
from fastapi import FastAPI

from recsys import __version__
from serving.deps import Admission, Service
from serving.errors import install_errors
from serving.loading import LoadRelease, Releases, following, load_release
from serving.routes import health, items, metrics, recommendations, search
from serving.security import BodyLimit, SecurityHeaders
from serving.settings import Settings, load_settings
from serving.telemetry import RequestTelemetry, Telemetry

DESCRIPTION = "Ranked items for users with short histories. Errors are `application/problem+json`."


def create_app(settings: Settings | None = None, load: LoadRelease = load_release) -> FastAPI:
    """The application, not yet started.

    Args:
        settings: From the environment when None.
        load: Turns a run's path into a release; tests bring their own.
    """
    settings = load_settings() if settings is None else settings
    telemetry = Telemetry()
    service = Service(
        settings=settings,
        releases=Releases(settings, load, telemetry),
        telemetry=telemetry,
        admission=Admission(settings.max_in_flight, telemetry),
        keys=settings.keys(),
    )

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = service.settings.concurrency
        async with following(service.releases):
            yield

    app = FastAPI(
        title="recsys",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
    )
    app.state.service = service
    install_errors(app)
    for resource in (recommendations, search, items, health, metrics):
        app.include_router(resource.router)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(RequestTelemetry, telemetry=telemetry)
    app.add_middleware(SecurityHeaders)
    return app


@functools.cache
def _app() -> FastAPI:
    return create_app()


def __getattr__(name: str) -> Any:
    """`app` is made when a server asks for it: importing this module reads no settings."""
    if name == "app":
        return _app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
