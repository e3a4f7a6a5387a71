"""The one seam from errors to HTTP: every failure leaves as `application/problem+json`."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from recsys.errors import ConfigError, DependencyError, InputError, RecsysError, UnknownItemError
from serving.schemas import Problem

MAX_LISTED = 10

log = logging.getLogger(__name__)


class Overloaded(RecsysError):
    """Too many requests are waiting; the caller should come back."""


class NotReady(RecsysError):
    """No run is loaded yet."""


class Unauthorised(RecsysError):
    """The API key is missing or wrong."""


_STATUS: tuple[tuple[type[RecsysError], int, str], ...] = (
    # the first class that fits: (class, status, code)
    (UnknownItemError, 404, "unknown_item"),
    (Overloaded, 503, "overloaded"),
    (NotReady, 503, "not_ready"),
    (Unauthorised, 401, "unauthorised"),
    (InputError, 422, "invalid_request"),
    (ConfigError, 500, "internal"),
    (DependencyError, 503, "dependency_failed"),
    (RecsysError, 500, "internal"),
)
_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}
_HEADERS = {"overloaded": {"Retry-After": "1"}, "not_ready": {"Retry-After": "5"}}


def problem(status: int, code: str, detail: str, errors: list[dict[str, Any]] | None = None) -> JSONResponse:
    """A problem response."""
    body = Problem(title=HTTPStatus(status).phrase, status=status, code=code, detail=detail, errors=errors)
    return JSONResponse(
        body.model_dump(exclude_none=True),
        status,
        headers=_HEADERS.get(code),
        media_type="application/problem+json",
    )


def install_errors(app: FastAPI) -> None:
    """Register the handlers."""
    app.add_exception_handler(RecsysError, _on_recsys_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_anything_else)


async def _on_recsys_error(request: Request, error: Exception) -> JSONResponse:
    status, code = next((status, code) for kind, status, code in _STATUS if isinstance(error, kind))
    if status == 500:  # what it says (paths, settings) is for the log
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return problem(500, code, "the service failed; its log says why")
    return problem(status, code, _printable(str(error)))


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    found = error.errors()
    listed = [
        {"where": _printable(".".join(map(str, entry["loc"]))), "problem": _printable(entry["msg"])}
        for entry in found[:MAX_LISTED]
    ]
    detail = f"{listed[0]['where']}: {listed[0]['problem']}" if listed else "the request is not valid"
    return problem(422, "invalid_request", detail, listed)


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    code = _CODES.get(error.status_code, "http_error")
    response = problem(error.status_code, code, _printable(str(error.detail)))
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


async def _on_anything_else(request: Request, error: Exception) -> JSONResponse:
    return problem(500, "internal", "the service failed; its log says why")


def _printable(text: str, limit: int = 300) -> str:
    """Bounded, and encodable even where the request held half a surrogate pair."""
    return text[:limit].encode("utf-8", "replace").decode()
