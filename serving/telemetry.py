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
        self.requests = self._counter("requests", "Requests answered.", "route", "status")
        self.stages = Histogram(
            "recsys_stage_seconds",
            "Time within a request, by stage.",
            ["stage"],
            buckets=_STAGE_SECONDS,
            registry=registry,
        )
        count = self._counter
        self.fallbacks = count("fallbacks", "Lists that are not personal, by reason.", "reason")
        self.degraded = count("degraded", "Answers with something amiss, by reason.", "reason")
        self.explained = count("explained", "Lists answered with explanations.")
        self.searches = count("searches", "Searches answered, by order: `personal` or `plain`.", "order")
        self.rules = count("rules", "Requests that ask for rules of their own, by kind.", "rule")
        self.rule_notes = count("rule_notes", "What became of rules, as answers say it, by note.", "note")
        self.augmentations = count(
            "augmentations", "Answers by what online augmentation did: `used`, or why not.", "outcome"
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
        self.refusals = count("refusals", "Requests refused because too many were waiting.")
        self.in_flight = Gauge("recsys_in_flight", "Requests waiting or computing.", registry=registry)
        self.loads = count("run_loads", "Runs loaded.", "outcome")
        self._run: Gauge | None = None
        self.items = Gauge("recsys_index_items", "Items in the index.", registry=registry)
        self.loaded = Gauge("recsys_run_loaded_timestamp", "When the run was loaded.", registry=registry)

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"recsys_{name}_total", help_text, labels, registry=self.registry)

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
