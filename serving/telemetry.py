"""What Prometheus is told, in a registry of the application's own."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SECONDS = (0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_STAGE_SECONDS = (0.0002, 0.0005, 0.001, 0.002, 0.004, 0.006, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0)
_AUGMENT_SECONDS = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05)

CONTENT_TYPE = CONTENT_TYPE_LATEST

# Importing Feast turns on the client's multi-process mode for the whole process, which would put every
# application's numbers into shared files. Each application counts for itself.
values.ValueClass = values.MutexValue


class Telemetry:
    """The service's metrics; labels come from closed sets, never from a request's text."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.seconds = Histogram(
            "recsys_request_seconds",
            "Time from the first byte in to the last byte out.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.requests = Counter(
            "recsys_requests_total", "Requests answered.", ["route", "status"], registry=registry
        )
        self.stages = Histogram(
            "recsys_stage_seconds",
            "Time within a request, by stage.",
            ["stage"],
            buckets=_STAGE_SECONDS,
            registry=registry,
        )
        self.fallbacks = Counter(
            "recsys_fallbacks_total", "Lists that are not personal, by reason.", ["reason"], registry=registry
        )
        self.degraded = Counter(
            "recsys_degraded_total",
            "Answers with something amiss, by reason.",
            ["reason"],
            registry=registry,
        )
        self.searches = Counter(
            "recsys_searches_total",
            "Searches answered, by order: `personal` or `plain`.",
            ["order"],
            registry=registry,
        )
        self.rules = Counter(
            "recsys_rules_total",
            "Requests that ask for rules of their own, by kind.",
            ["rule"],
            registry=registry,
        )
        self.rule_notes = Counter(
            "recsys_rule_notes_total",
            "Lists that had to be filled, caps that gave way, pins that were not allowed.",
            ["note"],
            registry=registry,
        )
        self.augmentations = Counter(
            "recsys_augmentations_total",
            "Answers by what online augmentation did: `used`, or why not.",
            ["outcome"],
            registry=registry,
        )
        self.augmentation = Histogram(
            "recsys_augmentation_seconds",
            "Time for the views of one request, where any were tried.",
            buckets=_AUGMENT_SECONDS,
            registry=registry,
        )
        self.ops_skipped = Gauge(
            "recsys_augmentation_skipped_ops",
            "Ops and gates of the run's policy that a request cannot run.",
            registry=registry,
        )
        self.refusals = Counter(
            "recsys_refusals_total", "Requests refused because too many were waiting.", registry=registry
        )
        self.in_flight = Gauge("recsys_in_flight", "Requests waiting or computing.", registry=registry)
        self.loads = Counter("recsys_run_loads_total", "Runs loaded.", ["outcome"], registry=registry)
        self._run: Gauge | None = None
        self.items = Gauge("recsys_index_items", "Items in the index.", registry=registry)
        self.loaded = Gauge("recsys_run_loaded_timestamp", "When the run was loaded.", registry=registry)

    def took_over(self, run_id: str, num_items: int) -> None:
        """A run answers from now on."""
        if self._run is not None:
            self.registry.unregister(self._run)
        self._run = Gauge("recsys_run_info", "The run that answers: 1.", ["run_id"], registry=self.registry)
        self._run.labels(run_id).set(1)
        self.items.set(num_items)
        self.loaded.set(time.time())
        self.loads.labels("ok").inc()

    def expose(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class RequestTelemetry:
    """ASGI middleware that times requests by route."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self._app, self._telemetry = app, telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        finally:
            # Only a matched route gives a label: paths of strangers would make one time series each.
            route = getattr(scope.get("route"), "path", "other")
            self._telemetry.seconds.labels(route).observe(time.perf_counter() - started)
            self._telemetry.requests.labels(route, str(status)).inc()
