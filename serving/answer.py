"""From a request to a query, and from a ranked list to the wire: what lies between route and recommender."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from dataclasses import asdict, replace

from recsys.errors import DependencyError
from recsys.snapshot import DAY_SECONDS, is_stale
from recsys.terms import Rules
from recsys.text_search import SearchQuery
from recsys.types import (
    NEGATIVE_EVENTS,
    Augmentation,
    History,
    Owned,
    Query,
    RankedList,
    UserFeatures,
    Views,
)
from serving.deps import Release
from serving.schemas import (
    Asking,
    AugmentationNote,
    Event,
    RecommendationRequest,
    RecommendationResponse,
    RecommendedItem,
    SearchRequest,
    SearchResponse,
    SimilarResponse,
)
from serving.telemetry import Telemetry

SWITCHED_OFF = Views(note=Augmentation(reason="switched_off"))
UNAVAILABLE, STALE, STALE_RUN = "features_unavailable", "stale_features", "stale_run"

log = logging.getLogger(__name__)

Happening = tuple[int, str, str]
"""A timestamp, an item id and an event type."""


def recommend(
    request: RecommendationRequest, release: Release, telemetry: Telemetry, max_run_age_days: float
) -> RecommendationResponse:
    """Answer one request: one feature read, one call of the recommender."""
    started = time.perf_counter()
    query, read = _query(request, release, max_run_age_days)
    query = replace(query, explain=request.explain)
    if request.rules is not None:
        query = replace(query, rules=request.rules.to_rules())
    built = time.perf_counter()
    query = release.augmenter.augment(query) if request.augment else replace(query, views=SWITCHED_OFF)
    expanded = time.perf_counter()
    answer = release.backend.recommend([query])[0]
    ranked = time.perf_counter()
    fallback = answer.fallback
    if fallback == "unknown_user" and UNAVAILABLE in answer.degraded:
        fallback = UNAVAILABLE  # the store did not say that it does not know this user
    response = RecommendationResponse(
        run_id=release.run_id,
        items=_items(answer, release),
        fallback=fallback,
        degraded=answer.degraded,
        notes=answer.notes,
        augmentation=_note(query, telemetry),
        timings_ms={
            "features": _ms(started, read),
            "augment": _ms(built, expanded),
            "recommend": _ms(expanded, ranked),
            "total": _ms(started, time.perf_counter()),
        },
    )
    if request.explain:
        telemetry.explained.inc()
    telemetry.stages.labels("features").observe(read - started)
    telemetry.stages.labels("augment").observe(expanded - built)
    telemetry.stages.labels("recommend").observe(ranked - expanded)
    _count(telemetry, query, fallback, answer)
    return response


def search(
    request: SearchRequest, release: Release, telemetry: Telemetry, max_run_age_days: float
) -> SearchResponse:
    """Find items by text: at most one feature read, one run of the text encoder.

    Raises:
        DependencyError: the run has no text encoder, or the service does not load it.
    """
    if release.search is None:
        raise DependencyError("search is not offered here: no text encoder is loaded")
    started = time.perf_counter()
    query, read = _query(request, release, max_run_age_days)
    if request.filters is not None:
        query = replace(query, rules=request.filters.to_rules())
    built = time.perf_counter()
    found = release.search.search([SearchQuery(request.query, query)])[0]
    done = time.perf_counter()
    telemetry.stages.labels("features").observe(read - started)
    telemetry.stages.labels("search").observe(done - built)
    telemetry.searches.labels("personal" if found.personal else "plain").inc()
    _count(telemetry, query, found.items.fallback, found.items)
    return SearchResponse(
        run_id=release.run_id,
        items=_items(found.items, release),
        personal=found.personal,
        fallback=found.items.fallback,
        degraded=found.items.degraded,
        timings_ms={
            "features": _ms(started, read),
            "search": _ms(built, done),
            "total": _ms(started, time.perf_counter()),
        },
    )


def similar(item_id: str, k: int, release: Release) -> SimilarResponse:
    """The nearest items to one; `UnknownItemError` for an item that is not in the catalogue."""
    answer = release.backend.similar(item_id, k)
    return SimilarResponse(run_id=release.run_id, item_id=item_id, items=_items(answer, release))


def _query(request: Asking, release: Release, max_run_age_days: float) -> tuple[Query, float]:
    """The query of a request, and when its features had been read."""
    now = int(time.time())
    stored, degraded = _read_features(request, release, now)
    read = time.perf_counter()
    if request.at is None and now - release.moment > max_run_age_days * DAY_SECONDS:
        degraded.append(STALE_RUN)
    moment = _moment(request, stored, release, now, degraded)
    return build_query(request, stored, degraded, moment, now), read


def _count(telemetry: Telemetry, query: Query, fallback: str | None, answer: RankedList) -> None:
    if fallback is not None:
        telemetry.fallbacks.labels(fallback).inc()
    for reason in answer.degraded:
        telemetry.degraded.labels(reason).inc()
    for rule in asked_rules(query.rules):
        telemetry.rules.labels(rule).inc()
    for note in answer.notes:
        telemetry.rule_notes.labels(note).inc()


def build_query(
    request: Asking,
    stored: UserFeatures | None,
    degraded: Iterable[str],
    moment: int,
    now: int,
) -> Query:
    """The query of a request: the request's events are added to what the store knows.

    Events at or after the moment are left out where the request names the moment; where it does not, a clock
    that runs ahead is put right instead, since what the user just did says most.
    """
    events = _happenings(request.history, moment, clamp=request.at is None)
    features = _with_events(stored, request.user_id, events, moment) if events or stored else None
    return Query(
        k=request.k,
        moment=moment,
        user_id=request.user_id,
        features=features,
        exclude_seen=request.exclude_seen,
        exclude=frozenset(request.exclude),
        degraded=tuple(degraded),
        available_at=now if request.at is None else None,
    )


def asked_rules(rules: Rules) -> list[str]:
    """Which kinds of rules a request asks for: `filters`, `pins`, `boosts`, `diversity`, `caps`."""
    asked = {
        "filters": rules.filters or rules.in_stock_only is not None,
        "pins": rules.pins,
        "boosts": rules.boosts,
        "diversity": rules.diversity is not None,
        "caps": rules.max_per_category or rules.max_per_brand,
    }
    return [name for name, said in asked.items() if said]


def _note(query: Query, telemetry: Telemetry) -> AugmentationNote:
    """What online augmentation did: counted, logged, and for the answer."""
    note = (query.views or SWITCHED_OFF).note
    telemetry.augmentations.labels(note.reason or "used").inc()
    if note.ms:
        telemetry.augmentation.observe(note.ms / 1000)
    facts = asdict(note)
    if log.isEnabledFor(logging.INFO):  # who asked, and for what, stays out of the log
        log.info("%s", json.dumps({"event": "augmentation", **facts}))
    return AugmentationNote(**facts)


def _read_features(request: Asking, release: Release, now: int) -> tuple[UserFeatures | None, list[str]]:
    if request.user_id is None:
        return None, []
    try:
        stored = release.features.read(request.user_id)
    except DependencyError:
        return None, [UNAVAILABLE]
    moment = now if request.at is None else request.at
    if stored is not None and is_stale(stored, moment, release.ttl_days):
        return stored, [STALE]
    return stored, []


def _moment(
    request: Asking,
    stored: UserFeatures | None,
    release: Release,
    now: int,
    degraded: list[str],
) -> int:
    """Now, unless the request says otherwise; with an old run, just after the newest event anyone knows of.

    A model that has never seen a gap of years would otherwise see one in every history.
    """
    if request.at is not None:
        return request.at
    if STALE_RUN not in degraded:
        return now
    newest = [event.timestamp + 1 for event in request.history if event.timestamp is not None]
    if stored is not None and stored.history.timestamps:
        newest.append(stored.history.timestamps[-1] + 1)
    return min(now, max([release.moment, *newest]))


def _happenings(history: Iterable[Event], moment: int, clamp: bool) -> list[Happening]:
    events = [event for event in history if event.event_type not in NEGATIVE_EVENTS]
    happenings = []
    for back, event in zip(range(len(events), 0, -1), events, strict=True):
        at = moment - back if event.timestamp is None else event.timestamp
        if at < moment or clamp:
            happenings.append((min(at, moment - 1), event.item_id, event.event_type))
    return sorted(happenings, key=lambda happening: happening[0])  # stable: ties keep the given order


def _with_events(
    stored: UserFeatures | None, user_id: str | None, events: list[Happening], moment: int
) -> UserFeatures:
    """Stored features as of the moment plus the request's events; an event told twice counts once."""
    if stored is None:
        stored = UserFeatures(user_id or "", History(), 0)
    old = stored.history
    known = list(zip(old.timestamps, old.item_ids, old.event_types, strict=True))
    told = set(known)
    new = [event for event in events if event not in told]
    if not new and (not known or known[-1][0] < moment):
        return stored
    merged = sorted((e for e in [*known, *new] if e[0] < moment), key=lambda event: event[0])
    counts = zip(stored.owned.counts, stored.owned.last_timestamps, strict=True)
    owned = dict(zip(stored.owned.item_ids, counts, strict=True))
    for at, item_id, _ in new:
        count, last = owned.get(item_id, (0, at))
        owned[item_id] = (count + 1, max(last, at))
    return UserFeatures(
        user_id=stored.user_id,
        history=History(
            tuple(event[1] for event in merged),
            tuple(event[2] for event in merged),
            tuple(event[0] for event in merged),
        ),
        num_events=stored.num_events + len(new),
        owned=Owned(tuple(owned), tuple(c for c, _ in owned.values()), tuple(at for _, at in owned.values())),
        numbers=stored.numbers,
        as_of=stored.as_of,
    )


def _items(answer: RankedList, release: Release) -> tuple[RecommendedItem, ...]:
    return tuple(
        RecommendedItem(
            item_id=place.item_id,
            rank=place.rank,
            score=place.score,
            title=release.backend.item(place.item_id)["title"],
            sources=place.sources,
            explanation=place.explanation,
        )
        for place in answer.items
    )


def _ms(start: float, end: float) -> float:
    return round((end - start) * 1000, 3)
