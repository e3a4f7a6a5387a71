"""What the routes work with: the backend's protocol, the application's state, and named dependencies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader

from recsys.contexts import Vocabulary
from recsys.text_search import Found, SearchQuery
from recsys.types import Augmenter, Query, RankedList
from serving.errors import NotReady, Overloaded, Unauthorised
from serving.guard import FeatureReader
from serving.security import HEADER, is_authorised
from serving.settings import Settings
from serving.telemetry import Telemetry

if TYPE_CHECKING:
    from serving.loading import Releases


class Backend(Protocol):
    """What the service needs of `recsys.recommend.Recommender`."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The catalogue."""
        ...

    def recommend(self, queries: Sequence[Query]) -> list[RankedList]:
        """One list per query."""
        ...

    def similar(self, item_id: str, k: int) -> RankedList:
        """Nearest items; `UnknownItemError` for an item that is not in the catalogue."""
        ...

    def item(self, item_id: str) -> dict[str, Any]:
        """What a person is shown of an item."""
        ...


class Search(Protocol):
    """What the service needs of `recsys.text_search.TextSearch`."""

    def search(self, asked: Sequence[SearchQuery]) -> list[Found]:
        """One answer per query."""
        ...


@dataclass(frozen=True, slots=True)
class Release:
    """A loaded run and its feature reader: they switch together, and a request sees one from start to end."""

    path: Path
    run_id: str
    backend: Backend
    features: FeatureReader
    moment: int
    """Unix seconds at which the run's data ends."""
    ttl_days: float
    """Features older than this are stale."""
    augmenter: Augmenter
    """Makes views of short histories, or says why it does not."""
    search: Search | None = None
    """Finds items by text; None where the service does not offer it."""


class Admission:
    """Counts requests; counted on the event loop alone, so it needs no lock."""

    def __init__(self, limit: int, telemetry: Telemetry) -> None:
        self._limit, self._telemetry, self._count = limit, telemetry, 0

    def enter(self) -> None:
        """Take a place.

        Raises:
            Overloaded: all places are taken.
        """
        if self._count >= self._limit:
            self._telemetry.refusals.inc()
            raise Overloaded(f"{self._count} requests are waiting; come back in a moment")
        self._count += 1
        self._telemetry.in_flight.set(self._count)

    def leave(self) -> None:
        """Give the place back."""
        self._count -= 1
        self._telemetry.in_flight.set(self._count)


@dataclass(frozen=True, slots=True)
class Service:
    """Everything the application holds; one per application, in `app.state.service`."""

    settings: Settings
    releases: Releases
    telemetry: Telemetry
    admission: Admission
    keys: tuple[bytes, ...]


async def get_service(request: Request) -> Service:
    """The application's state."""
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(get_service)]

_key_header = APIKeyHeader(name=HEADER, auto_error=False, description="Asked for where the service has keys.")


async def check_key(service: ServiceDep, key: Annotated[str | None, Security(_key_header)]) -> None:
    """Let in whoever has a key, or everybody where the service has none."""
    if service.keys and not is_authorised(key, service.keys):
        raise Unauthorised(f"send a valid key in the header {HEADER}")


async def admit(service: ServiceDep) -> AsyncIterator[None]:
    """Hold one of the limited places while the request is answered."""
    service.admission.enter()
    try:
        yield
    finally:
        service.admission.leave()


async def get_release(service: ServiceDep) -> Release:
    """The run that answers this request."""
    release = service.releases.current
    if release is None:
        raise NotReady("no run is loaded yet; /readyz says why")
    return release


ReleaseDep = Annotated[Release, Depends(get_release)]
GUARDED = [Depends(check_key), Depends(admit)]
"""Dependencies of every route under /v1, in this order."""
